"""What a failure shows: the lines that do not hold, what changed in the registers, the last instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.tools.asmtest.result import WHOLE

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare import BareCpu
    from callgate.tools.asmtest.cases import Case, Statement


def describe(case: Case, wrong: list[tuple[Statement, str]], cpu: BareCpu) -> str:
    """Return the report of a failed case."""
    lines = [f"case: {case.title}"]
    for statement, text in wrong:
        lines.append(f"{statement.place.file}:{statement.place.line}: {text}")
        lines.append(f"    {statement.place.text.strip()}")
    return "\n".join([*lines, *describe_call(cpu)])


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
        line = program.line_at(address) if program else None
        name = program.symbol_at(address) if program else ""
        where = f"{line.file}:{line.line}: {line.text.strip()}" if line else ""
        lines.append(f"  {address:08x} {name:<24} {where}".rstrip())
    return lines
