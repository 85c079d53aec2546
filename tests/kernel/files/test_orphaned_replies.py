"""A client dies while a server opens a file or lists a directory for it: the server is told to release it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.calls import Operation
from callgate.kernel.core.records import RELEASES, EndpointState
from callgate.kernel.ipc.slots import lowest
from callgate.kernel.machine.devices.serial import IRQ
from callgate.server.mounted import MountedServer

Sessions = Callable[..., Any]
POINTS = 60


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orphans")
    (folder / "A.TXT").write_bytes(b"what the second one reads\n")
    (folder / "DOCS").mkdir()
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def endpoint_of(made: Any) -> EndpointState:
    return next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")


def server_of(made: Any) -> MountedServer:
    """Return the server object of the disk's volume."""
    process = endpoint_of(made).process
    assert process is not None
    server = made.kernel.hosted.servers[process.number]
    assert isinstance(server, MountedServer)
    return server


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("program", "argument"), [("reader", "r/d0/A.TXT"), ("lister", "/d0/DOCS")])
def test_resources_that_a_server_holds_for_a_dead_client_are_released(
    session: Sessions, image: Path, program: str, argument: str, some_of: Callable[[range, int], list[int]]
) -> None:
    made = session(image, programs=[(program, argument), ("reader", "r/d0/A.TXT")])
    made.run(until=made.label(program, "start"))
    while made.kernel.scheduler.current.process not in made.processes[:1]:
        made.system.machine.step()  # another program begins at the same address
        made.run(until=made.label(program, "start"))
    numbers = [process.number for process in made.processes]
    kept = made.system.snapshot()
    start = made.system.machine.clock.retired
    made.run(until="ipc.post")
    posted = made.system.machine.clock.retired - start
    made.run(until="ipc.release")
    released = made.system.machine.clock.retired - start
    points = some_of(range(posted, released, max(1, (released - posted) // POINTS)), 3)
    aborted = 0
    for steps in points:
        made.system.restore(kept)
        made.printed.clear()
        victim, other = (made.kernel.state.tasks.processes[number] for number in numbers)
        made.run(fuel=steps)
        made.kernel.processes.kill(victim, 9)
        made.system.machine.pic.lower_line(IRQ)
        made.system.machine.pic.raise_line(IRQ)
        assert made.run().reason == "halt", steps
        assert (victim.exit_code, other.exit_code) == (9, 0), steps
        assert made.output == b"what the second one reads\n", steps
        server = server_of(made)
        assert len(server.files) == 0, steps
        # Only the version that the kernel keeps for the next client is locked.
        assert server.directories.locks == len(made.kernel.directories.state.versions), steps
        assert made.unaccounted() == [], steps
        aborted += made.kernel.slots.block(endpoint_of(made))["aborted"]
    assert aborted, "a client must have died with a request open"


def test_a_close_waits_for_a_slot_without_its_process_which_ends_at_once(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "r/d0/A.TXT")])
    made.reach("reader", "start")
    (process,) = made.processes
    while not process.files:
        made.run(fuel=50)
    endpoint = endpoint_of(made)
    fields = made.kernel.slots.block(endpoint)
    free, unused = fields["free"], fields["unused"]
    fields["free"], fields["unused"] = 0, 0
    made.kernel.processes.kill(process, 9)
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    made.run(fuel=10_000)
    assert process.exit_code == 9
    assert not process.threads
    assert list(endpoint.waiters) == [RELEASES]
    assert fields["slot_waiters"] == 1
    assert len(server_of(made).files) == 1
    # A slot comes back.
    fields["free"], fields["unused"] = free, unused
    made.kernel.slots.host_slot_give(endpoint.number << 16 | lowest(free))
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    assert made.run().reason == "halt"
    assert len(server_of(made).files) == 0
    assert made.unaccounted() == []


@pytest.mark.parametrize("granted", [False, True])
def test_a_deferred_release_that_is_not_yet_posted_is_dropped_when_its_server_dies(
    session: Sessions, image: Path, *, granted: bool
) -> None:
    """It waits for a slot, or has been given one."""
    made = session(image, programs=[])
    made.run()
    endpoint = endpoint_of(made)
    fields = made.kernel.slots.block(endpoint)
    free, unused = fields["free"], fields["unused"]
    if not granted:
        fields["free"], fields["unused"] = 0, 0
    made.kernel.releases.taken(endpoint)
    made.kernel.releases.add(endpoint, Operation.CLOSE, 5)
    assert endpoint.releases.busy
    assert (endpoint.releases.slot >= 0) == granted
    made.kernel.servers.kill(endpoint.process, "killed by the test")
    if not granted:
        fields["free"], fields["unused"] = free, unused
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    assert made.run().reason == "halt"
    assert not endpoint.releases.busy
    assert made.unaccounted() == []
    assert made.kernel.check() == []
