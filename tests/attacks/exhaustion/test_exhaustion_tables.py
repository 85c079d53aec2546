"""Tables of the kernel that many processes, readers and families fill: the last entry is given, and one more is not."""

from collections.abc import Callable
from typing import Any

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.selectors import MAX_PROCESSES
from callgate.kernel.core import log
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.file_data import fetching
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.tasks.processes import SPACE_FRAMES
from hushed import hush, install

Arenas = Callable[..., Any]
SPANS = 4
SOURCES = 3
DISTURBED = 7


def test_the_kernel_itself_makes_no_more_processes_than_there_may_be(arena: Arenas) -> None:
    made = arena()
    made.run()
    processes = made.kernel.processes
    there = len(made.kernel.state.tasks.processes)
    children = [processes.create("child") for _ in range(MAX_PROCESSES - there)]
    with pytest.raises(PolicyError) as refused:
        processes.create("child")
    assert refused.value.code is ErrorCode.NO_RESOURCES
    for child in children:
        processes.discard(child)
    processes.discard(processes.create("one after others have gone"))
    made.assert_unharmed()


@pytest.mark.timeout(30)
def test_readers_of_a_silent_server_have_as_many_requests_on_their_way_as_there_may_be(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "SPANS", SPANS)
    files = {f"f{number}": synthetic.Layout(4096, [(8 + 8 * number, 8)]) for number in range(SPANS + 1)}
    install(monkeypatch, servers.Silent, files=files, answered=[])
    made = arena(MemoryMedium(synthetic.disk(128)))
    made.run()
    hush(monkeypatch, Operation.READ)
    readers = [made.start("whole_reader", b"/d0/f%d\0" % number) for number in range(SPANS + 1)]
    made.system.machine.pic.lower_line(IRQ)  # the CPU may be halted
    made.system.machine.pic.raise_line(IRQ)
    made.run(fuel=10_000_000)
    assert [reader.exit_code for reader in readers] == [None] * SPANS + [DISTURBED]
    assert made.kernel.check() == []


def test_the_log_counts_the_lines_of_a_bounded_number_of_families(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "SOURCES", SOURCES)
    made = arena()
    for _ in range(2 * SOURCES):
        made.attacker("privilege", 1)  # which is ended by a fault
    made.run()
    assert sum("ended by" in line for line in made.log) == 2 * SOURCES
    assert len(made.kernel.log.state.sources) == SOURCES


def test_a_process_for_which_memory_is_short_takes_none_of_it(arena: Arenas) -> None:
    made = arena()
    made.run()
    low = made.kernel.memory.low
    for free in range(SPACE_FRAMES):
        taken = [low.allocate() for _ in range(low.available - free)]
        with pytest.raises(PolicyError) as refused:
            made.kernel.processes.create("late")
        assert refused.value.code is ErrorCode.NO_MEMORY
        assert low.available == free
        for frame in taken:
            low.release(frame)
    made.assert_unharmed()


def test_a_program_starts_no_process_out_of_the_frames_that_programs_leave(arena: Arenas) -> None:
    made = arena(commands="ls /rom")
    other = made.start("runaway", b"")
    assert made.system.run(until="system_gate").reason == "until"
    processes, low = made.kernel.processes, made.kernel.memory.low
    taken = [low.allocate() for _ in range(low.available - limits.FRAMES_RESERVED_PROGRAMS - SPACE_FRAMES + 1)]
    before = low.available
    with pytest.raises(PolicyError) as refused:
        processes.create("child", parent=other.number)
    assert (refused.value.code, low.available) == (ErrorCode.NO_MEMORY, before)
    low.release(taken.pop())
    processes.discard(processes.create("child", parent=other.number))
    for frame in taken:
        low.release(frame)


def test_the_last_frames_that_programs_leave_are_the_shells(arena: Arenas) -> None:
    made = arena(commands="ls /rom")
    other = made.start("runaway", b"")
    assert made.system.run(until="system_gate").reason == "until"
    shares, low = made.kernel.processes.shares, made.kernel.memory.low
    shell = made.kernel.state.tasks.processes[made.kernel.state.tasks.shell]
    taken = [low.allocate() for _ in range(low.available - limits.FRAMES_RESERVED_PROGRAMS)]
    shares.check_free(shell, 1)
    with pytest.raises(PolicyError) as refused:
        shares.check_free(other, 1)
    assert refused.value.code is ErrorCode.NO_MEMORY
    for frame in taken:
        low.release(frame)
