"""Partition tables: none, MBR with extended partitions, GPT (UEFI 2.10, chapter 5).

A partition that lies outside the disk, or over another one, is reported and left out; the others are kept.
"""

import struct

from callgate.disk.gpt import scan_gpt
from callgate.disk.partition_layout import (
    SECTOR,
    DiskLayout,
    Partition,
    Reader,
    ReadError,
    read_sectors,
    run_sync,
)

__all__ = [
    "SECTOR",
    "DiskLayout",
    "Partition",
    "ReadError",
    "Reader",
    "looks_like_volume",
    "run_sync",
    "scan",
]

SIGNATURE = b"\x55\xaa"
TABLE_OFFSET = 446
ENTRY = struct.Struct("<B3sB3sII")
ACTIVE = 0x80
EXTENDED = (0x05, 0x0F, 0x85)
PROTECTIVE = 0xEE
LOGICAL_LIMIT = 60
ISO_DESCRIPTOR = 64  # the sector of a volume's first descriptor, ECMA-119, 6.2.1
ZIP_SIGNATURES = (b"PK\3\4", b"PK\5\6", b"PK\6\6")
FIRST_LOGICAL = 5

Entry = tuple[int, int, int, int]


async def scan(read: Reader, sector_count: int) -> DiskLayout:
    """Return the layout of a disk of `sector_count` sectors; `read(lba, count)` returns their bytes.

    ReadError, and whatever else the reader raises, comes out only if sector 0 cannot be read; a ReadError
    further on becomes a problem in the layout.
    """
    first = await read_sectors(read, 0, 1)
    if looks_like_volume(first) or first[510:512] != SIGNATURE:
        return DiskLayout("none", [Partition(0, 0, sector_count, "whole disk", scheme="none")])
    entries = table(first)
    if await is_hybrid(read, entries, sector_count):
        return DiskLayout("none", [Partition(0, 0, sector_count, "whole disk", scheme="none")])
    layout = DiskLayout("gpt")
    if any(kind == PROTECTIVE for _, kind, _, _ in entries) and await scan_gpt(read, layout, sector_count):
        return layout
    usable = [entry for entry in entries if entry[1] not in (0, PROTECTIVE)]
    if layout.problems and not usable:
        return layout
    layout.scheme = "mbr"
    if not usable:
        layout.problems.append("sector 0: a boot sector without partitions and without a file system")
    await scan_mbr(read, layout, entries, sector_count)
    return layout


async def scan_mbr(read: Reader, layout: DiskLayout, entries: list[Entry], sector_count: int) -> None:
    """Add the partitions of a master boot record: the primary ones first, then what extended ones hold."""
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
        if start == 0 or sectors == 0 or start + sectors > sector_count:
            layout.problems.append(f"sector 0: extended partition {number} is empty or lies outside the disk")
        else:
            logical = await scan_extended(read, layout, logical, start, sectors)


async def is_hybrid(read: Reader, entries: list[Entry], sector_count: int) -> bool:
    """Whether the disk is an ISO 9660 volume although sector 0 has a partition table.

    Images that boot from USB sticks as well carry a table whose partitions lie over the volume.  One that leaves out
    the volume descriptor says that somebody divided the disk anew, and the descriptor is left over.
    """
    if sector_count <= ISO_DESCRIPTOR:
        return False
    try:
        descriptor = await read_sectors(read, ISO_DESCRIPTOR, 1)
        if descriptor[1:6] != b"CD001":
            return False
        # Debian's images have an entry over the whole volume whose type is 0, "empty", but whose size is not.
        usable = [(start, start + sectors) for _, kind, start, sectors in entries if sectors and kind != PROTECTIVE]
        if any(kind == PROTECTIVE for _, kind, _, _ in entries):
            layout = DiskLayout("gpt")
            if await scan_gpt(read, layout, sector_count):
                usable += [(partition.start, partition.end) for partition in layout.partitions]
    except ReadError:
        return False  # the table is there, and what else there is cannot be read
    return not usable or any(start <= ISO_DESCRIPTOR < end for start, end in usable)


def looks_like_volume(sector: bytes) -> bool:
    """Whether sector 0 is the boot sector of a file system that covers the whole disk.

    One that says it is FAT is believed even if its numbers are absurd: mounting it names the absurd one.
    """
    if sector[3:11] in (b"EXFAT   ", b"NTFS    ") or sector[:4] in ZIP_SIGNATURES:
        return True
    jump = sector[0] == 0xE9 or (sector[0] == 0xEB and sector[2] == 0x90)
    if jump and (sector[54:57] == b"FAT" or sector[82:85] == b"FAT"):
        return True
    bytes_per_sector, per_cluster, reserved, fats = struct.unpack_from("<HBHB", sector, 11)
    sane = bytes_per_sector in (512, 1024, 2048, 4096) and per_cluster and not per_cluster & per_cluster - 1
    return bool(jump and sane and reserved and fats in (1, 2) and sector[21] >= 0xF0)


def table(sector: bytes) -> list[Entry]:
    """Return (status, type, first sector, sectors) of the four entries."""
    entries = []
    for index in range(4):
        status, _, kind, _, start, sectors = ENTRY.unpack_from(sector, TABLE_OFFSET + index * ENTRY.size)
        entries.append((status, kind, start, sectors))
    return entries


async def scan_extended(read: Reader, layout: DiskLayout, logical: int, base: int, sectors: int) -> int:
    """Follow a chain of extended boot records from `base`; return the number of the next logical partition.

    The first entry of a record counts from the record itself, the second, the link, from the start of the
    extended partition.
    """
    seen: set[int] = set()
    record = base
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
        if sector[510:512] != SIGNATURE:
            layout.problems.append(f"sector {record}: no extended boot record (signature missing)")
            return logical
        (_, kind, start, size), (_, link, offset, _) = table(sector)[:2]
        if kind and size:
            add_logical(
                layout,
                Partition(logical, record + start, size, f"{kind:#04x}", scheme="mbr"),
                record,
                base + sectors,
            )
            logical += 1
        if link not in EXTENDED:
            return logical
        if not 0 < offset < sectors:
            layout.problems.append(f"sector {record}: the next extended boot record lies outside")
            return logical
        record = base + offset


def add_logical(layout: DiskLayout, partition: Partition, record: int, end: int) -> None:
    """Keep a logical partition if it lies behind its record and inside the extended partition."""
    place = f"sector {record}"
    if partition.start == record:
        layout.problems.append(f"{place}: partition {partition.number} contains the record that describes it")
    elif partition.end > end:
        layout.problems.append(f"{place}: partition {partition.number} leaves the extended partition")
    else:
        layout.add(partition, end, place)
