"""Directories: from raw records to entries with names, sizes and places ("FAT Directory Structure")."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from callgate.kernel.abi.directory import FileAttributes
from callgate.server.fat.long_name import LongNameCollector
from callgate.server.fat.names import fold, short_name, strip_trailing
from callgate.server.fat.structures import (
    RECORD_END,
    RECORD_FREE,
    RECORD_SIZE,
    Attribute,
    DirectoryRecord,
)
from callgate.server.formats.dos_times import timestamp

_SHOWN: Final = 0x37  # the bits that FAT's attribute byte and ours have in common
_DIRECTORY: Final = int(FileAttributes.DIRECTORY)
_LONG_NAME: Final = int(Attribute.LONG_NAME)
_LONG_NAME_MASK: Final = int(Attribute.LONG_NAME_MASK)
_VOLUME_ID: Final = int(Attribute.VOLUME_ID)
_DOT_NAMES: Final = (b".          ", b"..         ")
_LOSSY: Final = "\N{REPLACEMENT CHARACTER}"


class FatEntry(NamedTuple):
    """A file or directory.  ``cluster`` is its first, 0 if it has none."""

    name: str
    alias: str  # the 8.3 name
    attributes: int  # FileAttributes, plain because there are many
    cluster: int
    size: int  # bytes; 0 for directories
    modified: int  # seconds since 1970 in the recorded (unknown) time zone; 0 if there is no valid date
    identifier: int  # byte offset of its record in the volume / 32

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.attributes & _DIRECTORY != 0


ROOT: Final = FatEntry("", "", _DIRECTORY, 0, 0, 0, 0)


class Directory:
    """The entries of one directory; immutable, so that snapshots may share it.

    ``truncated`` says why entries may be missing, if they may; ``damage`` lists faults that cost at most a
    long name.
    """

    __slots__ = ("_index", "damage", "entries", "label", "truncated")

    def __init__(self, entries: list[FatEntry], label: bytes, truncated: str, damage: list[str]) -> None:
        self.entries = tuple(entries)
        self.label = label  # DIR_Name of the volume label; b"" if there is none
        self.truncated = truncated
        self.damage = tuple(damage)
        self._index: dict[str, FatEntry] = {}
        # The first of equal names wins; long names are found before aliases, exact ones before stripped ones.
        for entry in entries:
            self._index.setdefault(fold(entry.name), entry)
        for entry in entries:
            self._index.setdefault(strip_trailing(fold(entry.name)), entry)
            self._index.setdefault(fold(entry.alias), entry)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Directory":
        return self

    def find(self, name: str) -> FatEntry | None:
        """Return the entry that ``name`` means, whatever its case, as long name or alias."""
        key = fold(name)
        return self._index.get(key) or self._index.get(strip_trailing(key) or key)


def parse_directory(data: bytes, places: Sequence[int], truncated: str = "", *, fat32: bool = True) -> Directory:
    """Return the directory in ``data``, the records of all its clusters in order.

    ``places`` are the byte offsets in the volume of equal parts of ``data``: one a cluster.
    ``truncated`` says why there may be more.  DIR_FstClusHI counts on FAT32 alone: OS/2 keeps
    something else there.
    """
    cluster_mask = 0xFFFF_FFFF if fat32 else 0xFFFF
    part = max(len(data) // max(len(places), 1), RECORD_SIZE)
    damage: list[str] = []
    entries: list[FatEntry] = []
    label = b""
    names = LongNameCollector()
    for offset in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        first = data[offset]
        if first == RECORD_END:
            break
        raw = data[offset : offset + RECORD_SIZE]
        attributes = raw[11]
        if first == RECORD_FREE:
            names.reset()
        elif attributes & _LONG_NAME_MASK == _LONG_NAME:
            names.add(raw)
        elif attributes & _VOLUME_ID:
            names.reset()
            if not attributes & _DIRECTORY:
                label = label or raw[:11]
            else:
                damage.append(f"record {offset // RECORD_SIZE} is marked as a label and as a directory, left out")
        elif raw[:11] in _DOT_NAMES:
            names.reset()
        else:
            identifier = (places[offset // part] + offset % part) // RECORD_SIZE
            entry = _entry(raw, names.take(raw[:11]), identifier, cluster_mask)
            if entry.name:
                entries.append(entry)
            else:
                damage.append(f"record {offset // RECORD_SIZE} has a blank name, left out")
    return Directory(_distinct(entries), label, truncated, damage + names.damage)


def _entry(raw: bytes, long_name: str | None, identifier: int, cluster_mask: int) -> FatEntry:
    record = DirectoryRecord.from_buffer_copy(raw)
    alias = short_name(raw[:11])
    attributes, nt_case = record.DIR_Attr, record.DIR_NTRes
    return FatEntry(
        name=long_name or (short_name(raw[:11], nt_case) if nt_case else alias),
        alias=alias,
        attributes=attributes & _SHOWN,
        cluster=(record.DIR_FstClusHI << 16 | record.DIR_FstClusLO) & cluster_mask,
        size=0 if attributes & _DIRECTORY else record.DIR_FileSize,
        modified=timestamp(record.DIR_WrtDate, record.DIR_WrtTime),
        identifier=identifier,
    )


def _distinct(entries: list[FatEntry]) -> list[FatEntry]:
    """Give names that became equal by lone surrogates their 8.3 names, which differ."""
    if not any(_LOSSY in entry.name for entry in entries):
        return entries
    seen: set[str] = set()
    distinct = []
    for entry in entries:
        taken = _LOSSY in entry.name and fold(entry.name) in seen and entry.alias
        distinct.append(entry._replace(name=entry.alias) if taken else entry)
        seen.add(fold(entry.name))
    return distinct
