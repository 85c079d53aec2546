"""Partition tables: none, MBR with extended partitions, GPT (UEFI 2.10, chapter 5).

A partition that lies outside the disk, or over another one, is reported and left out; one that passes the end of the
disk is kept up to there, and so are all others.
"""

from collections.abc import Awaitable, Callable

from callgate.disk.partitioning.gpt import scan_gpt
from callgate.disk.partitioning.layout import (
    SECTOR,
    DiskLayout,
    Partition,
    Reader,
    ReadError,
    forgiving,
    read_sectors,
    run_sync,
)
from callgate.disk.partitioning.mbr import ACTIVE, PROTECTIVE, Entry, table
from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    ISO_FIRST_DESCRIPTOR,
    ISO_IDENTIFIER,
    ISO_LOGICAL_SECTOR,
)
from callgate.kernel.common.record import record, replaced

__all__ = [
    "SECTOR",
    "DiskLayout",
    "Judge",
    "Partition",
    "ReadError",
    "Reader",
    "forgiving",
    "run_sync",
    "scan",
]

EXTENDED = (0x05, 0x0F, 0x85)
LOGICAL_LIMIT = 60
ISO_DESCRIPTOR = ISO_FIRST_DESCRIPTOR * ISO_LOGICAL_SECTOR // SECTOR
FIRST_LOGICAL = 5

Judge = Callable[[Partition], Awaitable[str | None]]


@record(frozen=True)
class Extended:
    """An extended partition: first sector, number of sectors, and those of the disk."""

    base: int
    sectors: int
    disk_sectors: int


async def scan(read: Reader, sector_count: int, judge: Judge) -> DiskLayout:
    """Return the layout of a disk of `sector_count` sectors; `read(lba, count)` returns their bytes.

    `judge(partition)` says what file system begins there, None if no server knows it.  Sector 0 may be a partition
    table, a volume's boot sector, or both, the older one left over: see `settle`.

    ReadError, and any other exception of the reader, is passed on only if sector 0 cannot be read; a ReadError
    further on becomes a problem in the layout.
    """
    first = await read_sectors(read, 0, 1)
    whole = Partition(0, 0, sector_count, "whole disk", scheme="none")
    kind = await judged(judge, whole)
    if first[BOOT_SIGNATURE_OFFSET:] != BOOT_SIGNATURE:
        layout = DiskLayout("gpt")
        if kind is None and first[:SECTOR] != bytes(SECTOR) and await scan_gpt(read, layout, sector_count):
            layout.problems.insert(0, "sector 0: no protective master boot record before the GPT")
            return layout
        return DiskLayout("none", [whole])
    entries = table(first)
    layout = await scan_table(read, entries, sector_count)
    if layout.partitions:
        return layout if kind is None else await settle(read, judge, layout, entries, whole, kind)
    if kind is not None or any(is_code(entry, sector_count) for entry in entries):
        return DiskLayout("none", [whole])
    if layout.problems:
        return layout
    from callgate.disk.partitioning.foreign import name_foreign

    problem = "sector 0: a boot sector without partitions and without a file system"
    return DiskLayout("none", [whole], [] if await name_foreign(forgiving(read), sector_count) else [problem])


async def settle(
    read: Reader, judge: Judge, layout: DiskLayout, entries: list[Entry], whole: Partition, kind: str
) -> DiskLayout:
    """Decide between the partitions of a table and a volume that covers the disk, if a disk has both.

    The table's count if a server knows one of them, and the volume's boot sector is left over from before the disk was
    divided.  An ISO 9660 volume whose descriptor lies within a partition is an image that boots from USB sticks as
    well: its partitions lie over the volume.  The loser is the winner's `otherwise`.
    """
    volume = DiskLayout("none", [whole])
    table_instead = "the volume that covers the disk cannot be mounted: the partitions are tried"
    volume_instead = f"none of the partitions can be mounted: the {kind} volume that covers the disk is tried"
    descriptor = await iso_descriptor(read, whole.sectors)
    if descriptor and covers_descriptor(entries, layout):
        volume.otherwise = replaced(layout, problems=[table_instead, *layout.problems])
        return volume
    if not descriptor and not [each for each in layout.partitions if await judged(judge, each) is not None]:
        numbers = ", ".join(str(partition.number) for partition in layout.partitions)
        volume.problems.append(
            f"sector 0 also has a partition table, and no server knows what is in {numbers}: the {kind} volume that "
            "covers the disk is used"
        )
        volume.otherwise = replaced(layout, problems=[table_instead, *layout.problems])
        return volume
    layout.problems.append(f"a whole-disk {kind} volume also begins here, left over from before the disk was divided")
    layout.otherwise = DiskLayout("none", [whole], [volume_instead])
    return layout


async def judged(judge: Judge, partition: Partition) -> str | None:
    """Return what file system a partition begins with; None also if that cannot be read."""
    try:
        return await judge(partition)
    except ReadError:
        return None  # reported when it is mounted


async def scan_table(read: Reader, entries: list[Entry], sector_count: int) -> DiskLayout:
    """Return the usable partitions that the four entries of sector 0 lead to."""
    layout = DiskLayout("gpt")
    if any(kind == PROTECTIVE for _, kind, _, _ in entries) and await scan_gpt(read, layout, sector_count):
        return layout
    if layout.problems and all(kind in (0, PROTECTIVE) for _, kind, _, _ in entries):
        return layout
    layout.scheme = "mbr"
    await scan_mbr(read, layout, entries, sector_count)
    return layout


async def scan_mbr(read: Reader, layout: DiskLayout, entries: list[Entry], sector_count: int) -> None:
    """Add the partitions of a master boot record: the primary ones first, then the logical ones."""
    extended = []
    for number, (status, kind, start, sectors) in enumerate(entries, 1):
        if kind in (0, PROTECTIVE):
            continue
        if status not in (0, ACTIVE):
            layout.problems.append(f"sector 0: partition {number} has the status {status:#04x}, not 0 or 0x80")
        elif kind in EXTENDED:
            extended.append((number, start, sectors))
        else:
            layout.add(Partition(number, start, sectors, f"{kind:#04x}", scheme="mbr"), sector_count, "sector 0")
    logical = FIRST_LOGICAL
    for number, start, sectors in extended:
        if start == 0 or sectors == 0 or start >= sector_count:
            layout.problems.append(f"sector 0: extended partition {number} is empty or lies outside the disk")
            continue
        if start + sectors > sector_count:
            layout.problems.append(
                f"sector 0: extended partition {number} (sectors {start} to {start + sectors - 1}) passes the end of "
                f"the disk of {sector_count} sectors (a truncated image?)"
            )
        logical = await scan_extended(read, layout, logical, Extended(start, sectors, sector_count))


async def iso_descriptor(read: Reader, sector_count: int) -> bool:
    """Whether the disk has the descriptor of an ISO 9660 volume that covers it."""
    if sector_count <= ISO_DESCRIPTOR:
        return False
    try:
        return (await read_sectors(read, ISO_DESCRIPTOR, 1))[1:6] == ISO_IDENTIFIER
    except ReadError:
        return False


def covers_descriptor(entries: list[Entry], layout: DiskLayout) -> bool:
    """Whether a partition holds the volume descriptor.

    Debian's images have an entry over the whole volume whose type is 0, "empty", but whose size is not.
    """
    spans = [(start, start + sectors) for _, kind, start, sectors in entries if sectors and kind != PROTECTIVE]
    spans += [(partition.start, partition.end) for partition in layout.partitions]
    return any(start <= ISO_DESCRIPTOR < end for start, end in spans)


def is_code(entry: Entry, sector_count: int) -> bool:
    """Whether the bytes at the place of a partition's entry in a boot sector are something else."""
    status, _, start, sectors = entry
    return status not in (0, ACTIVE) and not 0 < start < start + sectors <= sector_count


async def scan_extended(read: Reader, layout: DiskLayout, logical: int, extended: Extended) -> int:
    """Follow a chain of extended boot records; return the number of the next logical partition.

    The first entry of a record counts from the record itself, the second, the link, from the start of the
    extended partition.
    """
    seen: set[int] = set()
    record = extended.base
    while True:
        if record in seen or len(seen) >= LOGICAL_LIMIT:
            layout.problems.append(f"sector {record}: the chain of extended boot records does not end")
            return logical
        seen.add(record)
        try:
            sector = await read_sectors(read, record, 1)
        except ReadError as error:
            layout.problems.append(f"sector {record}: the extended boot record cannot be read: {error}")
            return logical
        if sector[BOOT_SIGNATURE_OFFSET:] != BOOT_SIGNATURE:
            layout.problems.append(f"sector {record}: no extended boot record (signature missing)")
            return logical
        (_, kind, start, size), (_, link, offset, _) = table(sector)[:2]
        if kind and size:
            add_logical(
                layout,
                Partition(logical, record + start, size, f"{kind:#04x}", scheme="mbr"),
                record,
                extended,
            )
            logical += 1
        if link not in EXTENDED:
            return logical
        if not 0 < offset < extended.sectors:
            layout.problems.append(f"sector {record}: the next extended boot record lies outside")
            return logical
        record = extended.base + offset
        if record >= extended.disk_sectors:
            layout.problems.append(
                f"sector {record}: the next extended boot record lies past the end of the disk; "
                f"logical partitions from {logical} on are lost"
            )
            return logical


def add_logical(layout: DiskLayout, partition: Partition, record: int, extended: Extended) -> None:
    """Keep a logical partition if it lies after its record; one that leaves the extended partition is reported."""
    place = f"sector {record}"
    if partition.start == record:
        layout.problems.append(f"{place}: partition {partition.number} contains the record that describes it")
        return
    end = extended.base + extended.sectors
    if partition.start >= end:
        layout.problems.append(f"{place}: partition {partition.number} lies outside the extended partition")
        return
    if partition.end > end:
        layout.problems.append(f"{place}: partition {partition.number} leaves the extended partition")
    layout.add(partition, extended.disk_sectors, place)
