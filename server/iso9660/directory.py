"""Directories: records turned into entries with the best name that the volume has for them.

A name comes from Rock Ridge, else from Joliet, else from the identifier of ISO 9660 without its version number.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from callgate.kernel.abi.directory import DIRECTORY_NAME_LIMIT, FileAttributes
from callgate.kernel.abi.disks.volumes import ISO_LOGICAL_SECTOR
from callgate.server.formats.names import name_of_units, text_of_bytes, typeable
from callgate.server.iso9660.rock_ridge import Posix, SystemUse
from callgate.server.iso9660.structures import Extent, Note, Record, RecordFlags, parse_record

DIRECTORY_LIMIT: Final = 4 << 20  # bytes of a directory that are read
DAMAGE_LIMIT: Final = 8  # sentences kept of one directory
_FORMAT, _DIRECTORY, _REGULAR = 0o170000, 0o040000, 0o100000  # of a mode
_EXECUTE: Final = 0o111


class Entry(NamedTuple):
    """A file, directory or link; immutable, so that snapshots may share it."""

    name: str
    place: int  # byte of its first record on the volume
    extents: tuple[Extent, ...]
    attributes: FileAttributes
    modified: int = 0
    target: str | None = None  # of a symbolic link
    refusal: str = ""  # why it cannot be opened

    def __deepcopy__(self, memo: dict[int, object]) -> "Entry":
        return self

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return bool(self.attributes & FileAttributes.DIRECTORY)

    @property
    def block(self) -> int:
        """First logical block."""
        return self.extents[0].block

    @property
    def size(self) -> int:
        """Bytes of all extents."""
        return sum(extent.size for extent in self.extents)


@dataclass
class Directory:
    """The entries of one directory and what is wrong with it."""

    entries: list[Entry] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    exact: dict[str, Entry] = field(default_factory=dict)
    folded: dict[str, Entry] = field(default_factory=dict)  # empty where names are case-sensitive

    def __deepcopy__(self, memo: dict[int, object]) -> "Directory":
        return self  # complete before any other code sees it, and not changed afterwards

    def note(self, text: str) -> None:
        """Note faults, up to DAMAGE_LIMIT sentences."""
        if len(self.damage) < DAMAGE_LIMIT:
            self.damage.append(text)
        elif len(self.damage) == DAMAGE_LIMIT:
            self.damage.append("and more")

    def find(self, name: str) -> Entry | None:
        """Return the entry of that name, compared as the volume does."""
        return self.exact.get(name) or self.folded.get(name.casefold())


class Names:
    """How the records of one volume are read: ``system_use`` is there with Rock Ridge, ``joliet`` with UCS-2."""

    def __init__(self, *, joliet: bool, system_use: SystemUse | None) -> None:
        self.joliet = joliet
        self.system_use = system_use

    async def directory(self, data: bytes, place: int) -> Directory:
        """Return the directory whose bytes are ``data``, which lie at byte ``place`` of the volume."""
        directory = Directory()
        for records in _files(_records(data, place, directory.note), directory.note):
            entry = await self._entry(records, directory.note)
            if entry is not None:
                self._add(directory, entry, records[0])
        return directory

    def _add(self, directory: Directory, entry: Entry, record: Record) -> None:
        if entry.name in directory.exact:
            # Several versions of one file: the first record is the newest (9.3); older ones keep their number.
            entry = _renamed(entry, self._plain(record.identifier, version=True))
            if entry.name in directory.exact:
                directory.note(f"byte {entry.place}: a second {entry.name!r}, left out")
                return
        directory.entries.append(entry)
        directory.exact[entry.name] = entry
        if self.system_use is None:
            directory.folded.setdefault(entry.name.casefold(), entry)

    async def _entry(self, records: list[Record], note: Note) -> Entry | None:
        last = records[-1]

        def say(text: str) -> None:
            note(f"byte {last.place}: {text}")

        posix = await self.system_use.posix(last.system_use, say) if self.system_use else Posix()
        if posix.relocated:
            return None  # it is listed where its CL is
        name = _harmless(posix.name or self._plain(last.identifier), say)
        extents = tuple(record.extent for record in records)
        attributes = _attributes(last, posix)
        if posix.child is not None:
            extents, attributes = (Extent(posix.child, 0),), FileAttributes.DIRECTORY | FileAttributes.READ_ONLY
        modified = last.modified if posix.modified is None else posix.modified
        refusal = _refusal(records, posix)
        return Entry(name, records[0].place, extents, attributes, modified, posix.target, refusal)

    def _plain(self, identifier: bytes, *, version: bool = False) -> str:
        text = name_of_units(identifier, "be") if self.joliet else typeable(text_of_bytes(identifier))
        name, separator, number = text.rpartition(";")
        if version:
            return text
        if not separator or not (number.isdigit() or not number):
            name = text
        return name.removesuffix(".") or text  # 7.5.1: a name without an extension ends with the dot


def _records(data: bytes, place: int, note: Note) -> list[Record]:
    """Return the records of a directory; one that is damaged costs the rest of its logical sector."""
    found = []
    for start in range(0, len(data), ISO_LOGICAL_SECTOR):
        sector = data[start : start + ISO_LOGICAL_SECTOR]
        at = 0
        while at < len(sector) and sector[at]:
            record = parse_record(sector, at, place + start + at, note)
            if record is None:
                break
            at += sector[at]
            if record.identifier not in (b"\0", b"\1"):
                found.append(record)
    return found


def _files(records: list[Record], note: Note) -> list[list[Record]]:
    """Group the records of multi-extent files; associated files (9.1.6) are not listed."""
    files: list[list[Record]] = []
    begun: list[Record] = []
    for record in records:
        if record.flags & RecordFlags.ASSOCIATED:
            continue
        if begun and begun[0].identifier != record.identifier:
            note(f"byte {begun[0].place}: the last extent of the file is missing")
            files.append(begun)
            begun = []
        begun.append(record)
        if not record.flags & RecordFlags.MULTI_EXTENT:
            files.append(begun)
            begun = []
    if begun:
        note(f"byte {begun[0].place}: the last extent of the file is missing")
        files.append(begun)
    return files


def _attributes(record: Record, posix: Posix) -> FileAttributes:
    attributes = FileAttributes.READ_ONLY
    if posix.target is not None:
        return attributes | FileAttributes.SYMLINK
    if record.flags & RecordFlags.HIDDEN:
        attributes |= FileAttributes.HIDDEN
    if record.flags & RecordFlags.DIRECTORY:
        attributes |= FileAttributes.DIRECTORY
    elif posix.mode is not None and posix.mode & _EXECUTE:
        attributes |= FileAttributes.EXECUTABLE
    return attributes


def _refusal(records: list[Record], posix: Posix) -> str:
    """Return why a file cannot be opened, or nothing."""
    if records[-1].flags & RecordFlags.MULTI_EXTENT:
        return "its last extent is missing"
    for record in records:
        if record.interleave != (0, 0):
            unit, gap = record.interleave
            return f"it is interleaved, {unit} blocks and a gap of {gap}"
    if any(record.extent.size % 512 for record in records[:-1]):
        return "an extent before the last does not end with a sector"
    if posix.compressed:
        return "it is compressed with zisofs"
    if posix.mode is not None and posix.target is None and posix.mode & _FORMAT not in (0, _DIRECTORY, _REGULAR):
        return f"it is a special file of mode {posix.mode:o}"
    return ""


def _harmless(name: str, note: Note) -> str:
    """Return a name that a path can hold: no slash, no NUL, not ``.`` nor ``..``, not too long."""
    safe = name.replace("/", "_").replace("\0", "_")
    if safe in {"", ".", ".."}:
        safe = safe.replace(".", "_") or "_"
    encoded = safe.encode("utf-8", "replace")
    safe = encoded[:DIRECTORY_NAME_LIMIT].decode("utf-8", "ignore")
    if safe != name:
        note(f"the name {name[:64]!r} is shown as {safe[:64]!r}")
    return safe


def _renamed(entry: Entry, name: str) -> Entry:
    return Entry(name, entry.place, entry.extents, entry.attributes, entry.modified, entry.target, entry.refusal)
