"""Deaths, turns of others and snapshots at each instruction of the path that hands the FPU's registers over."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

HELD, KILLED = 0, 137
READ_ALL, HOLD = 3, 11  # what the program is told to do, counted from 1 (tests/attacks/programs/cpu/fpu.asm)
ATTENTION = 4  # an interrupt line: the CPU may be halted
ENOUGH = 30_000_000
SomeOf = Callable[[range, int], list[int]]


class Handover:
    """A system that stands at the first instruction of a #NM, to go back to as often as wanted."""

    def __init__(self, made: Any, way: str) -> None:
        self.made = made
        for name in ("fpu", "victim", "victim") if way == "again" else ("fpu",) * 3:
            made.attacker(name, HOLD - 1)
        while True:
            stop = made.system.run(until="trap_7", fuel=ENOUGH)
            assert stop.reason == "until", f"no handover {way}"
            words = made.kernel.guest.kernel_words
            owner, current = words["fpu_owner"], words["current"]
            if {"first": not owner, "other": owner not in (0, current), "again": owner == current}[way]:
                break
            made.system.machine.step()
        self.numbers = [process.number for process in made.attackers]
        self.kept = made.system.snapshot()
        self.owner, self.user = owner, current

    def length(self) -> int:
        """Return how many instructions there are until the program goes on."""
        machine = self.made.system.machine
        start = machine.clock.retired
        while machine.cpu.cpl != 3:
            machine.step()
        count = int(machine.clock.retired - start)
        self.go_back()
        return count

    def go_back(self) -> list[Any]:
        """Stand at the handover again; return the processes."""
        self.made.system.restore(self.kept)
        self.made.attackers = [self.made.kernel.state.tasks.processes[number] for number in self.numbers]
        return list(self.made.attackers)

    def moments(self, some_of: SomeOf) -> Iterator[tuple[int, list[Any]]]:
        """Stand after some numbers of instructions in turn, up to a few of the program's own."""
        for steps in some_of(range(self.length() + 4), 3):
            processes = self.go_back()
            if steps:
                self.made.system.machine.step(steps)
            yield steps, processes

    def finish(self, process: Any = None) -> None:
        """Kill a process, if one is given, run to the end, and let a reader search for values that are left."""
        made = self.made
        if process is not None:
            made.kernel.processes.kill(process, KILLED)
        attention(made)
        made.run(ENOUGH)
        assert made.kernel.fpu.check() == []
        reader = made.start("fpu", bytes([READ_ALL]))
        attention(made)
        made.run(ENOUGH)
        assert reader.exit_code == HELD
        made.assert_unharmed()


def attention(made: Any) -> None:
    """Interrupt a CPU that may be halted."""
    made.system.machine.pic.lower_line(ATTENTION)
    made.system.machine.pic.raise_line(ATTENTION)


def owner_of(made: Any, selector: int) -> Any:
    thread = made.kernel.state.tasks.threads.get(selector)
    return thread.process if thread else None


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("way", ["first", "other", "again"])
def test_a_thread_killed_at_any_instruction_of_its_handover_takes_nothing_with_it(
    arena: Callable[..., Any], way: str, some_of: SomeOf
) -> None:
    handover = Handover(arena(), way)
    for steps, processes in handover.moments(some_of):
        victim = owner_of(handover.made, handover.user)
        handover.finish(victim)
        codes = [KILLED if process is victim else HELD for process in processes]
        assert [process.exit_code for process in processes] == codes, steps


def test_the_owner_killed_at_any_instruction_of_the_handover_leaves_nothing(
    arena: Callable[..., Any], some_of: SomeOf
) -> None:
    handover = Handover(arena(), "other")
    for steps, processes in handover.moments(some_of):
        owner = owner_of(handover.made, handover.owner)
        handover.finish(owner)
        codes = [KILLED if process is owner else HELD for process in processes]
        assert [process.exit_code for process in processes] == codes, steps


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("way", ["first", "other", "again"])
def test_a_turn_of_another_thread_at_any_instruction_of_the_handover_changes_nothing(
    arena: Callable[..., Any], way: str, some_of: SomeOf
) -> None:
    handover = Handover(arena(), way)
    for steps, processes in handover.moments(some_of):
        handover.made.kernel.scheduler.request_yield()
        handover.finish()
        assert [process.exit_code for process in processes] == [HELD] * 3, steps


def test_a_snapshot_with_values_in_the_registers_brings_them_back(arena: Callable[..., Any], some_of: SomeOf) -> None:
    handover = Handover(arena(), "other")
    made = handover.made
    for steps, _ in handover.moments(some_of):
        before = made.system.machine.fpu, [made.kernel.fpu.of(process.threads[0]) for process in made.attackers]
        kept = made.system.snapshot()
        numbers = [process.number for process in made.attackers]
        made.run(40_000)
        made.system.restore(kept)
        made.attackers = [made.kernel.state.tasks.processes[number] for number in numbers]
        after = made.system.machine.fpu, [made.kernel.fpu.of(process.threads[0]) for process in made.attackers]
        assert after == before, steps
        processes = list(made.attackers)
        handover.finish()
        assert [process.exit_code for process in processes] == [HELD] * 3, steps


def test_the_registers_of_a_thread_are_shown_wherever_they_are(arena: Callable[..., Any]) -> None:
    made = Handover(arena(), "other").made
    threads = [process.threads[0] for process in made.attackers]
    holders = [thread for thread in threads if made.kernel.fpu.touched(thread)]
    assert 1 <= len(holders) < 3
    for thread in holders:
        registers = made.kernel.fpu.of(thread)
        assert (registers.control, registers.mxcsr, registers.tags) == (0x0F7F, 0x7F80, 0xFF)
        assert registers.xmm[1] == registers.xmm[0] >> 8 | 0x11 << 120
