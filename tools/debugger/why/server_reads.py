"""What hosted servers read of their memory while a part of a run is repeated."""

from __future__ import annotations

from types import TracebackType
from typing import NamedTuple, Self

from callgate.kernel.memory.user_memory import UserMemory


class ServerRead(NamedTuple):
    """Bytes that a server has read, and where they lay."""

    linear: int
    physical: int
    data: bytes


class ServerReads:
    """Notes the reads of hosted servers for as long as the context lasts."""

    def __init__(self) -> None:
        self.found: list[ServerRead] = []

    def __enter__(self) -> Self:
        plain = self.plain = UserMemory.read
        found = self.found

        def read(memory: UserMemory, address: int, length: int) -> bytes:
            data = plain(memory, address, length)
            if memory.touch is not None and length:  # its own Python, and not policy
                found.append(ServerRead(address, memory.physical(address), data))
            return data

        setattr(UserMemory, "read", read)  # noqa: B010 - a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        setattr(UserMemory, "read", self.plain)  # noqa: B010 - a method

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
