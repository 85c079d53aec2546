"""Errors for text with another meaning to GNU as, in sources that say `.intel_syntax`: no other code without a word.

To GNU as, a semicolon separates statements, and a label alone is the memory there.
"""

import re

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import BRANCHES, MNEMONICS, REPEATS, STRING_NAMES
from callgate.asm.assembler.language.registers import REGISTERS
from callgate.asm.assembler.language.source import Line

STATEMENT = re.compile(r"\s*(?P<word>[A-Za-z]\w*)(?!\S)\s*(?P<rest>.*)$", re.ASCII | re.DOTALL)
SIZE = re.compile(r"\b(?:byte|word|dword|qword|tbyte|xmmword)\s+ptr\b|\boffset\b(?:\s+flat:)?", re.IGNORECASE)
OPERAND = re.compile(r"\s*[^\s\[]*\s*(?:\[[^\]]*\]\s*)*$")
TYPICAL = re.compile(r"\[|\b[0-9]")


def refuse_swallowed(line: Line) -> None:
    """Refuse a comment that is an instruction: to GNU as it is the next statement."""
    comment = line.place.text[len(line.text) :]
    if not comment.startswith(";"):
        return
    statement = comment[1:].split(";")[0].strip()
    match = STATEMENT.match(statement)
    if match is None or match["word"].lower() not in MNEMONICS | REPEATS.keys() | {"lock"}:
        return
    operands = [part.strip() for part in SIZE.sub("", match["rest"]).split(",")]
    branch = match["word"].lower() in BRANCHES
    if all(OPERAND.match(part) for part in operands) and (branch or any(map(is_operand, operands))):
        place = line.place.at(len(line.text) + 1)
        hint = "put it on a line of its own, or begin the comment with #"
        raise AsmError(place, f"to GNU as, {statement} is another statement, and here it is a comment", hint)


def is_operand(text: str) -> bool:
    """Whether a text is nothing, a register, or has a bracket or a number: other words may be a comment's."""
    return not text or text.lower() in REGISTERS | STRING_NAMES.keys() or TYPICAL.search(text) is not None


def refuse_bare_label(label: str, place: Place) -> None:
    """Refuse a label without brackets, which is the memory there to GNU as, and the address here."""
    hint = f"write offset {label} for the address, or [{label}] for the memory there"
    raise AsmError(place, f"to GNU as, {label} is the memory there, and here it is the address", hint)
