"""Where a new FAT volume's structures lie (Microsoft FAT specification 1.03, "FAT Volume Initialization").

Clusters are 4 KiB or more where the width allows it, and the data area starts on a multiple of 4 KiB
from the start of the disk, so that every cluster is whole pages of the disk cache.
"""

from dataclasses import dataclass

from callgate.kernel.abi.disks.volumes import FAT12_CLUSTERS, FAT16_CLUSTERS, FAT32_CLUSTERS

SECTOR = 512
ALIGN = 8  # sectors of 4 KiB
MARGIN = 16  # clusters; other systems disagree about the exact limits, so "stay away by 16"
LIMITS = {12: FAT12_CLUSTERS - 1 - MARGIN, 16: FAT16_CLUSTERS - 1 - MARGIN, 32: FAT32_CLUSTERS - 1}
MINIMUM = {12: 1, 16: FAT12_CLUSTERS + MARGIN, 32: FAT16_CLUSTERS + MARGIN}
ROOT_ENTRIES = 512
# DskTableFAT32 of the specification from 4 KiB clusters on; DskTableFAT16 has nothing that 4 KiB and the
# smallest size that fits would not give.
SECTORS_LIMIT = 0xFFFF_FFFF  # limits of the boot sector's fields
FAT32_TABLE = ((16_777_216, 8), (33_554_432, 16), (67_108_864, 32), (SECTORS_LIMIT, 64))
CLUSTER_SIZES = (8, 16, 32, 64, 128)
SMALL_CLUSTER_SIZES = (4, 2, 1)
FATS = 2
RESERVED = {12: 1, 16: 1, 32: 32}


class FormatError(Exception):
    """A volume that cannot be made in this way: the thing and the reason."""


@dataclass(frozen=True, slots=True)
class FatGeometry:
    """A new volume; sizes in 512-byte sectors."""

    width: int
    sectors: int
    cluster: int
    reserved: int
    fat_size: int
    root_sectors: int
    clusters: int

    @property
    def root_start(self) -> int:
        """First sector of the root directory of FAT12 and FAT16."""
        return self.reserved + FATS * self.fat_size

    @property
    def data_start(self) -> int:
        """First sector of cluster 2."""
        return self.root_start + self.root_sectors

    def sector_of(self, cluster: int) -> int:
        """Return the first sector of a cluster."""
        return self.data_start + (cluster - 2) * self.cluster


def plan(width: int, sectors: int, start: int, root_entries: int = ROOT_ENTRIES) -> FatGeometry:
    """Lay a volume of `sectors` out at sector `start` of the disk; FormatError if the width does not fit.

    `root_entries` is rounded up to whole 4 KiB; FAT32 has no such limit.
    """
    root = -(-root_entries * 32 // (ALIGN * SECTOR)) * ALIGN if width != 32 else 0
    for cluster in (*preferred(width, sectors), *SMALL_CLUSTER_SIZES):
        geometry = try_cluster(width, sectors, start, cluster, root)
        if geometry is not None:
            return geometry
    fats = FATS * -(-((MINIMUM[width] + 2) * width) // (8 * SECTOR))
    low = (RESERVED[width] + fats + root + ALIGN + MINIMUM[width]) * SECTOR // 1024
    high = min(LIMITS[width] * CLUSTER_SIZES[-1], SECTORS_LIMIT) * SECTOR // (1 << 20)
    size = sectors * SECTOR // 1024
    raise FormatError(f"FAT{width} does not fit {size} KiB; it takes about {low} KiB to {high} MiB")


def preferred(width: int, sectors: int) -> tuple[int, ...]:
    """Return cluster sizes to try, in sectors: the FAT32 table's, or the smallest of a page or more."""
    if width == 32:
        for limit, cluster in FAT32_TABLE:
            if sectors <= limit:
                return (cluster, *(size for size in CLUSTER_SIZES if size != cluster))
    return CLUSTER_SIZES


def try_cluster(width: int, sectors: int, start: int, cluster: int, root: int) -> FatGeometry | None:
    """Return the layout with one cluster size, None if the number of clusters would mean another width."""
    reserved = RESERVED[width]
    fat_size = 1
    while True:
        head = reserved + FATS * fat_size + root
        # The reserved area grows until the data area is aligned on the disk.
        padding = -(start + head) % ALIGN
        clusters = (sectors - head - padding) // cluster
        needed = -(-((clusters + 2) * width) // (8 * SECTOR))
        if needed <= fat_size:
            break
        fat_size = needed
    if not MINIMUM[width] <= clusters <= LIMITS[width]:
        return None
    return FatGeometry(width, sectors, cluster, reserved + padding, fat_size, root, clusters)
