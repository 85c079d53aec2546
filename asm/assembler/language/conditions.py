"""The conditions of `.if` and its family, as GNU as has them."""

from collections.abc import Callable
from typing import Final

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.macros import split_arguments

NUMBER_TESTS: Final[dict[str, Callable[[int], bool]]] = {
    ".if": lambda value: value != 0,
    ".elif": lambda value: value != 0,
    ".elseif": lambda value: value != 0,
    ".ifne": lambda value: value != 0,
    ".ifeq": lambda value: value == 0,
    ".ifgt": lambda value: value > 0,
    ".ifge": lambda value: value >= 0,
    ".iflt": lambda value: value < 0,
    ".ifle": lambda value: value <= 0,
}
DEFINITIONS: Final = (".ifdef", ".ifndef", ".ifnotdef")
TEXT_TESTS: Final = (".ifb", ".ifnb", ".ifc", ".ifnc", ".ifeqs", ".ifnes")
CONDITIONS: Final = (*(word for word in NUMBER_TESTS if word.startswith(".if")), *DEFINITIONS, *TEXT_TESTS)


def test_text(word: str, rest: str, place: Place) -> bool:
    """Whether a condition about texts holds: that there is none (`.ifb`), that two are the same (`.ifc`)."""
    if word in (".ifb", ".ifnb"):
        return (not rest.strip()) == (word == ".ifb")
    parts = split_arguments(rest)
    if len(parts) != 2:
        raise AsmError(place, f"{word} compares two texts", f"write {word} text, text")
    if word in (".ifeqs", ".ifnes") and not all(len(part) > 1 and part[0] == part[-1] == '"' for part in parts):
        raise AsmError(place, f"{word} compares two texts in double quotes", f'write {word} "text", "text"')
    first, second = (part.strip("'") for part in parts)
    return (first == second) == (word in (".ifc", ".ifeqs"))


def refuse_text(word: str, rest: str, place: Place) -> None:
    """Refuse text after a directive that takes no argument: it would be ignored."""
    if rest.strip():
        hint = "write .elif condition" if word == ".else" else "leave it out"
        raise AsmError(place, f"{word} takes no argument", hint)
