"""qcow2 images, versions 2 and 3, without encryption and backing file (QEMU, docs/interop/qcow2.txt).

A two-level table leads from a position on the disk to a cluster in the file.  Both levels are read as they are needed.
Compressed clusters and subclusters ("extended L2 entries") are read; snapshots, which are older states of the disk, are
ignored.
"""

import struct
import zlib
from typing import Final, NamedTuple

from callgate.disk.media.containers.container import (
    CONVERT,
    ContainerFile,
    ContainerImage,
    DamagedError,
    Run,
    unpacked_struct,
)
from callgate.disk.media.containers.zstandard import INSTALL, find_zstd, unpack_zstd

_HEADER: Final = struct.Struct(">4xIQIIQIIQ")
_FEATURES: Final = struct.Struct(">QQQIIB")  # of version 3, from byte 72 on
_FEATURES_AT: Final = 72
_CLUSTER_BITS: Final = range(9, 22)
_L1_LIMIT: Final = 32 << 20  # bytes, as in QEMU
_OFFSET: Final = 0x00FF_FFFF_FFFF_FE00  # of an L2 table or a cluster, in an entry
_COMPRESSED: Final = 1 << 62
_ZERO: Final = 1
_CORRUPT, _EXTERNAL, _COMPRESSION, _EXTENDED = 2, 4, 8, 16
_KNOWN: Final = 1 | _CORRUPT | _COMPRESSION | _EXTENDED  # bit 0: reference counts may be wrong, which are for writers
_SUBCLUSTERS: Final = 32
_ZLIB, _ZSTD = 0, 1
_ENCRYPTIONS: Final = {1: "AES", 2: "LUKS"}


class _Features(NamedTuple):
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    reference_order: int = 4
    header_length: int = _FEATURES_AT
    compression: int = _ZLIB


def open_qcow2(file: ContainerFile) -> "Qcow2Image":
    """Return the disk; ImageError if it is not read, DamagedError if it cannot be.  OSError."""
    head = file.read(0, min(file.size, 512), "the header")
    version, backing, backing_size, bits, size, encryption, l1_entries, l1 = unpacked_struct(_HEADER, head)
    if version == 1:
        raise file.refused("of the older format qcow")
    if version not in (2, 3):
        raise file.refused(f"of version {version}")
    if encryption:
        raise file.refused(f"with {_ENCRYPTIONS.get(encryption, f'method {encryption}')} encryption")
    if backing:
        raise file.refused(f"with the backing file {_name(file, backing, backing_size)}", _MERGE)
    features = _features(file, head) if version == 3 else _Features()
    if bits not in _CLUSTER_BITS:
        raise DamagedError(f"its clusters have 2^{bits} bytes, not 2^9 to 2^21")
    image = Qcow2Image(file, size, bits, l1, features)
    if image.l1_entries > l1_entries:
        raise DamagedError(
            f"its L1 table has {l1_entries} entries, and its disk of {size} bytes needs {image.l1_entries}"
        )
    if image.l1_entries * 8 > _L1_LIMIT:
        raise DamagedError(f"its disk of {size} bytes needs an L1 table of {image.l1_entries} entries")
    if l1 % (1 << bits):
        raise DamagedError(f"its L1 table at byte {l1} begins in the middle of a cluster")
    if l1 + image.l1_entries * 8 > file.size:
        raise DamagedError(f"its L1 table at byte {l1} passes the end of the file of {file.size} bytes")
    return image


_MERGE: Final = "put both into one: qemu-img convert -O raw IMAGE OUT"


def _name(file: ContainerFile, offset: int, size: int) -> str:
    if not 0 < size < 1024:
        raise DamagedError(f"the name of its backing file has {size} bytes")
    return ascii(file.read(offset, size, "the name of its backing file").decode("utf-8", "replace"))


def _features(file: ContainerFile, head: bytes) -> _Features:
    if len(head) < _FEATURES_AT + 32:
        raise DamagedError("its header is cut short")
    known = _Features(*_FEATURES.unpack_from(head.ljust(512, b"\0"), _FEATURES_AT))
    if known.header_length <= _FEATURES_AT + 32:
        known = known._replace(compression=_ZLIB)
    if known.incompatible & _EXTERNAL:
        raise file.refused("whose data are in another file")
    unknown = known.incompatible & ~_KNOWN
    if unknown:
        names = ", ".join(str(bit) for bit in range(64) if unknown >> bit & 1)
        raise file.refused(f"with the incompatible features {names}")
    if known.compression not in (_ZLIB, _ZSTD):
        raise file.refused(f"with compression type {known.compression}")
    if known.compression == _ZSTD and find_zstd() is None:
        raise file.refused("whose clusters are compressed by zstd", f"{INSTALL}, or {CONVERT}")
    return known


class Qcow2Image(ContainerImage):
    """The disk in a qcow2 image."""

    def __init__(self, file: ContainerFile, size: int, bits: int, l1: int, features: _Features) -> None:
        super().__init__(file, size)
        self.bits = bits
        self.l1 = l1
        self.extended = bool(features.incompatible & _EXTENDED)
        self.entry_bytes = 16 if self.extended else 8
        self.l2_bits = bits - (4 if self.extended else 3)
        self.l1_entries = -(-size // (1 << bits + self.l2_bits))
        self.zero_bit = 0 if self.extended else _ZERO
        self.zstd = features.compression == _ZSTD
        if self.extended and bits < 14:
            raise DamagedError(f"its clusters of 2^{bits} bytes are too small for subclusters")
        if features.incompatible & _CORRUPT:
            self.warnings.append(
                f"{self.path}: QEMU has marked this image as corrupt; repair it: qemu-img check -r all"
            )

    def locate(self, position: int, wanted: int) -> Run:
        """Follow the tables to a cluster."""
        cluster = 1 << self.bits
        within = position & cluster - 1
        size = min(wanted, cluster - within)
        index = position >> self.bits
        entry = self.file.number(self.l1 + (index >> self.l2_bits) * 8, 8, ">", "the L1 table")
        table = entry & _OFFSET
        if not table:
            return Run(size)
        if table % cluster:
            raise DamagedError(f"an L2 table at byte {table} begins in the middle of a cluster")
        at = table + (index & (1 << self.l2_bits) - 1) * self.entry_bytes
        entry = self.file.number(at, 8, ">", "an L2 table")
        if entry & _COMPRESSED:
            return Run(size, data=self._unpack(entry)[within : within + size])
        if self.extended:
            return self._subclusters(self.file.number(at + 8, 8, ">", "an L2 table"), entry & _OFFSET, within, size)
        offset = entry & _OFFSET
        if entry & self.zero_bit or not offset:
            return Run(size)
        return Run(size, self._aligned(offset) + within)

    def _aligned(self, offset: int) -> int:
        if offset % (1 << self.bits):
            raise DamagedError(f"data at byte {offset} begin in the middle of a cluster")
        return offset

    def _subclusters(self, bitmap: int, offset: int, within: int, size: int) -> Run:
        """Return one subcluster's bytes: the low half of the bitmap says which have data, the high one which are 0."""
        shift = self.bits - 5
        number = within >> shift
        size = min(size, (number + 1 << shift) - within)
        there, zero = bitmap >> number & 1, bitmap >> _SUBCLUSTERS + number & 1
        if there and zero:
            raise DamagedError(f"subcluster {number} of the cluster at byte {offset} is both data and zeros")
        return Run(size, self._aligned(offset) + within) if there else Run(size)

    def _unpack(self, entry: int) -> memoryview:
        """Return a compressed cluster: offset in the low bits, then how many sectors more than the first it touches."""
        shift = 62 - (self.bits - 8)
        offset = entry & (1 << shift) - 1
        sectors = (entry & _COMPRESSED - 1) >> shift
        kept = self.file.kept(offset)
        if kept is not None:
            return kept
        if offset >= self.file.size:
            raise DamagedError(f"a compressed cluster at byte {offset} lies past the end of the file")
        length = min((sectors + 1) * 512 - offset % 512, self.file.size - offset)
        packed = self.file.read(offset, length, "a compressed cluster")
        cluster = 1 << self.bits
        try:
            data = unpack_zstd(packed, cluster) if self.zstd else zlib.decompressobj(-15).decompress(packed, cluster)
        except (zlib.error, ValueError):
            data = b""
        if len(data) != cluster:
            raise DamagedError(f"the compressed cluster at byte {offset} does not give {cluster} bytes")
        return self.file.keep(offset, data)
