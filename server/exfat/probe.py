"""Is this partition exFAT?  Asked of its first bytes, which may be anything."""

from typing import ClassVar, Final

from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    EXFAT_NAME,
    EXFAT_REGION_SECTORS,
    OEM_NAME_OFFSET,
)
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.hosted import Recogniser

SHIFTS: Final = range(9, 13)  # BytesPerSectorShift (3.1.14)


class ExfatProbe(Recogniser):
    """Claims exFAT volumes."""

    name: ClassVar[str] = "exfat"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``exfat`` if the partition says that it is one, however absurd its numbers; else None."""
        for shift in SHIFTS:
            for place in (0, EXFAT_REGION_SECTORS << shift):
                sector = first[place : place + SECTOR_SIZE]
                if sector.startswith(EXFAT_NAME, OEM_NAME_OFFSET) and sector[BOOT_SIGNATURE_OFFSET:] == BOOT_SIGNATURE:
                    return "exfat"
        return None
