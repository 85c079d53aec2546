"""EFLAGS of a reply: the arithmetic flags are the server's to choose, and no others, for every client."""

from collections.abc import Callable
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.servers import volumes

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
