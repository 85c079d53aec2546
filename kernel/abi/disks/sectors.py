"""Sector lists: the sectors that a file-data request still needs from the disk, sorted so that completions find them.

A list is one kernel page.  Its entries are sorted in place by sector (asm/kernel/disk/sectors.asm); each keeps the
number that its block had in the server's reply, holes not counted, so that addresses go back to their places without a
second array.
"""

from ctypes import c_uint16, c_uint32, c_uint64
from typing import Final

from callgate.kernel.abi.layout import Layout, offset_of, size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES


class SectorList(Layout):
    """The sectors of one request.

    Disks are taken in parts of 4G sectors: within one part sectors are compared as 32-bit numbers.
    """

    _fields_ = [
        ("next", c_uint32),
        ("disk", c_uint16),
        ("spans", c_uint16),
        ("count", c_uint32),
        ("record", c_uint32),
        ("reserved", c_uint32 * 8),
        ("entries", c_uint64 * MESSAGE_ADDRESSES),
    ]
    _notes_ = {
        "next": "kernel linear address of the next list that waits for disk data; 0 = last",
        "disk": "disk number",
        "spans": "0 if all sectors lie in one part of 4G sectors",
        "count": "entries in use, 0 to 506",
        "record": "kernel linear address of the SpanRecord whose `remaining` counts the entries down",
        "entries": "bits 0-31: first sector, lower half; 32-40: number of the block in the reply; 41-43: sectors - 1; "
        "44: arrived; 45-63: first sector >> 32",
    }


assert size_of(SectorList) == PAGE_SIZE
assert offset_of(SectorList, "entries") == 48

SECTOR_LINK_SHIFT: Final = 32  # the number of an entry's block in the reply: 9 bits
SECTOR_LINK_MASK: Final = 0x1FF
SECTOR_COUNT_SHIFT: Final = 41  # sectors - 1: 3 bits
SECTOR_PART_SHIFT: Final = 45  # number of the 4G part: 19 bits
SECTOR_ARRIVED_BIT: Final = 12  # in an entry's upper half
SECTOR_PART_MASK: Final = 0xFFFF_E000  # in an entry's upper half
SECTOR_PART_HALF_SHIFT: Final = 13  # from bits 32 and up of a sector number to an entry's upper half
SECTOR_ENTRY_SHIFT: Final = 3  # log2 of an entry's bytes
assert MESSAGE_ADDRESSES <= SECTOR_LINK_MASK + 1
