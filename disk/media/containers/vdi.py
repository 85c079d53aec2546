"""VDI images of VirtualBox, dynamic and fixed, without a parent (VirtualBox, Storage/VDICore.h, from format 1.1 on)."""

import struct
from typing import Final

from callgate.disk.media.containers.container import ContainerFile, ContainerImage, DamagedError, Run, unpacked_struct
from callgate.kernel.abi.memory import SECTOR_SIZE

_HEADER: Final = struct.Struct("<64x4xI4xI4x256xII20xQIII")
_DYNAMIC, _FIXED = 1, 2
_UNUSED, _ZEROS = 0xFFFF_FFFF, 0xFFFF_FFFE
_BLOCK_LIMIT: Final = 1 << 30


def open_vdi(file: ContainerFile) -> "VdiImage":
    """Return the disk; ImageError if it is not read, DamagedError if it cannot be.  OSError."""
    head = file.read(0, min(file.size, SECTOR_SIZE), "the header")
    version, kind, table, data, size, block, extra, blocks = unpacked_struct(_HEADER, head)
    if version >> 16 != 1 or not version & 0xFFFF:
        raise file.refused(f"of format {version >> 16}.{version & 0xFFFF}")
    if kind not in (_DYNAMIC, _FIXED):
        raise file.refused("that holds only what differs from another image")
    if block < SECTOR_SIZE or block & block - 1 or block > _BLOCK_LIMIT:
        raise DamagedError(f"its blocks have {block} bytes")
    if blocks * block < size:
        raise DamagedError(f"its table of {blocks} blocks of {block} bytes is too small for its disk of {size} bytes")
    if table + -(-size // block) * 4 > file.size:
        raise DamagedError(f"its table at byte {table} passes the end of the file of {file.size} bytes")
    return VdiImage(file, size, table, data, block, extra)


class VdiImage(ContainerImage):
    """The disk in a VDI image."""

    def __init__(self, file: ContainerFile, size: int, table: int, data: int, block: int, extra: int) -> None:
        super().__init__(file, size)
        self.table = table
        self.data = data
        self.block = block
        self.extra = extra  # bytes before each block's data

    def locate(self, position: int, wanted: int) -> Run:
        """Look the block up."""
        number, within = divmod(position, self.block)
        size = min(wanted, self.block - within)
        place = self.file.number(self.table + number * 4, 4, "<", "the block table")
        if place in (_UNUSED, _ZEROS):
            return Run(size)
        return Run(size, self.data + place * (self.block + self.extra) + self.extra + within)
