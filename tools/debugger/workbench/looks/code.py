"""Code around where the system stands: instructions, and lines of source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.workbench.workbench import Workbench

EARLIER: Final = 24  # instructions before the present one that are shown, where the assembler knows where they begin


@dataclass(frozen=True, slots=True)
class CodeRow:
    """A row of code: an instruction, or a line of source.  `address` is None for a line without an instruction."""

    address: int | None
    label: str  # the address in hex, or the line's number
    text: str
    current: bool
    point: bool  # a breakpoint is there
    symbol: str = ""  # of an instruction, with the distance from it: "take_slot+0x4"


def points(bench: Workbench) -> set[int]:
    """Return the addresses of breakpoints that count for the running thread's process."""
    process = bench.debuggee.threads.running().process
    return {
        point.address
        for point in bench.debuggee.breakpoints.known
        if point.process is None or point.process == process.number
    }


def disassembly(bench: Workbench, address: int, count: int, process: Process | None = None) -> list[CodeRow]:
    """Return instructions from a linear address of a process on, or of the running one, as far as it is mapped."""
    marked, eip = points(bench), bench.machine.cpu.eip
    here = process is None or process is bench.debuggee.threads.running().process
    return [
        CodeRow(
            instruction.address,
            f"{instruction.address:#010x}",
            str(instruction),
            here and instruction.address == eip,
            instruction.address in marked,
            bench.code.symbol(instruction.address, process),
        )
        for instruction in bench.code.instructions(address, count, process)
    ]


def code_around(bench: Workbench, count: int) -> list[CodeRow]:
    """Return instructions around the next one: those before it only where the assembler knows where they begin.

    A row with its name comes before each routine.
    """
    rows: list[CodeRow] = []
    routine = ""
    for row in disassembly(bench, bench.code.earlier(bench.machine.cpu.eip, EARLIER), count):
        name = row.symbol.partition("+")[0]
        if name != routine and name:
            routine = name
            rows.append(CodeRow(None, " " * len(row.label), f"{name}:", current=False, point=False))
        rows.append(row)
    return rows


def source(bench: Workbench) -> tuple[str, list[CodeRow]]:
    """Return the source file of the next instruction and its lines; "" and none if it is not known.

    Where the file is not there, the lines are those that instructions were made of.
    """
    return source_at(bench, bench.machine.cpu.eip)[:2]


def source_at(bench: Workbench, address: int, process: Process | None = None) -> tuple[str, list[CodeRow], int]:
    """Return the source file of an address, its lines, and the index of the one of the address; "" if none is known.

    The address is one of `process`, or else of the running one.
    """
    running = bench.debuggee.threads.running().process
    process = process or running
    current = bench.code.line(bench.machine.cpu.eip, running) if process is running else None
    found = bench.code.line(address, process)
    image = bench.code.image(address, process)
    if found is None or image is None:
        return "", [], 0
    here = current.line if current is not None and current.file == found.file else -1
    known = dict(enumerate(_text_of(found.file), 1))
    addresses: dict[int, int] = {}
    for line in image.lines:
        if line.file == found.file:
            known.setdefault(line.line, line.text)
            addresses[line.line] = min(addresses.get(line.line, line.address), line.address)
    marked = points(bench)
    rows = [
        CodeRow(addresses.get(number), f"{number:>4}", text.rstrip(), number == here, addresses.get(number) in marked)
        for number, text in sorted(known.items())
    ]
    index = next(index for index, number in enumerate(sorted(known)) if number == found.line)
    return bench.code.source_name(found).rpartition(":")[0], rows, index


@cache
def _text_of(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return ()
