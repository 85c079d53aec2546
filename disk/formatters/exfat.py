"""Making an exFAT volume and filling it from a tree of files (Microsoft, "exFAT file system specification").

Clusters are whole pages of the disk.  Files lie on consecutive clusters, for which the FAT has no entries (NoFatChain);
`scattered` ones lie on every second free cluster, and are chained.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from callgate.disk.formatters.exfat_entries import (
    bitmap_entry,
    check_name,
    checksum32,
    entry_set,
    folded,
    label_entry,
    set_length,
    up_case_entry,
    up_case_table,
)
from callgate.disk.formatters.fat import Node, Target
from callgate.disk.formatters.fat_layout import SECTOR, FormatError
from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    EXFAT_CHECKSUM_SECTOR,
    EXFAT_NAME,
    EXFAT_NOT_CHECKED,
    EXFAT_REGION_SECTORS,
)

SERIAL = 0x4347_4B32
FAT_OFFSET = 32  # sectors; after the two boot regions of 12
EXTENDED_SECTORS = range(1, 9)
LEAST_SECTORS = (1 << 20) // SECTOR  # VolumeLength (3.1.5)
END = 0xFFFF_FFFF
FIRST = 2
#: Clusters by the volume's size, as other formatters choose them: sectors, up to this many sectors of the volume.
CLUSTERS = ((8, 512 << 11), (64, 32 << 21))
LARGEST = 256


@dataclass(frozen=True, slots=True)
class ExfatGeometry:
    """Places and sizes in 512-byte sectors."""

    start: int  # of the volume on its disk
    sectors: int
    cluster: int
    clusters: int
    fat_sectors: int
    heap: int


def plan(sectors: int, start: int = 0) -> ExfatGeometry:
    """Lay a volume out; FormatError if it is too small."""
    if sectors < LEAST_SECTORS:
        raise FormatError(f"exFAT does not fit {sectors * SECTOR >> 10} KiB; it takes 1024 KiB or more")
    cluster = next((size for size, limit in CLUSTERS if sectors <= limit), LARGEST)
    clusters = (sectors - FAT_OFFSET) // cluster
    while True:
        fat_sectors = -(-(clusters + FIRST) * 4 // SECTOR)
        heap = -(-(FAT_OFFSET + fat_sectors) // cluster) * cluster
        if heap + clusters * cluster <= sectors:
            return ExfatGeometry(start, sectors, cluster, clusters, fat_sectors, heap)
        clusters -= 1


def clusters_needed(nodes: Sequence[Node], geometry: ExfatGeometry) -> int:
    """Return the clusters that a tree takes, with bitmap, up-case table and root directory."""
    size = geometry.cluster * SECTOR
    fixed = -(-geometry.clusters // 8 // size) + 1 + -(-len(up_case_table()) // size)
    return fixed + _tree_clusters(nodes, size, 3 * 32)


def _tree_clusters(nodes: Sequence[Node], size: int, extra: int = 0) -> int:
    total = max(1, -(-(extra + sum(set_length(node.name) for node in nodes)) // size))
    for node in nodes:
        total += _tree_clusters(node.children, size) if node.directory else -(-node.size // size)
    return total


class ExfatWriter:
    """Writes one volume."""

    def __init__(
        self,
        target: Target,
        geometry: ExfatGeometry,
        label: str,
        serial: int = SERIAL,
        scattered: Callable[[Node], bool] = lambda _node: False,
    ) -> None:
        """`scattered` says of a file or directory whether its clusters shall be apart, and chained in the FAT."""
        self.target = target
        self.geometry = geometry
        self.label = label
        self.serial = serial
        self.scattered = scattered
        self.size = geometry.cluster * SECTOR
        self.next = FIRST
        self.holes: list[int] = []  # before `next`, between clusters that were put apart
        self.table = [0] * (FIRST + geometry.clusters)
        self.table[:FIRST] = [0xFFFF_FFF8, END]

    def write(self, root: Sequence[Node]) -> None:
        """Write boot regions, FAT, bitmap, up-case table and the tree; FormatError if it does not fit."""
        bitmap_bytes = -(-self.geometry.clusters // 8)
        bitmap = self._take(-(-bitmap_bytes // self.size), "the allocation bitmap", chained=True)
        table = self._take(-(-len(up_case_table()) // self.size), "the up-case table", chained=True)
        self._put(table, iter([up_case_table()]))
        head = label_entry(self.label) if self.label else b""
        head += bitmap_entry(bitmap[0], bitmap_bytes) + up_case_entry(table[0])
        length = len(head) + sum(set_length(node.name) for node in root)
        place = self._take(max(1, -(-length // self.size)), "the root directory", chained=True)
        self._put(place, iter([head + self._entries(root)]))
        self._put(bitmap, iter([self._bitmap(bitmap_bytes)]))
        packed = struct.pack(f"<{len(self.table)}I", *self.table)
        self.target.put(FAT_OFFSET, packed.ljust(self.geometry.fat_sectors * SECTOR, b"\0"))
        self._boot(place[0])

    def _take(self, count: int, place: str, *, chained: bool, apart: bool = False) -> list[int]:
        """Take clusters, one after the other or every second one, and chain them if that is wanted."""
        end = FIRST + self.geometry.clusters
        if count > end - self.next:
            raise FormatError(f"{place}: {count} clusters of {self.size} bytes are needed, {end - self.next} are free")
        step = 2 if apart and 2 * count <= end - self.next else 1
        taken = list(range(self.next, self.next + step * count, step))
        if step > 1:
            self.holes.extend(cluster + 1 for cluster in taken)
        self.next += step * count
        if chained and taken:
            for cluster, following in zip(taken, [*taken[1:], END], strict=True):
                self.table[cluster] = following
        return taken

    def _put(self, clusters: Sequence[int], chunks: Iterator[bytes]) -> None:
        """Write content to clusters; pieces of it come in chunks of any size."""
        buffer = bytearray()
        places = iter(clusters)
        for chunk in chunks:
            buffer += chunk
            while len(buffer) >= self.size:
                self._cluster(next(places), bytes(buffer[: self.size]))
                del buffer[: self.size]
        if buffer:
            self._cluster(next(places), bytes(buffer))

    def _cluster(self, number: int, data: bytes) -> None:
        sector = self.geometry.heap + (number - FIRST) * self.geometry.cluster
        self.target.put(sector, data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0"))

    def _entries(self, nodes: Sequence[Node]) -> bytes:
        """Write the content of a directory and return its entries."""
        seen: dict[tuple[int, ...], str] = {}
        entries = []
        for node in sorted(nodes, key=lambda item: item.name):
            try:
                check_name(node.name)
            except FormatError as error:
                raise FormatError(f"{node.origin}: {error}" if node.origin else str(error)) from None
            other = seen.setdefault(folded(node.name), node.name)
            if other != node.name:
                raise FormatError(f"{node.place}: its name is that of {other!r} in other letters; rename one")
            entries.append(self._node(node))
        return b"".join(entries)

    def _node(self, node: Node) -> bytes:
        apart = self.scattered(node)
        if node.directory:
            length = sum(set_length(child.name) for child in node.children)
            clusters = self._take(max(1, -(-length // self.size)), node.place, chained=apart, apart=apart)
            self._put(clusters, iter([self._entries(node.children)]))
            size = len(clusters) * self.size
        else:
            clusters = self._take(-(-node.size // self.size), node.place, chained=apart, apart=apart)
            content = node.content
            assert content is not None
            self._put(clusters, iter([content]) if isinstance(content, bytes) else content.chunks())
            size = node.size
        return entry_set(
            node.name,
            node.modified,
            clusters[0] if clusters else 0,
            size,
            directory=node.directory,
            consecutive=not apart,
        )

    def _bitmap(self, size: int) -> bytes:
        used = (1 << self.next - FIRST) - 1
        for cluster in self.holes:
            used &= ~(1 << cluster - FIRST)
        return used.to_bytes(size, "little")

    def _boot(self, root: int) -> None:
        """Write both boot regions (3)."""
        geometry = self.geometry
        used = self.next - FIRST - len(self.holes)
        boot = struct.pack(
            "<3s8s53xQQIIIIIIHHBBBBB7x",
            *(b"\xeb\x76\x90", EXFAT_NAME, geometry.start, geometry.sectors, FAT_OFFSET, geometry.fat_sectors),
            *(geometry.heap, geometry.clusters, root, self.serial, 0x100, 0),
            *(9, geometry.cluster.bit_length() - 1, 1, 0x80, used * 100 // geometry.clusters),
        )
        extended = bytes(BOOT_SIGNATURE_OFFSET) + BOOT_SIGNATURE
        sectors = [boot.ljust(BOOT_SIGNATURE_OFFSET, b"\xf4") + BOOT_SIGNATURE]
        for number in range(1, EXFAT_CHECKSUM_SECTOR):
            sectors.append(extended if number in EXTENDED_SECTORS else bytes(SECTOR))
        region = b"".join(sectors)
        region += struct.pack("<I", checksum32(region, EXFAT_NOT_CHECKED)) * (SECTOR // 4)
        self.target.put(0, region)
        self.target.put(EXFAT_REGION_SECTORS, region)
