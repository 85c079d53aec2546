"""Making a FAT volume and filling it from a tree of files.

Everything is written front to back, each file on consecutive clusters; the same tree gives the same
bytes, given the same times.
"""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from callgate.disk.formatters.fat_layout import FATS, SECTOR, FatGeometry, FormatError
from callgate.disk.formatters.fat_names import alias, check, long_entries, short_form
from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    FAT_BACKUP_SECTOR,
    FAT_EXTENDED_SIGNATURE,
    FSINFO_LEAD,
    FSINFO_STRUCTURE,
    FSINFO_UNKNOWN,
)

MEDIA = 0xF8
SERIAL = 0x4347_4B31
END = {12: 0xFFF, 16: 0xFFFF, 32: 0x0FFF_FFFF}
ATTRIBUTE_VOLUME, ATTRIBUTE_DIRECTORY, ATTRIBUTE_ARCHIVE = 0x08, 0x10, 0x20
DIRECTORY_LIMIT = 2 << 20
FILE_LIMIT = (1 << 32) - 1
FSINFO_SECTOR = 1
DOS_START, DOS_END = (int(datetime(*date, tzinfo=UTC).timestamp()) for date in ((1980, 1, 1), (2107, 12, 31)))
CHUNK = 1 << 20
ROOT = 0  # what ".." of a directory in the root names


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file's content that stays on the host until it is written: where it is and its size in bytes."""

    path: Path
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, CHUNK bytes at a time; FormatError if it is not as long as it was."""
        left = self.size
        try:
            with self.path.open("rb") as file:
                while left:
                    data = file.read(min(CHUNK, left))
                    if not data:
                        raise FormatError(f"{self.path}: the file became shorter while it was copied")
                    left -= len(data)
                    yield data
        except OSError as error:
            raise FormatError(f"{self.path}: cannot be read: {error.strerror}") from None


@dataclass(slots=True)
class Node:
    """A file (with content) or directory (with children) to write; `modified` in seconds since 1970, UTC."""

    name: str
    modified: int = 0
    content: bytes | HostFile | None = None
    children: list["Node"] = field(default_factory=list)
    origin: str = ""  # its name in messages, if another

    @property
    def directory(self) -> bool:
        """Whether this is a directory."""
        return self.content is None

    @property
    def size(self) -> int:
        """Bytes of content."""
        if self.content is None:
            return 0
        return self.content.size if isinstance(self.content, HostFile) else len(self.content)

    @property
    def place(self) -> str:
        """Its name in messages."""
        return self.origin or self.name


Named = tuple[Node, bytes, bytes]


class FatWriter:
    """Writes one volume into a writable buffer or file-like region of `geometry.sectors` sectors."""

    def __init__(self, target: "Target", geometry: FatGeometry, label: str, serial: int = SERIAL) -> None:
        self.target = target
        self.geometry = geometry
        self.label = label
        self.serial = serial
        self.table: list[int] = [0xFFFF_FF00 | MEDIA, END[geometry.width]]

    def write(self, root: Sequence[Node]) -> None:
        """Write boot sector, FATs and the tree; FormatError if it does not fit."""
        geometry = self.geometry
        listing = listed(root)
        if geometry.width == 32:
            self._directory(listing, None, self._label_record())
        else:
            length = directory_length(listing, 1 if self.label else 0)
            room = geometry.root_sectors * SECTOR
            if length > room:
                reason = f"{length // 32} entries are needed, it holds {room // 32}"
                raise FormatError(f"the root directory: {reason}; move files into directories")
            data = self._label_record() + self._records(listing, ROOT)
            self.target.put(geometry.root_start, data.ljust(room, b"\0"))
        self._write_tables()
        self._write_boot()

    def _label_record(self) -> bytes:
        if not self.label:
            return b""
        return record(label_field(self.label), ATTRIBUTE_VOLUME, DOS_START, 0, 0)

    def _allocate(self, clusters: int, place: str) -> int:
        """Take consecutive clusters and chain them; return the first."""
        first = len(self.table)
        if first + clusters > self.geometry.clusters + 2:
            free = self.geometry.clusters + 2 - first
            reason = f"{clusters} clusters of {self.geometry.cluster * SECTOR} bytes are needed, {free} are free"
            raise FormatError(f"{place}: does not fit: {reason}; make the image larger")
        self.table.extend(range(first + 1, first + clusters))
        self.table.append(END[self.geometry.width])
        return first

    def _content(self, node: Node) -> int:
        """Write a file to new clusters; return the first, 0 for no bytes."""
        if node.size > FILE_LIMIT:
            raise FormatError(f"{node.place}: {node.size} bytes; the most that FAT can hold is {FILE_LIMIT}")
        if not node.size:
            return 0
        first = self._allocate(-(-node.size // (self.geometry.cluster * SECTOR)), node.place)
        sector = self.geometry.sector_of(first)
        chunks = node.content.chunks() if isinstance(node.content, HostFile) else iter([node.content or b""])
        for data in chunks:
            self.target.put(sector, data + bytes(-len(data) % SECTOR))
            sector += -(-len(data) // SECTOR)
        return first

    def _directory(self, listing: Sequence[Named], node: Node | None, head: bytes = b"", parent: int = ROOT) -> int:
        """Write a directory (None is FAT32's root) and everything below it; return its first cluster."""
        place = node.place if node else "the root directory"
        size = self.geometry.cluster * SECTOR
        length = directory_length(listing, 2 if node else len(head) // 32)
        if length > DIRECTORY_LIMIT:
            raise FormatError(f"{place}: a directory of {length} bytes; FAT allows {DIRECTORY_LIMIT}")
        own = self._allocate(max(1, -(-length // size)), place)
        if node:
            head = record(b".".ljust(11), ATTRIBUTE_DIRECTORY, node.modified, own, 0)
            head += record(b"..".ljust(11), ATTRIBUTE_DIRECTORY, node.modified, parent, 0)
        data = head + self._records(listing, own if node else ROOT)
        self.target.put(self.geometry.sector_of(own), data.ljust(-(-length // size) * size, b"\0"))
        return own

    def _records(self, listing: Sequence[Named], own: int) -> bytes:
        """Write the content of a directory; return its entries.  `own` is 0 in the root, as ".." wants it."""
        out = bytearray()
        for node, short, entries in listing:
            if node.content is None:
                cluster = self._directory(listed(node.children), node, parent=own)
                attributes = ATTRIBUTE_DIRECTORY
            else:
                cluster = self._content(node)
                attributes = ATTRIBUTE_ARCHIVE
            out += entries + record(short, attributes, node.modified, cluster, node.size)
        return bytes(out)

    def _write_tables(self) -> None:
        width = self.geometry.width
        if width == 12:
            data = pack12(self.table)
        else:
            self.table[0] &= END[width]
            data = struct.pack(f"<{len(self.table)}{'H' if width == 16 else 'I'}", *self.table)
        data = data.ljust(self.geometry.fat_size * 512, b"\0")
        for index in range(FATS):
            self.target.put(self.geometry.reserved + index * self.geometry.fat_size, data)

    def _write_boot(self) -> None:
        geometry = self.geometry
        boot = bytearray(512)
        boot[0:3] = b"\xeb\x58\x90" if geometry.width == 32 else b"\xeb\x3c\x90"
        boot[3:11] = b"CALLGATE"
        wide = geometry.width == 32
        small = 0 if geometry.sectors >= 1 << 16 or wide else geometry.sectors
        root_entries = geometry.root_sectors * 16
        fat16 = 0 if wide else geometry.fat_size
        struct.pack_into(
            "<HBHBHHBHHHII", boot, 11, 512, geometry.cluster, geometry.reserved, FATS, root_entries, small,
            MEDIA, fat16, 63, 255, self.target.start & 0xFFFF_FFFF, 0 if small else geometry.sectors,
        )  # fmt: skip
        label = label_field(self.label or "NO NAME")
        kind = f"FAT{geometry.width}".encode().ljust(8)
        if wide:
            struct.pack_into("<IHHIHH", boot, 36, geometry.fat_size, 0, 0, 2, FSINFO_SECTOR, FAT_BACKUP_SECTOR)
            struct.pack_into("<BBBI", boot, 64, 0x80, 0, FAT_EXTENDED_SIGNATURE, self.serial)
            boot[71:82], boot[82:90] = label, kind
        else:
            struct.pack_into("<BBBI", boot, 36, 0x80, 0, FAT_EXTENDED_SIGNATURE, self.serial)
            boot[43:54], boot[54:62] = label, kind
        boot[BOOT_SIGNATURE_OFFSET:] = BOOT_SIGNATURE
        self.target.put(0, bytes(boot))
        if wide:
            information = bytearray(512)
            free = geometry.clusters + 2 - len(self.table)
            following = len(self.table) if free else FSINFO_UNKNOWN
            struct.pack_into("<I", information, 0, FSINFO_LEAD)
            struct.pack_into("<III", information, 484, FSINFO_STRUCTURE, free, following)
            information[508:512] = b"\0\0" + BOOT_SIGNATURE
            self.target.put(FSINFO_SECTOR, bytes(information))
            self.target.put(FAT_BACKUP_SECTOR, bytes(boot))
            self.target.put(FAT_BACKUP_SECTOR + 1, bytes(information))


class Target:
    """A stretch of an image: sectors from `start` on."""

    def __init__(self, fd: int, start: int) -> None:
        self.fd = fd
        self.start = start

    def put(self, sector: int, data: bytes) -> None:
        """Write whole sectors; the image is new, so zero ones are left as holes.  OSError."""
        if not data.strip(b"\0"):
            return
        offset = (self.start + sector) * SECTOR
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, offset)
            view = view[written:]
            offset += written


def listed(nodes: Sequence[Node]) -> list[Named]:
    """Return a directory's entries in order of name: node, short name, long-name entries; FormatError."""
    taken: set[bytes] = set()
    seen: dict[str, str] = {}
    result: list[Named] = []
    numbers: dict[bytes, int] = {}
    for node in sorted(nodes, key=lambda item: item.name):
        try:
            check(node.name)
        except FormatError as error:
            raise FormatError(f"{node.origin}: {error}" if node.origin else str(error)) from None
        other = seen.setdefault(node.name.upper(), node.name)
        if other != node.name or len(seen) == len(result):
            raise FormatError(f"{node.place}: FAT cannot tell the name from {other!r}; rename one of them")
        short = short_form(node.name)
        entries = b""
        if short is None or short in taken:
            short = alias(node.name, taken, numbers)
            entries = long_entries(node.name, short)
        taken.add(short)
        result.append((node, short, entries))
    return result


def directory_length(listing: Sequence[Named], extra: int) -> int:
    """Return the bytes of a directory with `extra` entries besides those listed."""
    return 32 * (extra + len(listing)) + sum(len(entries) for _, _, entries in listing)


def label_field(label: str) -> bytes:
    """Return a volume label as stored: 11 bytes, upper case; FormatError if it cannot be one."""
    try:
        field = label.upper().encode("ascii")
    except UnicodeEncodeError:
        raise FormatError(f"label {label!r}: use ASCII characters") from None
    if len(field) > 11:
        raise FormatError(f"label {label!r}: a FAT label has at most 11 characters")
    if not field.strip() or any(byte < 0x20 or byte in b'"*+,./:;<=>?[\\]|' for byte in field):
        raise FormatError(f"label {label!r}: FAT labels are letters, digits, spaces and !#$%&'()-@^_`{{}}~")
    return field.ljust(11)


def record(short: bytes, attributes: int, modified: int, cluster: int, size: int) -> bytes:
    """Return a short directory entry; times are UTC, within 1980 to 2107."""
    if short[0] == 0xE5:
        short = b"\x05" + short[1:]
    when = datetime.fromtimestamp(min(max(modified, DOS_START), DOS_END), UTC)
    date = when.year - 1980 << 9 | when.month << 5 | when.day
    time = when.hour << 11 | when.minute << 5 | when.second // 2
    return struct.pack(
        "<11sBBBHHHHHHHI",
        short,
        attributes,
        0,
        0,
        time,
        date,
        date,
        cluster >> 16,
        time,
        date,
        cluster & 0xFFFF,
        size,
    )


def pack12(table: Sequence[int]) -> bytes:
    """Return a FAT12: two entries in three bytes."""
    entries = [value & 0xFFF for value in table]
    if len(entries) % 2:
        entries.append(0)
    out = bytearray()
    for low, high in zip(entries[::2], entries[1::2], strict=True):
        out += (low | high << 12).to_bytes(3, "little")
    return bytes(out)
