"""Checksums of damaged volumes, corrected: otherwise a server would stop at them.

exFAT has one over its boot region and one over each file's entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from callgate.disk.formatters.exfat_entries import checksum32, set_checksum
from callgate.kernel.abi.disks.volumes import EXFAT_CHECKSUM_SECTOR, EXFAT_NOT_CHECKED, EXFAT_REGION_SECTORS
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.errors import MountError
from callgate.server.exfat.boot_region import parse_boot_sector
from callgate.server.exfat.server import ExfatServer
from callgate.server.exfat.structures import ENTRY_SIZE, EntryType

REGION = EXFAT_REGION_SECTORS * SECTOR_SIZE
CHECKED = EXFAT_CHECKSUM_SECTOR * SECTOR_SIZE


class ExfatSeal:
    """The checksums of one volume with sectors of 512 bytes."""

    def __init__(self, image: bytes, fat_sector: int) -> None:
        """Find the entry sets while the volume is sound; its FAT begins at `fat_sector`."""
        self.fat = fat_sector * SECTOR_SIZE
        kinds = EntryType.FILE, EntryType.STREAM_EXTENSION
        entries = range(2 * REGION, len(image) - 2 * ENTRY_SIZE, ENTRY_SIZE)
        self.sets = [at for at in entries if (image[at], image[at + ENTRY_SIZE]) == kinds]

    def structures(self, places: list[int]) -> list[int]:
        """Order the sectors in use by their value for finding faults, the best several times over.

        Most of the boot regions and of the up-case table is read only for a checksum.
        """
        directories = sorted({at // SECTOR_SIZE * SECTOR_SIZE for at in self.sets})
        best = [0, self.fat, *directories] * 6 + [REGION, *places[:: max(1, len(places) // 4)]]
        return best + [at for at in places if at not in set(best)]

    def mended(self, image: bytearray) -> Iterator[tuple[int, bytes]]:
        """Yield places and the bytes to write there."""
        for region in (0, REGION):
            value = checksum32(bytes(image[region : region + CHECKED]), EXFAT_NOT_CHECKED)
            yield region + CHECKED, struct.pack("<I", value) * (SECTOR_SIZE // 4)
        for at in self.sets:
            entries = bytes(image[at : at + (1 + image[at + 1]) * ENTRY_SIZE])
            yield at + 2, struct.pack("<H", set_checksum(entries))


def seal_for(image: bytes) -> ExfatSeal | None:
    """Return the function that corrects the checksums of a volume; None if its file system has none that are read."""
    if ExfatServer.probe(image) is None:
        return None
    try:
        layout = parse_boot_sector(image[:SECTOR_SIZE], len(image) // SECTOR_SIZE)
    except MountError:
        return None
    return ExfatSeal(image, layout.fat_start) if layout.sector_bytes == SECTOR_SIZE else None
