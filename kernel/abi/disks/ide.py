"""An IDE channel's registers, and the driver's state of a channel (ACS-3, section 6; ATA8-APT)."""

from ctypes import c_uint32
from enum import IntEnum, IntFlag
from typing import Final

from callgate.kernel.abi.layout import Layout

IDE_CHANNELS: Final = 2
IDE_DRIVES: Final = 2 * IDE_CHANNELS
IDE_CHANNEL_DISTANCE: Final = 0x80  # the second channel's ports lie below the first's: 1F0h, 170h
IDE_CONTROL: Final = 0x206  # from the command block to device control and alternate status: 3F6h
IDE_FLOATING: Final = 0xFF  # value read from a channel without a drive
IDE_DEVICE_SHIFT: Final = 4  # bit of the device register that selects device 1


class IdeRegister(IntEnum):
    """Offsets in the command block; a register that is written twice keeps the earlier byte for LBA48."""

    DATA = 0
    ERROR = 1
    COUNT = 2
    LBA_LOW = 3
    LBA_MID = 4
    LBA_HIGH = 5
    DEVICE = 6
    STATUS = 7
    COMMAND = 7


class IdeControl(IntFlag):
    """Bits of the device control register."""

    NIEN = 0x02
    SRST = 0x04


class IdeCommand(IntEnum):
    """Commands that only the PIO driver uses (ACS-3, section 7)."""

    READ_SECTORS_EXT = 0x24
    READ_MULTIPLE_EXT = 0x29
    SET_MULTIPLE_MODE = 0xC6


class IdeChannel(Layout):
    """A channel runs one command at a time, for either of its two drives."""

    _fields_ = [("disk", c_uint32), ("done", c_uint32)]
    _notes_ = {
        "disk": "linear address of the Disk whose command runs; 0 = idle",
        "done": "sectors of it that have been copied",
    }
