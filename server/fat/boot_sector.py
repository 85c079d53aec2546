"""The boot sector: from its bytes to a checked `FatLayout`, or to a sentence that names the fault.

Every value that later code computes with is bounded here, so later code can trust it.
"""

from typing import Final, TypeVar

from callgate.kernel.abi.disks.volumes import FAT12_CLUSTERS, FAT16_CLUSTERS, FAT32_CLUSTERS, FAT_EXTENDED_SIGNATURE
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.record import record, replaced
from callgate.server.errors import MountError
from callgate.server.fat.structures import (
    DIRTY_BIT,
    EXT_FLAGS_ACTIVE,
    EXT_FLAGS_NOT_MIRRORED,
    EXTENDED_BOOT_SIGNATURE_SHORT,
    FIRST_CLUSTER,
    RECORD_SIZE,
    BootSector,
    BootSector16,
    BootSector32,
)

_SECTOR_SIZES: Final = (512, 1024, 2048, 4096)
_CLUSTER_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_RANGE: Final = "1 or more"

Record = TypeVar("Record", bound=BootSector)


@record(frozen=True)
class FatLayout:
    """Where everything is.  Sectors are disk sectors of 512 bytes from the partition's start."""

    bits: int  # of a FAT entry: 12, 16 or 32
    sector_bytes: int  # as the volume records it
    cluster_sectors: int
    clusters: int  # count; numbers are 2 to clusters + 1
    fat_start: int
    fat_sectors: int  # of one copy
    fats: int
    active_fat: int
    mirrored: bool
    root_start: int  # of the fixed root directory; 0 on FAT32
    root_bytes: int  # what BPB_RootEntCnt takes; 0 on sound FAT32
    root_cluster: int  # 0 on FAT12 and FAT16
    data_start: int
    sectors: int  # of the whole volume
    fsinfo: int  # sector; 0 if there is none
    serial: int
    dirty: bool
    media: int

    def __deepcopy__(self, memo: dict[int, object]) -> "FatLayout":
        """Return itself: it never changes."""
        return self

    @property
    def kind(self) -> str:
        """Return ``fat12``, ``fat16`` or ``fat32``."""
        return f"fat{self.bits}"

    @property
    def cluster_bytes(self) -> int:
        """Return the size of a cluster in bytes."""
        return self.cluster_sectors * SECTOR_SIZE

    @property
    def last_cluster(self) -> int:
        """Return the highest cluster number."""
        return self.clusters + FIRST_CLUSTER - 1

    def details(self) -> dict[str, int | str]:
        """Return numbers of note, sectors as the volume counts them."""
        scale = self.sector_bytes // SECTOR_SIZE
        return {
            "sector_bytes": self.sector_bytes,
            "cluster_bytes": self.cluster_bytes,
            "clusters": self.clusters,
            "fats": self.fats,
            "fat_sectors": self.fat_sectors // scale,
            "root_entries": self.root_bytes // RECORD_SIZE,
            "reserved_sectors": self.fat_start // scale,
            "data_sector": self.data_start // scale,
            **({"serial": f"{self.serial >> 16:04X}-{self.serial & 0xFFFF:04X}"} if self.serial else {}),
        }

    def is_cluster(self, number: int) -> bool:
        """Return whether ``number`` is the number of a data cluster."""
        return FIRST_CLUSTER <= number <= self.last_cluster

    def sector_of(self, cluster: int) -> int:
        """Return the first 512-byte sector of a cluster ("FAT Data Structure", FirstSectorofCluster)."""
        return self.data_start + (cluster - FIRST_CLUSTER) * self.cluster_sectors


def parse_boot_sector(sector: bytes, partition_sectors: int) -> FatLayout:
    """Return the layout that ``sector`` (512 bytes) describes on a partition of 512-byte sectors.

    The volume may be larger than the partition, as in the image of a disk that was not copied to its end, if the FATs
    and the beginning of the root directory are there.  MountError names the field, its offset and value, and what is
    expected.
    """
    if len(sector) < SECTOR_SIZE:
        raise MountError(f"boot sector: {len(sector)} bytes are there, {SECTOR_SIZE} are needed")
    common = BootSector.from_buffer_copy(sector)
    _check_common(common)
    total = _total_sectors(common)
    there = partition_sectors * SECTOR_SIZE // common.BPB_BytsPerSec
    try:
        if common.BPB_FATSz16 == 0:
            layout = _layout32(BootSector32.from_buffer_copy(sector), total)
        else:
            layout = _layout16(BootSector16.from_buffer_copy(sector), total)
    except MountError:
        if total <= there:
            raise
    else:
        root = layout.sector_of(layout.root_cluster) if layout.root_cluster else layout.root_start
        if root < partition_sectors:
            return layout
    raise _wrong(
        common,
        _total_field(common),
        f"at most {there}: the volume is larger than its partition of {partition_sectors} disk sectors (a truncated "
        "image?)",
    )


def _wrong(record: BootSector, field: str, expected: str, value: int | None = None) -> MountError:
    offset = getattr(type(record), field).offset
    found = getattr(record, field) if value is None else value
    return MountError(f"boot sector, offset {offset}: {field} is {found} ({found:#x}); expected {expected}")


def _check_common(boot: BootSector) -> None:
    """Check the fields that need no other one ("BPB")."""
    if boot.BPB_BytsPerSec not in _SECTOR_SIZES:
        raise _wrong(boot, "BPB_BytsPerSec", "512, 1024, 2048 or 4096")
    if boot.BPB_SecPerClus not in _CLUSTER_SIZES:
        raise _wrong(boot, "BPB_SecPerClus", "a power of two from 1 to 128")
    for field in ("BPB_RsvdSecCnt", "BPB_NumFATs"):
        if getattr(boot, field) == 0:
            raise _wrong(boot, field, _RANGE)
    if boot.BPB_Media != 0xF0 and boot.BPB_Media < 0xF8:
        raise _wrong(boot, "BPB_Media", "0xf0, or 0xf8 to 0xff")


def _total_field(boot: BootSector) -> str:
    return "BPB_TotSec16" if boot.BPB_TotSec16 else "BPB_TotSec32"


def _total_sectors(boot: BootSector) -> int:
    """Return the volume's size in its own sectors."""
    field = _total_field(boot)
    total: int = getattr(boot, field)
    if total == 0:
        raise _wrong(boot, field, f"{_RANGE} here or in BPB_TotSec16")
    return total


@record(frozen=True)
class _Regions:
    """Sizes in the volume's own sectors ("FAT Type Determination")."""

    root: int
    data: int
    clusters: int


def _regions(boot: BootSector, total: int, fat_field: str) -> _Regions:
    """Compute the regions; MountError if they do not fit the volume."""
    fat_size: int = getattr(boot, fat_field)
    if fat_size == 0:
        raise _wrong(boot, fat_field, f"{_RANGE} here or in BPB_FATSz16")
    root = -(-boot.BPB_RootEntCnt * RECORD_SIZE // boot.BPB_BytsPerSec)
    data = boot.BPB_RsvdSecCnt + boot.BPB_NumFATs * fat_size + root
    if boot.BPB_RsvdSecCnt >= total:
        raise _wrong(boot, "BPB_RsvdSecCnt", f"less than the {total} sectors of the volume")
    if data >= total:
        raise _wrong(
            boot,
            fat_field,
            f"less: reserved sectors, {boot.BPB_NumFATs} FATs and a root directory of {root} sectors take "
            f"{data} sectors and the volume has {total}",
        )
    clusters = (total - data) // boot.BPB_SecPerClus
    if clusters == 0:
        raise _wrong(boot, "BPB_SecPerClus", f"at most {total - data}, the sectors of the data region")
    return _Regions(root, data, clusters)


def _check_fat_size(boot: BootSector, fat_field: str, bits: int, clusters: int) -> None:
    """Check that one FAT has an entry for every cluster."""
    needed = -(-(clusters + FIRST_CLUSTER) * bits // (8 * boot.BPB_BytsPerSec))
    if getattr(boot, fat_field) < needed:
        raise _wrong(
            boot,
            fat_field,
            f"at least {needed}: the volume has {clusters} clusters of {bits}-bit FAT entries",
        )


def _layout16(boot: BootSector16, total: int) -> FatLayout:
    if boot.BPB_RootEntCnt == 0:
        raise _wrong(boot, "BPB_RootEntCnt", f"{_RANGE} on FAT12 and FAT16")
    regions = _regions(boot, total, "BPB_FATSz16")
    if regions.clusters >= FAT16_CLUSTERS:
        raise _wrong(
            boot,
            "BPB_FATSz16",
            f"0, as the volume has {regions.clusters} clusters, too many for FAT16 (at most {FAT16_CLUSTERS - 1})",
        )
    bits = 12 if regions.clusters < FAT12_CLUSTERS else 16
    _check_fat_size(boot, "BPB_FATSz16", bits, regions.clusters)
    return _layout(boot, boot.BPB_FATSz16, bits, total, regions)


def _layout32(boot: BootSector32, total: int) -> FatLayout:
    """Check and lay out a FAT32 volume.

    The specification tells widths by the number of clusters alone; yet a BPB without BPB_FATSz16 has no
    other reading than FAT32, and ``mkfs.fat -F 32`` makes such volumes with few clusters, which Windows
    and Linux read.
    """
    if boot.BPB_FSVer and boot.BPB_RootEntCnt:  # FAT32's fields hold something else
        raise _wrong(boot, "BPB_RootEntCnt", "0 on FAT32, which BPB_FATSz16 = 0 makes this volume")
    if boot.BPB_FSVer:
        raise _wrong(boot, "BPB_FSVer", "0: version 0.0 is the only one known")
    regions = _regions(boot, total, "BPB_FATSz32")
    if regions.clusters > FAT32_CLUSTERS:
        raise _wrong(boot, "BPB_SecPerClus", f"more: {regions.clusters} clusters are too many for FAT32")
    _check_fat_size(boot, "BPB_FATSz32", 32, regions.clusters)
    last = regions.clusters + FIRST_CLUSTER - 1
    if not FIRST_CLUSTER <= boot.BPB_RootClus <= last:
        raise _wrong(boot, "BPB_RootClus", f"a cluster number, {FIRST_CLUSTER} to {last}")
    mirrored = not boot.BPB_ExtFlags & EXT_FLAGS_NOT_MIRRORED
    active = 0 if mirrored else boot.BPB_ExtFlags & EXT_FLAGS_ACTIVE
    if active >= boot.BPB_NumFATs:
        raise _wrong(boot, "BPB_ExtFlags", f"an active FAT below {boot.BPB_NumFATs}, the number of FATs")
    scale = boot.BPB_BytsPerSec // SECTOR_SIZE
    has_fsinfo = 0 < boot.BPB_FSInfo < boot.BPB_RsvdSecCnt
    return replaced(
        _layout(boot, boot.BPB_FATSz32, 32, total, regions),
        active_fat=active,
        mirrored=mirrored,
        root_start=0,
        root_cluster=boot.BPB_RootClus,
        fsinfo=boot.BPB_FSInfo * scale if has_fsinfo else 0,
    )


def _layout(boot: BootSector16 | BootSector32, fat_size: int, bits: int, total: int, regions: _Regions) -> FatLayout:
    """Convert the volume's own sectors to disk sectors; the fields of FAT12 and FAT16 are filled in."""
    scale = boot.BPB_BytsPerSec // SECTOR_SIZE
    signed = boot.BS_BootSig in (FAT_EXTENDED_SIGNATURE, EXTENDED_BOOT_SIGNATURE_SHORT)
    return FatLayout(
        bits=bits,
        sector_bytes=boot.BPB_BytsPerSec,
        cluster_sectors=boot.BPB_SecPerClus * scale,
        clusters=regions.clusters,
        fat_start=boot.BPB_RsvdSecCnt * scale,
        fat_sectors=fat_size * scale,
        fats=boot.BPB_NumFATs,
        active_fat=0,
        mirrored=True,
        root_start=(regions.data - regions.root) * scale,
        root_bytes=boot.BPB_RootEntCnt * RECORD_SIZE,
        root_cluster=0,
        data_start=regions.data * scale,
        sectors=total * scale,
        fsinfo=0,
        serial=boot.BS_VolID if signed else 0,
        dirty=bool(boot.BS_Reserved1 & DIRTY_BIT),
        media=boot.BPB_Media,
    )
