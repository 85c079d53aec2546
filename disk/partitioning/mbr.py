"""The sector with a master boot record's partition table (UEFI 2.10, 5.2.1): read and written in one place."""

import struct

from callgate.kernel.abi.disks.volumes import BOOT_SIGNATURE, BOOT_SIGNATURE_OFFSET

TABLE_OFFSET = 446
DISK_SIGNATURE_OFFSET = 440
ENTRY = struct.Struct("<B3sB3sII")
ACTIVE = 0x80
PROTECTIVE = 0xEE
NO_CHS = b"\xfe\xff\xff"  # beyond what cylinder, head and sector can say: LBA counts
LIMIT = 1 << 32  # sectors that an entry can count

Entry = tuple[int, int, int, int]  # status, type, first sector, sectors


def table(sector: bytes) -> list[Entry]:
    """Return status, type, first sector and number of sectors of the four entries."""
    entries = []
    for index in range(4):
        status, _, kind, _, start, sectors = ENTRY.unpack_from(sector, TABLE_OFFSET + index * ENTRY.size)
        entries.append((status, kind, start, sectors))
    return entries


def pack_entry(
    kind: int, start: int, sectors: int, *, active: bool = False, first: bytes = NO_CHS, last: bytes = NO_CHS
) -> bytes:
    """Return an entry; `first` and `last` are the places by cylinder, head and sector."""
    return ENTRY.pack(ACTIVE if active else 0, first, kind, last, start, sectors)


def pack_sector(entries: bytes, disk_signature: bytes = bytes(4)) -> bytes:
    """Return sector 0 of a disk with up to four entries."""
    head = bytes(DISK_SIGNATURE_OFFSET) + disk_signature
    return (head.ljust(TABLE_OFFSET, b"\0") + entries).ljust(BOOT_SIGNATURE_OFFSET, b"\0") + BOOT_SIGNATURE
