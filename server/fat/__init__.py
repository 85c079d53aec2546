"""The FAT12, FAT16 and FAT32 file-system server, and the reader it is built on."""

from callgate.server.fat.consistency import Report, check
from callgate.server.fat.server import FatServer
from callgate.server.fat.tree import Found, Tree, read_file, walk
from callgate.server.fat.volume import FatVolume

__all__ = ["FatServer", "FatVolume", "Found", "Report", "Tree", "check", "read_file", "walk"]
