"""On-disk structures of ext2, ext3 and ext4, field by field with the names that e2fsprogs and Linux use.

Sources of all of `callgate.server.ext2`: D. Poirier, "The Second Extended File System, Internal Layout", and
the Linux kernel's documentation of ext4 (Documentation/filesystems/ext4).  All numbers are little-endian.
"""

from collections.abc import Sequence
from ctypes import LittleEndianStructure, c_char, c_uint8, c_uint16, c_uint32
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, Final

from callgate.kernel.abi.disks.volumes import EXT_MAGIC


class Superblock(LittleEndianStructure):
    """The superblock's fields that a reader needs, at their offsets in its 1024 bytes."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("s_inodes_count", c_uint32),
        ("s_blocks_count", c_uint32),
        ("s_r_blocks_count", c_uint32),
        ("s_free_blocks_count", c_uint32),
        ("s_free_inodes_count", c_uint32),
        ("s_first_data_block", c_uint32),
        ("s_log_block_size", c_uint32),
        ("s_log_cluster_size", c_uint32),
        ("s_blocks_per_group", c_uint32),
        ("s_clusters_per_group", c_uint32),
        ("s_inodes_per_group", c_uint32),
        ("s_times", c_uint8 * 12),  # s_mtime to s_max_mnt_count
        ("s_magic", c_uint16),
        ("s_state", c_uint16),
        ("s_errors", c_uint16),
        ("s_minor_rev_level", c_uint16),
        ("s_checks", c_uint8 * 12),  # s_lastcheck, s_checkinterval, s_creator_os
        ("s_rev_level", c_uint32),
        ("s_def_resuid", c_uint16),
        ("s_def_resgid", c_uint16),
        # From here on of revision 1 only.
        ("s_first_ino", c_uint32),
        ("s_inode_size", c_uint16),
        ("s_block_group_nr", c_uint16),
        ("s_feature_compat", c_uint32),
        ("s_feature_incompat", c_uint32),
        ("s_feature_ro_compat", c_uint32),
        ("s_uuid", c_uint8 * 16),
        ("s_volume_name", c_char * 16),
        ("s_last_mounted", c_uint8 * 64),
        ("s_journal", c_uint8 * 54),  # s_algorithm_usage_bitmap to s_def_hash_version and s_jnl_backup_type
        ("s_desc_size", c_uint16),
        ("s_default_mount_opts", c_uint32),
        ("s_first_meta_bg", c_uint32),
        ("s_jnl_blocks", c_uint8 * 72),  # s_mkfs_time and s_jnl_blocks
        ("s_blocks_count_hi", c_uint32),
        ("s_r_blocks_count_hi", c_uint32),
        ("s_free_blocks_count_hi", c_uint32),
        ("s_options", c_uint8 * 240),  # s_min_extra_isize to s_overhead_clusters
        ("s_backup_bgs", c_uint32 * 2),
    )


class GroupDescriptor(LittleEndianStructure):
    """A block group's descriptor; the fields from offset 32 on exist if s_desc_size says so."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("bg_block_bitmap", c_uint32),
        ("bg_inode_bitmap", c_uint32),
        ("bg_inode_table", c_uint32),
        ("bg_free_blocks_count", c_uint16),
        ("bg_free_inodes_count", c_uint16),
        ("bg_used_dirs_count", c_uint16),
        ("bg_flags", c_uint16),
        ("bg_exclude_bitmap_lo", c_uint32),
        ("bg_checksums", c_uint8 * 4),
        ("bg_itable_unused", c_uint16),
        ("bg_checksum", c_uint16),
        ("bg_block_bitmap_hi", c_uint32),
        ("bg_inode_bitmap_hi", c_uint32),
        ("bg_inode_table_hi", c_uint32),
        ("bg_free_blocks_count_hi", c_uint16),
    )


class InodeRecord(LittleEndianStructure):
    """An inode; the fields from offset 128 on exist if s_inode_size and i_extra_isize say so."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_: ClassVar[Sequence[Any]] = (
        ("i_mode", c_uint16),
        ("i_uid", c_uint16),
        ("i_size", c_uint32),
        ("i_atime", c_uint32),
        ("i_ctime", c_uint32),
        ("i_mtime", c_uint32),
        ("i_dtime", c_uint32),
        ("i_gid", c_uint16),
        ("i_links_count", c_uint16),
        ("i_blocks", c_uint32),
        ("i_flags", c_uint32),
        ("i_osd1", c_uint32),
        ("i_block", c_uint8 * 60),
        ("i_generation", c_uint32),
        ("i_file_acl", c_uint32),
        ("i_size_high", c_uint32),  # i_dir_acl of directories
        ("i_faddr", c_uint32),
        ("i_osd2", c_uint8 * 12),
        ("i_extra_isize", c_uint16),
        ("i_checksum_hi", c_uint16),
        ("i_ctime_extra", c_uint32),
        ("i_mtime_extra", c_uint32),
    )


class State(IntFlag):
    """s_state."""

    VALID = 1  # was unmounted
    ERROR = 2  # errors were found


class GroupFlags(IntFlag):
    """bg_flags; they count only with uninit_bg or metadata_csum."""

    BLOCK_UNINIT = 2  # the block bitmap was never written


class InodeFlags(IntFlag):
    """i_flags that change what i_block or the data mean."""

    ENCRYPT = 0x800
    EXTENTS = 0x80000
    INLINE_DATA = 0x1000_0000


class Kind(IntEnum):
    """The type bits of i_mode, shifted down by 12."""

    FIFO = 1
    CHARACTER = 2
    DIRECTORY = 4
    BLOCK = 6
    REGULAR = 8
    SYMLINK = 10
    SOCKET = 12


KIND_NAMES: Final = {
    Kind.FIFO: "FIFO",
    Kind.CHARACTER: "character device",
    Kind.DIRECTORY: "directory",
    Kind.BLOCK: "block device",
    Kind.REGULAR: "file",
    Kind.SYMLINK: "symbolic link",
    Kind.SOCKET: "socket",
}
#: The file type byte of directory entries, with the feature filetype.
FILE_TYPES: Final = {
    1: Kind.REGULAR,
    2: Kind.DIRECTORY,
    3: Kind.CHARACTER,
    4: Kind.BLOCK,
    5: Kind.FIFO,
    6: Kind.SOCKET,
    7: Kind.SYMLINK,
}

SUPERBLOCK_SIZE: Final = 1024
MAGIC: Final = int.from_bytes(EXT_MAGIC, "little")
BLOCK_SIZE_MINIMUM: Final = 1024
LOG_BLOCK_SIZE_LIMIT: Final = 6  # 64 KiB
DESCRIPTOR_SIZE: Final = 32
DESCRIPTOR_SIZE_64BIT: Final = 64
INODE_SIZE: Final = 128
ROOT_INODE: Final = 2

DIRECT_BLOCKS: Final = 12  # pointers in i_block before the indirect ones
INDIRECT_LEVELS: Final = 3
POINTER_SIZE: Final = 4

EXTENT_MAGIC: Final = 0xF30A
EXTENT_HEADER: Final = 12  # bytes, as every entry
EXTENT_DEPTH_LIMIT: Final = 5
EXTENT_INITIALISED: Final = 32768  # longer ones have no data yet, and are as much shorter

DIRECTORY_HEADER: Final = 8
DIRECTORY_NAME: Final = 255  # bytes of a name at most
