"""Whose is this partition?  The servers' own probes, asked in one order by whoever wants to know.

A server that breaks when it is asked is passed over, and a sentence that names it goes to whoever asks.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from callgate.server.hosted import HostedServer
from callgate.server.raised import describe

PROBE_SECTORS: Final = 128  # 64 KiB at the beginning, and as many at the end

Read = Callable[[int, int], Awaitable[bytes]]
Say = Callable[[str], None]


def unsaid(_text: str) -> None:
    """Take a sentence about a broken server, and do nothing with it."""


class Claim(NamedTuple):
    """A server that says a partition is its own, and what it calls the file system."""

    kind: str
    server: type[HostedServer]


def claim_by_beginning(servers: Sequence[type[HostedServer]], first: bytes, say: Say) -> Claim | None:
    """Return the first server's claim on a partition that begins with ``first``, None if nobody claims it."""
    return _first_claim(servers, "probe", first, say)


async def claim(servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> Claim | None:
    """Return whose a partition of ``sectors`` 512-byte sectors is, by its beginning or else by its end.

    ``read(sector, count)`` returns sectors of the partition; what it raises comes out.
    """
    count = min(PROBE_SECTORS, sectors)
    found = claim_by_beginning(servers, await read(0, count), say)
    return found or _first_claim(servers, "probe_end", await read(sectors - count, count), say)


async def explain(servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> str:
    """Return what a partition is that nobody claims, "" if no server can tell."""
    count = min(PROBE_SECTORS, sectors)
    last = await read(sectors - count, count)
    return next((text for server in servers if (text := ask(server, "explain", last, say))), "")


def _first_claim(servers: Sequence[type[HostedServer]], question: str, data: bytes, say: Say) -> Claim | None:
    for server in servers:
        kind = ask(server, question, data, say)
        if kind is not None:
            return Claim(kind, server)
    return None


def ask(server: type[HostedServer], question: str, data: bytes, say: Say) -> str | None:
    """Return what a server's `probe`, `probe_end` or `explain` answers; None, and it is said, if it breaks."""
    method: Callable[[bytes], object] = getattr(server, question)
    try:
        answer = method(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a server's Python raises, SystemExit too
        problem = f"raised {describe(error)}"
    else:
        if answer is None or isinstance(answer, str):
            return answer
        problem = f"returned {type(answer).__name__}, and not str or None"
    say(f"server {server.name or server.__name__} cannot tell: {question} {problem}")
    return None
