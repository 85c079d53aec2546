"""The registers of x87, MMX and SSE: no thread finds those of another one or loses its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.calls import OPERATION_SERVER_DEFINED

HELD, GAINED, FAULT, KILLED = 0, 7, 139, 137
MODES = (
    *("read_xmm", "read_mmx", "read_all", "read_saved"),
    *("read_environment", "read_control", "read_status", "read_mxcsr"),
    *("hold_and_end", "hold_for_ever", "hold", "new_thread", "through_server"),
    *("unlock_clts", "unlock_lmsw", "unlock_cr0", "int_7"),
    *("avx", "avx_wide", "avx_clear", "xsave", "xgetbv", "mxcsr_reserved", "image_reserved"),
    *("divide", "divide_and_switch", "leave_pending", "wait_only", "start_child", "compute"),
)
READERS = MODES[:8]
ATTENTION = 4  # an interrupt line: the CPU may be halted

Arenas = Callable[..., Any]


def enter(made: Any, mode: str) -> None:
    """Have a program started that does `mode` once the system is up."""
    made.attacker("fpu", MODES.index(mode))


def enter_now(made: Any, mode: str) -> Any:
    """Start a program that does `mode` in a system that runs."""
    process = made.start("fpu", bytes([MODES.index(mode) + 1]))
    made.attackers.append(process)
    made.system.machine.pic.lower_line(ATTENTION)
    made.system.machine.pic.raise_line(ATTENTION)
    return process


def assert_sound(made: Any) -> None:
    assert made.kernel.fpu.check() == []
    made.assert_unharmed()


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("reader", READERS)
def test_a_program_does_not_find_the_registers_of_one_that_has_ended(arena: Arenas, reader: str) -> None:
    made = arena()
    enter(made, "hold_and_end")
    made.run()
    assert made.kernel.fpu.check() == [], "the registers of no thread are empty"
    enter_now(made, reader)
    made.run()
    assert made.results == [HELD, HELD], made.log
    assert_sound(made)


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("reader", READERS)
def test_a_program_does_not_find_the_registers_of_one_that_runs_beside_it(arena: Arenas, reader: str) -> None:
    made = arena()
    for mode in ("hold", reader, "hold", reader):
        enter(made, mode)
    made.victim()
    made.run()
    assert made.results == [HELD] * 4, made.log
    assert made.system.machine.ledger.counts().fpu_switches > 20
    assert_sound(made)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("reader", READERS)
def test_a_program_does_not_find_the_registers_of_one_that_was_killed_with_them(arena: Arenas, reader: str) -> None:
    made = arena()
    enter(made, "hold_for_ever")
    made.run(3_000_000)
    assert made.kernel.fpu.live, "the holder has been stopped while it runs"
    made.kernel.processes.kill(made.attackers[0], KILLED)
    enter_now(made, reader)
    made.run()
    assert made.results == [KILLED, HELD], made.log
    assert_sound(made)


def test_preemption_at_any_moment_does_not_show_or_change_registers(arena: Arenas) -> None:
    """The holder never yields: the timer takes the CPU away from it, and from the readers."""
    made = arena()
    enter(made, "hold_for_ever")
    for reader in READERS:
        enter(made, reader)
    made.system.run(fuel=25_000_000, until=lambda: made.results.count(HELD) == len(READERS))
    assert made.results == [None] + [HELD] * len(READERS), made.log
    assert made.kernel.fpu.check() == []


def test_a_turn_of_another_after_every_instruction_does_not_show_or_change_registers(
    arena: Arenas, some_of: Callable[[range, int], list[int]]
) -> None:
    """Where both compare all their registers, each executes one instruction, then an interrupt gives the CPU away."""
    made = arena()
    for mode in ("hold", "read_all", "hold"):
        enter(made, mode)
    machine = made.system.machine
    assert made.system.run(until=made.label("fpu", "kept"), fuel=30_000_000).reason == "until"
    switches = machine.ledger.counts().fpu_switches
    for _ in some_of(range(400), 8):
        machine.step()
        machine.pic.lower_line(ATTENTION)
        machine.pic.raise_line(ATTENTION)
        made.kernel.scheduler.request_yield()
        machine.step()
        while machine.cpu.cpl != 3:
            machine.step(20)
    assert machine.ledger.counts().fpu_switches - switches >= 2
    assert made.kernel.fpu.check() == []
    made.run()
    assert made.results == [HELD] * 3, made.log
    assert_sound(made)


def test_a_thread_of_the_same_program_begins_with_clean_registers(arena: Arenas) -> None:
    made = arena()
    enter(made, "new_thread")
    made.run()
    assert made.results == [HELD], made.log
    assert_sound(made)


def test_a_child_begins_with_clean_registers_and_control_words(
    arena: Arenas, program_file: Callable[..., bytes], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "CHILD").write_bytes(program_file("fpu"))
    create_image(tmp_path / "child.img", tree, fs="fat16", size=8 << 20)
    made = arena(tmp_path / "child.img")
    enter(made, "start_child")
    made.run()
    assert made.results == [HELD], made.log
    assert_sound(made)


def test_registers_do_not_travel_with_a_request_or_its_reply(arena: Arenas) -> None:
    made = arena()

    def clients() -> None:
        endpoint = made.server("fpu_server", "fpu")
        target = (endpoint.number << 16 | OPERATION_SERVER_DEFINED).to_bytes(4, "little")
        argument = bytes([MODES.index("through_server") + 1, 0, 0, 0]) + target
        made.attackers += [made.start("fpu", argument), made.start("fpu", argument)]

    made.wanted.append(clients)
    made.run()
    assert made.results == [HELD, HELD], made.log
    assert_sound(made)


@pytest.mark.parametrize("way", ["unlock_clts", "unlock_lmsw", "unlock_cr0", "int_7"])
def test_ring_3_cannot_clear_the_bit_that_makes_registers_trap(arena: Arenas, way: str) -> None:
    made = arena()
    enter(made, "hold")
    enter(made, way)
    made.run()
    assert made.results == [HELD, FAULT], made.log
    assert any("#GP general protection" in line for line in made.log), made.log
    assert not any("fcw=" in line for line in made.log), "the report shows no registers that were not used"
    assert_sound(made)


@pytest.mark.parametrize("instruction", ["avx", "avx_wide", "avx_clear", "xsave", "xgetbv"])
def test_registers_that_the_kernel_does_not_save_cannot_be_used(arena: Arenas, instruction: str) -> None:
    made = arena()
    enter(made, instruction)
    made.run()
    assert made.results == [FAULT], made.log
    assert any("#UD invalid opcode" in line for line in made.log), made.log
    assert_sound(made)


@pytest.mark.parametrize("instruction", ["mxcsr_reserved", "image_reserved"])
def test_reserved_bits_of_mxcsr_cannot_be_set(arena: Arenas, instruction: str) -> None:
    """The next FXRSTOR of the kernel would fault on a CPU that finds them in a save area."""
    made = arena()
    enter(made, "hold")
    enter(made, instruction)
    made.run()
    assert made.results == [HELD, FAULT], made.log
    assert any("#GP general protection" in line for line in made.log), made.log
    assert_sound(made)


@pytest.mark.parametrize("mode", ["divide", "divide_and_switch"])
def test_an_unmasked_exception_ends_the_program_that_caused_it(arena: Arenas, mode: str) -> None:
    made = arena()
    enter(made, mode)
    enter(made, "hold")
    enter(made, "read_all")
    made.run()
    assert made.results == [FAULT, HELD, HELD], made.log
    assert any("#MF x87 floating-point error" in line for line in made.log), made.log
    assert any("fcw=037b" in line for line in made.log), made.log
    assert_sound(made)


def test_an_exception_that_one_program_has_left_does_not_end_another_one(arena: Arenas) -> None:
    made = arena()
    enter(made, "leave_pending")
    enter(made, "wait_only")
    made.system.run(fuel=3_000_000, until=lambda: HELD in made.results)
    assert made.results == [None, HELD], made.log


def test_exceptions_of_one_programs_arithmetic_are_flagged_for_no_other_one(arena: Arenas) -> None:
    made = arena()
    for mode in ("compute", "read_mxcsr", "compute", "read_mxcsr"):
        enter(made, mode)
    made.run()
    assert made.results == [HELD] * 4, made.log
    assert_sound(made)


def test_a_program_that_ends_does_not_take_the_registers_of_another_one(arena: Arenas) -> None:
    """It has used none of them, and others hold theirs meanwhile."""
    made = arena()
    enter(made, "hold")
    for attack in range(4):
        made.attacker("references", attack)
    made.run()
    assert made.results == [HELD] * 5, made.log
    assert_sound(made)


def test_threads_that_do_not_use_the_registers_pay_nothing_for_them(arena: Arenas) -> None:
    made = arena()
    made.victim()
    made.run()
    counts = made.system.machine.ledger.counts()
    assert counts.fpu_switches == 0
    assert "#NM" not in counts.exceptions
    assert_sound(made)
