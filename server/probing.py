"""Whose is this partition?  The servers' own probes, asked in one order by whoever wants to know."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from callgate.server.hosted import HostedServer

PROBE_SECTORS: Final = 128  # 64 KiB at the beginning, and as many at the end

Read = Callable[[int, int], Awaitable[bytes]]


class Claim(NamedTuple):
    """A server that says a partition is its own, and what it calls the file system."""

    kind: str
    server: type[HostedServer]


def claim_by_beginning(servers: Sequence[type[HostedServer]], first: bytes) -> Claim | None:
    """Return the first server's claim on a partition that begins with ``first``, None if nobody claims it."""
    for server in servers:
        kind = server.probe(first)
        if kind is not None:
            return Claim(kind, server)
    return None


async def claim(servers: Sequence[type[HostedServer]], read: Read, sectors: int) -> Claim | None:
    """Return whose a partition of ``sectors`` 512-byte sectors is, by its beginning or else by its end.

    ``read(sector, count)`` returns sectors of the partition; what it raises comes out.
    """
    count = min(PROBE_SECTORS, sectors)
    found = claim_by_beginning(servers, await read(0, count))
    if found is not None:
        return found
    last = await read(sectors - count, count)
    for server in servers:
        kind = server.probe_end(last)
        if kind is not None:
            return Claim(kind, server)
    return None


async def explain(servers: Sequence[type[HostedServer]], read: Read, sectors: int) -> str:
    """Return what a partition is that nobody claims, "" if no server can tell."""
    count = min(PROBE_SECTORS, sectors)
    last = await read(sectors - count, count)
    return next((text for server in servers if (text := server.explain(last))), "")
