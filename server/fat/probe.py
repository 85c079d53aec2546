"""Is this partition a FAT volume?  Asked of its first bytes, which may be anything.

A volume that *says* it is FAT is ours even when its numbers are absurd, so that mounting can name the
absurd one; one without such a statement is ours when its numbers make sense.
"""

from typing import ClassVar, Final

from callgate.kernel.abi.disks.volumes import (
    BITLOCKER_NAME,
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    EXFAT_NAME,
    FAT_BACKUP_SECTOR,
    FAT_EXTENDED_SIGNATURE,
    NTFS_NAME,
    OEM_NAME_OFFSET,
    REFS_NAME,
)
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.errors import MountError
from callgate.server.fat.boot_sector import FatLayout, parse_boot_sector
from callgate.server.fat.structures import (
    BootSector16,
    BootSector32,
)
from callgate.server.hosted import Recogniser

BACKUP_PLACES: Final = tuple(FAT_BACKUP_SECTOR * scale for scale in (1, 2, 4, 8))  # in disk sectors
_FOREIGN_OEM_NAMES: Final = (NTFS_NAME, EXFAT_NAME, BITLOCKER_NAME, REFS_NAME)
_TYPES: Final = {b"FAT12   ": "fat12", b"FAT16   ": "fat16", b"FAT32   ": "fat32", b"FAT     ": "fat"}
_UNBOUNDED: Final = 1 << 40  # the partition's size is not known to a probe


class FatProbe(Recogniser):
    """Claims FAT12, FAT16 and FAT32 volumes."""

    name: ClassVar[str] = "fat"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``fat12``, ``fat16``, ``fat32``, or ``fat`` (if that is all that can be said), or None."""
        sector = first[:SECTOR_SIZE]
        if len(sector) < SECTOR_SIZE or sector[OEM_NAME_OFFSET:][:8] in _FOREIGN_OEM_NAMES:
            return None
        return _judge(first) or _backup(first)


def _judge(first: bytes) -> str | None:
    sector = first[:SECTOR_SIZE]
    has_signature = sector[BOOT_SIGNATURE_OFFSET:] == BOOT_SIGNATURE
    declared = _declared_type(sector)
    try:
        layout = parse_boot_sector(sector, _UNBOUNDED)
    except MountError:
        return declared if has_signature else None
    # Volumes of early DOS have no signature, but they do have a jump; one with neither has a FAT at its place.
    plausible = has_signature or sector[0] in (0xEB, 0xE9) or _has_fat(first, layout)
    return layout.kind if plausible else None


def _has_fat(first: bytes, layout: FatLayout) -> bool:
    """Whether FAT[0] and FAT[1] are what the specification has there: the media byte, all other bits set."""
    expected = bytes([layout.media, 0xFF, 0xFF])
    return first[layout.fat_start * SECTOR_SIZE :][:3] == expected


def _declared_type(sector: bytes) -> str | None:
    """Return the type that BS_FilSysType names.  It is used only to claim, never for the width."""
    for record in (BootSector16.from_buffer_copy(sector), BootSector32.from_buffer_copy(sector)):
        if record.BS_BootSig == FAT_EXTENDED_SIGNATURE:
            kind = _TYPES.get(bytes(record.BS_FilSysType))
            if kind is not None:
                return kind
    return None


def says_other_width(sector: bytes) -> bool:
    """Whether a boot sector says that it is FAT12 or FAT16: a FAT32 backup after it belongs to an older volume."""
    has_signature = sector[BOOT_SIGNATURE_OFFSET:] == BOOT_SIGNATURE
    return has_signature and _declared_type(sector) in ("fat12", "fat16")


def _backup(first: bytes) -> str | None:
    for place in BACKUP_PLACES:
        sector = first[place * SECTOR_SIZE : (place + 1) * SECTOR_SIZE]
        if parse_backup(sector, place, _UNBOUNDED) is not None:
            return "fat32"
    return None


def parse_backup(sector: bytes, place: int, partition_sectors: int) -> FatLayout | None:
    """Return the layout if ``sector``, at disk sector ``place``, is a FAT32 backup boot sector.

    A backup must be beyond doubt: signature, type string, and a sector size that puts it at ``place``.
    """
    if sector[BOOT_SIGNATURE_OFFSET:] != BOOT_SIGNATURE or _declared_type(sector) != "fat32":
        return None
    try:
        layout = parse_boot_sector(sector, partition_sectors)
    except MountError:
        return None
    matches = place * SECTOR_SIZE == FAT_BACKUP_SECTOR * layout.sector_bytes
    return layout if layout.bits == 32 and matches else None
