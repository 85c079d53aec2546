"""Containers of disk images made byte by byte from their documents, small enough to be damaged one number at a time.

`tests/disk/test_image_containers.py` shows qemu-img the same files.
"""

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import Medium
from callgate.disk.media.containers.zstandard import find_zstd

KIB, MIB = 1 << 10, 1 << 20


def open_files() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def need_zstd() -> Any:
    """Return the module for Zstandard; skip the test where there is none."""
    module = find_zstd()
    if module is None:
        pytest.skip("Python has no zstd before 3.14, and backports.zstd is not installed")
    return module


def read(medium: Medium, lba: int, sectors: int) -> bytes:
    """Return sectors of a medium; MediumError."""
    buffer = bytearray(sectors * 512)
    medium.read_into(lba, [memoryview(buffer)])
    return bytes(buffer)


def noise(size: int, seed: int = 1) -> bytes:
    """Return a disk with noise, text and wide zeros."""
    source = random.Random(seed)
    data = bytearray(size)
    for start in range(0, size, 128 * KIB):
        kind = source.random()
        if kind < 0.4:
            data[start : start + 70_000] = source.randbytes(70_000)
        elif kind < 0.7:
            data[start : start + 80_000] = (b"text %10d." % start) * 5000
    return bytes(data[:size])


Clusters = dict[int, bytes]  # number of a cluster, block or grain of the disk -> its bytes; all others are not stored

QCOW2_BITS = 9
CLUSTER = 1 << QCOW2_BITS
QCOW2_L1, QCOW2_L2 = CLUSTER * 3, CLUSTER * 4  # where the tables are; the reference counts lie before them


def qcow2(size: int, clusters: Clusters, *, compressed: bool = False, version: int = 3) -> bytearray:
    """Make an image with clusters of 512 bytes and one L2 table, so of at most 32 KiB."""
    assert size <= CLUSTER * 64
    data = bytearray(QCOW2_L2 + CLUSTER)
    struct.pack_into(
        ">4sIQIIQIIQQIIQ", data, 0, b"QFI\xfb", version, 0, 0, QCOW2_BITS, size, 0, 1, QCOW2_L1, CLUSTER, 1, 0, 0
    )
    if version == 3:
        struct.pack_into(">QQQII", data, 72, 0, 0, 0, 4, 104)
    struct.pack_into(">Q", data, CLUSTER, CLUSTER * 2)  # reference table -> reference block
    struct.pack_into(">Q", data, QCOW2_L1, QCOW2_L2 | 1 << 63)
    for number, content in clusters.items():
        assert len(content) == CLUSTER
        if compressed:
            packer = zlib.compressobj(9, zlib.DEFLATED, -12)
            packed = packer.compress(content) + packer.flush()
            sectors = (len(data) % 512 + len(packed) - 1) // 512
            entry = 1 << 62 | sectors << 62 - (QCOW2_BITS - 8) | len(data)
            data += packed
        else:
            data += bytes(-len(data) % CLUSTER)
            entry = len(data) | 1 << 63
            data += content
        struct.pack_into(">Q", data, QCOW2_L2 + number * 8, entry)
    data += bytes(-len(data) % CLUSTER)
    for number in range(len(data) // CLUSTER):
        struct.pack_into(">H", data, CLUSTER * 2 + number * 2, 1)
    return data


def vhd_footer(size: int, disk_type: int, data_offset: int) -> bytes:
    """Make the 512 bytes of a footer; the geometry is that of a disk of sectors only."""
    footer = bytearray(512)
    fields = (b"conectix", 2, 0x10000, data_offset, 0, b"win ", 0x10000, b"Wi2k", size, size)
    struct.pack_into(">8sIIQI4sI4sQQ", footer, 0, *fields)
    struct.pack_into(">HBBI", footer, 56, min(size // 512, 65535), 1, 1, disk_type)
    struct.pack_into(">I", footer, 64, ~sum(footer) & 0xFFFF_FFFF)
    return bytes(footer)


VHD_BLOCK = 4096
VHD_HEADER, VHD_TABLE = 512, 1536


def vhd(size: int, blocks: Clusters) -> bytearray:
    """Make a dynamic image with blocks of 4 KiB."""
    entries = -(-size // VHD_BLOCK)
    footer = vhd_footer(size, 3, VHD_HEADER)
    header = bytearray(1024)
    struct.pack_into(">8sQQIII", header, 0, b"cxsparse", (1 << 64) - 1, VHD_TABLE, 0x10000, entries, VHD_BLOCK)
    struct.pack_into(">I", header, 36, ~sum(header) & 0xFFFF_FFFF)
    table = bytearray(b"\xff" * (-(-entries * 4 // 512) * 512))
    data = bytearray()
    for number, content in blocks.items():
        struct.pack_into(">I", table, number * 4, (VHD_TABLE + len(table) + len(data)) // 512)
        data += b"\xff" * 512 + content.ljust(VHD_BLOCK, b"\0")
    return bytearray(footer + header + table + data + footer)


GRAIN = 16  # sectors
VMDK_DIRECTORY, VMDK_TABLE, VMDK_DATA = 3, 4, 8  # sectors
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="{kind}"
{extents}
"""


def vmdk(size: int, grains: Clusters, *, compressed: bool = False) -> bytearray:
    """Make a sparse file with grains of 8 KiB and one grain table, so of at most 4 MiB."""
    sectors = size // 512
    flags = 1 | (3 << 16 if compressed else 0)
    data = bytearray(VMDK_DATA * 512)
    kind = "streamOptimized" if compressed else "monolithicSparse"
    text = DESCRIPTOR.format(kind=kind, extents=f'RW {sectors} SPARSE "x.vmdk"').encode()
    header = (b"KDMV", 3 if compressed else 1, flags, sectors, GRAIN, 1, 2, 512, 0, VMDK_DIRECTORY, VMDK_DATA)
    struct.pack_into("<4sIIQQQQIQQQ", data, 0, *header)
    data[72:79] = b"\0\n \r\n" + struct.pack("<H", int(compressed))
    data[512 : 512 + len(text)] = text
    struct.pack_into("<I", data, VMDK_DIRECTORY * 512, VMDK_TABLE)
    for number, content in grains.items():
        struct.pack_into("<I", data, VMDK_TABLE * 512 + number * 4, len(data) // 512)
        packed = zlib.compress(content)
        data += struct.pack("<QI", number * GRAIN, len(packed)) + packed if compressed else content
        data += bytes(-len(data) % 512)
    return data


def vmdk_stream(size: int, grains: Clusters) -> bytearray:
    """Make a compressed file as it is written from front to end: its header refers to a footer."""
    data = vmdk(size, grains, compressed=True)
    footer = bytes(data[:512])
    struct.pack_into("<Q", data, 56, (1 << 64) - 1)
    marker = struct.pack("<QII", 1, 0, 3)  # one sector follows, the footer
    return data + marker.ljust(512, b"\0") + footer + bytes(512)


VDI_BLOCK = 1 << 20
VDI_TABLE = 512


def vdi(size: int, blocks: Clusters) -> bytearray:
    """Make a dynamic image with blocks of 1 MiB."""
    entries = -(-size // VDI_BLOCK)
    data = bytearray(b"\xff" * 1024)
    data[:VDI_TABLE] = bytes(VDI_TABLE)
    data[:40] = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    struct.pack_into("<IIII", data, 64, 0xBEDA_107F, 0x0001_0001, 400, 1)
    struct.pack_into("<II", data, 340, VDI_TABLE, 1024)
    struct.pack_into("<IIII", data, 348, 0, 0, 0, 512)
    struct.pack_into("<QIIII", data, 368, size, VDI_BLOCK, 0, entries, len(blocks))
    data[392:408] = bytes(range(1, 17))  # the image's identity; its parent's stays zeros
    for place, (number, content) in enumerate(blocks.items()):
        struct.pack_into("<I", data, VDI_TABLE + number * 4, place)
        data += content.ljust(VDI_BLOCK, b"\0")
    return data


# Samples: QEMU's name of the format, the file, and the disk that is in it.
DISK = 31 * KIB
STORED = {3: b"three" * 100 + b"!" * 12, 9: bytes(range(256)) * 2, 61: b"\xa5" * 512}


def expected(size: int, unit: int, stored: dict[int, bytes]) -> bytes:
    """Return a disk of zeros with some blocks of `unit` bytes."""
    disk = bytearray(-(-size // unit) * unit)
    for number, data in stored.items():
        disk[number * unit : number * unit + len(data)] = data
    return bytes(disk[:size])


BLOCKS = {1: random.Random(5).randbytes(4096), 5: b"fifth" * 800}
GRAINS = {0: random.Random(6).randbytes(8192), 3: b"grain..." * 1024}
MADE: dict[str, tuple[str, Callable[[], bytearray], bytes]] = {
    "qcow2": ("qcow2", lambda: qcow2(DISK, STORED), expected(DISK, 512, STORED)),
    "qcow2 v2": ("qcow2", lambda: qcow2(DISK, STORED, version=2), expected(DISK, 512, STORED)),
    "packed qcow2": (
        "qcow2",
        lambda: qcow2(DISK, STORED, compressed=True),
        expected(DISK, 512, STORED),
    ),
    "VHD": ("vpc", lambda: vhd(DISK, BLOCKS), expected(DISK, 4096, BLOCKS)),
    "VMDK": ("vmdk", lambda: vmdk(40 * KIB, GRAINS), expected(40 * KIB, 8192, GRAINS)),
    "packed VMDK": (
        "vmdk",
        lambda: vmdk(40 * KIB, GRAINS, compressed=True),
        expected(40 * KIB, 8192, GRAINS),
    ),
    "VMDK with a footer": ("vmdk", lambda: vmdk_stream(40 * KIB, GRAINS), expected(40 * KIB, 8192, GRAINS)),
    "VDI": (
        "vdi",
        lambda: vdi(3 * MIB // 2, {1: b"one" * 99}),
        expected(3 * MIB // 2, MIB, {1: b"one" * 99}),
    ),
}
