"""Which server recognises a partition: the servers' own probes, asked in one order.

A server that raises when it is asked, or whose code cannot be imported when it has claimed a partition, is passed over,
and the caller is given a sentence that names it.  So is one that takes longer than the caller's limit: `within` makes a
context in which each question is asked, and which may raise.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple, Self

from callgate.server.hosted import HostedServer, Recogniser
from callgate.server.raised import describe

PROBE_SECTORS: Final = 128  # 64 KiB at the beginning, and as many at the end

Read = Callable[[int, int], Awaitable[bytes]]
Say = Callable[[str], None]
Limit = Callable[[], AbstractContextManager[None]]


def unsaid(_text: str) -> None:
    """Take a sentence about a broken server, and do nothing with it."""


Known = Sequence[type[Recogniser]]
"""What says of a partition whose it is; each `HostedServer` does."""


class Claim(NamedTuple):
    """A server that claims a partition, and its name for the file system."""

    kind: str
    server: type[HostedServer]


class Claimants:
    """The servers that say a partition of `sectors` 512-byte sectors is theirs, one after another: `async for`.

    First come those that know it by its beginning, then those that know it by its end, each server once.  Nothing is
    read, asked or imported before it is wanted.  `read(sector, count)` returns sectors of the partition; its errors
    come out.
    """

    def __init__(self, known: Known, read: Read, sectors: int, say: Say, within: Limit = nullcontext) -> None:
        self._known, self._read, self._say, self._within = list(known), read, say, within
        count = min(PROBE_SECTORS, sectors)
        self._questions = [("probe", 0, count), ("probe_end", sectors - count, count)]
        self._claims: Iterator[tuple[str, type[Recogniser]]] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Claim:
        while True:
            found = next(self._claims, None)
            if found is not None:
                kind, recogniser = found
                self._known.remove(recogniser)
                server = _server_of(recogniser, self._say, self._within)
                if server is not None:
                    return Claim(kind, server)
                continue
            if not self._questions:
                raise StopAsyncIteration
            question, start, count = self._questions.pop(0)
            data = await self._read(start, count)
            self._claims = _claims(list(self._known), question, data, self._say, self._within)


async def kind_by_beginning(
    known: Known, read: Read, sectors: int, say: Say, within: Limit = nullcontext
) -> str | None:
    """Return the name of a partition's file system by its first 64 KiB; None if no server claims it."""
    first = await read(0, min(PROBE_SECTORS, sectors))
    return next((kind for kind, _ in _claims(known, "probe", first, say, within)), None)


async def claim(known: Known, read: Read, sectors: int, say: Say) -> Claim | None:
    """Return the first claim on a partition, by its beginning or else by its end."""
    async for found in Claimants(known, read, sectors, say):
        return found
    return None


async def explain(known: Known, read: Read, sectors: int, say: Say, within: Limit = nullcontext) -> str:
    """Return a description of a partition that no server claims, "" if no server has one."""
    count = min(PROBE_SECTORS, sectors)
    last = await read(sectors - count, count)
    return next((text for recogniser in known if (text := ask(recogniser, "explain", last, say, within))), "")


def _claims(
    known: Known, question: str, data: bytes, say: Say, within: Limit
) -> Iterator[tuple[str, type[Recogniser]]]:
    for recogniser in known:
        kind = ask(recogniser, question, data, say, within)
        if kind is not None:
            yield kind, recogniser


def _server_of(recogniser: type[Recogniser], say: Say, within: Limit) -> type[HostedServer] | None:
    """Return the class that serves what was claimed; None, and a report, if it cannot be had."""
    try:
        with within():
            server: object = recogniser.server_class()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any exception of a module at import, SystemExit too
        problem = f"raised {describe(error)}"
    else:
        if isinstance(server, type) and issubclass(server, HostedServer):
            return server
        problem = "returned no HostedServer"
    say(f"server {_name(recogniser)} cannot serve what it claims: server_class {problem}")
    return None


def _name(recogniser: type[Recogniser]) -> str:
    return recogniser.name or recogniser.__name__


def ask(recogniser: type[Recogniser], question: str, data: bytes, say: Say, within: Limit = nullcontext) -> str | None:
    """Return what a server's `probe`, `probe_end` or `explain` answers; None, and a report, if it raises."""
    method: Callable[[bytes], object] = getattr(recogniser, question)
    try:
        with within():
            answer = method(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a server's Python raises, SystemExit too
        problem = f"raised {describe(error)}"
    else:
        if answer is None or isinstance(answer, str):
            return answer
        problem = f"returned {type(answer).__name__}, and not str or None"
    say(f"server {_name(recogniser)} cannot tell: {question} {problem}")
    return None
