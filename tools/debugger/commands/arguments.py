"""Arguments of commands that show memory and code: addresses, and how many numbers of how many bytes."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.commands.formats import LETTERS
from callgate.tools.debugger.commands.language import Desk
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.inspection.wording import counted

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process

SIZES: Final = {"b": 1, "h": 2, "w": 4, "g": 8}
MOST_SHOWN: Final = 1 << 16  # bytes


def code_of(desk: Desk, text: str) -> tuple[int, Process | None]:
    """Return the address of code that a symbol, a line or an expression names, and the process; CommandError.

    The process is None where it is the running one, or where all have that code.
    """
    try:
        return desk.bench.code.address_of(text)
    except CommandError:
        with suppress(CommandError):
            return place_of(desk, text), None
        raise


def numbers_in(rest: str, example: str) -> tuple[int, int, str, str]:
    """Return what `/NF PLACE` asks for: how many numbers of how many bytes, where, and in which format; CommandError.

    The format is "" where none is asked for.
    """
    found = re.fullmatch(rf"(?:/(\d*)([bhwg{LETTERS}]*)\s+)?([^/].*)", rest)
    if found is None:
        raise CommandError(
            f"show what? [/NF] ADDRESS, as {example}: N is a number, F b, h, w or g for 1, 2, 4 or 8 bytes, or help x"
        )
    letters = [letter for letter in found[2] or "" if letter in SIZES]
    shown = [letter for letter in found[2] or "" if letter in LETTERS]
    size = SIZES[letters[-1]] if letters else 1 if shown[-1:] == ["c"] else 4
    count = int(found[1] or 16)
    if not 1 <= count <= MOST_SHOWN // size:
        most = f"1 to {MOST_SHOWN // size} are shown at once"
        raise CommandError(f"{counted(count, 'number')} of {counted(size, 'byte')}: {most}")
    return count, size, found[3], shown[-1] if shown else ""


def memory_at(desk: Desk, text: str) -> tuple[int, Process]:
    """Return the linear address that a symbol or an expression means, and whose memory is meant; CommandError.

    `shell:line` lies in the shell's, all else in the running process's.
    """
    running = desk.bench.debuggee.threads.running().process
    if ":" in text:
        address, process = desk.bench.code.address_of(text)
        return address, process or running
    return place_of(desk, text), running


def place_of(desk: Desk, text: str) -> int:
    """Return the linear address that a symbol or an expression means; CommandError."""
    if text in desk.bench.machine.addresses or ":" in text:
        return desk.bench.code.address_of(text)[0]
    value = desk.bench.value(Expression(text))
    if not isinstance(value, int):
        raise CommandError(f"{text} is not an address")
    return value & 0xFFFF_FFFF
