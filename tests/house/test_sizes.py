"""Limits that keep files readable: the sizes of files, functions, folders and lists of arguments."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TOPS = ("asm", "disk", "kernel", "server", "tests", "tools")
CODE = (".py", ".asm", ".inc")
LINES_A_FILE = 400
FILES_A_FOLDER = 15
LINES_A_FUNCTION = 50
ARGUMENTS = 7  # of a constructor, without self: more says that the class is two
START = re.compile(r"( *)(?:(?:async )?def|class|@)")
DEFINITION = re.compile(r" *(?:async )?def ")
CONSTRUCTOR = re.compile(r"def __init__\((.*?)\) ->", re.DOTALL)
STATE = ("kernel/state.py", "kernel/core/records.py")


@cache
def sources() -> list[Path]:
    """Return every file of code, by its path below the project's folder."""
    found = (path for top in TOPS for path in sorted((ROOT / top).rglob("*")) if path.suffix in CODE)
    return [path.relative_to(ROOT) for path in found]


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Return each statement below a node; expressions, most of a tree, hold none and are passed over."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from statements(child)


class Function(NamedTuple):
    """What is measured of a function.  Its tree is not kept: all of them would keep the garbage collector busy."""

    path: Path
    name: str
    line: int
    lines: int
    arguments: int


def worth_parsing(text: str) -> bool:
    """Whether a function of a source may have too many lines, or a constructor too many arguments.

    A function ends at the latest where the next one begins that is not within it; a tree, which takes long, tells more.
    """
    lines = text.split("\n")
    starts = [(number, len(found[1])) for number, line in enumerate(lines) if (found := START.match(line))]
    for index, (number, indent) in enumerate(starts):
        end = next((later for later, other in starts[index + 1 :] if other <= indent), len(lines))
        if end - number > LINES_A_FUNCTION and DEFINITION.match(lines[number]):
            return True
    return any(signature.count(",") >= ARGUMENTS for signature in CONSTRUCTOR.findall(text))


@cache
def functions() -> list[Function]:
    """Return each function of the sources in which one may be over a limit, tests included."""
    return [
        Function(path, node.name, node.lineno, (node.end_lineno or 0) - node.lineno + 1, arguments_of(node.args))
        for path in sources()
        if path.suffix == ".py"
        if worth_parsing(text := (ROOT / path).read_text())
        for node in statements(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def arguments_of(signature: ast.arguments) -> int:
    return len(signature.posonlyargs + signature.args + signature.kwonlyargs)


def test_no_file_of_code_has_over_400_lines() -> None:
    long = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > LINES_A_FILE} == {}


def test_no_folder_has_over_15_files_of_code() -> None:
    folders = Counter(str(path.parent) for path in sources() if path.name != "__init__.py")
    assert {name: count for name, count in folders.items() if count > FILES_A_FOLDER} == {}


def test_no_function_has_over_50_lines() -> None:
    long = {f"{function.path}:{function.name}": function.lines for function in functions()}
    assert {name: lines for name, lines in long.items() if lines > LINES_A_FUNCTION} == {}


def test_no_constructor_has_over_seven_arguments() -> None:
    wide = {
        f"{function.path}:{function.line}": function.arguments - 1
        for function in functions()
        if function.name == "__init__"
    }
    assert {name: count for name, count in wide.items() if count > ARGUMENTS} == {}


def test_the_kernel_s_state_is_typed() -> None:
    untyped = [
        f"{path}:{node.lineno}"
        for path in STATE
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Name) and node.id == "Any"
    ]
    assert untyped == []
