"""The superblock: from 1024 bytes that may be anything to a layout whose numbers fit each other."""

from typing import Final, NamedTuple

from callgate.kernel.abi.disks.volumes import EXT_SUPERBLOCK_OFFSET
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.errors import MountError
from callgate.server.ext2.features import Compatible, Features, Incompatible, ReadOnlyCompatible
from callgate.server.ext2.structures import (
    BLOCK_SIZE_MINIMUM,
    DESCRIPTOR_SIZE,
    DESCRIPTOR_SIZE_64BIT,
    INODE_SIZE,
    LOG_BLOCK_SIZE_LIMIT,
    MAGIC,
    SUPERBLOCK_SIZE,
    State,
    Superblock,
)

CLUSTER_SHIFT_LIMIT: Final = 20  # 1 KiB blocks in 512 MiB clusters, the most that mke2fs makes are 256 MiB
_BLOCK_NUMBER_BITS: Final = 48  # of extents, and so of anything


class Layout(NamedTuple):
    """The data of the superblock, checked; sizes are in bytes, places in file-system blocks."""

    features: Features
    block_bytes: int
    blocks: int  # in all, as the superblock says
    end: int  # one past the last block that lies in the partition; less than `blocks` in a truncated image
    first_block: int  # of group 0
    group_blocks: int
    groups: int
    inodes: int  # numbers are 1 to this
    group_inodes: int
    inode_bytes: int
    descriptor_bytes: int
    first_meta_group: int  # with meta_bg: descriptor blocks from this one on lie in their own groups
    cluster_blocks: int  # blocks for which one bit of a bitmap stands; 1 without bigalloc
    free_blocks: int  # a hint
    label: bytes
    uuid: bytes
    clean: bool
    backup_groups: tuple[int, ...]  # with sparse_super2: the groups that hold copies of the superblock

    @property
    def block_sectors(self) -> int:
        """Return the 512-byte sectors of a block."""
        return self.block_bytes // SECTOR_SIZE

    @property
    def block_descriptors(self) -> int:
        """Return how many group descriptors a block holds."""
        return self.block_bytes // self.descriptor_bytes

    @property
    def has_filetype(self) -> bool:
        """Whether directory entries have a file type byte."""
        return bool(self.features.incompatible & Incompatible.FILETYPE)

    @property
    def has_group_flags(self) -> bool:
        """Whether bg_flags count."""
        return bool(self.features.read_only & (ReadOnlyCompatible.GDT_CSUM | ReadOnlyCompatible.METADATA_CSUM))

    @property
    def journal_pending(self) -> bool:
        """Whether changes wait in the journal."""
        return bool(self.features.incompatible & Incompatible.RECOVER)

    @property
    def superblock(self) -> int:
        """Return the block that the first superblock lies in."""
        return EXT_SUPERBLOCK_OFFSET // self.block_bytes

    def group_start(self, group: int) -> int:
        """Return the first block of a group."""
        return self.first_block + group * self.group_blocks

    def has_superblock(self, group: int) -> bool:
        """Whether a group begins with a superblock (ext4 documentation, "Layout")."""
        if group == 0:
            return True
        if self.features.compatible & Compatible.SPARSE_SUPER2:
            return group in self.backup_groups
        if group == 1 or not self.features.read_only & ReadOnlyCompatible.SPARSE_SUPER:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))

    def is_block(self, block: int) -> bool:
        """Whether a pointer may be to this block."""
        return self.first_block < block < self.end

    def sector_of(self, block: int) -> int:
        """Return the first 512-byte sector of a block."""
        return block * self.block_sectors


def parse_superblock(raw: bytes, partition_sectors: int) -> Layout:
    """Return the layout that ``raw`` (1024 bytes) describes on a partition of 512-byte sectors.

    MountError names the field, its offset and value, and what is expected.  Features are noted, not judged:
    `refuse_unknown` does that.
    """
    if len(raw) < SUPERBLOCK_SIZE:
        raise MountError(f"superblock: {len(raw)} bytes are there, {SUPERBLOCK_SIZE} are needed")
    block = Superblock.from_buffer_copy(raw)
    if block.s_magic != MAGIC:
        raise _wrong(block, "s_magic", f"{MAGIC:#x}")
    if block.s_rev_level > 1:
        raise _wrong(block, "s_rev_level", "0 or 1")
    features = _features(block)
    if features.incompatible & Incompatible.JOURNAL_DEV and not block.s_inodes_count:
        raise MountError("superblock: this is the journal of another volume (feature journal_dev), no file system")
    return _layout(block, features, partition_sectors)


def refuse_unknown(features: Features) -> None:
    """MountError if a volume with these features cannot be read; it names the features that prevent that."""
    unknown = features.unknown()
    if unknown:
        raise MountError(
            f"superblock: needs feature {', '.join(unknown)}, which callgate does not know", ErrorCode.NOT_SUPPORTED
        )


def _features(block: Superblock) -> Features:
    if block.s_rev_level == 0:
        return Features(0, 0, 0)
    return Features(block.s_feature_compat, block.s_feature_incompat, block.s_feature_ro_compat)


def read_features(raw: bytes) -> Features | None:
    """Return the features of whatever begins with the bytes of a superblock, None if it does not."""
    if len(raw) < SUPERBLOCK_SIZE:
        return None
    block = Superblock.from_buffer_copy(raw)
    return _features(block) if block.s_magic == MAGIC else None


def _wrong(block: Superblock, field: str, expected: str) -> MountError:
    offset = getattr(type(block), field).offset
    found = getattr(block, field)
    return MountError(f"superblock, offset {offset}: {field} is {found} ({found:#x}); expected {expected}")


def _layout(block: Superblock, features: Features, partition_sectors: int) -> Layout:
    if block.s_log_block_size > LOG_BLOCK_SIZE_LIMIT:
        raise _wrong(block, "s_log_block_size", f"0 to {LOG_BLOCK_SIZE_LIMIT}")
    size = BLOCK_SIZE_MINIMUM << block.s_log_block_size
    wide = bool(features.incompatible & Incompatible.BIT64)
    blocks = block.s_blocks_count | (block.s_blocks_count_hi << 32 if wide else 0)
    free = block.s_free_blocks_count | (block.s_free_blocks_count_hi << 32 if wide else 0)
    cluster = _cluster_blocks(block, features)
    # The superblock of 1 KiB blocks is block 1, and group 0 begins there; with bigalloc it begins at 0.
    if block.s_first_data_block > (size == BLOCK_SIZE_MINIMUM) or block.s_first_data_block >= blocks:
        raise _wrong(block, "s_first_data_block", "1 with 1 KiB blocks, else 0")
    if blocks >> _BLOCK_NUMBER_BITS:
        raise _wrong(block, "s_blocks_count_hi", f"less than {1 << _BLOCK_NUMBER_BITS} blocks in all")
    if not 0 < block.s_blocks_per_group <= 8 * size * cluster or block.s_blocks_per_group % 8:
        raise _wrong(block, "s_blocks_per_group", f"a multiple of 8, up to {8 * size * cluster}")
    groups = -(-(blocks - block.s_first_data_block) // block.s_blocks_per_group)
    per_group, inode_bytes = _inodes(block, size)
    return Layout(
        features=features,
        block_bytes=size,
        blocks=blocks,
        end=min(blocks, partition_sectors * SECTOR_SIZE // size),
        first_block=block.s_first_data_block,
        group_blocks=block.s_blocks_per_group,
        groups=groups,
        inodes=min(block.s_inodes_count, groups * per_group),
        group_inodes=per_group,
        inode_bytes=inode_bytes,
        descriptor_bytes=_descriptor_bytes(block, wide),
        first_meta_group=_first_meta_group(block, features),
        cluster_blocks=cluster,
        free_blocks=free,
        label=bytes(block.s_volume_name),
        uuid=bytes(block.s_uuid) if block.s_rev_level else bytes(16),
        clean=block.s_state & (State.VALID | State.ERROR) == State.VALID,
        backup_groups=tuple(block.s_backup_bgs),
    )


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1


def _cluster_blocks(block: Superblock, features: Features) -> int:
    if not features.read_only & ReadOnlyCompatible.BIGALLOC:
        return 1
    more: int = block.s_log_cluster_size - block.s_log_block_size
    if not 0 <= more <= CLUSTER_SHIFT_LIMIT:
        low = block.s_log_block_size
        raise _wrong(block, "s_log_cluster_size", f"{low} to {low + CLUSTER_SHIFT_LIMIT}")
    return 1 << more


def _inodes(block: Superblock, block_bytes: int) -> tuple[int, int]:
    """Return inodes in a group and bytes of an inode."""
    per_group: int = block.s_inodes_per_group
    size: int = block.s_inode_size if block.s_rev_level else INODE_SIZE
    if not INODE_SIZE <= size <= block_bytes or size & size - 1:
        raise _wrong(block, "s_inode_size", f"a power of 2, {INODE_SIZE} to {block_bytes}")
    if not 0 < per_group <= 8 * block_bytes:
        raise _wrong(block, "s_inodes_per_group", f"1 to {8 * block_bytes}")
    return per_group, size


def _descriptor_bytes(block: Superblock, wide: bool) -> int:
    if not wide:
        return DESCRIPTOR_SIZE
    size: int = block.s_desc_size
    if not DESCRIPTOR_SIZE_64BIT <= size <= BLOCK_SIZE_MINIMUM or size & size - 1:
        raise _wrong(block, "s_desc_size", f"a power of 2, {DESCRIPTOR_SIZE_64BIT} to {BLOCK_SIZE_MINIMUM}")
    return size


def _first_meta_group(block: Superblock, features: Features) -> int:
    """Return the first descriptor block that lies in its own group; without meta_bg there is none."""
    first: int = block.s_first_meta_bg
    return first if features.incompatible & Incompatible.META_BG else 1 << 32
