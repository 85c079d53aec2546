"""A thread that waits for a free disk request ends when it is killed, and others read its blocks."""

from collections.abc import Callable
from typing import Any

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.records import PRIORITY_KERNEL, EndpointState
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes

Arenas = Callable[..., Any]
PIECES = 40
FUEL = 100_000_000
SLOW = 100_000_000  # nanoseconds that the disk takes for a request
SOON = 10_000_000
DISK = synthetic.disk(16 * PIECES + 32)


def endpoint(made: Any, name: str) -> EndpointState:
    found: EndpointState = next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == name)
    return found


@pytest.fixture
def made(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two volumes whose file lies in single blocks apart from each other, on disks with two requests each."""
    monkeypatch.setattr("callgate.kernel.storage.disk_requests.REQUESTS_OF_DISK", 2)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Silent])
    scattered: list[tuple[int | None, int]] = [(16 + 16 * number, 8) for number in range(PIECES)]
    monkeypatch.setattr(servers.Silent, "files", {"f": synthetic.Layout(PIECES * PAGE_SIZE, scattered)})
    made = arena(MemoryMedium(DISK), MemoryMedium(DISK))
    assert made.run().reason == "halt"
    monkeypatch.setattr(made.system.controller, "latency", Latency(command=SLOW))
    return made


def attention(made: Any) -> None:
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def begin(made: Any) -> Any:
    """Have a reader of /d0/f and its server wait: for the disk, and for a disk request; return the reader."""
    client = made.start("whole_reader", b"/d0/f\0")
    attention(made)
    for _ in range(1000):
        if made.kernel.disk_requests.state.waiting:
            break
        made.run(fuel=100)
    ((selector,),) = made.kernel.disk_requests.state.waiting.values()
    assert made.kernel.state.tasks.threads[selector].process is endpoint(made, "d0").process
    return client


def kill_server(made: Any) -> int:
    """Kill the server of /d0; return the nanoseconds until it has ended."""
    server = endpoint(made, "d0").process
    made.kernel.servers.kill(server, "killed by the test")
    attention(made)
    start: int = made.system.machine.clock.now
    for _ in range(100):
        if not server.threads:
            break
        made.run(fuel=100)
    assert not server.threads
    return int(made.system.machine.clock.now) - start


def test_a_killed_server_does_not_wait_for_a_disk_request(made: Any) -> None:
    client = begin(made)
    assert kill_server(made) < SOON < SLOW
    assert made.run(FUEL).reason == "halt"
    assert client.exit_code not in (None, 0)
    assert made.kernel.disk_requests.state.waiting == {}
    assert not [line for line in made.log if "refused" in line], "it is not the server's answer that was wrong"
    assert made.kernel.check() == []


def test_the_blocks_that_a_killed_thread_was_to_read_are_read_by_others(made: Any) -> None:
    begin(made)
    kernel, data = made.kernel, []
    last = 8 * max(number for (_, number), block in kernel.cache.state.blocks.items() if block.run is None)

    async def read() -> None:
        data.append(await kernel.disk_reader.read(endpoint(made, "d0").disk, last, 8))

    job = max(kernel.threads.jobs, default=1) + 1
    kernel.threads.jobs[job] = read
    thread = kernel.threads.create(
        kernel.state.tasks.processes[0], "reader", PRIORITY_KERNEL, routine="policy_thread", argument=job
    )
    kernel.scheduler.wake(thread)
    attention(made)
    made.run(fuel=2_000)
    assert not data
    kill_server(made)
    assert made.run(FUEL).reason == "halt"
    assert data == [DISK[512 * last : 512 * (last + 8)]]


def test_a_reader_of_another_volume_with_the_same_blocks_gets_them(made: Any) -> None:
    """As at the edge of two partitions that share a block; here all blocks of the other volume are the same ones."""
    other = endpoint(made, "d1")
    own, other.disk = other.disk, endpoint(made, "d0").disk
    begin(made)
    innocent = made.start("whole_reader", b"/d1/f\0")
    attention(made)
    for _ in range(1000):
        if len(made.kernel.sector_lists.state.chain) == 2:
            break
        made.run(fuel=100)
    assert len(made.kernel.sector_lists.state.chain) == 2, "both wait for the disk"
    kill_server(made)
    assert made.run(FUEL).reason == "halt"
    assert innocent.exit_code == 0
    other.disk = own
