"""The result of a partition scan: partitions, and faults of the table that they come from.

Nothing here does I/O: readers are coroutines, so that the kernel can read through its driver and tools
straight from a file.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import field
from typing import Any, NamedTuple, TypeVar

from callgate.kernel.common.coroutines import run_at_once
from callgate.kernel.common.record import record

SECTOR = 512
READ_SECTORS = 128  # most sectors of one read

Reader = Callable[[int, int], Awaitable[bytes]]
T = TypeVar("T")


class ReadError(Exception):
    """A reader may raise this for sectors that cannot be read: the scan reports it and goes on."""


class Partition(NamedTuple):
    """A partition: number as Linux counts, first sector, sectors, type, name, in 512-byte sectors."""

    number: int
    start: int
    sectors: int
    kind: str
    name: str = ""
    scheme: str = ""

    @property
    def end(self) -> int:
        """The sector after the last one."""
        return self.start + self.sectors


@record(eq=True)
class DiskLayout:
    """The layout of a disk: scheme "none", "mbr" or "gpt", usable partitions, and problems.

    `otherwise` is the other way to read sector 0, if there is one, for when no partition can be mounted.  Its first
    problem says so.
    """

    scheme: str
    partitions: list[Partition] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    otherwise: "DiskLayout | None" = None

    def add(self, partition: Partition, sector_count: int, place: str) -> None:
        """Keep a partition if it is usable, else note its problem."""
        where = f"{place}: partition {partition.number} (sectors {partition.start} to {partition.end - 1})"
        if partition.sectors <= 0 or partition.start == 0:
            self.problems.append(f"{place}: partition {partition.number} is empty or starts at sector 0")
            return
        if partition.start >= sector_count:
            self.problems.append(f"{where} lies outside the disk of {sector_count} sectors")
            return
        if partition.end > sector_count:
            partition = partition._replace(sectors=sector_count - partition.start)
            self.problems.append(
                f"{where} passes the end of the disk of {sector_count} sectors (a truncated image?); "
                f"the first {partition.sectors} are used"
            )
        for other in self.partitions:
            if partition.start < other.end and other.start < partition.end:
                self.problems.append(f"{where} overlaps partition {other.number}")
                return
        self.partitions.append(partition)


async def read_sectors(read: Reader, lba: int, count: int) -> bytes:
    """Read any number of sectors, a limited number at a time; ReadError if too few are returned."""
    parts = []
    for start in range(lba, lba + count, READ_SECTORS):
        step = min(READ_SECTORS, lba + count - start)
        data = bytes(await read(start, step))
        if len(data) != step * SECTOR:
            raise ReadError(f"sector {start}: {len(data)} bytes instead of {step * SECTOR}")
        parts.append(data)
    return b"".join(parts)


def forgiving(read: Reader) -> Reader:
    """Return a reader for which a bad sector is zeros; ReadError if it is the first of a request."""

    async def read_what_can_be(lba: int, count: int) -> bytes:
        try:
            return await read(lba, count)
        except ReadError:
            if count == 1:
                raise
        parts = [await read(lba, 1)]
        for sector in range(lba + 1, lba + count):
            try:
                parts.append(await read(sector, 1))
            except ReadError:
                parts.append(bytes(SECTOR))
        return b"".join(parts)

    return read_what_can_be


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine whose reader never has to wait."""
    return run_at_once(coroutine, "the reader waits; use an event loop")
