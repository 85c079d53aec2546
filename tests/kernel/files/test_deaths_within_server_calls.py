"""Client, server or both killed, or the disk unplugged, at any instruction of a server's calls of the kernel.

LOCK_BLOCKS, UNLOCK_BLOCKS, a reply that is converted (an object, sectors), and RELEASE, which the kernel asks of the
server.  A client stands before the call by which all this comes about; from a snapshot it goes on to one instruction of
the stretch, a process dies, and 10,000 instructions later no thread of it is left, nor is anything held in the end.
CALLGATE_KILL_POINTS says at how many instants of each stretch; a number greater than its length means all of them.
"""

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.records import EndpointState, Process
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.watching.leaks import leaks
from callgate.server.gate import allocate, free, lock_blocks, unlock_blocks
from callgate.server.hosted import operation
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request

Sessions = Callable[..., Any]
POINTS = int(os.environ.get("CALLGATE_KILL_POINTS", "5"))
BOUND = 10_000  # instructions from the kill to the end of the last thread
KILLED = 9
SECTORS = 1021  # the last block is not all the disk's: its server gets a copy
IMAGE = synthetic.disk(SECTORS)
OTHER = synthetic.MAGIC.ljust(512, b"\0") + bytes(len(IMAGE) - 512)
GAP = 300  # instructions until there is a disk again
FIRST, COUNT = 1008, 13  # what the server locks: a whole block, and what there is of the last one
FAULT = 128 + 11
#: The results of a client that lives: it has read, or its server or its disk has gone.
ENDS = {0, 100 + ErrorCode.SERVER_DIED, 100 + ErrorCode.NOT_FOUND, 100 + ErrorCode.UNPLUGGED, FAULT}


class Asking(synthetic.Synthetic):
    """Locks blocks of its disk before it answers a READ, and unlocks them. `kind` is the kind of reply."""

    kind_of_reply: ClassVar[str] = "sectors"

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        address = await lock_blocks(FIRST, COUNT)
        assert self.memory.read(address, COUNT * 512) == IMAGE[FIRST * 512 :]
        await unlock_blocks(address)
        return await super().read(request)

    async def _object(self, layout: synthetic.Layout, position: int, wanted: int) -> Reply:
        """Answer from memory whose address is the number of the request: a snapshot has all there is to know."""
        address = await allocate(2 * 4096)
        return Object(address, 2 * 4096, RegisterValues(eax=2 * 4096, edi=address))

    @operation(Operation.RELEASE)
    async def release(self, request: Request) -> Reply:
        await free(request.registers.eax)
        return Registers(request.registers)


#: By name: what the client does (`doer`), the kind of reply, and the server's call with which the stretch begins.  It
#: ends with the server's next call; that of RELEASE is all from the client's CLOSE until nothing happens.
STRETCHES = {
    "LOCK_BLOCKS": ("u", "sectors", ServerCall.LOCK_BLOCKS),
    "UNLOCK_BLOCKS": ("u", "sectors", ServerCall.UNLOCK_BLOCKS),
    "CONVERT of sectors": ("u", "sectors", ServerCall.REPLY_SECTORS),
    "CONVERT of an object": ("u", "object", ServerCall.REPLY_OBJECT),
    "RELEASE": ("x", "object", None),
}


class InstantsAfterCall:
    """A client that stands before its call, and the instants of a stretch after it."""

    def __init__(self, made: Any, call: ServerCall | None) -> None:
        self.made = made
        made.reach("doer", "before")
        self.number = made.processes[0].number
        self.kept = made.system.snapshot()
        clock = made.system.machine.clock
        begin = clock.retired
        if call is not None:
            self._to_server_call(call)
        self.first = clock.retired - begin
        if call is not None:
            self._to_server_call(None)
        else:
            made.run()
        self.length = clock.retired - begin - self.first

    def _to_server_call(self, call: ServerCall | None) -> None:
        """Run until the server of the disk makes a call; None: any, or nothing more happens."""
        made = self.made
        while True:
            made.system.machine.step()
            if made.run(until="server_gate").reason != "until":
                assert call is None
                return
            ours = made.kernel.scheduler.current.process is self.endpoint.process
            if ours and (call is None or made.system.machine.cpu.eax & 0xFF == call):
                return

    @property
    def endpoint(self) -> EndpointState:
        found = (p for p in self.made.kernel.state.endpoints.by_number.values() if p.name == "d0")
        return next(found)

    def points(self) -> range:
        """Return the instants to try, counted from the client's call."""
        return range(self.first, self.first + self.length + 2, max(1, self.length // POINTS))

    def after(self, steps: int) -> tuple[Process, Process]:
        """Restore, run a number of instructions; return the client and the server."""
        self.made.system.restore(self.kept)
        if steps:
            self.made.run(fuel=steps)
        server = self.endpoint.process
        assert server is not None
        return self.made.kernel.state.tasks.processes[self.number], server


@pytest.fixture
def stretch(session: Sessions, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], InstantsAfterCall]:
    """Make one of the stretches."""

    def make(name: str) -> InstantsAfterCall:
        what, kind, call = STRETCHES[name]
        monkeypatch.setattr(volumes, "installed_servers", lambda: [Asking])
        layout = synthetic.Layout(2 * 4096, [(64, 5), (200, 11)], kind=kind)
        monkeypatch.setattr(synthetic.Synthetic, "files", {"A.BIN": layout})
        latency = Latency(command=30_000, sector=20)
        return InstantsAfterCall(session(MemoryMedium(IMAGE), programs=[("doer", what)], latency=latency), call)

    return make


@pytest.mark.thorough(one_in=5)
@pytest.mark.parametrize("victims", ["client", "server", "both", "disk", "disk, and another one comes"])
@pytest.mark.parametrize("name", STRETCHES)
def test_a_process_that_dies_while_a_server_asks_the_kernel_ends_soon_and_leaves_nothing(
    stretch: Callable[[str], InstantsAfterCall], name: str, victims: str
) -> None:
    made_of = stretch(name)
    made = made_of.made
    assert made_of.length > 30
    for steps in made_of.points():
        client, server = made_of.after(steps)
        ended = client.exit_code
        dying = kill_or_unplug(made, client, server, victims)
        made.run(fuel=BOUND)
        assert [process for process in dying if process.threads] == [], steps
        assert made.run().reason == "halt", steps
        expected = {ended} if ended is not None else {KILLED} if victims in {"client", "both"} else ENDS
        assert client.exit_code in expected, (steps, client.exit_code)
        assert leaks(made.kernel) == [], steps
        assert made.kernel.check() == [], steps
        assert made_of.endpoint.locked_blocks == 0, steps


def kill_or_unplug(made: Any, client: Process, server: Process, victims: str) -> list[Process]:
    """Kill the processes that are to die, or unplug the disk; return the processes that must end soon."""
    if victims.startswith("disk"):
        made.system.unplug(0)
        if victims != "disk":
            made.run(fuel=GAP)
            made.system.plug(0, MemoryMedium(OTHER))
        return []
    if victims != "server":
        made.kernel.processes.kill(client, KILLED, "killed by the test")
    if victims != "client":
        made.kernel.servers.kill(server, "killed by the test")
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    return {"client": [client], "server": [server], "both": [client, server]}[victims]
