"""A server whose disk is replugged answers with earlier handles, answers twice, answers for others.

Its place has a new endpoint then, whose slots and generations begin anew, so that a handle of before names a request of
now by its number.  It is worth what any guess is worth: a handle is for the thread that was given the request.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT, Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.message import Message
from callgate.kernel.abi.thread import HostedGate
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.server.gate import GateCall
from callgate.server.hosted import operation
from callgate.server.message import Reply, Request

Arenas = Callable[..., Any]
HELD = 0
GENERATIONS = 4
KINDS = (ServerCall.REPLY_REGISTERS, ServerCall.REPLY_OBJECT, ServerCall.REPLY_SECTORS)
OTHER = synthetic.MAGIC.ljust(512, b"\0") + bytes(reversed(servers.IMAGE[512:]))


class Forger(synthetic.Synthetic):
    """Answers no READ while it is `silent`.  Later it tries every other handle first, those it has answered too."""

    silent: ClassVar[bool] = True
    seen: ClassVar[list[int]] = []  # handles of requests, in order
    answers: ClassVar[list[tuple[bool, int]]] = []  # of the gate, to what was forged

    async def serve(self, message: int) -> ServerCall:
        if not message:
            return await super().serve(message)
        page = Message.from_buffer_copy(self.memory.read(message, size_of(Message)))
        self.seen.append(page.handle)
        if page.operation == Operation.READ and self.silent:
            return ServerCall.WAIT
        return await super().serve(message)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        guesses = {slot | generation << 8 for slot in range(32) for generation in range(GENERATIONS)}
        for handle in sorted((guesses | set(self.seen)) - {self.seen[-1]}):
            await self.forge(handle)
        return await super().read(request)

    async def forge(self, handle: int) -> None:
        """Answer a request that is not, or no longer, this thread's."""
        for kind in KINDS:
            result = await GateCall(HostedGate.SERVER, kind | SERVER_CALL_NO_WAIT, ebx=handle)
            self.answers.append((result.failed, result.eax))


def attention(made: Any) -> None:
    """Have a CPU that may be halted look at what was changed from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


@pytest.fixture
def forged(monkeypatch: pytest.MonkeyPatch) -> type[Forger]:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Forger])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(16 * 512, [(8, 16)])})
    for name, value in (("silent", True), ("seen", []), ("answers", [])):
        monkeypatch.setattr(Forger, name, value)
    return Forger


@pytest.mark.parametrize("medium", [servers.IMAGE, OTHER], ids=["the same disk", "another disk"])
def test_handles_from_before_an_unplug_show_nothing_of_the_disk_that_came_back(
    arena: Arenas, forged: type[Forger], medium: bytes
) -> None:
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    old = [made.start("whole_reader", b"/d0/f\0") for _ in range(3)]
    attention(made)
    made.run()
    assert [process.exit_code for process in old] == [None] * 3
    made.system.unplug(0)
    made.run()
    assert all(process.exit_code for process in old)
    assert len(forged.seen) > 3
    forged.silent = False
    made.system.plug(0, MemoryMedium(medium))
    made.run()
    clients = [made.start("whole_reader", b"/d0/f\0") for _ in range(3)]
    attention(made)
    assert made.run().reason == "halt"
    assert [process.exit_code for process in clients] == [HELD] * 3, made.log
    assert len(forged.answers) >= len(KINDS) * (32 * GENERATIONS - 1)
    assert set(forged.answers) == {(True, ErrorCode.BAD_HANDLE)}
    made.assert_unharmed()
    assert made.kernel.check() == []
