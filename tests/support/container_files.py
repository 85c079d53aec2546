"""Containers of disk images made byte by byte from their documents, small enough to be damaged one number at a time.

`tests/disk/test_image_containers.py` shows qemu-img the same files.
"""

import struct
import zlib
from pathlib import Path


def open_files() -> int:
    """Return how many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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
