"""What keeps a file readable: how long files, functions and lists of arguments may be."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOPS = ("asm", "disk", "kernel", "server", "tests", "tools")
CODE = (".py", ".asm", ".inc")
LINES_A_FILE = 400
FILES_A_FOLDER = 15
LINES_A_FUNCTION = 50
ARGUMENTS = 7  # of a constructor, without self: more says that the class is two
STATE = ("kernel/state.py", "kernel/core/records.py")


@cache
def sources() -> list[Path]:
    """Return every file of code, by its path below the project's folder."""
    found = (path for top in TOPS for path in sorted((ROOT / top).rglob("*")) if path.suffix in CODE)
    return [path.relative_to(ROOT) for path in found]


@cache
def functions() -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return each function of the project, its tests included."""
    return [
        (path, node)
        for path in sources()
        if path.suffix == ".py"
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_no_file_has_over_400_lines() -> None:
    long = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > LINES_A_FILE} == {}


def test_no_folder_has_over_15_files_of_code() -> None:
    folders = Counter(str(path.parent) for path in sources() if path.name != "__init__.py")
    assert {name: count for name, count in folders.items() if count > FILES_A_FOLDER} == {}


def test_no_function_has_over_50_lines() -> None:
    long = {f"{path}:{node.name}": (node.end_lineno or 0) - node.lineno + 1 for path, node in functions()}
    assert {name: lines for name, lines in long.items() if lines > LINES_A_FUNCTION} == {}


def test_no_constructor_has_over_seven_arguments() -> None:
    wide = {
        f"{path}:{node.lineno}": len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
        for path, node in functions()
        if node.name == "__init__"
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
