"""Volumes as clients see them, and the entries of a sectors reply."""

from ctypes import c_uint8, c_uint32, c_uint64
from typing import Final

from callgate.kernel.abi.layout import Layout


class VolumeInformation(Layout):
    """One mounted volume, for SystemCall.VOLUME_INFORMATION."""

    _fields_ = [
        ("number", c_uint32),
        ("flags", c_uint32),
        ("serial", c_uint32),
        ("cluster_bytes", c_uint32),
        ("free_clusters", c_uint64),
        ("total_clusters", c_uint64),
        ("name", c_uint8 * 16),
        ("file_system", c_uint8 * 16),
        ("label", c_uint8 * 64),
    ]
    _notes_ = {
        "number": "endpoint index, as the IPC gate takes it",
        "flags": "VolumeFlags",
        "name": "top-level directory, ASCIIZ without the slash: d0p1, rom",
        "file_system": "ASCIIZ, as the server names it: fat12, fat16, fat32, ext2, ext3, ext4, rom, …",
        "label": "UTF-8, ASCIIZ",
    }


# Added to the index of VOLUME_INFORMATION.
VOLUME_UNASKED: Final = 1 << 31  # only what the kernel knows: number, name, file system
VOLUME_BRIEFLY: Final = 1 << 30  # do not wait for a server that does not answer at once (10 ms of virtual time)

# An entry of a sectors reply, 64 bits: a piece of one 4 KiB block of the partition.
SECTOR_ENTRY_COUNT_SHIFT: Final = 60  # bits 60..62: sectors - 1 (0 to 7)
SECTOR_ENTRY_COUNT_MASK: Final = 0x7
SECTOR_ENTRY_MASK: Final = (1 << SECTOR_ENTRY_COUNT_SHIFT) - 1  # bits 0..59: first sector in the partition
SECTOR_ENTRY_HOLE: Final = 1 << 63  # nothing on the disk, zeros: bits 0..59 are the first sector within a page, 0 to 7
