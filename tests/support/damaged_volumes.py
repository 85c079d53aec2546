"""Volumes with garbled metadata: what damages them, and what no server of one may do."""

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import FileSystemError, read_pages

MUTANTS: Final = int(os.environ.get("CALLGATE_MUTANTS", "15"))
"""Mutants of each kind; CALLGATE_MUTANTS=20000 looks much further."""
INTERESTING: Final = (0, 1, 2, 3, 0x0F, 0x10, 0x40, 0x41, 0x7F, 0x80, 0xE5, 0xF7, 0xF8, 0xFF)
FIRST: Final = 65536  # bytes of a volume that a probe sees


class Region(NamedTuple):
    """A stretch of an image that a mutator may change, the likelier the more ``weight`` it has."""

    start: int
    size: int
    weight: int


@dataclass
class Damage:
    """An image, the regions of it that are garbled, and something special that is done to it now and then."""

    image: bytearray
    regions: list[Region]
    special: Callable[[random.Random], None]

    @contextmanager
    def done(self, seed: int) -> Iterator[None]:
        """Garble some bytes of the regions, or do what is special, and put them back afterwards."""
        image, regions = self.image, self.regions
        generator = random.Random(seed)
        saved = [(start, bytes(image[start : start + size])) for start, size, _ in regions]
        for _ in range(generator.choice((1, 1, 2, 4, 16))):
            start, size, _ = generator.choices(regions, [region.weight for region in regions])[0]
            match generator.randrange(4):
                case 0:
                    image[start + generator.randrange(size)] = generator.choice(INTERESTING)
                case 1:
                    image[start + generator.randrange(size)] = generator.randrange(256)
                case 2:
                    self.special(generator)
                case _:
                    here, there = (start + generator.randrange(size // 32) * 32 for _ in range(2))
                    image[here : here + 32] = image[there : there + 32]
        try:
            yield
        finally:
            for start, data in saved:
                image[start : start + len(data)] = data


def outcomes_of(
    damage: Damage, client: Any, seeds: Iterable[int], explore: Callable[[Any], int], *, calls: int, allocated: int
) -> dict[str, int]:
    """Mount a volume with each damage, and explore it; return how many were mounted, refused, and seen to be damaged.

    ``client`` makes a client of the volume's server, and ``explore`` returns how many errors it has met.  A server must
    not fault, keep a lock, make ``calls`` calls of the gate or more, or keep ``allocated`` bytes or more.
    """
    outcomes = {"mounted": 0, "refused": 0, "damaged": 0}
    for seed in seeds:
        with damage.done(seed):
            client.kind.probe(bytes(damage.image[:FIRST]))
            served = None
            with suppress(FileSystemError):  # and nothing else
                served = client(damage.image)
            if served is None:
                outcomes["refused"] += 1
                continue
            outcomes["mounted"] += 1
            outcomes["damaged"] += explore(served) > 0
            served.request(Operation.VOLUME)
            served.request(Operation.FREE_SPACE)
            assert served.rehearsal.locks == {}
            assert len(served.rehearsal.calls) < calls, seed
            assert served.rehearsal.allocated() < allocated
    return outcomes


def explore_listed(
    served: Any,
    read_some: Callable[[Any, str], int],
    refusals: Iterable[ErrorCode],
    *,
    visits: int,
    first: Iterable[str] = ("",),
) -> int:
    """Visit all listed files, as a careless client would; return the number of errors.

    ``refusals`` are those by which a directory may be refused; ``first`` are the directories to begin with.
    """
    errors = 0
    waiting = [*first]
    for _ in range(visits):
        if not waiting:
            break
        folder = waiting.pop(0)
        answer = served.request(Operation.LOCK_DIRECTORY, folder)
        if answer.error:
            assert answer.error in refusals
            errors += 1
            continue
        files = list(read_pages(answer.memory))
        assert len(files) == answer.registers.edi
        for file in files[:20]:
            if file.attributes & FileAttributes.DIRECTORY:
                waiting.append(f"{folder}/{file.name}")
            else:
                errors += read_some(served, f"{folder}/{file.name}")
        assert served.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx).error is ErrorCode.OK
    return errors
