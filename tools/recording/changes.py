"""What Python has changed of a machine, found by comparing its states: everything that a guest can notice.

    before = state_of(machine)
    function()
    changes = difference(before, state_of(machine))

`make(other, changes)` does the same to another machine of the same size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.cpu import live_fpu
from callgate.kernel.machine.cpu.fpu import REGISTERS, STACK_BYTES, XMM_BYTES
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.outside import Numbers, SetUp
from callgate.kernel.machine.memory.ram import ZEROS
from unicorn import x86_const as x86

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine

GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags")
SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
CONTROL: Final = ("cr4", "cr3", "cr0")  # in this order: paging begins when the rest is there
TABLES: Final = {"gdtr": x86.UC_X86_REG_GDTR, "idtr": x86.UC_X86_REG_IDTR}
# Number in the engine and size in bytes, in this order: FSW says which register ST(0) is, and writing one of them marks
# it as in use, which the tags put right.
FLOATING: Final = {
    "fcw": (x86.UC_X86_REG_FPCW, 2),
    "fsw": (x86.UC_X86_REG_FPSW, 2),
    **{f"st{index}": (x86.UC_X86_REG_ST0 + index, STACK_BYTES) for index in range(REGISTERS)},
    "tags": (x86.UC_X86_REG_FPTAG, 2),
    "mxcsr": (x86.UC_X86_REG_MXCSR, 4),
    **{f"xmm{index}": (x86.UC_X86_REG_XMM0 + index, XMM_BYTES) for index in range(REGISTERS)},
}
X87: Final = tuple(name for name in FLOATING if name.startswith(("f", "st", "tags")))


DIFFERING: Final = re.compile(rb"\x01+")


class State(NamedTuple):
    """What a guest can notice of a machine, as plain data; a segment is its selector and its base.

    `memory` has pages by their physical addresses; what is not there is zero.
    """

    memory: dict[int, bytes]
    registers: dict[str, int]
    segments: dict[str, tuple[int, int]]
    control: dict[str, int]
    tables: dict[str, tuple[int, int]]
    floating: dict[str, int]


NOTHING: Final = State({}, {}, {}, {}, {}, {})
"""Before a machine was made: all of a state differs from it, but for memory that is zero."""


def state_of(machine: Machine) -> State:
    """Return a machine's state now, also in the middle of a run; memory above 4 GiB is not looked at."""
    cpu, handle = machine.cpu, machine.handle
    values = cpu.registers()
    return State(
        dict(pages(machine)),
        {name: values[name] for name in GENERAL},
        {name: (values[name], cpu.segment_base(name)) for name in SEGMENTS},
        {name: getattr(cpu, name) for name in CONTROL},
        {name: cpu.table(name) for name in TABLES},
        {name: live_fpu.read(handle, *place) for name, place in FLOATING.items()},
    )


def pages(machine: Machine) -> Iterator[tuple[int, bytes]]:
    """Yield the pages of memory below 4 GiB that are not zero."""
    for page in machine.ram.regions[0].pages_in_use():
        data = machine.ram.read(page, PAGE_SIZE, Account.MACHINE)
        if data != ZEROS:
            yield page, data


def difference(before: State, after: State) -> SetUp:
    """Return what has to be done to the first state so that it becomes the second one."""
    memory = tuple(pieces(before.memory, after.memory) if before.memory else after.memory.items())
    segments = {name: value for name, value in after.segments.items() if before.segments.get(name) != value}
    floating = changed(before.floating, after.floating)
    if any(name in X87 for name, _ in floating):  # these depend on each other
        floating = tuple(item for item in after.floating.items() if item[0] in X87 or item in floating)
    return SetUp(
        memory,
        changed(before.registers, after.registers),
        tuple((name, selector) for name, (selector, _) in segments.items()),
        changed(before.control, after.control),
        tuple((name, table) for name, table in after.tables.items() if before.tables.get(name) != table),
        floating,
    )


def changed(before: dict[str, int], after: dict[str, int]) -> Numbers:
    """Return the numbers that are not the same, in their order."""
    return tuple((name, value) for name, value in after.items() if before.get(name) != value)


def pieces(before: dict[int, bytes], after: dict[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the runs of bytes that differ: what a piece does not hold has not been changed."""
    for page in sorted(before.keys() | after.keys()):
        old, new = before.get(page, ZEROS), after.get(page, ZEROS)
        if old != new:
            differs = bytes(one != other for one, other in zip(old, new, strict=True))
            for run in DIFFERING.finditer(differs):
                yield page + run.start(), new[run.start() : run.end()]


def make(machine: Machine, changes: SetUp) -> None:
    """Do to a machine what has been done to another one."""
    cpu = machine.cpu
    for physical, data in changes.memory:
        machine.ram.write(physical, data, Account.MACHINE)
        machine.code_changed(physical, len(data))
    for table, (base, limit) in changes.tables:
        cpu.uc.reg_write(TABLES[table], (0, base, limit, 0))
    for name, value in changes.control:
        setattr(cpu, name, value)
    if changes.memory or changes.control:
        machine.flush_tlb()  # a page table may have been written
    if changes.segments:
        machine.descriptors.load(**dict(changes.segments))
    if changes.floating:
        machine.filters.floating.gather()  # exceptions that came before must not appear afterwards
        for name, value in changes.floating:
            number, size = FLOATING[name]
            live_fpu.write(machine.handle, number, value, size)
    for name, value in changes.registers:
        setattr(cpu, name, value)
