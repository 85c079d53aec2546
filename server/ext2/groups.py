"""Block groups: where their inode tables are, and how many of their blocks are free."""

from typing import Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.features import Incompatible
from callgate.server.ext2.metadata import MetadataBlocks
from callgate.server.ext2.structures import GroupDescriptor, GroupFlags
from callgate.server.ext2.superblock import Layout

GROUPS_COUNTED: Final = 16384  # 2 TiB of 4 KiB blocks; beyond, the superblock's word is taken
BITMAPS_COUNTED: Final = 256  # 32 GiB of 4 KiB blocks; beyond, that of the descriptors
_WIDE: Final = 64
_BITMAP_RUN: Final = 16  # bitmaps of a flex_bg lie side by side


class Group(NamedTuple):
    """A block group's descriptor, joined and checked: places are blocks."""

    block_bitmap: int
    inode_table: int
    free_clusters: int
    bitmap_unwritten: bool


class Usage(NamedTuple):
    """Free blocks, and contradictions found while counting them, as text."""

    free: int
    damage: list[str]


class Groups:
    """All groups of a volume."""

    def __init__(self, blocks: MetadataBlocks) -> None:
        self.blocks = blocks
        self.layout = blocks.layout
        self._fallback = ""  # why a backup of the descriptors was read, the first time
        self._fallback_told = False

    @property
    def table_blocks(self) -> int:
        """Return the blocks of one inode table."""
        return -(-self.layout.group_inodes * self.layout.inode_bytes // self.layout.block_bytes)

    def take_fallback(self) -> list[str]:
        """Return why a backup of the descriptors was read the first time, once, if one was."""
        if not self._fallback or self._fallback_told:
            return []
        self._fallback_told = True
        return [self._fallback]

    async def group(self, number: int) -> Group:
        """Return a group, from a backup descriptor if the first is unreadable or absurd.

        CORRUPT, or the error of the disk, if there is no good one; the text describes the first.
        """
        first: FileSystemError | None = None
        for place in _descriptor_places(self.layout, number):
            try:
                found = await self._read(number, place)
            except FileSystemError as error:
                first = first or error
                continue
            if first is not None and not self._fallback:
                self._fallback = f"{first.text}; the backup in block {place} is used instead"
            return found
        assert first is not None
        raise first

    async def _read(self, number: int, place: int) -> Group:
        layout = self.layout
        what = f"descriptor of group {number}"
        data = await self.blocks.read(place, what)
        offset = number % layout.block_descriptors * layout.descriptor_bytes
        raw = data[offset : offset + layout.descriptor_bytes]
        group = _group(raw, flags_count=layout.has_group_flags)
        if not (layout.is_block(group.inode_table) and group.inode_table + self.table_blocks <= layout.end):
            raise FileSystemError(
                ErrorCode.CORRUPT,
                f"{what}, block {place}, offset {offset}: its inode table of {self.table_blocks} blocks is at "
                f"{group.inode_table}; the partition has blocks up to {layout.end - 1}",
            )
        return group

    async def usage(self) -> Usage:
        """Count free blocks: by bitmaps where there are not too many, else by descriptors."""
        layout = self.layout
        if layout.groups > GROUPS_COUNTED:
            return Usage(min(layout.free_blocks, layout.blocks), [])
        groups, damage = await self._all()
        free = sum(group.free_clusters for group in groups if group) * layout.cluster_blocks
        source = "descriptors"
        if layout.groups <= BITMAPS_COUNTED:
            free = await self._count_bitmaps(groups, damage) * layout.cluster_blocks
            source = "bitmaps"
        if free != layout.free_blocks:
            damage.append(f"the superblock says {layout.free_blocks} free blocks; the groups' {source} have {free}")
        return Usage(min(free, layout.blocks), damage)

    async def _all(self) -> tuple[list[Group | None], list[str]]:
        groups: list[Group | None] = []
        damage: list[str] = []
        for number in range(self.layout.groups):
            try:
                groups.append(await self.group(number))
            except FileSystemError as error:
                groups.append(None)
                damage.append(error.text)
        return groups, damage[:1] + ([f"and {len(damage) - 1} more groups like it"] if len(damage) > 1 else [])

    async def _count_bitmaps(self, groups: list[Group | None], damage: list[str]) -> int:
        """Return the number of free clusters by the bitmaps; compare it with the descriptors."""
        free, wrong = 0, []
        for number, group in enumerate(groups):
            if group is None:
                continue
            counted = group.free_clusters
            if not group.bitmap_unwritten:
                try:
                    counted = await self._count_bitmap(number, group)
                except FileSystemError as error:
                    wrong.append(error.text)
            if counted != group.free_clusters:
                wrong.append(
                    f"group {number}: its descriptor says {group.free_clusters} free, its bitmap has {counted}"
                )
            free += counted
        damage.extend(wrong[:1])
        if len(wrong) > 1:
            damage.append(f"and {len(wrong) - 1} more bitmaps like it")
        return free

    async def _count_bitmap(self, number: int, group: Group) -> int:
        layout = self.layout
        what = f"block bitmap of group {number}"
        if number % _BITMAP_RUN == 0 and layout.features.incompatible & Incompatible.FLEX_BG:
            await self.blocks.read_ahead(group.block_bitmap, min(_BITMAP_RUN, layout.groups - number), what)
        blocks = min(layout.group_blocks, layout.blocks - layout.group_start(number))
        bits = -(-blocks // layout.cluster_blocks)
        used = int.from_bytes(await self.blocks.read(group.block_bitmap, what), "little")
        return bits - (used & ((1 << bits) - 1)).bit_count()


def _descriptor_places(layout: Layout, number: int) -> list[int]:
    """Return the blocks in which the descriptor of a group stands, copies last."""
    index = number // layout.block_descriptors
    if index < layout.first_meta_group:
        first = layout.superblock + 1 + index
        copy = layout.group_start(1) + 1 + index
        return [first, copy] if layout.groups > 1 and layout.has_superblock(1) else [first]
    base = index * layout.block_descriptors
    holders = (base, base + 1, base + layout.block_descriptors - 1)
    starts = ((layout.group_start(group) if group else layout.superblock, group) for group in holders)
    return [start + layout.has_superblock(group) for start, group in starts if group < layout.groups]


def _group(raw: bytes, *, flags_count: bool) -> Group:
    record = GroupDescriptor.from_buffer_copy(raw.ljust(_WIDE, b"\0"))  # absent high halves are zeros
    return Group(
        record.bg_block_bitmap | record.bg_block_bitmap_hi << 32,
        record.bg_inode_table | record.bg_inode_table_hi << 32,
        record.bg_free_blocks_count | record.bg_free_blocks_count_hi << 16,
        flags_count and bool(record.bg_flags & GroupFlags.BLOCK_UNINIT),
    )
