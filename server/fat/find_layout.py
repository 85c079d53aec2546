"""Which layout a volume has, where its boot sector leaves a choice: a backup, a field that contradicts the others."""

from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.record import replaced
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError, MountError
from callgate.server.fat.boot_sector import FatLayout, parse_boot_sector
from callgate.server.fat.directory import parse_directory
from callgate.server.fat.probe import BACKUP_PLACES, parse_backup, says_other_width
from callgate.server.fat.structures import FIRST_CLUSTER, RECORD_SIZE


async def find_layout(reader: SectorReader, partition_sectors: int) -> tuple[FatLayout, list[str]]:
    """Return the layout of a partition of this many 512-byte sectors, and its faults as text.

    MountError if it cannot be served.
    """
    layout, damage = await _main_or_backup(reader, partition_sectors)
    if layout.root_cluster and layout.root_bytes:
        layout, complaint = await _judge_root_entries(reader, layout)
        damage.append(complaint)
    if layout.sectors > partition_sectors:
        damage.append(
            f"the volume has {layout.sectors} sectors of 512 bytes, and the partition {partition_sectors} (a truncated "
            "image?); what lies beyond cannot be read"
        )
    return layout, damage


async def _main_or_backup(reader: SectorReader, partition_sectors: int) -> tuple[FatLayout, list[str]]:
    """Return the layout by the boot sector, or by FAT32's backup of it if that one is bad."""
    if partition_sectors < 1:
        raise MountError("boot sector: the partition is empty")
    sector = await reader.read(0, 1)
    try:
        return parse_boot_sector(sector, partition_sectors), []
    except MountError as error:
        first = error
    if says_other_width(sector):
        raise first
    for place in BACKUP_PLACES:
        if place < partition_sectors:
            layout = parse_backup(await reader.read(place, 1), place, partition_sectors)
            if layout is not None:
                return layout, [f"{first.text}; the backup in disk sector {place} is used instead"]
    raise first


async def _judge_root_entries(reader: SectorReader, layout: FatLayout) -> tuple[FatLayout, str]:
    """Return the layout of a FAT32 volume with a BPB_RootEntCnt, and a note about it.

    By the formula of the specification, and for Linux, clusters begin after as many records; for others FAT32 has none.
    The root directory shows which rule the writer followed: it lies in one of two places.
    """
    data_start = layout.fat_start + layout.fats * layout.fat_sectors
    room = min(
        (layout.sectors - data_start) // layout.cluster_sectors, layout.fat_sectors * SECTOR_SIZE // 4 - FIRST_CLUSTER
    )
    without = replaced(layout, data_start=data_start, clusters=room, root_bytes=0)
    complaint = f"boot sector: BPB_RootEntCnt is {layout.root_bytes // RECORD_SIZE}, expected 0 on FAT32"
    if not await _has_root(reader, layout) and await _has_root(reader, without):
        return without, f"{complaint}; it is not used"
    return layout, f"{complaint}; clusters begin after as many records"


async def _has_root(reader: SectorReader, layout: FatLayout) -> bool:
    """Whether the first cluster of the root directory holds names, and only valid entries."""
    start = layout.sector_of(layout.root_cluster)
    try:
        data = await reader.read(start, layout.cluster_sectors)
    except FileSystemError:
        return False
    directory = parse_directory(data, [start * SECTOR_SIZE])
    known = [entry for entry in directory.entries if entry.cluster == 0 or layout.is_cluster(entry.cluster)]
    return bool(directory.label or known) and len(known) == len(directory.entries)
