"""Readers of a server that refuses, and readers that are ended while they ask: none waits, none leaves anything."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.thread import ThreadFlags
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.servers import volumes
from uncached_reads import calls_of_read

IMAGE = synthetic.disk(2048)
DISTURBED = 7
Arenas = Callable[..., Any]
Sessions = Callable[..., Any]


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> synthetic.Layout:
    """The only file of the synthetic disk."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    layout = synthetic.Layout(16 * 4096, [(64, 128)])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": layout})
    return layout


def test_a_reader_of_a_server_that_refuses_is_told_and_does_not_wait(arena: Arenas, layout: synthetic.Layout) -> None:
    layout.fails_at = 0
    made = arena(MemoryMedium(IMAGE))
    made.wanted.append(lambda: made.attackers.append(made.start("whole_reader", b"/d0/f")))
    assert made.run(20_000_000).reason == "halt"
    assert made.results == [DISTURBED]
    assert made.kernel.state.files.waiting == {}
    made.assert_unharmed()


@pytest.mark.usefixtures("layout")
def test_records_of_what_was_read_leave_with_the_last_file_of_a_server(arena: Arenas) -> None:
    made = arena(MemoryMedium(IMAGE))
    made.run()
    reader = made.start("whole_reader", b"/d0/f")
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    made.run(20_000_000)
    assert reader.exit_code == 0
    assert [endpoint.span_pages for endpoint in made.kernel.state.endpoints.by_number.values()] == [[], []]
    made.assert_unharmed()


@pytest.mark.parametrize("how", ["interrupted", "killed", "interrupted before"])
@pytest.mark.parametrize("fast_path", [True, False], ids=["direct", "the long way"])
def test_a_reader_that_is_interrupted_or_killed_at_any_instruction_of_asking_does_not_wait_for_its_data(
    session: Sessions, tmp_path: Path, some_of: Callable[[Iterable[int], int], list[int]], how: str, *, fast_path: bool
) -> None:
    """The disk takes 300 µs; a reader that waited for it would have its data."""
    folder, image = tmp_path / "uncached", tmp_path / "uncached.img"
    folder.mkdir()
    (folder / "A.BIN").write_bytes(bytes(128 << 10))  # lies where mounting has read, in front of the file
    (folder / "FILE.TXT").write_bytes(b"A file of one page.\n" * 20)
    create_image(image, folder, fs="fat16", size=16 << 20)
    made = session(image, programs=[("reader", "e/d0/FILE.TXT")], latency=Latency(command=300_000), fast_path=fast_path)
    made.reach("reader", "start")
    kernel, machine = made.kernel, made.system.machine
    number, kept, begin = made.processes[0].number, made.system.snapshot(), machine.clock.retired
    instants: list[int] = []
    asking = 0

    def note(event: Event) -> None:
        nonlocal asking
        if event.fields["call"] == HostCall.SYSTEM:
            asking = len(instants)
        instants.append(machine.clock.retired - begin)

    machine.stream.subscribe(note, kinds=["gate.host"])
    calls_of_read(made)
    machine.stream.listeners.clear()
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
            block = kernel.threads.block(process.threads[0])
            block["flags"] &= ~ThreadFlags.SIGNALLED  # the wake-up has ended another wait
        asked = machine.clock.now
        made.run(until=kernel.guest.address("exit_thread"))
        assert kernel.scheduler.current.process is process
        assert machine.clock.now - asked < 100_000, steps
        assert made.run().reason == "halt", steps
        assert process.exit_code == (9 if how == "killed" else 100 + ErrorCode.INTERRUPTED), steps
        assert made.unaccounted() == [], steps
