"""Names for partitions or whole disks that no server claims, and what to do about them.

Used only then, so that none of it is loaded or read for a volume that mounts. A format is named only by bytes that
cannot be accidental; where its magic number is short, other numbers beside it must make sense too.
"""

from typing import Final, NamedTuple

from callgate.disk.partitioning.foreign_formats import (
    CUT,
    DISK_IMAGES,
    ENDS,
    FILE_SYSTEMS,
    FILES,
    MANAGERS,
    MOUNT,
    PACKED,
    Format,
)
from callgate.disk.partitioning.layout import Reader, ReadError
from callgate.kernel.abi.disks.volumes import ISO_FIRST_DESCRIPTOR, ISO_LOGICAL_SECTOR, UDF_BEGINNING, UDF_NAMES

SECTOR: Final = 512
FIRST_SECTORS: Final = 520  # a UFS2 superblock at 256 KiB, and ZFS uberblocks up to there
LAST_SECTORS: Final = 256  # version 0.90 of Linux RAID: 64 to 128 KiB before the end
PIECE: Final = 128  # sectors that are read at once


class Foreign(NamedTuple):
    """A format: a short name as blkid has it, a phrase ("an XFS file system, …"), and what to do, or ""."""

    kind: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.hint}" if self.hint else self.text


async def name_foreign(read: Reader, sectors: int) -> Foreign | None:
    """Return what `sectors` 512-byte sectors hold that no server claims, None if it is not known.

    `read(sector, count)` returns some of them, 128 at most at once, or raises ReadError.
    """
    first = await _read(read, 0, min(FIRST_SECTORS, sectors))
    last = await _read(read, max(0, sectors - LAST_SECTORS), min(LAST_SECTORS, sectors))
    return identify(first, last, sectors)


async def _read(read: Reader, start: int, count: int) -> bytes:
    """Return sectors; those that cannot be read are zeros."""
    pieces = []
    for at in range(start, start + count, PIECE):
        wanted = min(PIECE, start + count - at)
        try:
            pieces.append(await read(at, wanted))
        except ReadError:
            pieces.append(bytes(wanted * SECTOR))
    return b"".join(pieces)


def identify(first: bytes, last: bytes, sectors: int) -> Foreign | None:
    """Return the format of `sectors` sectors that begin with `first` and end with `last`; never fails."""
    for formats in (DISK_IMAGES, PACKED, MANAGERS, FILE_SYSTEMS, FILES):
        for row in formats:
            if _has(first, row):
                return Foreign(row.kind, row.text, row.hint)
    for judge in (_udf, _raw_cd, _minix, _hfs, _zfs, _sun_label, _program):
        found = judge(first)
        if found is not None:
            return found
    return _by_size(first, sectors) or _by_end(last, sectors)


def _has(data: bytes, row: Format) -> bool:
    return all(data.startswith(magic, at) for at, magic in row.bytes)


# UDF (ECMA-167, 2/8 and 3/9.1): the volume recognition sequence.

RECOGNITION: Final = ISO_FIRST_DESCRIPTOR * ISO_LOGICAL_SECTOR  # where it begins


def has_udf(first: bytes) -> bool:
    """Whether a volume that begins with `first`, 64 KiB of it, says that it is UDF, perhaps beside ISO 9660."""
    for size in (ISO_LOGICAL_SECTOR, 4096):
        names = [first[at + 1 : at + 6] for at in range(RECOGNITION, min(len(first), 2 * RECOGNITION), size)]
        if UDF_BEGINNING in names and set(UDF_NAMES) & set(names[names.index(UDF_BEGINNING) :]):
            return True
    return False


def _udf(first: bytes) -> Foreign | None:
    return Foreign("udf", "a UDF volume, which no server reads", MOUNT) if has_udf(first) else None


# Compact discs with everything that is in a sector (ECMA-130, 14): 12 bytes of synchronisation, address, mode.

_SYNC: Final = b"\0" + b"\xff" * 10 + b"\0"


def _raw_cd(first: bytes) -> Foreign | None:
    if not first.startswith(_SYNC):
        return None
    for size in (2352, 2448):
        if first.startswith(_SYNC, size):
            more = " with subchannels" if size > 2352 else ""
            text = f"a raw CD image, sectors of {size:,} bytes{more}, which is not read"
            return Foreign("raw-cd", text, "take the 2,048 bytes of data out of each sector: bchunk IMAGE CUE OUT")
    return None


# File systems with short magic numbers.

_MINIX: Final = {0x137F: 1, 0x138F: 1, 0x2468: 2, 0x2478: 2}


def _minix(first: bytes) -> Foreign | None:
    block = first[1024:1056]
    version = _MINIX.get(_little(block, 16, 2), 0)
    inodes, inode_blocks, zone_blocks, first_zone = (_little(block, at, 2) for at in (0, 4, 6, 8))
    if not version and _little(block, 24, 2) == 0x4D5A:
        version = 3
        inodes, inode_blocks, zone_blocks, first_zone = (_little(block, at, 4 - 2 * (at > 0)) for at in (0, 6, 8, 10))
    if not version or not inodes or not 0 < inode_blocks < 4096 or not zone_blocks:
        return None
    if first_zone <= inode_blocks + zone_blocks + 1:
        return None
    return Foreign("minix", f"a Minix file system, version {version}, which no server reads", MOUNT)


def _hfs(first: bytes) -> Foreign | None:
    """HFS: allocation blocks are a multiple of 512 bytes, and there are some (Inside Macintosh: Files, 2-60)."""
    size, blocks = int.from_bytes(first[0x414:0x418], "big"), int.from_bytes(first[0x412:0x414], "big")
    if first[0x400:0x402] != b"BD" or not size or size % 512 or not blocks:
        return None
    return Foreign("hfs", "an HFS volume, which no server reads", MOUNT)


_UBERBLOCK: Final = 0x00BA_B10C.to_bytes(8, "little")


def _zfs(first: bytes) -> Foreign | None:
    """ZFS: an uberblock in the second half of the label of 256 KiB (ZFS On-Disk Specification, 1.2)."""
    for at in range(128 << 10, min(len(first), 256 << 10), 1024):
        if first[at : at + 8] in (_UBERBLOCK, _UBERBLOCK[::-1]):
            hint = "import the pool and copy its files: zpool import -o readonly=on"
            return Foreign("zfs_member", "a part of a ZFS pool, which no server reads", hint)
    return None


def _sun_label(first: bytes) -> Foreign | None:
    """Sun's disk label: a magic number, and words whose exclusive or is 0."""
    if first[508:510] != b"\xda\xbe":
        return None
    words = 0
    for at in range(0, SECTOR, 2):
        words ^= int.from_bytes(first[at : at + 2], "big")
    return None if words else Foreign("sun", "a disk label of Sun, which is not read", CUT)


def _program(first: bytes) -> Foreign | None:
    """Programs of Windows, which ZIP archives would be if they had one at their end."""
    at = _little(first, 60, 4)
    if first[:2] != b"MZ" or first[at : at + 4] != b"PE\0\0":
        return None
    return Foreign("pe", "a program for Windows or UEFI, not a disk image", "give an image of the disk that holds it")


def _little(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


# Floppies of DOS 1 and 2 without a BIOS parameter block: known by their size and the first bytes of the FAT.

_FLOPPIES: Final = {
    320: (b"\xfe\xff\xff", "a DOS 1 floppy of 160 KiB"),
    640: (b"\xff\xff\xff", "a DOS 1 floppy of 320 KiB"),
    360: (b"\xfc\xff\xff", "a DOS 2 floppy of 180 KiB"),
    720: (b"\xfd\xff\xff", "a DOS 2 floppy of 360 KiB"),
}


def _by_size(first: bytes, sectors: int) -> Foreign | None:
    start, text = _FLOPPIES.get(sectors, (None, ""))
    if start is None or not first.startswith(start, SECTOR):
        return None
    hint = "copy its files by mtools and make an image: mcopy -s -i IMAGE :: DIR, callgate disk create OUT --from DIR"
    return Foreign("dos", f"{text} (no BIOS parameter block), which no server reads", hint)


# Formats known by their end: containers with a trailer, older versions of Linux RAID.

_RAID: Final = 0xA92B_4EFC


def _by_end(last: bytes, sectors: int) -> Foreign | None:
    for row in ENDS:
        if all(last[at:].startswith(magic) for at, magic in row.bytes):
            return Foreign(row.kind, row.text, row.hint)
    start = sectors - len(last) // SECTOR
    for sector in ((sectors & ~127) - 128, (sectors - 16) & ~7):
        if sector >= start and _little(last, (sector - start) * SECTOR, 4) == _RAID:
            row = next(row for row in MANAGERS if row.kind == "linux_raid_member")
            return Foreign(row.kind, row.text, row.hint)
    return None
