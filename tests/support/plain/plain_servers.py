"""Servers on a plain IPC room, for unit tests of managers: mounting, hosted handlers, a program that is one HLT."""

from __future__ import annotations

from collections.abc import Sequence

from callgate.kernel.abi.calls import ServerCall, SystemCall
from callgate.kernel.abi.thread import HostedGate
from callgate.kernel.core.records import Process
from callgate.kernel.programs.executable import Executable, Segment
from callgate.kernel.servers.hosted_servers import Hosted
from callgate.kernel.servers.lifecycle import Servers
from callgate.kernel.servers.mounting import Mounting, MountingState, Report
from callgate.server.gate import GateCall
from callgate.server.hosted import HostedServer
from plain_guest import drive
from plain_ipc import Ipc

CODE = Segment(0x40_0000, 0, memoryview(b"\xf4"), 1, writable=False, executable=True)
PROGRAM = Executable(0x40_0000, (CODE,), b"")


class System(Ipc):
    """The managers of servers on a plain IPC room."""

    def __init__(self) -> None:
        super().__init__()
        self.mounting = Mounting(MountingState(), self.guest, self.threads, self.log)
        self.ended: list[tuple[str, str, Sequence[str]]] = []
        self.hosted = Hosted({}, self.guest, self.processes, self.mounting, self.end_server)
        self.native = Servers(self.guest, self.threads, self.processes, self.servers, self.hosted, self.mounting)

    def end_server(self, process: Process, reason: str, details: Sequence[str]) -> None:
        self.ended.append((process.name, reason, details))

    async def work(self, report: Report) -> None:
        self.mounting.say(report, f"{report.name}: mounted")

    def do(self, job: int = 0) -> None:
        """Have the thread of the n-th remaining job run it."""
        drive(self.threads.host_job(list(self.threads.jobs)[job]))


class Handler(HostedServer):
    """Makes one gate call, and then calls `then`."""

    name = "handler"
    then: BaseException | None = None
    results: list[object]

    async def serve(self, message: int) -> ServerCall:
        self.results.append(await GateCall(HostedGate.SYSTEM, SystemCall.CLOCK, ebx=5))
        if self.then is not None:
            raise self.then
        self.report("odd")
        return ServerCall.REPLY_DATA if message else ServerCall.WAIT
