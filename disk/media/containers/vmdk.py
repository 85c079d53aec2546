"""VMDK images: hosted sparse files and their compressed form, and descriptors of flat and sparse files.

Source: VMware, Virtual Disk Format 5.0 (2011).  A descriptor is text and names the files that hold the disk one after
another; it may be a file of its own or stand in a sparse file that holds all of the disk.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from callgate.disk.media.containers.container import (
    ContainerFile,
    ContainerImage,
    DamagedError,
    Run,
    Views,
    unpacked_struct,
)
from callgate.disk.media.containers.magic import VMDK_SPARSE
from callgate.disk.media.image_file import SECTORS_LIMIT, ImageFile, RawFile
from callgate.disk.media.medium import Image, ImageError, NoDelay, check_bounds, refuse_to_write
from callgate.kernel.abi.memory import SECTOR_SIZE

_HEADER: Final = struct.Struct("<4xIIQQQQIQQQ5xH")
_COMPRESSED: Final = 1 << 16
_ZERO_GRAINS: Final = 1 << 2
_DEFLATE: Final = 1
_AT_END: Final = (1 << 64) - 1
_FOOTER: Final = 1024  # bytes from its beginning to the end of the file
_GRAIN_LIMIT: Final = 4096  # sectors: 2 MiB
_TABLE_ENTRIES: Final = 512
_DESCRIPTOR_LIMIT: Final = 1 << 20
_EXTENTS_LIMIT: Final = 256
_NO_PARENT: Final = "ffffffff"
_PARENT: Final = re.compile(r"^\s*parentCID\s*=\s*\"?([0-9a-fA-F]+)", re.MULTILINE)
_EXTENT: Final = re.compile(r'^(RW|RDONLY|NOACCESS)\s+(\d{1,18})\s+(\w+)(?:\s+"([^"]*)")?(?:\s+(\d{1,18}))?')
_FLAT: Final = ("FLAT", "VMFS")


class _Header(NamedTuple):
    version: int
    flags: int
    sectors: int
    grain: int
    descriptor: int
    descriptor_sectors: int
    entries: int  # of a grain table
    spare_directory: int
    directory: int
    overhead: int
    compression: int


def open_vmdk(file: ContainerFile) -> "SparseVmdk":
    """Return the disk in a sparse file; ImageError if it is not read, DamagedError if it cannot be.  OSError."""
    header = _header(file, 0)
    if header.descriptor and header.descriptor_sectors:
        size = min(header.descriptor_sectors * SECTOR_SIZE, _DESCRIPTOR_LIMIT)
        text = file.read(header.descriptor * SECTOR_SIZE, size, "the descriptor").split(b"\0")[0]
        _check(file, text.decode("utf-8", "replace"))
    return _sparse(file, header)


def _sparse(file: ContainerFile, header: _Header) -> "SparseVmdk":
    if header.directory == _AT_END:
        header = _header(file, file.size - _FOOTER)
    if header.flags & _COMPRESSED and header.compression != _DEFLATE:
        raise file.refused(f"with compression type {header.compression}")
    grain = header.grain
    if not 0 < grain <= _GRAIN_LIMIT or grain & grain - 1:
        raise DamagedError(f"its grains have {grain} sectors")
    if not 0 < header.entries <= _TABLE_ENTRIES:
        raise DamagedError(f"its grain tables have {header.entries} entries")
    tables = -(-header.sectors // (grain * header.entries))
    if header.directory * SECTOR_SIZE + tables * 4 > file.size:
        raise DamagedError(f"its grain directory in sector {header.directory} passes the end of the file")
    return SparseVmdk(file, header)


def _header(file: ContainerFile, offset: int) -> _Header:
    if offset < 0:
        raise DamagedError("its header is cut short")
    data = file.read(offset, min(SECTOR_SIZE, file.size - offset), "the header")
    header = _Header(*unpacked_struct(_HEADER, data))
    if data[:4] != VMDK_SPARSE:
        raise DamagedError(f"there is no header at byte {offset}, where the footer should be")
    if header.version not in (1, 2, 3):
        raise file.refused(f"of version {header.version}")
    return header


def _check(file: ContainerFile, text: str) -> None:
    """ImageError if the descriptor says that the disk is not all here."""
    parent = _PARENT.search(text)
    if parent and parent[1].lower() != _NO_PARENT:
        raise file.refused("that holds only what differs from another image")
    if "encryption.keySafe" in text:
        raise file.refused("with encryption")


class SparseVmdk(ContainerImage):
    """Grains of a disk, found by a directory of tables."""

    def __init__(self, file: ContainerFile, header: _Header) -> None:
        super().__init__(file, header.sectors * SECTOR_SIZE)
        self.header = header
        self.grain = header.grain * SECTOR_SIZE

    def locate(self, position: int, wanted: int) -> Run:
        """Look the grain up."""
        header = self.header
        number, within = divmod(position, self.grain)
        size = min(wanted, self.grain - within)
        table, entry = divmod(number, header.entries)
        at = self.file.number(header.directory * SECTOR_SIZE + table * 4, 4, "<", "the grain directory")
        if not at:
            return Run(size)
        sector = self.file.number(at * SECTOR_SIZE + entry * 4, 4, "<", "a grain table")
        if not sector or (sector == 1 and header.flags & _ZERO_GRAINS):
            return Run(size)
        if header.flags & _COMPRESSED:
            return Run(size, data=self._unpack(sector, number)[within : within + size])
        return Run(size, sector * SECTOR_SIZE + within)

    def _unpack(self, sector: int, number: int) -> memoryview:
        """Return a grain that is stored as its first sector's number, its packed size, and a zlib stream."""
        offset = sector * SECTOR_SIZE
        kept = self.file.kept(number)
        if kept is not None:
            return kept
        first, length = struct.unpack("<QI", self.file.read(offset, 12, "a grain"))
        if first != number * self.header.grain:
            raise DamagedError(f"the grain in sector {sector} is that of sector {first}")
        if length > 2 * self.grain + SECTOR_SIZE:
            raise DamagedError(f"the grain in sector {sector} has {length} packed bytes")
        packed = self.file.read(offset + 12, length, "a grain")
        wanted = min(self.grain, self.size - number * self.grain)
        try:
            data = zlib.decompressobj().decompress(packed, self.grain)
        except zlib.error:
            data = b""
        if len(data) < wanted:
            raise DamagedError(f"the grain in sector {sector} does not give {wanted} bytes")
        return self.file.keep(number, data)


class _Extent(NamedTuple):
    """Sectors of the disk; without a file they are zeros."""

    sectors: int
    kind: str
    name: str
    offset: int  # in a flat file, in sectors; 0 in others


def open_descriptor(file: ContainerFile) -> "ExtentsVmdk":
    """Return the disk that a descriptor's files hold; ImageError if it is not read, DamagedError if it cannot be."""
    if file.size > _DESCRIPTOR_LIMIT:
        raise DamagedError(f"its descriptor has {file.size} bytes")
    text = file.read(0, file.size, "the descriptor").decode("utf-8", "replace")
    _check(file, text)
    extents = [extent for line in text.splitlines() if (extent := _extent(file, line.strip())) is not None]
    if not extents:
        raise DamagedError("its descriptor names no extent")
    if len(extents) > _EXTENTS_LIMIT:
        raise DamagedError(f"its descriptor names {len(extents)} extents, more than {_EXTENTS_LIMIT}")
    sectors = sum(extent.sectors for extent in extents)
    if sectors > SECTORS_LIMIT:
        raise DamagedError(f"its extents have {sectors} sectors")
    image = ExtentsVmdk(file, sectors)
    try:
        for extent in extents:
            image.add(extent, _open_extent(file, extent))
    except BaseException:
        image.close()
        raise
    return image


def _extent(file: ContainerFile, line: str) -> _Extent | None:
    found = _EXTENT.match(line)
    if found is None:
        return None
    access, sectors, kind, name, offset = found.groups()
    if access == "NOACCESS" or kind not in (*_FLAT, "SPARSE", "ZERO"):
        raise file.refused(f"with an extent of type {access} {kind}")
    if not int(sectors):
        raise DamagedError("one of its extents is empty")
    return _Extent(int(sectors), kind, name or "", int(offset or 0) if kind in _FLAT else 0)


def _open_extent(file: ContainerFile, extent: _Extent) -> Image | None:
    """Open the file of an extent, which must be beside its descriptor: an image must not show other files."""
    if extent.kind == "ZERO":
        return None
    folder, name = file.file.path.parent, extent.name
    if not file.file.named:
        raise ImageError(
            file.file.path, f"is a VMDK descriptor; its data are in {name!a}", "give the descriptor's path"
        )
    if not name or "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise file.refused(f"whose data are in {name!a}, not in the same directory")
    path = folder / name
    raw = RawFile(path)
    try:
        return _flat(path, raw, extent) if extent.kind in _FLAT else _sparse_extent(file, raw, extent)
    except BaseException:
        raw.close()
        raise


def _flat(path: Path, raw: RawFile, extent: _Extent) -> Image:
    size = (extent.offset + extent.sectors) * SECTOR_SIZE
    if raw.size < size:
        raise DamagedError(f"{path.name!a} has {raw.size} bytes, and its extent ends at byte {size}")
    return ImageFile(path, raw)


def _sparse_extent(file: ContainerFile, raw: RawFile, extent: _Extent) -> Image:
    part = ContainerFile(raw, file.kind)
    image = _sparse(part, _header(part, 0))
    if image.sector_count < extent.sectors:
        raise DamagedError(f"{raw.path.name!a} has {image.sector_count} sectors, and its extent {extent.sectors}")
    return image


class ExtentsVmdk(NoDelay):
    """A disk whose sectors lie in several files, one after another."""

    read_only = True

    def __init__(self, file: ContainerFile, sectors: int) -> None:
        self.path = file.file.path
        self.format = file.kind
        self.file = file
        self.warnings: list[str] = []
        self.sector_count = sectors
        self.host_files = file.file.host_files
        self.parts: list[tuple[_Extent, Image | None]] = []

    def add(self, extent: _Extent, image: Image | None) -> None:
        """Have the next sectors come from a file of the disk; None: they are zeros."""
        self.parts.append((extent, image))
        if image is not None:
            self.host_files += image.host_files

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read from one file after another; MediumError."""
        check_bounds(self, lba, views)
        rest = Views(views)
        for extent, image in self.parts:
            if not rest.left:
                return
            if lba >= extent.sectors:
                lba -= extent.sectors
                continue
            here = rest.take(min(rest.left, (extent.sectors - lba) * SECTOR_SIZE))
            if image is not None:
                image.read_into(extent.offset + lba, here)
            else:
                for view in here:
                    view[:] = bytes(len(view))
            lba = 0

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Refuse: images are opened read-only."""
        refuse_to_write(lba)

    def flush(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Close all files."""
        for _, image in self.parts:
            if image is not None:
                image.close()
        self.file.file.close()
