"""Walking a volume of an image without a machine: its server in rehearsal, every directory and every file.

For what wants to look at whole volumes quickly: how much of one is aligned, and what servers do with garbage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.kernel.volumes import installed_servers
from callgate.server.hosted import HostedServer
from callgate.server.listing import ListedFile, read_pages
from callgate.server.testing import Answer, Rehearsal

PROBE_BYTES = 64 << 10
READ_BYTES = MESSAGE_ADDRESSES * PAGE_SIZE


def server_for(head: bytes) -> type[HostedServer] | None:
    """Return the server that claims a partition beginning with `head`, None if nobody does."""
    for server in installed_servers():
        if server.probe(head) is not None:
            return server
    return None


def explanation(last: bytes) -> str:
    """Return what a partition ending with `last` is, which no server claims; "" if nobody can tell."""
    return next((text for server in installed_servers() if (text := server.explain(last))), "")


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory that was listed: path from the volume's root, and its entry."""

    path: str
    entry: ListedFile

    @property
    def is_directory(self) -> bool:
        """Whether it is listed as one."""
        return bool(self.entry.attributes & FileAttributes.DIRECTORY)


class VolumeWalk:
    """One mounted volume; FileSystemError if its server refuses it.  A context that lets go of the image."""

    def __init__(
        self,
        server: type[HostedServer],
        image: memoryview | bytes | bytearray,
        start: int = 0,
        sectors: int | None = None,
    ) -> None:
        """Mount sectors `start` to `start + sectors` of an image."""
        self.rehearsal = Rehearsal(server, image, start=start, sectors=sectors)
        self.errors: list[tuple[str, ErrorCode]] = []
        try:
            self.rehearsal.start()
        except BaseException:
            self.rehearsal.image.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rehearsal.image.release()

    def entries(self, limit: int) -> Iterator[Found]:
        """Yield at most `limit` files and directories, breadth first; what cannot be listed goes to `errors`."""
        waiting = deque([""])
        left = limit
        while waiting and left > 0:
            folder = waiting.popleft()
            answer = self.rehearsal.request(Operation.LOCK_DIRECTORY, folder.encode())
            if answer.error:
                self.errors.append((folder or "/", answer.error))
                continue
            listed = list(read_pages(answer.memory))
            self.rehearsal.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx)
            for entry in listed[:left]:
                found = Found(f"{folder}/{entry.name}".lstrip("/"), entry)
                if found.is_directory:
                    waiting.append(found.path)
                yield found
            left -= len(listed)

    def open(self, path: str) -> tuple[int, int] | None:
        """Return (server's number, size) of a file; None, and a note in `errors`, if it cannot be opened."""
        answer = self.rehearsal.request(Operation.OPEN, path.encode())
        if answer.error:
            self.errors.append((path, answer.error))
            return None
        return answer.registers.eax, answer.registers.edx << 32 | answer.registers.ecx

    def close(self, number: int) -> None:
        """Close a file."""
        self.rehearsal.request(Operation.CLOSE, eax=number)

    def read(self, path: str, number: int, position: int, wanted: int = READ_BYTES) -> tuple[int, int, Answer] | None:
        """Return (first byte, bytes covered, reply) for a position; None at the end or where it cannot be read."""
        answer = self.rehearsal.request(
            Operation.READ, ebx=number, eax=position & 0xFFFF_FFFF, edx=position >> 32, ecx=wanted
        )
        if answer.error:
            self.errors.append((path, answer.error))
            return None
        if answer.registers.edi and answer.call is ServerCall.REPLY_OBJECT:
            self.rehearsal.request(Operation.RELEASE, eax=answer.registers.edi)
        start = answer.registers.edx << 32 | answer.registers.ecx
        return (start, answer.registers.eax, answer) if answer.registers.eax else None

    def data(self, start: int, covered: int, answer: Answer) -> bytes:
        """Return the bytes that a reply names."""
        del start
        if answer.call is ServerCall.REPLY_OBJECT:
            return answer.memory[:covered]
        pieces = (self.rehearsal.read_sectors(first, count) for first, count in answer.sectors)
        return b"".join(pieces)[:covered]
