"""Walking a volume of an image without a machine: its server in rehearsal, every directory and every file.

For tools that examine whole volumes quickly: the alignment of one, or servers on garbage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from callgate.disk.media import Medium, MediumError
from callgate.disk.partitioning.partitions import ReadError, forgiving, run_sync
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.servers.packages import installed_servers
from callgate.server.errors import FileSystemError
from callgate.server.gate import CARRY_FLAG, GateCall, GateResult
from callgate.server.hosted import HostedServer
from callgate.server.listing import ListedFile, read_pages
from callgate.server.probing import Claim, claim, unsaid
from callgate.server.testing import Answer, Rehearsal

READ_BYTES = MESSAGE_ADDRESSES * PAGE_SIZE
PROBLEMS_KEPT = 100


def sectors_reader(medium: Medium, start: int = 0) -> Callable[[int, int], Awaitable[bytes]]:
    """Return a function that reads sectors from `start` on, for coroutines that never have to wait; ReadError."""

    async def read(sector: int, count: int) -> bytes:
        try:
            return read_medium(medium, start + sector, count)
        except MediumError as error:
            raise ReadError(str(error)) from None

    return read


def read_medium(medium: Medium, lba: int, count: int) -> bytes:
    """Read sectors of a medium; MediumError."""
    data = bytearray(count * SECTOR_SIZE)
    medium.read_into(lba, [memoryview(data)])
    return bytes(data)


def claimant(medium: Medium, start: int, sectors: int) -> Claim | None:
    """Return the first claim of an installed server on sectors `start` to `start + sectors`; ReadError."""
    return run_sync(claim(installed_servers(), forgiving(sectors_reader(medium, start)), sectors, unsaid))


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory that was listed: path from the volume's root, and its entry."""

    path: str
    entry: ListedFile

    @property
    def is_directory(self) -> bool:
        """Whether it is listed as one."""
        return bool(self.entry.attributes & FileAttributes.DIRECTORY)


class _MediumRehearsal(Rehearsal):
    """A rehearsal over part of a medium, whose bad sectors are I/O errors."""

    def __init__(self, server: type[HostedServer], medium: Medium, start: int, sectors: int) -> None:
        super().__init__(server, b"", start=start, sectors=sectors)
        self.medium = medium

    def read_sectors(self, sector: int | None, count: int) -> bytes:
        """Return sectors of the partition; None is a hole, zeros.  MediumError."""
        if sector is None:
            return bytes(count * SECTOR_SIZE)
        return read_medium(self.medium, self.geometry.start + sector, count)

    def answer(self, call: GateCall) -> GateResult:
        """Answer one gate call as the kernel would."""
        try:
            return super().answer(call)
        except MediumError:
            return GateResult(ErrorCode.IO_ERROR, eflags=CARRY_FLAG)


class VolumeWalk:
    """One mounted volume; FileSystemError if its server refuses it."""

    def __init__(self, server: type[HostedServer], medium: Medium, start: int = 0, sectors: int | None = None) -> None:
        """Mount sectors `start` to `start + sectors` of a medium."""
        self.rehearsal = _MediumRehearsal(server, medium, start, medium.sector_count if sectors is None else sectors)
        self.errors: list[tuple[str, ErrorCode]] = []
        self._problems: dict[str, None] = {}
        self._problems_lost = 0
        self._explained = False  # whether the server reported anything with its last answer
        self.rehearsal.start()
        self.gather()

    def greet(self) -> None:
        """Ask for the label, which a booted system takes for the sign that the volume is mounted; FileSystemError."""
        answer = self._request(Operation.VOLUME)
        if answer.error:
            raise FileSystemError(answer.error, ERROR_TEXT[answer.error])

    def label(self) -> str:
        """Return the volume's label as its server gives it, "" if it has none."""
        answer = self._request(Operation.VOLUME)
        return answer.data.decode("utf-8", "replace") if not answer.error else ""

    def problems(self) -> list[str]:
        """Return the server's reports so far, and errors that it has not reported."""
        lost = [f"and {self._problems_lost} more"] if self._problems_lost else []
        return [*self._problems, *lost]

    def _request(self, operation: int, data: bytes | None = None, **registers: int) -> Answer:
        answer = self.rehearsal.request(operation, data, **registers)
        self.gather()
        return answer

    def gather(self) -> None:
        """Note what the server reports."""
        reports = self.rehearsal.server.take_reports()
        for report in reports:
            self._note(report.removeprefix(f"{self.rehearsal.geometry.name}: "))
        self._explained = bool(reports)

    def _fail(self, path: str, error: ErrorCode, what: str) -> None:
        """Note an error; report it if the server has not; what it does not support (devices) is not a fault."""
        self.errors.append((path, error))
        if not self._explained and error is not ErrorCode.NOT_SUPPORTED:
            self._note(f"/{path.lstrip('/')} {what}: {ERROR_TEXT[error]}")

    def _note(self, text: str) -> None:
        if text in self._problems:
            return
        if len(self._problems) < PROBLEMS_KEPT:
            self._problems[text] = None
        else:
            self._problems_lost += 1

    def entries(self, limit: int) -> Iterator[Found]:
        """Yield at most `limit` files and directories, breadth first; errors are appended to `errors`."""
        waiting = deque([""])
        left = limit
        while waiting and left > 0:
            folder = waiting.popleft()
            answer = self._request(Operation.LOCK_DIRECTORY, folder.encode())
            if answer.error:
                self._fail(folder or "/", answer.error, "cannot be listed")
                continue
            listed = list(read_pages(answer.memory))
            self._request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx)
            for entry in listed[:left]:
                found = Found(f"{folder}/{entry.name}".lstrip("/"), entry)
                if found.is_directory:
                    waiting.append(found.path)
                yield found
            left -= len(listed)

    def open(self, path: str) -> tuple[int, int] | None:
        """Return (server's number, size) of a file; None, and a note in `errors`, if it cannot be opened."""
        answer = self._request(Operation.OPEN, path.encode())
        if answer.error:
            self._fail(path, answer.error, "cannot be opened")
            return None
        return answer.registers.eax, answer.registers.edx << 32 | answer.registers.ecx

    def close(self, number: int) -> None:
        """Close a file."""
        self._request(Operation.CLOSE, eax=number)

    def read(self, path: str, number: int, position: int, wanted: int = READ_BYTES) -> tuple[int, int, Answer] | None:
        """Return (first byte, bytes covered, reply) for a position; None at the end or where it cannot be read."""
        answer = self._request(Operation.READ, ebx=number, eax=position & 0xFFFF_FFFF, edx=position >> 32, ecx=wanted)
        if answer.error:
            self._fail(path, answer.error, f"cannot be read at byte {position}")
            return None
        if answer.registers.edi and answer.call is ServerCall.REPLY_OBJECT:
            self._request(Operation.RELEASE, eax=answer.registers.edi)
        start = answer.registers.edx << 32 | answer.registers.ecx
        return (start, answer.registers.eax, answer) if answer.registers.eax else None

    def data(self, start: int, covered: int, answer: Answer) -> bytes:
        """Return the bytes that a reply names."""
        del start
        if answer.call is ServerCall.REPLY_OBJECT:
            return answer.memory[:covered]
        pieces = (self.rehearsal.read_sectors(first, count) for first, count in answer.sectors)
        return b"".join(pieces)[:covered]
