"""A register that is set by hand is what an instruction would make it, or is refused where that faults."""

from __future__ import annotations

import struct
from itertools import product
from typing import Any

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.descriptors import Gate, Segment

KERNEL, GDT, POINTERS = 0xC000_0000, 0x20_5000, 0x20_8000  # of the board (conftest.py)
FIRST = 8  # entry of the first descriptor that is tried
TYPES = (0x10, 0x12, 0x16, 0x18, 0x1A, 0x1C, 0x1E, 0x02, 0x09)  # data, code, conforming code; LDT, TSS
TRIED = [
    *(Segment(0x1000 * index, 0xFFFF_FFFF, kind, dpl) for index, (kind, dpl) in enumerate(product(TYPES, (0, 1, 3)))),
    Segment(0x5000, 0xFFF, 0x12, 0, present=False),
    Segment(0x5000, 0xFFF, 0x1A, 3, present=False),
    Segment(0x5000, 0xFFF, 0x1A, 0),
    Segment(0x5000, 0xFFF, 0x1A, 3),
    Gate(8, KERNEL, 0xC, 3),
]
SELECTORS = [*(8 * (FIRST + index) | rpl for index in range(len(TRIED)) for rpl in (0, 3)), 0, 3, 0x7F8, 0xC]
SYSTEM = [index for index, entry in enumerate(TRIED) if not entry.type & 0x10]
NO_SYSTEM = [selector for selector in SELECTORS if selector // 8 - FIRST not in SYSTEM]  # where a JMP does other things
MOVES = {"ds": b"\x8e\xd8", "es": b"\x8e\xc0", "fs": b"\x8e\xe0", "gs": b"\x8e\xe8", "ss": b"\x8e\xd0"}
FAULTS = {11: "#NP", 12: "#SS", 13: "#GP"}


@pytest.fixture(params=[0, 3])
def at_a_move(request: pytest.FixtureRequest, board: Any) -> Any:
    """A board in a ring, whose descriptor table has TRIED."""
    board.boot("nop", "nop" if request.param else None)
    machine = board.machine
    machine.ram.write(GDT + 8 * FIRST, b"".join(struct.pack("<Q", entry.encode()) for entry in TRIED))
    machine.ram.write(POINTERS, struct.pack("<H", 0x3FF))
    while machine.cpu.cpl != request.param or machine.read(machine.cpu.eip, 1) != b"\x90":
        machine.run(fuel=1)
    return board


def state(machine: Machine, name: str) -> tuple[int, int, bytes]:
    table = b"" if name == "cs" else machine.ram.read(GDT, 0x400)  # the engine's far JMP does not set the accessed bit
    return getattr(machine.cpu, name), machine.cpu.segment_base(name), table


def by_instruction(board: Any, name: str, selector: int) -> tuple[int, int, bytes] | str:
    """Load it by MOV, or by a far JMP to the next instruction; return the state, or the fault."""
    machine = board.machine
    at = machine.cpu.eip
    if name == "cs":
        code = b"\xea" + struct.pack("<IH", at + 7, selector)
    else:
        code = MOVES[name]
        machine.cpu.eax = selector
    machine.write(at, code)
    board.reports.clear()
    machine.run(fuel=1)
    if machine.cpu.eip == at + len(code):
        return state(machine, name)
    machine.run(fuel=4)
    return FAULTS[board.reports[-1].vector]


def by_hand(board: Any, name: str, selector: int) -> tuple[int, int, bytes] | str:
    machine = board.machine
    before = state(machine, name)
    try:
        machine.set_register(name, selector)
    except ValueError as error:
        assert state(machine, name) == before
        return str(error)[-3:]
    return state(machine, name)


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("name", [*MOVES, "cs"])
def test_a_segment_register_set_by_hand_is_as_the_instruction_loads_it_or_refused_with_its_fault(
    at_a_move: Any, name: str
) -> None:
    snapshot = at_a_move.machine.snapshot()
    found, expected = {}, {}
    for selector in SELECTORS if name != "cs" else NO_SYSTEM:
        expected[selector] = by_instruction(at_a_move, name, selector)
        at_a_move.machine.restore(snapshot)
        found[selector] = by_hand(at_a_move, name, selector)
        at_a_move.machine.restore(snapshot)
    assert found == expected
    assert any(isinstance(value, str) for value in found.values())
    assert any(isinstance(value, tuple) for value in found.values())


def test_control_and_debug_registers_keep_what_an_instruction_could_put_there(board: Any) -> None:
    board.boot("nop")
    machine = board.machine
    machine.run(fuel=20)
    cpu = machine.cpu
    before = {name: getattr(cpu, name) for name in ("cr0", "cr3", "cr4", "dr7")}
    for name, value, why in (
        ("cr0", before["cr0"] & ~1, "real mode"), ("cr0", before["cr0"] | 1 << 29, "NW without CD"),
        ("cr3", 0x7FFF_F000, "no RAM"), ("cr3", GDT, "reserved bits"), ("cr4", before["cr4"] & ~0x20, "PAE"),
        ("cr4", before["cr4"] | 1 << 31, "0x80000000 are #GP"), ("dr7", 0x403, "debug registers"),
        ("eflags", 0x20002, "virtual-8086"), ("mxcsr", 1 << 16, "reserved"), ("st0", 1 << 80, "80 bits"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}: .*{why}"):
            machine.set_register(name, value)
    assert {name: getattr(cpu, name) for name in before} == before
    machine.set_register("cr0", before["cr0"] ^ 1 << 16)
    machine.set_register("cr2", 0x1234)
    machine.set_register("dr0", 0x5678)
    assert (cpu.cr0, cpu.cr2, cpu.dr0) == (before["cr0"] ^ 1 << 16, 0x1234, 0x5678)
    assert machine.paging.mode().write_protect != bool(before["cr0"] >> 16 & 1)
    with pytest.raises(AttributeError):
        machine.set_register("efer", 0)


def test_a_selector_is_refused_where_its_table_is_not_in_memory(board: Any) -> None:
    board.boot("nop")
    machine = board.machine
    machine.run(fuel=20)
    for linear, physical, why in ((0x40_0000, None, "#PF"), (0x40_0000, 0x7000_0000, "no RAM")):
        entry = board.map(linear, 0, "none") if physical is None else board.map(linear, physical, "kernel")
        assert entry
        pointer = struct.pack("<HI", 0x7F, linear)
        machine.ram.write(POINTERS, pointer)
        at = machine.cpu.eip
        machine.write(at, b"\x0f\x01\x15" + struct.pack("<I", KERNEL + POINTERS))  # LGDT
        machine.run(fuel=1)
        assert machine.cpu.table("gdtr") == (linear, 0x7F)
        with pytest.raises(ValueError, match=f"^gs: 0x10: .*{why}"):
            machine.set_register("gs", 0x10)
        machine.cpu.eip = at


def test_floating_point_registers_set_by_hand_are_what_instructions_then_use(bare: Any) -> None:
    """FXSAVE, which the machine itself executes, says what it holds; a division rounds as MXCSR says."""
    machine = bare("mov eax, 0x2000; fxsave [eax]; divss xmm0, xmm1")
    machine.cpu.cr4 |= 0x600
    one_third = 0x3EAA_AAAA  # towards zero; 0x3EAAAAAB to nearest
    values = {
        "fctrl": 0x0C7F, "fstat": 5 << 11 | 0x4000, "mxcsr": 0x7F80, "xmm0": 0x3F80_0000, "xmm1": 0x4040_0000,
        "xmm7": 7 << 120, **{f"st{index}": 0x4000 << 64 | 1 << 63 | index for index in range(8)}, "ftag": 0xFC3F,
    }  # fmt: skip
    for name, value in values.items():
        machine.set_register(name, value)
    machine.run(fuel=2)
    area = machine.ram.read(0x2000, 512)
    assert struct.unpack_from("<HHB", area) == (0x0C7F, 5 << 11 | 0x4000, 0b0001_1000)
    assert [int.from_bytes(area[32 + 16 * index :][:10], "little") for index in range(8)] == [
        values[f"st{index}"] for index in range(8)
    ]
    assert int.from_bytes(area[160 + 16 * 7 :][:16], "little") == 7 << 120
    machine.run(fuel=1)
    assert machine.fpu.xmm[0] == one_third
