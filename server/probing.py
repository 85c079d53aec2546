"""Which server recognises a partition: the servers' own probes, asked in one order.

A server that raises when it is asked is passed over, and the caller is given a sentence that names it.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, NamedTuple, Self

from callgate.server.hosted import HostedServer
from callgate.server.raised import describe

PROBE_SECTORS: Final = 128  # 64 KiB at the beginning, and as many at the end

Read = Callable[[int, int], Awaitable[bytes]]
Say = Callable[[str], None]


def unsaid(_text: str) -> None:
    """Take a sentence about a broken server, and do nothing with it."""


class Claim(NamedTuple):
    """A server that claims a partition, and its name for the file system."""

    kind: str
    server: type[HostedServer]


class Claimants:
    """The servers that say a partition of `sectors` 512-byte sectors is theirs, one after another: `async for`.

    First come those that know it by its beginning, then those that know it by its end, each server once.  Nothing is
    read or asked before it is wanted.  `read(sector, count)` returns sectors of the partition; its errors come out.
    """

    def __init__(self, servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> None:
        self._servers, self._read, self._say = list(servers), read, say
        count = min(PROBE_SECTORS, sectors)
        self._questions = [("probe", 0, count), ("probe_end", sectors - count, count)]
        self._claims: Iterator[Claim] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Claim:
        while True:
            found = next(self._claims, None)
            if found is not None:
                self._servers.remove(found.server)
                return found
            if not self._questions:
                raise StopAsyncIteration
            question, start, count = self._questions.pop(0)
            self._claims = _claims(list(self._servers), question, await self._read(start, count), self._say)


async def claim_by_beginning(servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> Claim | None:
    """Return the first server's claim on a partition by its first 64 KiB, None if no server claims it."""
    first = await read(0, min(PROBE_SECTORS, sectors))
    return next(_claims(servers, "probe", first, say), None)


async def claim(servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> Claim | None:
    """Return the first claim on a partition, by its beginning or else by its end."""
    async for found in Claimants(servers, read, sectors, say):
        return found
    return None


async def explain(servers: Sequence[type[HostedServer]], read: Read, sectors: int, say: Say) -> str:
    """Return a description of a partition that no server claims, "" if no server has one."""
    count = min(PROBE_SECTORS, sectors)
    last = await read(sectors - count, count)
    return next((text for server in servers if (text := ask(server, "explain", last, say))), "")


def _claims(servers: Sequence[type[HostedServer]], question: str, data: bytes, say: Say) -> Iterator[Claim]:
    for server in servers:
        kind = ask(server, question, data, say)
        if kind is not None:
            yield Claim(kind, server)


def ask(server: type[HostedServer], question: str, data: bytes, say: Say) -> str | None:
    """Return what a server's `probe`, `probe_end` or `explain` answers; None, and a report, if it raises."""
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
