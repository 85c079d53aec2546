"""What ring 3 may do with IRETD, POPFD, INT n, NT, TF and selectors: at most its own process ends."""

from collections.abc import Callable
from typing import Any

import pytest

HELD, FAULT = 0, 139
CS, EFLAGS = 12, 16  # of the frame at `trap`: vector and error code lie below EIP
VM, IOPL = 0x2_0000, 0x3000

# Each attack, how its process ends, and what the log then says of it.
ATTACKS: dict[str, tuple[int, str]] = {
    "virtual_flags": (HELD, ""),
    "virtual_cli": (FAULT, "#GP general protection, error code 0x0000"),
    "virtual_out": (FAULT, "#GP general protection, error code 0x0000"),
    "virtual_host_call": (FAULT, "#GP general protection, error code 0x0000"),
    "virtual_in": (FAULT, "#GP general protection, error code 0x0000"),
    "virtual_fault": (FAULT, "#UD invalid opcode"),
    "virtual_page_fault": (FAULT, "#PF page fault: read of 0xc0000000, protection"),
    "virtual_interrupt": (FAULT, "#GP general protection, error code 0x0102"),
    "virtual_halt": (FAULT, "#GP general protection, error code 0x0000"),
    "virtual_call": (HELD, ""),
    "virtual_stack": (HELD, ""),
    "virtual_prefix": (HELD, ""),
    "virtual_kernel": (FAULT, "#GP general protection, error code 0x0008"),
    "virtual_loop": (HELD, ""),
    "iopl_by_popfd": (FAULT, "#GP general protection, error code 0x0000"),
    "iopl_by_popf": (HELD, ""),
    "iopl_by_iretd": (FAULT, "#GP general protection, error code 0x0000"),
    "interrupts_off": (HELD, ""),
    "nested_task": (FAULT, "#TS invalid TSS, error code 0x0000"),
    "nested_virtual_task": (FAULT, "#TS invalid TSS, error code 0x0000"),
    "nested_call": (HELD, ""),
    "double_fault": (FAULT, "#GP general protection, error code 0x0042"),
    "invalid_opcode": (FAULT, "#GP general protection, error code 0x0032"),
    "int1": (FAULT, "#DB debug exception"),
    "task_segment": (FAULT, "#GP general protection, error code 0x0028"),
    "task_segment_ring_3": (FAULT, "#GP general protection, error code 0x0028"),
    "kernel_code": (FAULT, "#GP general protection, error code 0x0008"),
    "far_return": (FAULT, "#GP general protection, error code 0x0008"),
    "stack_segment": (FAULT, "#GP general protection, error code 0x0010"),
    "locked_load": (FAULT, "#UD invalid opcode"),
    "locked_bit_test": (FAULT, "#UD invalid opcode"),
    "locked_bit_test_later": (FAULT, "#UD invalid opcode"),
    "trap_in_gate": (FAULT, "#DB debug exception"),
    "trap_in_request": (FAULT, "#DB debug exception"),
    "write_kernel": (FAULT, "#PF page fault: write of 0xc0000ffc, protection"),
    "write_kernel_by_memory": (FAULT, "#PF page fault: write of 0xc0000ffc, protection"),
    "write_code": (FAULT, "#PF page fault: write of 0x"),
    "read_kernel_by_retf": (FAULT, "#PF page fault: read of 0xc0001000, protection"),
    "read_kernel_by_iretd": (FAULT, "#PF page fault: read of 0xc0001000, protection"),
    "far_call_on_new_stack": (HELD, ""),
    "far_calls": (HELD, ""),
}
EVERY_VECTOR = len(ATTACKS)
BATCH = 32


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_instruction_of_ring_3_ends_at_most_its_process(arena: Callable[..., Any], attack: str) -> None:
    made = arena()
    made.victim()
    made.attacker("privilege", list(ATTACKS).index(attack))
    assert made.run().reason == "halt"
    code, report = ATTACKS[attack]
    assert made.results == [code], made.log
    assert [line for line in made.log if "ended by" in line and report in line] or code == HELD, made.log
    assert made.output == b"", "something reached the serial port"
    made.assert_unharmed()


@pytest.mark.parametrize("first", range(0, 256, BATCH))
def test_a_software_interrupt_of_any_number_ends_at_most_its_process(arena: Callable[..., Any], first: int) -> None:
    made = arena()
    made.victim()
    for vector in range(first, first + BATCH):
        made.attacker("privilege", EVERY_VECTOR, bytes([vector]))
    assert made.run().reason == "halt"
    assert made.results == [FAULT] * BATCH, made.log
    reports = [line for line in made.log if "ended by" in line]
    gates_for_all = {3: "#BP", 4: "#OF"}
    for vector, report in zip(range(first, first + BATCH), reports, strict=True):
        assert gates_for_all.get(vector, f"#GP general protection, error code {vector * 8 + 2:#06x}") in report
    made.assert_unharmed()


@pytest.mark.parametrize("attack", ["trap_in_gate", "trap_in_request"])
def test_the_trap_of_a_caller_that_is_stepped_comes_after_its_call(arena: Callable[..., Any], attack: str) -> None:
    """The kernel is not stepped, and EIP is that of the instruction after the far CALL."""
    made = arena()
    made.attacker("privilege", list(ATTACKS).index(attack))
    before = made.kernel.machine.ledger.exceptions["#DB"]
    assert made.run().reason == "halt"
    assert made.kernel.machine.ledger.exceptions["#DB"] - before == 3, "at the gate, after its PUSHFD, in ring 3"
    after = made.label("privilege", f"{attack}_after")
    assert any(f"at {after:#010x}" in line for line in made.log), made.log


def test_a_trap_from_virtual_8086_mode_counts_as_one_from_ring_3(arena: Callable[..., Any]) -> None:
    """The machine never enters that mode; should its frame ever say so, the process ends and not the kernel."""
    made = arena()
    made.victim()
    made.attacker("privilege", list(ATTACKS).index("virtual_fault"))
    machine = made.kernel.machine

    def pretend() -> None:
        frame = machine.cpu.esp
        cs, eflags = (machine.read(frame + offset, 4) for offset in (CS, EFLAGS))
        if int.from_bytes(cs, "little") & 3:
            machine.write(frame + CS, (0x4000).to_bytes(4, "little"))
            machine.write(frame + EFLAGS, (int.from_bytes(eflags, "little") | VM | IOPL).to_bytes(4, "little"))

    machine.probe("trap", pretend)
    assert made.run().reason == "halt"
    assert made.results == [FAULT], made.log
    made.assert_unharmed()
