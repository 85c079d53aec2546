"""A server ends, or its disk goes, just as it answers: the answer comes for something that is no longer there."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.core.records import Process
from callgate.kernel.gates import information_calls
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.server.errors import FileSystemError
from callgate.server.hosted import operation
from callgate.server.message import RegisterValues, Reply, Request, Sectors
from hushed import endpoint, hush, install

Arenas = Callable[..., Any]
HELD, DISTURBED = 0, 7
SOON = 10_000  # instructions


class Stingy(servers.Silent):
    """Answers READ with one sector at a time, and once has no memory for the next one."""

    memory_left: ClassVar[list[bool]] = []

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        registers = request.registers
        if registers.eax % 4096 and not (self.memory_left and self.memory_left.pop()):
            self.memory_left.append(True)
            raise FileSystemError(ErrorCode.NO_MEMORY, "no memory for the rest of the page")
        entries = self.files[servers.FILE].entries(registers.eax // synthetic.SECTOR)
        size = synthetic.SECTOR if self.memory_left or registers.eax == 0 else 8 * synthetic.SECTOR
        return Sectors(entries, RegisterValues(eax=size, ecx=registers.eax))


@pytest.fixture
def begin(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Boot with a server for d0."""

    def boot(server: type[servers.Silent] = servers.Silent, **options: Any) -> Any:
        for name, value in (("silent", frozenset()), ("answered", [])):
            monkeypatch.setattr(servers.Silent, name, value)
        install(monkeypatch, server)
        made = arena(MemoryMedium(servers.IMAGE), **options)
        assert made.run().reason == "halt"
        return made

    return boot


def read(made: Any) -> Process:
    """Start a program that reads all of the file; it has not run yet."""
    reader: Process = made.start("whole_reader", b"/d0/f\0")
    attention(made)
    return reader


def attention(made: Any) -> None:
    """Interrupt a CPU that may be halted."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


def until_answered(made: Any, asked: Operation, event: str) -> None:
    """Run until the server has answered a request, and the machine code has come to an event."""
    while asked not in servers.Silent.answered:
        assert made.system.run(until=event).reason == "until"
        made.system.machine.step()


def end_server(made: Any) -> None:
    """End the server now, while one of its threads is in the kernel."""
    server = endpoint(made, "d0").process
    assert made.kernel.scheduler.current.process is server
    made.kernel.servers.kill(server, "killed by the test")


def assert_told(made: Any, *readers: Process) -> None:
    """The readers have been told of the server's end, and nothing is left of it."""
    assert made.run().reason == "halt"
    assert [reader.exit_code for reader in readers] == [DISTURBED] * len(readers)
    made.assert_unharmed()
    assert made.kernel.check() == []


def test_data_that_a_server_sends_while_it_is_ended_are_nothing_that_still_waits(begin) -> None:
    made = begin()
    reader = read(made)
    until_answered(made, Operation.READ, "ipc.unmap")
    end_server(made)
    assert_told(made, reader)


def test_an_open_that_a_server_has_answered_before_it_ended_makes_no_file(begin) -> None:
    made = begin(fast_path=False)  # else the reader has it at once
    reader = read(made)
    until_answered(made, Operation.OPEN, "ipc.unmap")
    files = made.kernel.state.files
    number = files.next_object
    assert made.system.run(until="next_request").reason == "until"
    end_server(made)
    assert_told(made, reader)
    assert files.next_object == number


def test_a_server_that_exits_while_it_sorts_what_it_has_answered_has_its_readers_told(begin) -> None:
    made = begin(servers.Shuffling)
    endpoint(made, "d0").sectors = 1 << 34
    reader = read(made)
    assert made.system.run(until="sort_sectors").reason == "until"
    made.system.machine.step(1000)
    server = endpoint(made, "d0").process
    assert made.kernel.scheduler.current.process is server
    made.kernel.processes.kill(server, 0)  # as EXIT of its other thread does
    reads = made.kernel.cache.state.misses
    made.run(fuel=SOON)
    assert server.threads == []
    assert_told(made, reader)
    assert made.kernel.cache.state.misses == reads, "nothing is read for a server that ends"


def test_a_client_that_queues_up_for_a_slot_of_a_server_that_has_just_ended_does_not_wait(
    begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin()
    hush(monkeypatch, Operation.OPEN)
    readers = [read(made) for _ in range(SLOTS + 1)]
    assert made.system.run(until="take_slot.queue").reason == "until"
    made.kernel.servers.kill(endpoint(made, "d0").process, "killed by the test")
    assert_told(made, *readers)


def test_no_server_is_started_for_a_disk_that_went_while_another_server_was_to_mount_it(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers.Late, "delay", None)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Late, servers.Silent])
    made = arena(MemoryMedium(servers.IMAGE))
    deadline = made.kernel.mounting.deadline
    assert made.system.run(until=lambda: made.kernel.guest.now >= deadline).reason == "until"
    made.system.unplug(0)
    assert made.run().reason == "halt"
    assert "d0: not mounted: the disk was removed" in made.log
    assert [one.name for one in made.kernel.state.endpoints.by_number.values() if not one.dead] == ["rom"]


def test_a_server_without_memory_for_half_a_page_does_not_make_the_file_end_there(begin) -> None:
    made = begin(Stingy)
    assert made.kernel.check() == []
    first = read(made)
    assert made.run().reason == "halt"
    second = read(made)
    assert made.run().reason == "halt"
    assert (first.exit_code, second.exit_code) == (DISTURBED, HELD)
    made.assert_unharmed()


def test_a_client_with_a_deadline_has_it_although_the_server_that_it_woke_computes_for_ever(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has the CPU from its client directly, and no other thread is ready: only the timer takes it."""
    for patience in ("BRIEFLY", "PATIENCE"):
        monkeypatch.setattr(information_calls, patience, 1_000_000)
    made = arena(commands="df")
    made.wanted.append(lambda: setattr(made.server("computing", "late"), "hidden", False))
    assert made.run(fuel=30_000_000).reason == "exit"
    assert b"does not answer" in made.output
