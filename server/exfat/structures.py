"""On-disk structures of exFAT volumes, field by field with the names of the specification.

Source of all of `callgate.server.exfat`: Microsoft, "exFAT file system specification", 2019; sections are cited by
number (3.1 is "Main and Backup Boot Sector Sub-regions").
"""

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, Final


class BootSector(LittleEndianStructure):
    """The main boot sector (3.1), without BootCode."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("JumpBoot", c_uint8 * 3),
        ("FileSystemName", c_uint8 * 8),
        ("MustBeZero", c_uint8 * 53),
        ("PartitionOffset", c_uint64),
        ("VolumeLength", c_uint64),
        ("FatOffset", c_uint32),
        ("FatLength", c_uint32),
        ("ClusterHeapOffset", c_uint32),
        ("ClusterCount", c_uint32),
        ("FirstClusterOfRootDirectory", c_uint32),
        ("VolumeSerialNumber", c_uint32),
        ("FileSystemRevision", c_uint16),
        ("VolumeFlags", c_uint16),
        ("BytesPerSectorShift", c_uint8),
        ("SectorsPerClusterShift", c_uint8),
        ("NumberOfFats", c_uint8),
        ("DriveSelect", c_uint8),
        ("PercentInUse", c_uint8),
        ("Reserved", c_uint8 * 7),
    )


class BitmapEntry(LittleEndianStructure):
    """The allocation bitmap's entry (7.1), and the up-case table's (7.2) but for `TableChecksum`."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("EntryType", c_uint8),
        ("Flags", c_uint8),
        ("Reserved", c_uint8 * 2),
        ("TableChecksum", c_uint32),
        ("Reserved2", c_uint8 * 12),
        ("FirstCluster", c_uint32),
        ("DataLength", c_uint64),
    )


class FileEntry(LittleEndianStructure):
    """The first entry of a file's set (7.4)."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("EntryType", c_uint8),
        ("SecondaryCount", c_uint8),
        ("SetChecksum", c_uint16),
        ("FileAttributes", c_uint16),
        ("Reserved1", c_uint16),
        ("CreateTimestamp", c_uint32),
        ("LastModifiedTimestamp", c_uint32),
        ("LastAccessedTimestamp", c_uint32),
        ("Create10msIncrement", c_uint8),
        ("LastModified10msIncrement", c_uint8),
        ("CreateUtcOffset", c_uint8),
        ("LastModifiedUtcOffset", c_uint8),
        ("LastAccessedUtcOffset", c_uint8),
        ("Reserved2", c_uint8 * 7),
    )


class StreamExtension(LittleEndianStructure):
    """The second entry of a file's set (7.6)."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("EntryType", c_uint8),
        ("GeneralSecondaryFlags", c_uint8),
        ("Reserved1", c_uint8),
        ("NameLength", c_uint8),
        ("NameHash", c_uint16),
        ("Reserved2", c_uint16),
        ("ValidDataLength", c_uint64),
        ("Reserved3", c_uint32),
        ("FirstCluster", c_uint32),
        ("DataLength", c_uint64),
    )


class EntryType(IntEnum):
    """EntryType of the entries that matter to a reader (6.2.1)."""

    END = 0x00
    ALLOCATION_BITMAP = 0x81
    UP_CASE_TABLE = 0x82
    VOLUME_LABEL = 0x83
    FILE = 0x85
    STREAM_EXTENSION = 0xC0
    FILE_NAME = 0xC1


class VolumeFlag(IntFlag):
    """VolumeFlags (3.1.13)."""

    ACTIVE_FAT = 1
    VOLUME_DIRTY = 2
    MEDIA_FAILURE = 4


IN_USE: Final = 0x80  # EntryType (6.2.1): clear in entries that have been deleted
SECONDARY: Final = 0x40
BENIGN: Final = 0x20
NO_FAT_CHAIN: Final = 2  # GeneralSecondaryFlags (6.3.4)
ATTRIBUTES: Final = 0x37  # the bits that FileAttributes (7.4.4) and ours have in common

ENTRY_SIZE: Final = 32
NAME_UNITS: Final = 15  # UTF-16 units in one File Name entry (7.7)
NAME_LIMIT: Final = 255
LABEL_UNITS: Final = 11
SETS_LIMIT: Final = 18  # secondary entries of a file that are used: the stream and 17 names
DIRECTORY_LIMIT: Final = 16 << 20  # bytes of a directory that are read; 7.4.4.2 allows 256 MiB
UP_CASE_LIMIT: Final = 0x1_0000 * 2  # bytes of an up-case table without compression

FIRST_CLUSTER: Final = 2
CLUSTERS_LIMIT: Final = 0xFFFF_FFF5  # 3.1.9
BAD: Final = 0xFFFF_FFF7  # 4.1
END_OF_CHAIN: Final = 0xFFFF_FFFF
