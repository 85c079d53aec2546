"""The FAT12, FAT16 and FAT32 file-system server, and the reader it is built on (`tree`, `consistency`)."""

from callgate.server.fat.server import FatServer
from callgate.server.fat.volume import FatVolume

__all__ = ["FatServer", "FatVolume"]
