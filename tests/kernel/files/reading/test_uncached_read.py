"""The way of an uncached read: each host call of it, and what every part of it takes.

The program opens a file of one page and reads it.  A hosted FAT server answers; nothing of the file is in the cache.
A host call more or less is a change of this way: docs/design.md ("An uncached read") says what each is for.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.calls import HostCall, SystemCall
from callgate.kernel.abi.errors import ErrorCode

Sessions = Callable[..., Any]
CONTENT = b"A file of one page.\n" * 20
MOST = 10  # host calls of an uncached read
LATENCY = Latency(command=50_000)  # the disk answers when everybody waits

ASKING = ["SYSTEM", "HANDOFF"]
ANSWERING = ["SERVER", "REPLIED", "SCHEDULE"]
ARRIVING = ["DISK_DONE", "FILE_READY", "YIELD", "RESUME"]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncached")
    (folder / "A.BIN").write_bytes(bytes(128 << 10))  # lies where mounting has read, in front of the file
    (folder / "FILE.TXT").write_bytes(CONTENT)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def calls_of_read(made: Any) -> list[str]:
    """Return the host calls from the first MAP_FILE to the return of that call."""
    found: list[str] = []
    reader = made.processes[0].threads[0]
    machine, kernel = made.system.machine, made.kernel

    def note(event: Any) -> None:
        current = kernel.scheduler.current
        number, value = event.fields["call"], event.fields["value"]
        if not found and (current is not reader or (number, value) != (HostCall.SYSTEM, SystemCall.MAP_FILE)):
            return
        found.append(HostCall(number).name)

    machine.stream.subscribe(note, kinds=["gate.host"])
    while kernel.scheduler.current is not reader or not found:
        machine.step()
        stop = made.run(until=kernel.guest.address("system_policy.answered"))
        assert stop.reason == "until", stop
    machine.stream.unsubscribe(note)
    return found


def test_an_uncached_read_makes_two_host_calls_to_ask_three_to_answer_and_four_when_the_data_arrive(
    session: Sessions, image: Path
) -> None:
    made = session(image, programs=[("reader", "r/d0/FILE.TXT")], latency=LATENCY)
    made.reach("reader", "start")
    calls = calls_of_read(made)
    assert calls == ASKING + ANSWERING + ARRIVING
    assert len(calls) <= MOST
    made.run()
    assert made.processes[0].exit_code == 0
    assert made.output == CONTENT
    assert made.unaccounted() == []


@pytest.mark.parametrize("how", ["interrupted", "killed", "interrupted before"])
def test_a_reader_that_is_interrupted_or_killed_at_any_instruction_of_asking_does_not_wait_for_its_data(
    session: Sessions, image: Path, some_of: Callable[[Iterable[int], int], list[int]], how: str
) -> None:
    """The disk takes 300 µs; a reader that waited for it would have its data."""
    made = session(image, programs=[("reader", "e/d0/FILE.TXT")], latency=Latency(command=300_000))
    made.reach("reader", "start")
    kernel, machine = made.kernel, made.system.machine
    number, kept, begin = made.processes[0].number, made.system.snapshot(), machine.clock.retired
    instants: list[int] = []
    machine.stream.subscribe(lambda _event: instants.append(machine.clock.retired - begin), kinds=["gate.host"])
    calls_of_read(made)
    machine.stream.listeners.clear()
    asking = len(instants) - len(ASKING + ANSWERING + ARRIVING)
    last = instants[asking] + 40 if how == "interrupted before" else instants[asking + 1] + 3
    for steps in some_of(range(instants[asking], last), 12):
        made.system.restore(kept)
        process = kernel.state.tasks.processes[number]
        made.run(fuel=steps)
        if how == "killed":
            kernel.processes.kill(process, 9)
        else:
            kernel.threads.interrupt(process.threads[0])
        if how == "interrupted before":
            process.threads[0].signal = False  # the wake-up has ended another wait
        asked = machine.clock.now
        made.run(until=kernel.guest.address("exit_thread"))
        assert kernel.scheduler.current.process is process
        assert machine.clock.now - asked < 100_000, steps
        assert made.run().reason == "halt", steps
        assert process.exit_code == (9 if how == "killed" else 100 + ErrorCode.INTERRUPTED), steps
        assert made.unaccounted() == [], steps
