"""Checksums of damaged volumes, made right again: else a server would look no further than at them.

exFAT has one over its boot region and one over each file's entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from callgate.disk.formatters.exfat_entries import checksum32, set_checksum
from callgate.kernel.abi.memory import SECTOR_SIZE

REGION = 12 * SECTOR_SIZE
CHECKED = 11 * SECTOR_SIZE
NOT_CHECKED = (106, 107, 112)
ENTRY = 32
FILE, STREAM = 0x85, 0xC0


class ExfatSeal:
    """The checksums of one volume with sectors of 512 bytes."""

    def __init__(self, image: bytes) -> None:
        """Find the FAT and the entry sets while the volume is sound."""
        self.fat = int.from_bytes(image[80:84], "little") * SECTOR_SIZE
        entries = range(2 * REGION, len(image) - 2 * ENTRY, ENTRY)
        self.sets = [at for at in entries if image[at] == FILE and image[at + ENTRY] == STREAM]

    def structures(self, places: list[int]) -> list[int]:
        """Order the sectors that hold anything by how much is to be found, the best several times over.

        Most of the boot regions and of the up-case table is never looked at but by a checksum.
        """
        directories = sorted({at // SECTOR_SIZE * SECTOR_SIZE for at in self.sets})
        best = [0, self.fat, *directories] * 6 + [REGION, *places[:: max(1, len(places) // 4)]]
        return best + [at for at in places if at not in set(best)]

    def mended(self, image: bytearray) -> Iterator[tuple[int, bytes]]:
        """Yield what to write where."""
        for region in (0, REGION):
            value = checksum32(bytes(image[region : region + CHECKED]), NOT_CHECKED)
            yield region + CHECKED, struct.pack("<I", value) * (SECTOR_SIZE // 4)
        for at in self.sets:
            entries = bytes(image[at : at + (1 + image[at + 1]) * ENTRY])
            yield at + 2, struct.pack("<H", set_checksum(entries))


def seal_for(image: bytes) -> ExfatSeal | None:
    """Return what mends the checksums of a volume; None if its file system has none that anybody looks at."""
    return ExfatSeal(image) if image[3:11] == b"EXFAT   " and image[108] == 9 else None
