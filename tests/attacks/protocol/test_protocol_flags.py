"""EFLAGS of a reply: the arithmetic flags are the server's to choose, and no others, for every client."""

from collections.abc import Callable
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes
from ipc_rig import program

Arenas = Callable[..., Any]
STATUS = 0x8D5  # OF, SF, ZF, AF, PF, CF
OWN = 0x202  # IF and the bit that is always set
EVERYTHING = 0xFFFF_FFFF & ~servers.CARRY


class Flagging(servers.Silent):
    """Answers as it should, and sets all flags in EFLAGS except CF: TF, DF, NT, AC, IOPL and VM among it."""

    async def serve(self, message: int) -> ServerCall:
        reply = await super().serve(message)
        if message:
            self.answer(message, eflags=EVERYTHING)
        return reply


class Clearing(servers.Silent):
    """Clears IF."""

    async def serve(self, message: int) -> ServerCall:
        reply = await super().serve(message)
        if message:
            self.answer(message, eflags=0)
        return reply


@pytest.mark.parametrize(("server", "status"), [(Flagging, STATUS & ~servers.CARRY), (Clearing, 0)])
def test_a_server_cannot_choose_the_flags_of_a_kernel_thread_that_has_asked_it(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, server: type[servers.Silent], status: int
) -> None:
    """The kernel asks for the volume's label when it mounts it (`ipc_request`)."""
    monkeypatch.setattr(server, "answered", [])
    monkeypatch.setattr(volumes, "installed_servers", lambda: [server])
    made = arena(MemoryMedium(servers.IMAGE))
    machine, flags = made.system.machine, []
    end = made.kernel.guest.address("ipc_request.abandoned") - 1  # its RET, which follows POPFD
    machine.probe(end, lambda: flags.append(machine.cpu.eflags))
    assert made.run().reason == "halt"
    assert Operation.VOLUME in server.answered
    assert flags[-1] == OWN | status
    assert made.kernel.check() == []


DF, NT, AC, ID, TF = 0x400, 0x4000, 0x4_0000, 0x20_0000, 0x100
UNUSUAL = {"DF": DF, "NT": NT, "AC": AC, "ID": ID, "all": DF | NT | AC | ID}


@pytest.mark.parametrize("fast_path", [True, False], ids=["direct", "the long way"])
@pytest.mark.parametrize(
    ("client", "server"),
    [*((flags, 0) for flags in UNUSUAL.values()), *((0, flags) for flags in UNUSUAL.values()), (DF | AC, NT | ID)],
    ids=[*(f"client {name}" for name in UNUSUAL), *(f"server {name}" for name in UNUSUAL), "both"],
)
def test_flags_of_a_client_and_of_its_server_stay_with_each_of_them_across_a_request(
    rig: Callable[..., Any], client: int, server: int, *, fast_path: bool
) -> None:
    """A direct switch goes from one ring 3 to the other without flags of the kernel's own between."""
    made = rig("echo", {"count": 3}, options={"fast_path": fast_path}, THREADS=1)
    machine, seen = made.machine, []
    served = program("echo", THREADS=1).address("serve_inverted.next")
    returned = min(line.address for line in program("echo", THREADS=1).lines if line.address > served)

    def set_flags(flags: int) -> None:
        machine.cpu.eflags |= flags

    def note(who: str) -> None:
        seen.append((who, machine.cpu.eflags & ~(STATUS | OWN)))

    machine.probe(made.label("before"), lambda: set_flags(client))
    machine.probe(made.label("after"), lambda: note("client"))
    machine.probe(served, lambda: set_flags(server))
    machine.probe(returned, lambda: note("server"))
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert seen == [("server", server), ("client", client)] * 3
    assert made.kernel.check() == []


@pytest.mark.parametrize("fast_path", [True, False], ids=["direct", "the long way"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_server_that_is_stepped_when_it_replies_ends_alone_by_the_trap_and_its_client_is_told(
    rig: Callable[..., Any], number: int, *, fast_path: bool
) -> None:
    """TF of the server; the kernel on its way to the client, and the client, are not stepped."""
    made = rig("echo", {"count": 4}, options={"fast_path": fast_path}, THREADS=1)
    machine, calls = made.machine, []
    served = program("echo", THREADS=1).address("serve_inverted.next")

    def step() -> None:
        calls.append(machine.cpu.eax)
        if len(calls) == 1 + number:
            machine.cpu.eflags |= TF

    machine.probe(served, step)
    assert made.run().reason == "halt"
    assert made.codes == [100 + ErrorCode.SERVER_DIED], made.log
    assert machine.ledger.exceptions["#DB"] == 2, "after the gate's PUSHFD, and in ring 3"
    assert [line for line in made.log if "#DB debug exception" in line], made.log
    assert made.unaccounted() == []
    assert made.kernel.check() == []


SEGMENTS = ("ds", "es", "fs", "gs")


@pytest.mark.parametrize("fast_path", [True, False], ids=["direct", "the long way"])
@pytest.mark.parametrize("who", ["client", "server", "client and server"])
def test_null_selectors_of_a_client_or_of_its_server_stop_nothing_and_come_back(
    rig: Callable[..., Any], who: str, *, fast_path: bool
) -> None:
    """The kernel reaches its words through SS until it has loaded selectors of its own."""
    made = rig("echo", {"count": 3}, options={"fast_path": fast_path}, THREADS=1)
    cpu, seen = made.machine.cpu, []
    served = program("echo", THREADS=1).address("serve_inverted.next")
    returned = min(line.address for line in program("echo", THREADS=1).lines if line.address > served)
    usual: dict[str, list[int]] = {}

    def clear(whose: str) -> None:
        usual[whose] = [getattr(cpu, name) for name in SEGMENTS]
        for name in SEGMENTS:
            setattr(cpu, name, 0)

    def look(whose: str) -> None:
        seen.append([getattr(cpu, name) for name in SEGMENTS])
        for name, value in zip(SEGMENTS, usual[whose], strict=True):
            setattr(cpu, name, value)

    for whose, before, after in (("client", made.label("before"), made.label("after")), ("server", served, returned)):
        if whose in who:
            made.machine.probe(before, lambda whose=whose: clear(whose))
            made.machine.probe(after, lambda whose=whose: look(whose))
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    assert len(seen) >= 3
    assert set(map(tuple, seen)) == {(0,) * len(SEGMENTS)}
    assert made.kernel.check() == []
