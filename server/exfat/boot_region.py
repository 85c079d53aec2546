"""The boot regions: from twelve sectors to the numbers on which all others depend (3)."""

from typing import Final, NamedTuple

from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    EXFAT_CHECKSUM_SECTOR,
    EXFAT_NAME,
    EXFAT_NOT_CHECKED,
    EXFAT_REGION_SECTORS,
)
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.disk import SectorReader
from callgate.server.errors import MountError
from callgate.server.exfat.probe import SHIFTS
from callgate.server.exfat.structures import (
    CLUSTERS_LIMIT,
    FIRST_CLUSTER,
    BootSector,
    VolumeFlag,
)

CLUSTER_SHIFT_LIMIT: Final = 25  # clusters have at most 32 MiB (3.1.15)


class ExfatLayout(NamedTuple):
    """Where things are, in 512-byte sectors of the partition, and how many clusters there are."""

    sector_bytes: int
    cluster_sectors: int
    fat_start: int  # of the active FAT
    heap_start: int
    clusters: int
    root_cluster: int
    serial: int
    dirty: bool
    sectors: int  # of the volume

    @property
    def cluster_bytes(self) -> int:
        """Bytes in a cluster."""
        return self.cluster_sectors * SECTOR_SIZE

    @property
    def last_cluster(self) -> int:
        """The highest cluster number."""
        return FIRST_CLUSTER + self.clusters - 1

    def details(self) -> dict[str, int | str]:
        """Return numbers of note, sectors as the volume counts them."""
        scale = self.sector_bytes // SECTOR_SIZE
        return {
            "sector_bytes": self.sector_bytes,
            "cluster_bytes": self.cluster_bytes,
            "clusters": self.clusters,
            "fat_sector": self.fat_start // scale,
            "data_sector": self.heap_start // scale,
            "serial": f"{self.serial >> 16:04X}-{self.serial & 0xFFFF:04X}",
        }

    def is_cluster(self, number: int) -> bool:
        """Whether a number is that of a cluster of the volume."""
        return FIRST_CLUSTER <= number <= self.last_cluster

    def sector_of(self, cluster: int) -> int:
        """Return a cluster's first sector in the partition."""
        return self.heap_start + (cluster - FIRST_CLUSTER) * self.cluster_sectors


async def read_boot_region(reader: SectorReader, partition_sectors: int) -> tuple[ExfatLayout, list[str]]:
    """Return the layout by the main boot region or the backup, and its faults; MountError if neither is usable."""
    if partition_sectors < 1:
        raise MountError("boot sector: the partition is empty")
    try:
        return await _read_region(reader, 0, None, partition_sectors), []
    except MountError as error:
        first = error
    for shift in SHIFTS:
        place = EXFAT_REGION_SECTORS << shift - 9
        if place + place > partition_sectors:
            break
        try:
            layout = await _read_region(reader, place, shift, partition_sectors)
        except MountError:
            continue
        return layout, [f"{first.text}; the backup in disk sector {place} is used instead"]
    raise first


async def _read_region(reader: SectorReader, place: int, shift: int | None, sectors: int) -> ExfatLayout:
    """Check the region that begins at a disk sector, of sectors of 2**`shift` bytes if that is known."""
    raw = await reader.read(place, 1)
    layout = parse_boot_sector(raw, sectors)
    size = layout.sector_bytes
    if shift is not None and size != 1 << shift:
        raise MountError(f"backup boot sector: it does not lie where sectors of {size} bytes would put it")
    if place + EXFAT_REGION_SECTORS * size // SECTOR_SIZE > sectors:
        raise MountError(f"boot region: 12 sectors of {size} bytes are more than the partition has")
    region = await reader.read(place, EXFAT_REGION_SECTORS * size // SECTOR_SIZE)
    stored = region[EXFAT_CHECKSUM_SECTOR * size :][:4]
    counted = boot_checksum(region[: EXFAT_CHECKSUM_SECTOR * size]).to_bytes(4, "little")
    if stored != counted:
        raise MountError(f"boot region: its checksum is {counted[::-1].hex()} and should be {stored[::-1].hex()}")
    return layout


def boot_checksum(sectors: bytes) -> int:
    """Return the checksum of the first eleven sectors of a region (3.4, Figure 1)."""
    value = 0
    for index, byte in enumerate(sectors):
        if index not in EXFAT_NOT_CHECKED:
            value = ((value << 31 | value >> 1) & 0xFFFF_FFFF) + byte & 0xFFFF_FFFF
    return value


def parse_boot_sector(raw: bytes, partition_sectors: int) -> ExfatLayout:
    """Return the layout that a boot sector describes; MountError names the absurd number (3.1)."""
    boot = BootSector.from_buffer_copy(raw)
    _check_identity(raw, boot)
    shift, per_cluster = boot.BytesPerSectorShift, boot.SectorsPerClusterShift
    if shift not in SHIFTS:
        raise MountError(f"boot sector: BytesPerSectorShift is {shift}, and 9 to 12 are allowed")
    if per_cluster > CLUSTER_SHIFT_LIMIT - shift:
        raise MountError(f"boot sector: SectorsPerClusterShift is {per_cluster}, at most {25 - shift} are allowed")
    if boot.NumberOfFats not in (1, 2):
        raise MountError(f"boot sector: NumberOfFats is {boot.NumberOfFats}, and 1 and 2 are allowed")
    _check_places(boot)
    scale = 1 << shift - 9
    active = boot.VolumeFlags & VolumeFlag.ACTIVE_FAT and boot.NumberOfFats == 2
    return ExfatLayout(
        sector_bytes=1 << shift,
        cluster_sectors=scale << per_cluster,
        fat_start=(boot.FatOffset + (boot.FatLength if active else 0)) * scale,
        heap_start=boot.ClusterHeapOffset * scale,
        clusters=_clusters(boot, scale, partition_sectors),
        root_cluster=boot.FirstClusterOfRootDirectory,
        serial=boot.VolumeSerialNumber,
        dirty=bool(boot.VolumeFlags & (VolumeFlag.VOLUME_DIRTY | VolumeFlag.MEDIA_FAILURE)),
        sectors=boot.VolumeLength * scale,
    )


def _check_identity(raw: bytes, boot: BootSector) -> None:
    if bytes(boot.FileSystemName) != EXFAT_NAME or raw[BOOT_SIGNATURE_OFFSET:] != BOOT_SIGNATURE:
        raise MountError("boot sector: FileSystemName or BootSignature is not exFAT's")
    if any(boot.MustBeZero):
        raise MountError("boot sector: MustBeZero is not zero, which a FAT volume would use")
    if boot.FileSystemRevision >> 8 != 1:
        major, minor = divmod(boot.FileSystemRevision, 256)
        raise MountError(f"boot sector: FileSystemRevision is {major}.{minor}, and only 1.x is known")


def _check_places(boot: BootSector) -> None:
    """Check that FAT and cluster heap are large enough and follow each other."""
    fats, length = boot.NumberOfFats, boot.FatLength
    entries = length << boot.BytesPerSectorShift >> 2
    if boot.FatOffset < 2 * EXFAT_REGION_SECTORS:
        raise MountError(f"boot sector: FatOffset is {boot.FatOffset}, within the boot regions of 24 sectors")
    if not 0 < boot.ClusterCount <= CLUSTERS_LIMIT:
        raise MountError(f"boot sector: ClusterCount is {boot.ClusterCount}, and 1 to {CLUSTERS_LIMIT} are allowed")
    if entries < boot.ClusterCount + FIRST_CLUSTER:
        raise MountError(f"boot sector: a FAT of {length} sectors is too small for {boot.ClusterCount} clusters")
    if boot.ClusterHeapOffset < boot.FatOffset + fats * length:
        raise MountError(f"boot sector: ClusterHeapOffset is {boot.ClusterHeapOffset}, within the FATs")
    end = boot.ClusterHeapOffset + (boot.ClusterCount << boot.SectorsPerClusterShift)
    if end > boot.VolumeLength:
        raise MountError(f"boot sector: {boot.ClusterCount} clusters end at sector {end} of {boot.VolumeLength}")
    root = boot.FirstClusterOfRootDirectory
    if not FIRST_CLUSTER <= root <= boot.ClusterCount + 1:
        raise MountError(f"boot sector: the root directory begins at {root}, which is not a cluster")


def _clusters(boot: BootSector, scale: int, partition_sectors: int) -> int:
    """Return how many clusters lie in the partition, which may have been cut short; MountError if none does."""
    there = (partition_sectors - boot.ClusterHeapOffset * scale) // (scale << boot.SectorsPerClusterShift)
    if there <= 0:
        raise MountError(
            f"boot sector: the clusters begin at sector {boot.ClusterHeapOffset * scale} of 512 bytes, and the "
            f"partition has {partition_sectors}"
        )
    return int(min(boot.ClusterCount, there))
