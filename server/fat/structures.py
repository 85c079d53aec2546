"""On-disk structures of FAT volumes, field by field with the names of the specification.

Source of all of `callgate.server.fat`: Microsoft, "FAT: General Overview of On-Disk Format", version
1.03, December 6, 2000; its sections are cited by title ("BPB" is "Boot Sector and BPB").
"""

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32
from enum import IntFlag
from typing import Any, ClassVar, Final


class BootSector(LittleEndianStructure):
    """The fields common to all widths (section "BPB"): the first 36 bytes."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("BS_jmpBoot", c_uint8 * 3),
        ("BS_OEMName", c_char * 8),
        ("BPB_BytsPerSec", c_uint16),
        ("BPB_SecPerClus", c_uint8),
        ("BPB_RsvdSecCnt", c_uint16),
        ("BPB_NumFATs", c_uint8),
        ("BPB_RootEntCnt", c_uint16),
        ("BPB_TotSec16", c_uint16),
        ("BPB_Media", c_uint8),
        ("BPB_FATSz16", c_uint16),
        ("BPB_SecPerTrk", c_uint16),
        ("BPB_NumHeads", c_uint16),
        ("BPB_HiddSec", c_uint32),
        ("BPB_TotSec32", c_uint32),
    )


class BootSector16(BootSector):
    """The rest on FAT12 and FAT16, from offset 36."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("BS_DrvNum", c_uint8),
        ("BS_Reserved1", c_uint8),
        ("BS_BootSig", c_uint8),
        ("BS_VolID", c_uint32),
        ("BS_VolLab", c_uint8 * 11),
        ("BS_FilSysType", c_uint8 * 8),
    )


class BootSector32(BootSector):
    """The rest on FAT32, from offset 36."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("BPB_FATSz32", c_uint32),
        ("BPB_ExtFlags", c_uint16),
        ("BPB_FSVer", c_uint16),
        ("BPB_RootClus", c_uint32),
        ("BPB_FSInfo", c_uint16),
        ("BPB_BkBootSec", c_uint16),
        ("BPB_Reserved", c_uint8 * 12),
        ("BS_DrvNum", c_uint8),
        ("BS_Reserved1", c_uint8),
        ("BS_BootSig", c_uint8),
        ("BS_VolID", c_uint32),
        ("BS_VolLab", c_uint8 * 11),
        ("BS_FilSysType", c_uint8 * 8),
    )


class FileSystemInfo(LittleEndianStructure):
    """The FSInfo sector (section "FAT32 FSInfo Sector Structure and Backup Boot Sector")."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("FSI_LeadSig", c_uint32),
        ("FSI_Reserved1", c_uint8 * 480),
        ("FSI_StrucSig", c_uint32),
        ("FSI_Free_Count", c_uint32),
        ("FSI_Nxt_Free", c_uint32),
        ("FSI_Reserved2", c_uint8 * 12),
        ("FSI_TrailSig", c_uint32),
    )


class DirectoryRecord(LittleEndianStructure):
    """The 32-byte directory entry (section "FAT Directory Structure")."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("DIR_Name", c_uint8 * 11),
        ("DIR_Attr", c_uint8),
        ("DIR_NTRes", c_uint8),
        ("DIR_CrtTimeTenth", c_uint8),
        ("DIR_CrtTime", c_uint16),
        ("DIR_CrtDate", c_uint16),
        ("DIR_LstAccDate", c_uint16),
        ("DIR_FstClusHI", c_uint16),
        ("DIR_WrtTime", c_uint16),
        ("DIR_WrtDate", c_uint16),
        ("DIR_FstClusLO", c_uint16),
        ("DIR_FileSize", c_uint32),
    )


class LongNameRecord(LittleEndianStructure):
    """One piece of a long name (section "FAT Long Directory Entries")."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (
        ("LDIR_Ord", c_uint8),
        ("LDIR_Name1", c_uint8 * 10),
        ("LDIR_Attr", c_uint8),
        ("LDIR_Type", c_uint8),
        ("LDIR_Chksum", c_uint8),
        ("LDIR_Name2", c_uint8 * 12),
        ("LDIR_FstClusLO", c_uint16),
        ("LDIR_Name3", c_uint8 * 4),
    )


class Attribute(IntFlag):
    """DIR_Attr."""

    READ_ONLY = 0x01
    HIDDEN = 0x02
    SYSTEM = 0x04
    VOLUME_ID = 0x08
    DIRECTORY = 0x10
    ARCHIVE = 0x20
    LONG_NAME = 0x0F
    LONG_NAME_MASK = 0x3F


RECORD_SIZE: Final = 32
DIRECTORY_LIMIT: Final = 65536 * RECORD_SIZE  # "Other Notes Relating to FAT Directories": 2 MiB

RECORD_FREE: Final = 0xE5
RECORD_END: Final = 0x00  # this one and all that follow are free
RECORD_KANJI_E5: Final = 0x05  # stands for a name that begins with 0xE5

NT_LOWER_BASE: Final = 0x08  # DIR_NTRes as Windows NT uses it: show the base in lower case
NT_LOWER_EXTENSION: Final = 0x10

LAST_LONG_ENTRY: Final = 0x40
LONG_NAME_UNITS: Final = 13  # UTF-16 units in one LongNameRecord
LONG_NAME_LIMIT: Final = 255  # UTF-16 units of a long name

EXTENDED_BOOT_SIGNATURE_SHORT: Final = 0x28  # the serial number alone
EXT_FLAGS_ACTIVE: Final = 0x000F
EXT_FLAGS_NOT_MIRRORED: Final = 0x0080
DIRTY_BIT: Final = 0x01  # BS_Reserved1 as Windows and Linux use it

FIRST_CLUSTER: Final = 2
