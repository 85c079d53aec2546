"""IRETD of ring 3 with VM in its image: as if the bit were clear, and without a visible trace."""

from collections.abc import Callable, Iterator

import pytest
from callgate.kernel.machine import Machine
from rings import AFTER, CODE, CODE_OF, DATA, NO_RAM, NOWHERE, READ_ONLY, STACK, USER, Case, Rings, encode

VIRTUAL = 0x2_3202
IMAGE = 12  # bytes
PUSHES = f"push {VIRTUAL}; mov eax, cs; push eax; push {AFTER};"
AT = CODE + len(encode(PUSHES, CODE))  # where the IRETD stands
ON_STACK = USER + 0x7000 - IMAGE  # physical
MakeRings = Callable[..., Rings]


@pytest.fixture
def make_rings() -> Iterator[MakeRings]:
    made = []

    def make(source: str = PUSHES + "iretd", counter: str = "native", **how: int) -> Rings:
        machine = Machine(memory=4 << 20, high_memory=0, ctrl_c=False, counter=counter)
        made.append(machine)
        rings = Rings(machine)
        rings.boot(3, Case(source, **how))
        return rings

    yield make
    for machine in made:
        machine.close()


def image(*, eip: int = AFTER, eflags: int = VIRTUAL) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in (eip, CODE_OF[3], eflags))


def outcome(rings: Rings) -> tuple[str, int, str]:
    assert rings.end is not None
    return rings.end.text(3), rings.end.eip, rings.end.flags


@pytest.mark.parametrize("kind", ["native", "python"])
def test_an_iretd_with_vm_leaves_its_image_alone_and_counts_as_one_instruction(
    make_rings: MakeRings, kind: str
) -> None:
    rings = make_rings(counter=kind)
    machine = rings.machine
    machine.run(until=AT)
    before = machine.clock.retired
    machine.run(until=AFTER)
    assert machine.clock.retired - before == 1
    assert (machine.cpu.eip, machine.cpu.esp, machine.cpu.cpl) == (AFTER, STACK, 3)
    assert machine.ram.read(ON_STACK, IMAGE) == image()
    machine.run(fuel=100)
    assert outcome(rings) == ("goes", AFTER + 2, "IF")


@pytest.mark.parametrize("kind", ["native", "python"])
def test_single_stepping_an_iretd_with_vm_gives_the_same_result(make_rings: MakeRings, kind: str) -> None:
    rings = make_rings(counter=kind)
    while rings.end is None:
        assert rings.machine.run(fuel=1).reason in ("fuel", "host")
    assert outcome(rings) == ("goes", AFTER + 2, "IF")


def test_a_breakpoint_on_an_iretd_with_vm_stops_before_it_with_the_image_intact(make_rings: MakeRings) -> None:
    rings = make_rings()
    machine = rings.machine
    probe = machine.probe(AT, lambda: machine.request_stop("breakpoint"))
    assert machine.run(fuel=100).reason == "breakpoint"
    assert (machine.cpu.eip, machine.ram.read(ON_STACK, IMAGE)) == (AT, image())
    machine.unprobe(probe)
    machine.run(fuel=100)
    assert outcome(rings) == ("goes", AFTER + 2, "IF")


def test_a_snapshot_taken_before_an_iretd_with_vm_can_be_restored_and_run(make_rings: MakeRings) -> None:
    rings = make_rings()
    machine = rings.machine
    with machine.probing(AT, lambda: machine.request_stop("breakpoint")):
        machine.run(fuel=100)
    kept = machine.snapshot()
    for _ in range(2):
        rings.end = None
        machine.run(fuel=100)
        assert outcome(rings) == ("goes", AFTER + 2, "IF")
        machine.restore(kept)
        assert machine.cpu.eip == AT


def test_an_interrupt_that_waits_for_if_does_not_disturb_an_iretd_with_vm(make_rings: MakeRings) -> None:
    """IF is clear: the line waits, the counting hook checks IF before each instruction."""
    rings = make_rings(eflags=2)
    machine = rings.machine
    machine.run(until=AT)
    machine.pic.pending = lambda: True  # type: ignore[method-assign]
    machine.run(fuel=100)
    assert outcome(rings) == ("goes", AFTER + 2, "none"), "IF of the image is ignored as well"


def test_an_iretd_image_that_cannot_be_read_is_a_page_fault(make_rings: MakeRings) -> None:
    rings = make_rings(f"mov esp, {NOWHERE}; iretd")
    rings.machine.run(fuel=100)
    assert outcome(rings)[:2] == ("#PF(4h)", CODE + 5)
    assert (rings.machine.cpu.cr2, rings.machine.traps.returns.hidden) == (NOWHERE, None)


def test_an_iretd_image_whose_flags_cannot_be_read_is_a_page_fault_at_the_flags(make_rings: MakeRings) -> None:
    """EIP and CS are in the last page of the table's, EFLAGS in one that is not mapped."""
    rings = make_rings(f"mov esp, {NO_RAM + 0x1000 - 8}; iretd")
    rings.machine.run(fuel=100)
    assert outcome(rings)[:2] == ("#PF(4h)", CODE + 5)
    assert rings.machine.cpu.cr2 == NO_RAM + 0x1000


def test_an_iretd_image_in_a_read_only_page_is_read_and_kept(make_rings: MakeRings) -> None:
    rings = make_rings(f"mov esp, {READ_ONLY}; iretd")
    rings.machine.ram.write(USER + 0x4000, image())
    rings.machine.run(fuel=100)
    assert outcome(rings) == ("goes", AFTER + 2, "IF")
    assert rings.machine.ram.read(USER + 0x4000, IMAGE) == image()


def test_an_iretd_image_outside_ram_has_no_code_segment(make_rings: MakeRings) -> None:
    rings = make_rings(f"mov esp, {NO_RAM}; iretd")
    rings.machine.run(fuel=100)
    assert outcome(rings) == ("#GP(FFFCh)", CODE + 5, "IF RF")


def test_an_iretd_with_vm_that_faults_leaves_its_image_and_esp_alone(make_rings: MakeRings) -> None:
    rings = make_rings(f"push {VIRTUAL}; push 0x33; push {AFTER}; iretd")
    machine = rings.machine
    machine.run(until=0xC021_1000 + 13 * 16)
    assert machine.ram.read(ON_STACK, IMAGE)[8:] == VIRTUAL.to_bytes(4, "little")
    machine.run(fuel=100)
    assert rings.end is not None
    assert rings.end.text(3) == "#GP(30h)"
    esp = machine.paging.read_linear(machine.cpu.esp + 4 + 16, 4)
    assert int.from_bytes(esp, "little") == STACK - IMAGE


def test_an_iretd_whose_image_is_its_own_code_is_executed_unchanged(make_rings: MakeRings) -> None:
    """The byte that is hidden is an opcode of the code returned to: 43h is INC EBX, 41h would be INC ECX."""
    rings = make_rings(f"xor ebx, ebx; xor ecx, ecx; mov esp, {DATA}; iretd")
    at = DATA + 8
    # EFLAGS = 00430202h: its third byte is the instruction at `at + 2`; VM is bit 1 of it.
    rings.machine.ram.write(USER + 0x2000, image(eip=at + 2, eflags=0x0043_0202) + b"\xcd\x80")
    rings.machine.ram.write(USER + 0x2000 + 11, b"\x90")
    rings.machine.run(fuel=100)
    assert outcome(rings)[0] == "goes"
    assert (rings.machine.cpu.ebx, rings.machine.cpu.ecx) == (1, 0)


def test_virtual_8086_mode_entered_by_ring_0_ends_the_run_before_its_first_instruction(make_rings: MakeRings) -> None:
    rings = make_rings()
    rings.boot(0, Case(f"push 0; push 0; push 0; push 0; push 0; push 0; push {VIRTUAL}; push 0; push 0x1000; iretd"))
    rings.machine.ram.write(0x1000, b"\xfa\xeb\xfe")
    for _ in range(2):
        stop = rings.machine.run(fuel=1000)
        assert (stop.reason, stop.eip) == ("not-modelled", 0x1000)
        assert "virtual-8086" in stop.detail
