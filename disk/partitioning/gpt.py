"""Reading a GUID partition table: header, entries, checksums, and the backup (UEFI 2.10, 5.3).

The table counts in the logical sectors of the disk it was made for; an image of a disk with 4096-byte
sectors is recognised by where its header lies.
"""

import struct
import zlib
from uuid import UUID

from callgate.disk.partitioning.layout import SECTOR, DiskLayout, Partition, Reader, ReadError, read_sectors

HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
ENTRY = struct.Struct("<16s16sQQQ72s")
SIGNATURE = b"EFI PART"
ENTRIES_LIMIT = 1024
TABLE_LIMIT = 1 << 20  # bytes
UNITS = (1, 8)  # 512-byte sectors in a logical sector


async def scan_gpt(read: Reader, layout: DiskLayout, sector_count: int) -> bool:
    """Add the partitions of the first good copy of the table; False if there is none."""
    problems: list[str] = []
    for unit in UNITS:
        for lba in (1, sector_count // unit - 1):
            if not 0 < lba < sector_count // unit:
                continue
            try:
                problem = await read_copy(read, layout, lba, unit, sector_count)
            except ReadError as error:
                problem = str(error)
            if problem is None:
                # A disk with a good table in 4096-byte sectors has none in 512-byte ones: that is no problem.
                layout.problems[:0] = problems if unit == UNITS[0] else []
                return True
            if unit == UNITS[0]:
                problems.append(f"sector {lba}: {problem}")
    layout.problems += problems
    return False


async def read_copy(read: Reader, layout: DiskLayout, lba: int, unit: int, sector_count: int) -> str | None:
    """Read the copy of the table whose header is at logical sector `lba`; return its fault."""
    header = await read_sectors(read, lba * unit, 1)
    signature, _, size, checksum, _, own = HEADER.unpack_from(header)[:6]
    table, count, span, entries_checksum = HEADER.unpack_from(header)[10:]
    if signature != SIGNATURE:
        return "no GPT header"
    if not HEADER.size <= size <= SECTOR:
        return f"a GPT header of {size} bytes"
    if zlib.crc32(header[:16] + bytes(4) + header[20:size]) != checksum:
        return "a GPT header with a wrong checksum"
    if own != lba:
        return f"a GPT header that says it lies at sector {own}"
    if span < ENTRY.size or span % 8 or not 0 < count <= ENTRIES_LIMIT or count * span > TABLE_LIMIT:
        return f"{count} partition entries of {span} bytes are not believed"
    sectors = -(-count * span // SECTOR)
    if table < 1 or table * unit + sectors > sector_count:
        return "the partition entries lie outside the disk"
    data = (await read_sectors(read, table * unit, sectors))[: count * span]
    if zlib.crc32(data) != entries_checksum:
        return "partition entries with a wrong checksum"
    add_entries(layout, data, span, lba, unit, sector_count)
    return None


def add_entries(layout: DiskLayout, data: bytes, span: int, lba: int, unit: int, sector_count: int) -> None:
    """Add the entries that are in use."""
    for index in range(len(data) // span):
        kind, _, first, last, _, name = ENTRY.unpack_from(data, index * span)
        if kind == bytes(16):
            continue
        text = name.decode("utf-16-le", "replace").split("\0")[0]
        sectors = (last - first + 1) * unit
        partition = Partition(index + 1, first * unit, sectors, str(UUID(bytes_le=kind)), text, "gpt")
        layout.add(partition, sector_count, f"sector {lba}")
