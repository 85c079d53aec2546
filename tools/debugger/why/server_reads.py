"""What a hosted server reads of its memory while a part of a run is repeated."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from callgate.kernel.memory.user_memory import UserMemory


class ServerRead(NamedTuple):
    """Bytes that a server has read, where they lay, and how many instructions had retired."""

    linear: int
    physical: int
    data: bytes
    retired: int

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


class ServerReads:
    """Notes the reads of one hosted server for as long as the context lasts."""

    def __init__(self, process: int, now: Callable[[], int]) -> None:
        """`process` is the server's number, `now` returns how many instructions have retired."""
        self.process = process
        self.now = now
        self.found: list[ServerRead] = []

    def __enter__(self) -> Self:
        plain = self.plain = UserMemory.read
        found, now, process = self.found, self.now, self.process

        def read(memory: UserMemory, address: int, length: int) -> bytes:
            data = plain(memory, address, length)
            own = memory.touch is not None and memory.process.number == process  # its Python's, and not policy's
            if own and length:
                found.append(ServerRead(address, memory.physical(address), data, now()))
            return data

        setattr(UserMemory, "read", read)  # noqa: B010 - a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        setattr(UserMemory, "read", self.plain)  # noqa: B010 - a method

    def last(self, count: int) -> list[ServerRead]:
        """Return the last reads, the latest first, of as many places."""
        distinct: dict[tuple[int, int], ServerRead] = {}
        for read in reversed(self.found):
            distinct.setdefault((read.linear, read.size), read)
        return list(distinct.values())[:count]

    def last_with(self, value: int, size: int) -> tuple[int, int, int, int] | None:
        """Return the last place that holds a value: linear and physical address, bytes, and how many such there are."""
        width = max(4, size) if value >> 32 else 4
        wanted = value.to_bytes(width, "little")
        places = [
            (read.linear + at, read.physical + at)
            for read in self.found
            for at in range(len(read.data))
            if read.data.startswith(wanted, at)
        ]
        distinct = list(dict.fromkeys(places))
        return (*distinct[-1], width, len(distinct)) if distinct else None
