"""Writing partition tables: a master boot record or a GUID partition table (UEFI 2.10, chapter 5).

Identifiers are derived from the content, never drawn at random: the same disk has the same bytes.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from callgate.disk.formatters.fat_layout import SECTOR
from callgate.disk.partitioning.gpt import ENTRY, SIGNATURE
from callgate.disk.partitioning.mbr import LIMIT as MBR_LIMIT
from callgate.disk.partitioning.mbr import PROTECTIVE, pack_entry, pack_sector

BASIC_DATA = UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7")
GPT_ENTRIES, GPT_ENTRY_SIZE, GPT_HEADER_SIZE = 128, 128, 92
GPT_TABLE_SECTORS = GPT_ENTRIES * GPT_ENTRY_SIZE // SECTOR
GPT_RESERVED = GPT_TABLE_SECTORS + 1  # sectors of the backup at the end of the disk
GPT_NAME_UNITS = 36
MBR_KINDS = {12: 0x01, 16: 0x0E, 32: 0x0C, 64: 0x07}


@dataclass(frozen=True, slots=True)
class Planned:
    """A partition to be written: place and size in 512-byte sectors, the kind of volume in it, a name.

    `width` is that of a FAT, or 64 for exFAT.
    """

    start: int
    sectors: int
    width: int
    name: str
    active: bool = False


def identifier(*parts: object) -> UUID:
    """Return a GUID made from the thing it names (version 8, RFC 9562)."""
    digest = bytearray(hashlib.sha256(repr(parts).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))


def mbr(partitions: Sequence[Planned]) -> bytes:
    """Return sector 0 with up to four primary partitions (UEFI 2.10, 5.2.1)."""
    if len(partitions) > 4:
        raise ValueError(f"an MBR holds 4 primary partitions, not {len(partitions)}")
    entries = b""
    for partition in partitions:
        if partition.start + partition.sectors > MBR_LIMIT:
            raise ValueError("an MBR partition ends below sector 2^32")
        kind = MBR_KINDS[partition.width]
        entries += pack_entry(kind, partition.start, partition.sectors, active=partition.active)
    signature = identifier("mbr", *partitions).bytes[:4]
    return pack_sector(entries, signature)


def gpt(partitions: Sequence[Planned], disk_sectors: int) -> list[tuple[int, bytes]]:
    """Return (sector, content) of protective MBR, header, entries, and their backup (UEFI 2.10, 5.3)."""
    if len(partitions) > GPT_ENTRIES:
        raise ValueError(f"the table has {GPT_ENTRIES} entries, not {len(partitions)}")
    covered = min(disk_sectors - 1, MBR_LIMIT - 1)
    protective = pack_entry(PROTECTIVE, 1, covered, first=b"\x00\x02\x00", last=b"\xff\xff\xff")
    first = pack_sector(protective)
    entries = b"".join(_gpt_entry(partition) for partition in partitions).ljust(GPT_ENTRIES * GPT_ENTRY_SIZE, b"\0")
    disk = identifier("gpt", disk_sectors, *partitions)
    last = disk_sectors - 1
    return [
        (0, first),
        (1, _gpt_header(disk, disk_sectors, entries, own=1, other=last, table=2)),
        (2, entries),
        (last - GPT_TABLE_SECTORS, entries),
        (last, _gpt_header(disk, disk_sectors, entries, own=last, other=1, table=last - GPT_TABLE_SECTORS)),
    ]


def _gpt_entry(partition: Planned) -> bytes:
    name = partition.name[:GPT_NAME_UNITS].encode("utf-16-le")[: 2 * GPT_NAME_UNITS]
    last = partition.start + partition.sectors - 1
    own = identifier("partition", partition)
    return ENTRY.pack(BASIC_DATA.bytes_le, own.bytes_le, partition.start, last, 0, name)


def _gpt_header(disk: UUID, disk_sectors: int, entries: bytes, *, own: int, other: int, table: int) -> bytes:
    usable = 2 + GPT_TABLE_SECTORS, disk_sectors - 2 - GPT_TABLE_SECTORS
    counts = GPT_ENTRIES, GPT_ENTRY_SIZE, zlib.crc32(entries)

    def pack(checksum: int) -> bytes:
        head = struct.pack("<8sIIII", SIGNATURE, 0x0001_0000, GPT_HEADER_SIZE, checksum, 0)
        places = struct.pack("<QQQQ16sQ", own, other, *usable, disk.bytes_le, table)
        return head + places + struct.pack("<III", *counts)

    return pack(zlib.crc32(pack(0))).ljust(SECTOR, b"\0")
