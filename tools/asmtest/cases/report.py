"""The report of a failure: the lines that do not hold, changes of registers, the last instructions."""

from __future__ import annotations

import re
from sysconfig import get_paths
from types import TracebackType
from typing import TYPE_CHECKING

from callgate.asm.assembler.language.errors import printable
from callgate.tools.asmtest.board.result import WHOLE
from callgate.tools.asmtest.booted import CommandError

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.cases.directives import Case, Statement

SPEAKING = (CommandError,)  # errors whose text has what the section of a booted system would show
OURS = "callgate."
SEE = "(docs/emulator-notes.md)"
# Facts that the emulated CPU does not report, by the instructions among the last ones that would show them.
NOT_TOLD = {
    r"\b(?:stmxcsr|fxsave)\b": f"this CPU does not note denormal operands (DE) in MXCSR {SEE}",
    r"\b(?:fn?stsw|fn?stenv|fn?save|fxsave)\b": f"this CPU notes neither DE nor rounding up (C1) {SEE}",
    r"\b(?:fyl2x(?:p1)?|fxtract|fisttp|fsin(?:cos)?|fcos|fptan|fpatan|f2xm1)\b": f"this CPU computes otherwise {SEE}",
}
LIBRARIES = tuple(get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def describe(case: Case, wrong: list[tuple[Statement, str]], cpu: BareCpu) -> str:
    """Return the report of a failed case."""
    lines = [f"case: {case.title}"]
    for statement, text in wrong:
        lines.append(f"{statement.place.file}:{statement.place.line}: {text}")
        lines.append(f"    {printable(statement.place.text.strip())}")
    trace = describe_call(cpu)
    text = "\n".join(trace)
    lines += [f"note: {note}" for pattern, note in NOT_TOLD.items() if re.search(pattern, text)]
    return "\n".join([*lines, *trace])


def describe_call(cpu: BareCpu) -> list[str]:
    """Return registers before and after the last call, and its last instructions."""
    if cpu.last is None:
        return []
    after = cpu.last.registers
    lines = ["registers (before -> after):"]
    for name in (*WHOLE, "eip", "eflags"):
        before, now = cpu.before[name], after[name]
        if before != now:
            lines.append(f"  {name:>6} {before:08x} -> {now:08x}")
    if cpu.last.fault:
        lines.append(f"fault: {cpu.last.fault}")
    program = cpu.program
    lines.append(f"last of {cpu.last.instructions} instructions:")
    for address in cpu.retrace():
        name = program.symbol_at(address) if program else ""
        lines.append(f"  {address:08x} {name:<24} {cpu.written(address) or decoded(cpu, address)}".rstrip())
    return lines


def decoded(cpu: BareCpu, address: int) -> str:
    """Return the instruction at an address, of which no source is known."""
    found = cpu.machine.disassemble(address, 1)
    return found[0].partition(" ")[2] if found else ""


def without_internals(raised: BaseException) -> None:
    """Leave the frames of our own code out of an error's traceback, and out of those of its causes."""
    seen: set[int] = set()
    error: BaseException | None = raised
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        theirs = outside(error.__traceback__)
        if theirs:
            for frame, following in zip(theirs, [*theirs[1:], None], strict=True):
                frame.tb_next = following
            error.__traceback__ = theirs[0]
        error = error.__cause__ or error.__context__


def outside(trace: TracebackType | None) -> list[TracebackType]:
    """Return the frames of a traceback that are neither ours nor those of libraries that we have called."""
    found = []
    within = False
    while trace is not None:
        within = is_ours(trace) or (within and trace.tb_frame.f_code.co_filename.startswith(LIBRARIES))
        if not within:
            found.append(trace)
        trace = trace.tb_next
    return found


def is_ours(trace: TracebackType) -> bool:
    """Whether a frame is one of this package."""
    return str(trace.tb_frame.f_globals.get("__name__", "")).startswith(OURS)
