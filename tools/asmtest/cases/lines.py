"""The lines of a source as the language of cases sees them: lines of cases, and lines that only look like them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from callgate.asm.assembler import AsmError
from callgate.asm.assembler.language.errors import Place
from callgate.asm.assembler.language.source import PIECE, split_lines, strip_line

LOOKALIKE = re.compile(r"(?P<mark>(?:;|\#|/|\*)+\s*@+)\s*(?P<word>[A-Za-z]+)\b")
SWITCHES = re.compile(r"^\s*\.(?:if|macro|rept|irp)", re.IGNORECASE | re.MULTILINE)


def outside_comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that does not begin within a comment of several lines."""
    inside = False
    blocks = "/*" in text
    for number, line in enumerate(split_lines(text), 1):
        if not inside:
            yield number, line
        if blocks:
            inside = strip_line(line, inside)[1]


def lookalikes(file: str, number: int, line: str, words: Collection[str]) -> Iterator[AsmError]:
    """Yield an error if a line looks like a line of a case and is not one: its author relies on it."""
    if "@" not in line:
        return
    comment = next((found.start() for found in PIECE.finditer(line) if found["line"] or found["block"]), None)
    match = LOOKALIKE.match(line, comment) if comment is not None else None
    if match is None or match["word"].lower() not in words:
        return
    place = Place(file, number, match.start() + 1, line)
    word = match["word"].lower()
    if match["mark"] == ";@":
        yield AsmError(place, f";@ {word} stands after code and does nothing there", "give it a line of its own")
    else:
        yield AsmError(place, f"{match['mark']} {match['word']} is an ordinary comment", f"write ;@ {word}")


def may_be_switched_off(text: str) -> bool:
    """Whether parts of a source may not be assembled."""
    return SWITCHES.search(text) is not None
