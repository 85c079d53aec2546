"""Which functions of a Python file a change of its text changes, and whether putting their new code in place is enough.

It is enough if importing the changed file would do the same as importing the old one, apart from the bodies of
functions that nothing has called yet.  A change of a constant, a class body, a default or an argument is not such a
change, nor is one of a function that has been called while modules were imported: what it returned is in use.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import CodeType, FunctionType

from forking import put_code

OPTIMIZED = 1  # CO_OPTIMIZED: code of a function, not of a module or of a class
OF_A_FUNCTION = (
    "co_name",
    "co_qualname",
    "co_flags",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_freevars",
)
OF_WHAT_IT_DOES = ("co_code", "co_names", "co_varnames", "co_cellvars", "co_exceptiontable")

Place = tuple[str, str, int]  # of code: the resolved name of its file, its qualified name, its first line


class NotEnoughError(Exception):
    """A process that has imported the old file cannot be given the change; the text says why."""


def inner(code: CodeType) -> list[CodeType]:
    """Return the code directly within other code, in the order of the text."""
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def constants(code: CodeType) -> list[str]:
    """Return what code has besides inner code; 1, 1.0 and True are three things."""
    return ["code" if isinstance(one, CodeType) else repr(one) for one in code.co_consts]


def signature(code: CodeType) -> list[object]:
    """Return what callers and decorators see of a function's code."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    return [*(getattr(code, name) for name in OF_A_FUNCTION), code.co_varnames[:arguments]]


def does_the_same(old: CodeType, new: CodeType) -> bool:
    """Say whether two pieces of code are the same, apart from where they stand and from inner code."""
    ours, theirs = ([getattr(code, name) for name in OF_WHAT_IT_DOES] for code in (old, new))
    return signature(old) == signature(new) and ours == theirs and constants(old) == constants(new)


def is_unchanged(old: CodeType, new: CodeType) -> bool:
    """Say whether code and all inner code is the same, wherever it stands."""
    return does_the_same(old, new) and all(map(is_unchanged, inner(old), inner(new)))


def pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yield each function's old and new code, of a module's or a class's code; NotEnoughError if it differs itself."""
    if not does_the_same(old, new):
        raise NotEnoughError(f"{old.co_qualname} does something else when it is imported")
    for before, after in zip(inner(old), inner(new), strict=True):
        if before.co_flags & OPTIMIZED:
            if signature(before) != signature(after):
                raise NotEnoughError(f"{before.co_qualname} is declared in another way")
            yield before, after
        else:
            yield from pairs(before, after)


def is_imported(path: Path) -> bool:
    """Say whether a module of a file has been imported."""
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return any(name and Path(name).name == path.name and Path(name).resolve() == path for name in names)


def changed_functions(
    path: Path, before: str, after: str, called: set[Place], functions: Mapping[Path, Sequence[FunctionType]]
) -> list[tuple[FunctionType, CodeType]]:
    """Return the functions to be given other code, and that code; nothing if the file has not been imported.

    `called` has the places of code that has been executed, `functions` those of each file.  NotEnoughError if new code
    is not enough.
    """
    if not is_imported(path):
        return []
    try:
        old, new = (compile(text, str(path), "exec", dont_inherit=True) for text in (before, after))
    except SyntaxError as error:
        raise NotEnoughError(f"it is no Python: {error}") from None
    found = list(pairs(old, new))
    changed = [pair for pair in found if not is_unchanged(*pair)]
    if not changed:
        raise NotEnoughError("no function is changed")
    for code, _ in changed:
        if (str(path), code.co_qualname, code.co_firstlineno) in called:
            raise NotEnoughError(f"{code.co_qualname} has been called")
    return list(in_place(functions.get(path, ()), found, changed))


def in_place(
    functions: Sequence[FunctionType],
    found: Sequence[tuple[CodeType, CodeType]],
    changed: Sequence[tuple[CodeType, CodeType]],
) -> Iterator[tuple[FunctionType, CodeType]]:
    """Yield each function and its new code; NotEnoughError if a function of changed code cannot be found."""
    by_place = defaultdict(list)
    for old, new in found:
        by_place[old.co_qualname, old.co_firstlineno].append((old, new))
    reached = set()
    for function in functions:
        code = function.__code__
        here = by_place.get((code.co_qualname, code.co_firstlineno), [])
        if len(here) > 1 and not all(is_unchanged(*pair) for pair in here):
            raise NotEnoughError(f"two functions {code.co_qualname} begin in one line")
        for old, new in here[:1]:
            reached.add(old)
            yield function, new
    if missing := [old.co_qualname for old, _ in changed if old not in reached]:
        raise NotEnoughError(f"no function has the code of {missing[0]}")


def apply(changes: Sequence[tuple[FunctionType, CodeType]]) -> None:
    """Put the new code in place."""
    for function, code in changes:
        put_code(function, code)
