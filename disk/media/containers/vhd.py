"""VHD images, fixed and dynamic (Microsoft, Virtual Hard Disk Image Format Specification 1.0).

A fixed image is the disk, with a footer of 512 bytes after it.  A dynamic one is a table of blocks, each of which has a
bitmap before its data.  The bitmap matters only where there is a parent image: in a dynamic image, a sector that was
never written holds zeros, as QEMU also has it.
"""

import struct
from typing import Final, NamedTuple

from callgate.disk.media.containers.container import ContainerFile, ContainerImage, DamagedError, Run
from callgate.disk.media.containers.magic import VHD, VHD_FOOTER_BYTES
from callgate.kernel.abi.memory import SECTOR_SIZE

_FOOTER: Final = struct.Struct(">8sIIQI4sI4sQQ4sII")
_CHECKSUM_AT: Final = 64
_HEADER: Final = struct.Struct(">8sQQIIII")
_HEADER_BYTES: Final = 1024
_HEADER_CHECKSUM_AT: Final = 36
_HEADER_MAGIC: Final = b"cxsparse"
_FIXED, _DYNAMIC, _DIFFERENCING = 2, 3, 4
_UNUSED: Final = 0xFFFF_FFFF
_BLOCK_LIMIT: Final = 1 << 30


class _Footer(NamedTuple):
    cookie: bytes
    features: int
    version: int
    data_offset: int
    time: int
    creator: bytes
    creator_version: int
    host: bytes
    original_size: int
    size: int
    geometry: bytes
    disk_type: int
    checksum: int


def is_footer(data: bytes) -> bool:
    """Whether these are the 512 bytes of a footer whose checksum is right."""
    if len(data) < VHD_FOOTER_BYTES or data[:8] != VHD:
        return False
    return int.from_bytes(data[_CHECKSUM_AT : _CHECKSUM_AT + 4], "big") == _checksum(
        data[:VHD_FOOTER_BYTES], _CHECKSUM_AT
    )


def _checksum(data: bytes, at: int) -> int:
    """Return the one's complement of the sum of all bytes but the four of the checksum itself."""
    return ~(sum(data) - sum(data[at : at + 4])) & 0xFFFF_FFFF


def open_vhd(file: ContainerFile) -> ContainerImage:
    """Return the disk; ImageError if it is not read, DamagedError if it cannot be.  OSError."""
    last = file.read(max(0, file.size - VHD_FOOTER_BYTES), min(file.size, VHD_FOOTER_BYTES), "the footer")
    at_end = is_footer(last)
    data = last if at_end else file.read(0, min(file.size, VHD_FOOTER_BYTES), "the copy of the footer")
    if not at_end and not is_footer(data):
        raise DamagedError("the checksum of its footer is wrong")
    footer = _Footer(*_FOOTER.unpack_from(data))
    if footer.disk_type == _DIFFERENCING:
        raise file.refused("that holds only what differs from another image")
    if footer.disk_type == _FIXED:
        image: ContainerImage = FixedVhd(file, footer.size)
    elif footer.disk_type == _DYNAMIC:
        image = DynamicVhd(file, footer.size, footer.data_offset)
    else:
        raise file.refused(f"of type {footer.disk_type}")
    if not at_end:
        image.warnings.append(
            f"{image.path}: no footer at the end (a truncated image?); its copy at the beginning is used"
        )
    return image


class FixedVhd(ContainerImage):
    """A disk with a footer after it."""

    def __init__(self, file: ContainerFile, size: int) -> None:
        if size > file.size - VHD_FOOTER_BYTES:
            raise DamagedError(f"its disk of {size} bytes passes the footer")
        super().__init__(file, size)

    def locate(self, position: int, wanted: int) -> Run:
        """Return the same place."""
        return Run(wanted, position)


class DynamicVhd(ContainerImage):
    """Blocks of a disk, in any order."""

    def __init__(self, file: ContainerFile, size: int, header: int) -> None:
        super().__init__(file, size)
        data = file.read(header, _HEADER_BYTES, "the header")
        cookie, _, table, _, entries, block, checksum = _HEADER.unpack_from(data)
        if cookie != _HEADER_MAGIC or checksum != _checksum(data, _HEADER_CHECKSUM_AT):
            raise DamagedError(f"there is no header with a right checksum at byte {header}")
        if block < SECTOR_SIZE or block & block - 1 or block > _BLOCK_LIMIT:
            raise DamagedError(f"its blocks have {block} bytes")
        if entries * block < size:
            raise DamagedError(
                f"its table of {entries} blocks of {block} bytes is too small for its disk of {size} bytes"
            )
        if table + -(-size // block) * 4 > file.size:
            raise DamagedError(f"its table at byte {table} passes the end of the file of {file.size} bytes")
        self.table = table
        self.block = block
        self.bitmap = -(-block // SECTOR_SIZE // 8 // SECTOR_SIZE) * SECTOR_SIZE

    def locate(self, position: int, wanted: int) -> Run:
        """Look the block up."""
        number, within = divmod(position, self.block)
        size = min(wanted, self.block - within)
        sector = self.file.number(self.table + number * 4, 4, ">", "the block table")
        if sector == _UNUSED:
            return Run(size)
        return Run(size, sector * SECTOR_SIZE + self.bitmap + within)
