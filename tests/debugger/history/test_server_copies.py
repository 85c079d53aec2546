"""Copies of hosted servers, of which snapshots are made."""

from array import array
from collections.abc import Callable
from typing import Any, Self

import pytest
from callgate.kernel.system import System
from callgate.kernel.watching.snapshots import system_snapshots
from callgate.kernel.watching.snapshots.server_copies import Picklers, ServerCopy
from callgate.kernel.watching.snapshots.server_pickling import ServerPickler
from callgate.kernel.watching.snapshots.sizes import Total
from callgate.kernel.watching.snapshots.system_snapshots import under_way
from callgate.server.hosted import HostedServer, VolumeGeometry
from callgate.server.message import ServerMemory


class Table:
    """A large value that does not change."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Table":
        return self


class Fresh(Table):
    """A value that is copied in a way of its own."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Fresh":
        return Fresh()


class Counting(HostedServer):
    """A server with some state, which refers to its memory twice."""

    def __init__(self, memory: Any, geometry: VolumeGeometry) -> None:
        super().__init__(memory, geometry)
        self.names = {1: ["one"]}
        self.reader = (memory, self.names)
        self.table = Table()
        self.numbers = array("q", [1, 2])  # it has a `__deepcopy__`, too


class Own(Counting):
    """A server that duplicates itself in its own way."""

    def duplicate(self, memory: ServerMemory) -> Self:
        """Return a copy that says so."""
        copy = super().duplicate(memory)
        copy.names[2] = ["a copy"]
        return copy


class Memory:
    """Stands for the memory of a process, which cannot be copied."""

    def __reduce__(self) -> Any:
        raise AssertionError("the memory is copied")


def copied(server: HostedServer, before: ServerCopy | None = None) -> ServerCopy:
    return ServerCopy(server, Picklers(Total()), before)


def pickled(server: HostedServer) -> tuple[bytes, list[object]]:
    """Return all that a server holds, by a way that takes nothing apart."""
    return ServerPickler().pickled(server, server.memory)


def made(kind: type[Counting]) -> Counting:
    return kind(Memory(), VolumeGeometry("d0p1", 0, 100))


def test_a_copy_of_a_server_works_on_the_memory_that_it_is_given() -> None:
    server = made(Counting)
    copy = copied(server)
    server.names[1].append("later")
    memory: Any = Memory()
    again = copy.on(memory)
    assert isinstance(again, Counting)
    assert again.memory is memory
    assert again.reader == (memory, {1: ["one"]})
    assert again.reader[1] is again.names, "what is one object stays one"
    assert again.numbers == array("q", [1, 2])
    assert again.numbers is not server.numbers
    assert again.table is server.table, "it is shared, as by `duplicate`"
    assert copy.on(memory) is not again


@pytest.mark.parametrize("why", ["class in a function", "duplicate of its own", "value with a copy of its own"])
def test_a_server_that_cannot_be_pickled_is_duplicated_or_taken_apart(why: str) -> None:
    class Within(Counting):
        """A class that no module knows."""

    server = made({"class in a function": Within, "duplicate of its own": Own}.get(why, Counting))
    if why == "value with a copy of its own":
        server.table = Fresh()
    copy = copied(server)
    assert (copy.duplicate is None, copy.own is None) == (type(server) is Within, type(server) is not Within)
    server.names[1].append("later")
    memory: Any = Memory()
    again = copy.on(memory)
    assert type(again) is type(server)
    assert again.memory is memory
    assert isinstance(again, Counting)
    assert again.names[1] == ["one"]
    assert (2 in again.names) is (type(server) is Own)


def test_servers_of_the_demo_are_pickled(boot_demo: Callable[[str], System]) -> None:
    with boot_demo("ls -l; cat README.TXT") as system:
        system.run(until="ipc.release", fuel=1_000_000)
        while under_way(system.kernel) is not None or not system.kernel.hosted.changes[2] > 3:
            system.run(fuel=1)
        servers = system.kernel.hosted.servers
        assert len(servers) == 2
        for server in servers.values():
            copy = copied(server)
            assert copy.own is not None, "it is taken apart"
            assert len(copy.parts) > 5
            again = copy.on(server.memory)
            same = server.duplicate(server.memory)
            assert pickled(again) == pickled(same)


def test_a_snapshot_that_was_interrupted_while_a_server_was_copied_leaves_the_next_one_whole(
    boot_demo: Callable[[str], System], monkeypatch: pytest.MonkeyPatch
) -> None:
    def quiet() -> None:
        while under_way(system.kernel) is not None:
            system.run(fuel=1)

    def interrupted(*arguments: Any) -> ServerCopy:
        ServerCopy(*arguments)
        raise KeyboardInterrupt

    with boot_demo("ls -l; cat README.TXT; tree") as system:
        system.run(until="ipc.release", fuel=1_000_000)
        quiet()
        first = system.snapshot()
        held = [pickled(server)[0] for server in system.kernel.hosted.servers.values()]
        system.run(fuel=100_000)
        quiet()
        with monkeypatch.context() as patched:
            patched.setattr(system_snapshots, "ServerCopy", interrupted)
            with pytest.raises(KeyboardInterrupt):
                system.snapshot()
        second = system.snapshot()
        later = [pickled(server)[0] for server in system.kernel.hosted.servers.values()]
        assert held != later
        for snapshot, expected in ((first, held), (second, later)):
            system.restore(snapshot)
            assert [pickled(server)[0] for server in system.kernel.hosted.servers.values()] == expected
