"""Directories: from entry sets to files with names, sizes and places (6, 7)."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from callgate.kernel.abi.directory import DIRECTORY_NAME_LIMIT, FileAttributes
from callgate.server.exfat.structures import (
    ATTRIBUTES,
    BENIGN,
    ENTRY_SIZE,
    IN_USE,
    LABEL_UNITS,
    NAME_UNITS,
    NO_FAT_CHAIN,
    SECONDARY,
    SETS_LIMIT,
    BitmapEntry,
    EntryType,
    FileEntry,
    StreamExtension,
)
from callgate.server.exfat.upcase import UpCase
from callgate.server.formats.dos_times import timestamp
from callgate.server.formats.names import name_of_units

_DIRECTORY: Final = int(FileAttributes.DIRECTORY)
_UNUSABLE: Final = ("/", "\0")  # no path could name such a file


class ExfatEntry(NamedTuple):
    """A file or directory.  ``cluster`` is its first, 0 if it has none."""

    name: str
    folded: tuple[int, ...]  # UTF-16 units in upper case
    attributes: int  # FileAttributes, plain because there are many
    cluster: int
    consecutive: bool  # its clusters follow each other, and the FAT has no entries for them
    size: int  # DataLength, bytes
    valid: int  # ValidDataLength: the bytes after it have never been written, and are zeros
    modified: int  # seconds since 1970 in the time zone that was recorded; 0 if there is no valid date
    identifier: int  # byte offset of its first entry in the volume / 32

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.attributes & _DIRECTORY != 0


class Table(NamedTuple):
    """Where the allocation bitmap or the up-case table lies; ``checksum`` is the latter's."""

    cluster: int
    size: int
    checksum: int


class Directory:
    """The entries of one directory; immutable, so that snapshots may share it.

    ``truncated`` says why entries may be missing, if they may; ``damage`` names the sets that were left out.
    """

    __slots__ = ("_index", "bitmaps", "damage", "entries", "label", "truncated", "up_case_tables")

    def __init__(self, found: "Collector", truncated: str) -> None:
        self.entries = tuple(found.entries)
        self.truncated = truncated
        self.damage = tuple(found.damage)
        self.label = found.label
        self.bitmaps = tuple(found.bitmaps)
        self.up_case_tables = tuple(found.up_case_tables)
        self._index: dict[tuple[int, ...], ExfatEntry] = {}
        for entry in found.entries:  # of equal names the first counts
            self._index.setdefault(entry.folded, entry)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Directory":
        return self

    def find(self, folded: tuple[int, ...]) -> ExfatEntry | None:
        """Return the entry of a name that has been put into upper case."""
        return self._index.get(folded)


class Collector:
    """The result of one pass over a directory's entries."""

    def __init__(self, data: bytes, places: Sequence[int], up_case: UpCase) -> None:
        """`places` are the byte offsets in the volume of equal parts of `data`: one a cluster."""
        self.data = data
        self.places = places
        self.part = max(len(data) // max(len(places), 1), ENTRY_SIZE)
        self.up_case = up_case
        self.entries: list[ExfatEntry] = []
        self.damage: list[str] = []
        self.label = ""
        self.bitmaps: list[Table] = []
        self.up_case_tables: list[Table] = []

    def collect(self) -> None:
        """Read all entries up to the end mark."""
        at = 0
        while at + ENTRY_SIZE <= len(self.data):
            kind = self.data[at]
            if kind == EntryType.END:
                return
            at += self._entry(kind, at) * ENTRY_SIZE

    def _entry(self, kind: int, at: int) -> int:
        """Read the entry at an offset; return the number of entries that it consists of."""
        raw = self.data[at : at + ENTRY_SIZE]
        if kind == EntryType.FILE:
            return self._file(at)
        if kind == EntryType.VOLUME_LABEL:
            count = min(raw[1], LABEL_UNITS)
            self.label = self.label or raw[2 : 2 + 2 * count].decode("utf-16-le", "replace")
        elif kind in (EntryType.ALLOCATION_BITMAP, EntryType.UP_CASE_TABLE):
            entry = BitmapEntry.from_buffer_copy(raw)
            table = Table(entry.FirstCluster, entry.DataLength, entry.TableChecksum)
            (self.bitmaps if kind == EntryType.ALLOCATION_BITMAP else self.up_case_tables).append(table)
        elif kind & IN_USE and not kind & SECONDARY and not kind & BENIGN:
            self._complain(at, f"has the unknown critical type {kind:#04x}")
        return 1

    def _file(self, at: int) -> int:
        """Read a file's set; return the number of its entries, 1 if it cannot be trusted."""
        count = self.data[at + 1]
        raw = self.data[at : at + (1 + count) * ENTRY_SIZE]
        reason = set_damage(raw, count)
        if reason:
            self._complain(at, reason)
            return 1
        stream = StreamExtension.from_buffer_copy(raw, ENTRY_SIZE)
        names = -(-stream.NameLength // NAME_UNITS)
        pieces = (raw[(2 + index) * ENTRY_SIZE + 2 : (3 + index) * ENTRY_SIZE] for index in range(names))
        encoded = b"".join(pieces)[: 2 * stream.NameLength]
        name = self._shown(encoded)
        if any(character in name for character in _UNUSABLE) or name in (".", ".."):
            self._complain(at, f"has the name {name!r}, which no path can hold")
        else:
            self.entries.append(self._made(at, name, self.up_case.fold(name), FileEntry.from_buffer_copy(raw), stream))
        return 1 + count

    def _shown(self, encoded: bytes) -> str:
        """Return a name as it is shown and found; lone surrogates are replaced where their escapes would not fit."""
        name = name_of_units(encoded, "le")
        return name if len(name.encode()) <= DIRECTORY_NAME_LIMIT else encoded.decode("utf-16-le", "replace")

    def _made(
        self, at: int, name: str, folded: tuple[int, ...], file: FileEntry, stream: StreamExtension
    ) -> ExfatEntry:
        if stream.ValidDataLength > stream.DataLength:
            self._complain(at, f"has {stream.ValidDataLength} valid bytes of {stream.DataLength}")
        date, time = divmod(file.LastModifiedTimestamp, 1 << 16)
        seconds = timestamp(date, time)
        return ExfatEntry(
            name=name,
            folded=folded,
            attributes=file.FileAttributes & ATTRIBUTES,
            cluster=stream.FirstCluster,
            consecutive=bool(stream.GeneralSecondaryFlags & NO_FAT_CHAIN),
            size=stream.DataLength,
            valid=min(stream.ValidDataLength, stream.DataLength),
            modified=seconds + (file.LastModified10msIncrement >= 100 if seconds else 0),
            identifier=self._place(at) // ENTRY_SIZE,
        )

    def _place(self, at: int) -> int:
        return self.places[at // self.part] + at % self.part

    def _complain(self, at: int, why: str) -> None:
        self.damage.append(f"entry {at // ENTRY_SIZE} {why}")


def set_damage(raw: bytes, count: int) -> str:
    """Say why a file's set of `count` secondary entries cannot be used, "" if it can (6.3, 7.4)."""
    if not 2 <= count <= SETS_LIMIT + 0xFF:  # vendors may add entries of their own after the names
        return f"has {count} secondary entries, and a file has 2 or more"
    if len(raw) < (1 + count) * ENTRY_SIZE:
        return f"has {count} secondary entries, more than the directory holds"
    if raw[ENTRY_SIZE] != EntryType.STREAM_EXTENSION:
        return f"is followed by an entry of type {raw[ENTRY_SIZE]:#04x}, no stream extension"
    stored = raw[2] | raw[3] << 8
    counted = set_checksum(raw)
    if stored != counted:
        return f"has the checksum {stored:#06x}, and its set makes {counted:#06x}"
    units = raw[ENTRY_SIZE + 3]
    names = -(-units // NAME_UNITS)
    if not names or 1 + names > count:
        return f"has a name of {units} characters and {count} secondary entries"
    wrong = next((kind for kind in raw[2 * ENTRY_SIZE :: ENTRY_SIZE][:names] if kind != EntryType.FILE_NAME), None)
    return "" if wrong is None else f"has an entry of type {wrong:#04x} in its name"


def set_checksum(raw: bytes) -> int:
    """Return the checksum of a set (6.3.3, Figure 2)."""
    value = 0
    for index, byte in enumerate(raw):
        if index not in (2, 3):
            value = ((value << 15 | value >> 1) & 0xFFFF) + byte & 0xFFFF
    return value


def parse_directory(data: bytes, places: Sequence[int], up_case: UpCase, truncated: str = "") -> Directory:
    """Return the directory in ``data``, the entries of all its clusters in order."""
    collector = Collector(data, places, up_case)
    collector.collect()
    return Directory(collector, truncated)
