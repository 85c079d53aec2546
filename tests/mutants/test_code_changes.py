"""A change of a function's body is put in place; one of what is done when a module is imported is not."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from code_changes import NotEnoughError, Place, apply, changed_functions
from forking import functions_of

BOXES = """
import types
LIMIT = 3
SIZES = [size * 2 for size in (1, 2)]
def limit(most=LIMIT):
    return most + 1
class Box:
    height = 2
    def size(self):
        return self.height
    @property
    def wide(self):
        return self.size() > 1
    def maker(self):
        def make(size):
            return size + 1
        return make
@types.coroutine
def step():
    return (yield 1)
async def walk():
    return await step()
first, second = (lambda: 1), (lambda: 2)
"""
numbers = itertools.count()


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[ModuleType]:
    """The text above as an imported module."""
    path = tmp_path / f"boxes{next(numbers)}.py"
    path.write_text(BOXES)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


def change(module: ModuleType, old: str, new: str, called: set[Place] = frozenset()) -> None:
    """Change a module's functions as a change of its text does."""
    assert BOXES.count(old) == 1
    path = Path(module.__file__).resolve()
    apply(changed_functions(path, BOXES, BOXES.replace(old, new), called, functions_of([path])))


@pytest.mark.parametrize(
    ("old", "new", "seen"),
    [
        ("most + 1", "most + 5", lambda m: m.limit() == 8),
        ("return self.height", "x = 7\n        return x", lambda m: m.Box().size() == 7),
        ("self.size() > 1", "self.size() > 9", lambda m: m.Box().wide is False),
        ("size + 1", "size + 2", lambda m: m.Box().maker()(1) == 3),
        ("(yield 1)", "(yield 2)", lambda m: m.walk().send(None) == 2),
    ],
    ids=["function", "method", "property", "inner function", "generator that is awaited"],
)
def test_a_body_is_changed_where_it_is_in_use(
    boxes: ModuleType, old: str, new: str, seen: Callable[[ModuleType], bool]
) -> None:
    assert not seen(boxes)
    change(boxes, old, new)
    assert seen(boxes)
    assert boxes.Box().maker()(1) >= 2  # what follows on other lines than before is as it was, too


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("LIMIT = 3", "LIMIT = 4", "<module> does something else"),
        ("LIMIT = 3", "LIMIT = 3.0", "<module> does something else"),
        ("most=LIMIT", "most=4", "<module> does something else"),
        ("limit(most=LIMIT)", "limit(few=LIMIT)", "limit is declared in another way"),
        ("height = 2", "height = 3", "Box does something else"),
        ("    @property\n", "", "Box does something else"),
        ("def size(self)", "async def size(self)", "Box.size is declared in another way"),
        ("(lambda: 1)", "(lambda: 3)", "two functions <lambda> begin in one line"),
        ("LIMIT = 3", "LIMIT = ", "it is no Python"),
        ("LIMIT = 3", "LIMIT = 3  # as before", "no function is changed"),
    ],
    ids=lambda value: None if "\n" in value else value,
)
def test_what_importing_does_is_not_changed_afterwards(boxes: ModuleType, old: str, new: str, why: str) -> None:
    with pytest.raises(NotEnoughError, match=why):
        change(boxes, old, new)


def test_a_function_that_has_been_called_already_is_not_changed_afterwards(boxes: ModuleType) -> None:
    line = BOXES[: BOXES.index("def limit")].count("\n") + 1
    with pytest.raises(NotEnoughError, match="limit has been called"):
        change(boxes, "most + 1", "most + 5", {(str(Path(boxes.__file__).resolve()), "limit", line)})


def test_a_comprehension_that_importing_has_evaluated_is_not_changed_afterwards(boxes: ModuleType) -> None:
    line = BOXES[: BOXES.index("SIZES")].count("\n") + 1
    with pytest.raises(NotEnoughError, match="has been called"):
        change(boxes, "size * 2", "size * 3", {(str(Path(boxes.__file__).resolve()), "<listcomp>", line)})


def test_a_module_that_is_not_imported_yet_will_be_imported_from_the_changed_file(tmp_path: Path) -> None:
    assert changed_functions(tmp_path / "later.py", "A = 1\n", "A = 2\n", set(), {}) == []
