"""The base of file-system servers written in Python: one instance serves one partition.

A subclass says by `probe` which partitions are its own, mounts in `start`, and answers requests in
coroutine methods marked with `operation`.  It is found through the entry point group ``callgate.servers``
(docs/writing-a-server.md).  `serve` is what the kernel's runner steps on behalf of a server thread.

Several threads may be inside one instance at once, but never between two awaits: what a handler reads
and changes without awaiting in between is atomic, and what it knew before an await it must check again.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.errors import FileSystemError
from callgate.server.message import Batch, Failure, Registers, Reply, Request, ServerMemory

REPORT_LIMIT = 64

Handler = TypeVar("Handler", bound=Callable[[Any, Request], Awaitable[Reply]])


class VolumeGeometry(NamedTuple):
    """Where a partition lies: ``name`` for messages ("d0p1"), first LBA on the disk, 512-byte sectors."""

    name: str
    start: int
    sectors: int
    sector_size: int = SECTOR_SIZE


def operation(number: int) -> Callable[[Handler], Handler]:
    """Mark a coroutine method ``async def f(self, request) -> Reply`` as the handler of an operation."""

    def mark(handler: Handler) -> Handler:
        handler.__dict__["operation"] = int(number)
        return handler

    return mark


class Recogniser:
    """Which partitions a server is for.

    A `HostedServer` is its own.  A package that offers a recogniser of its own instead has the server's code imported
    only for a partition that it has claimed.
    """

    name: ClassVar[str] = ""

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return the file system's name ("fat16") if the partition beginning with ``first`` is ours.

        ``first`` is at most 64 KiB and may be anything, of any length; this never raises.
        """
        raise NotImplementedError

    @classmethod
    def probe_end(cls, last: bytes) -> str | None:
        """Return the file system's name if the partition ending with ``last`` is ours: archives are found by their end.

        Called when no server has claimed the partition by its beginning.  ``last`` is at most the last 64 KiB, zeros to
        a whole sector included; this never raises.
        """
        del last
        return None

    @classmethod
    def explain(cls, last: bytes) -> str | None:
        """Return a phrase for the log about a partition that no server claims, if its end identifies it, else None.

        ``last`` is what `probe` saw the beginning of, its last 64 KiB at most, zeros to a whole sector included;
        this never raises.
        """
        del last
        return None

    @classmethod
    def server_class(cls) -> type[HostedServer]:
        """Import and return the class that serves what was claimed."""
        raise NotImplementedError


class HostedServer(Recogniser):
    """Base class; state must be plain data, for a machine is snapshotted between requests."""

    kind: str = ""  # what `start` found the file system to be, where `probe` could not tell
    details: Mapping[str, int | str] = MappingProxyType({})  # numbers of note, for `callgate disk inspect`
    operations: ClassVar[dict[int, str]] = {int(Operation.NULL): "null"}
    unchanging: ClassVar[frozenset[str]] = frozenset({"geometry", "details"})  # attributes whose values never change

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Gather the operation table; TypeError if one class declares an operation twice."""
        super().__init_subclass__(**kwargs)
        declared: dict[int, str] = {}
        for name, member in vars(cls).items():
            number = getattr(member, "__dict__", {}).get("operation")
            if number is None:
                continue
            if number in declared:
                raise TypeError(f"{cls.__name__}: operation {number} is both {declared[number]} and {name}")
            declared[number] = name
        cls.operations = cls.operations | declared

    def __init__(self, memory: ServerMemory, geometry: VolumeGeometry) -> None:
        self.memory = memory
        self.geometry = geometry
        self.inflated = 0  # bytes decompressed: the runner books them, for they cost the guest nothing
        self.blocks: dict[int, int] = {}  # message page being served -> the HostedBlock that it is loaded into
        self._reports: list[str] = []
        self._said: dict[str, None] = {}  # the last sentences, oldest first
        self._reports_lost = 0

    @classmethod
    def server_class(cls) -> type[HostedServer]:
        """Return the class itself: one that is a server has its code at hand."""
        return cls

    async def start(self) -> None:
        """Mount: read metadata, gather free space.  Raises MountError if the volume cannot be served."""

    async def handle(self, request: Request) -> Reply:
        """Dispatch through the operation table; FileSystemError(BAD_CALL) for an unknown operation."""
        name = self.operations.get(request.operation)
        if name is None:
            raise FileSystemError(ErrorCode.BAD_CALL, f"{self.name} has no operation {request.operation}")
        handler: Callable[[Request], Awaitable[Reply]] = getattr(self, name)
        return await handler(request)

    async def serve(self, message: int) -> ServerCall:
        """Serve the message page at linear address ``message``; 0 means start.

        The runner of the server has noted the thread's HostedBlock in ``blocks``; the stub has loaded the page there.
        Returns the function that the thread's stub passes to the server gate next.  FileSystemError
        becomes an error reply, except from `start`; whatever else is raised is for the runner to kill
        the server by.
        """
        if message == 0:
            await self.start()
            return ServerCall.WAIT
        block = self.blocks[message]
        request = Request.load(self.memory, message, block)
        answer = self._answer_batch if request.operation == Operation.BATCH else self._answer
        reply = await answer(request)
        return reply.store(self.memory, message, block)

    async def _answer(self, request: Request) -> Reply:
        """Return the reply of the request's handler; an error that it raises is one."""
        try:
            return await self.handle(request)
        except FileSystemError as error:
            if error.code in (ErrorCode.CORRUPT, ErrorCode.IO_ERROR):
                self.report(error.text)
            return Failure(error.code, request.registers)

    async def _answer_batch(self, batch: Request) -> Batch | Failure:
        """Answer the requests of a batch one after the other."""
        try:
            requests = batch.batch()
        except FileSystemError as error:
            return Failure(error.code, batch.registers)
        return Batch([(request, await self._answer(request)) for request in requests])

    async def null(self, request: Request) -> Reply:
        """Return every register as it was sent."""
        return Registers(request.registers)

    def report(self, text: str) -> None:
        """Note a sentence for the boot log: damage found and the like.  At most REPORT_LIMIT are kept.

        One that was among the last REPORT_LIMIT is not repeated: damage is met each time a file is read.
        """
        if text in self._said:
            return
        self._said[text] = None
        if len(self._said) > REPORT_LIMIT:
            del self._said[next(iter(self._said))]
        if len(self._reports) < REPORT_LIMIT:
            self._reports.append(f"{self.geometry.name}: {text}")
        else:
            self._reports_lost += 1

    def take_reports(self) -> list[str]:
        """Return the sentences noted since the last call, the runner's to print; forget them."""
        if not self._reports:
            return []
        reports, self._reports = self._reports, []
        if self._reports_lost:
            reports.append(f"{self.geometry.name}: {self._reports_lost} more messages were dropped")
            self._reports_lost = 0
        return reports

    def duplicate(self, memory: ServerMemory) -> Self:
        """Return a copy of the server and all its state, working on ``memory``: for snapshots."""
        return copy.deepcopy(self, {id(self.memory): memory})
