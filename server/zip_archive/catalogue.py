"""The tree of an archive: its directories, both explicit ones and those that only names imply.

Names that would lead out of the volume are made harmless, the last of several entries of one name counts, and
both are reported.
"""

from typing import Final

from callgate.kernel.abi.directory import DIRECTORY_NAME_LIMIT, FileAttributes
from callgate.server.formats.names import name_of_bytes
from callgate.server.zip_archive.entry import ZipEntry, parse_entry

ENTRIES_LIMIT: Final = 200_000
NODES_LIMIT: Final = 400_000  # entries and implied directories
DEPTH_LIMIT: Final = 128


class Folder:
    """A directory: files and directories by name; ``number`` identifies it."""

    __slots__ = ("children", "modified", "number")

    def __init__(self, number: int, modified: int = 0) -> None:
        self.number = number
        self.modified = modified
        self.children: dict[str, Folder | ZipEntry] = {}


class Catalogue:
    """All entries of an archive; not changed once it is built, so snapshots share it."""

    def __init__(self, data: bytes, expected: int) -> None:
        """Build the tree from the bytes of a central directory that should have ``expected`` entries."""
        self.root = Folder(0)
        self.damage: list[str] = []
        self._nodes = 0
        self._folders = 0
        at = number = 0
        while number < ENTRIES_LIMIT:
            parsed = parse_entry(data, at, number + 1)
            if parsed is None:
                break
            number += 1
            entry, at = parsed
            self._add(entry)
        self.entries = number
        self._count(expected, more=parse_entry(data, at, number + 1) is not None)

    def _count(self, expected: int, *, more: bool) -> None:
        """Compare the number of entries with the end record's count, which wraps at 65,536 without ZIP64."""
        if more:
            count = max(expected, self.entries + 1)
            self.damage.append(f"central directory of {count} entries or more: only {ENTRIES_LIMIT} are used")
        elif self.entries < expected:
            self.damage.append(f"central directory of {expected} entries: damaged after {self.entries} of them")
        elif self.entries > expected:
            self.damage.append(f"the end record counts {expected} entries, the central directory has {self.entries}")

    def __deepcopy__(self, memo: dict[int, object]) -> "Catalogue":
        return self

    def _note(self, entry: ZipEntry, text: str) -> None:
        self.damage.append(f"entry {entry.number} {entry.name[:64]!r}: {text}")

    def _add(self, entry: ZipEntry) -> None:
        components = self._components(entry)
        is_directory = bool(entry.attributes & FileAttributes.DIRECTORY)
        if not components:
            if is_directory:
                self.root.modified = entry.modified
            else:
                self._note(entry, "no name, left out")
            return
        if len(components) > DEPTH_LIMIT or self._nodes + len(components) > NODES_LIMIT:
            self._note(entry, f"more than {DEPTH_LIMIT} directories deep, or {NODES_LIMIT} in all; left out")
            return
        folder = self.root
        for component in components if is_directory else components[:-1]:
            folder = self._enter(folder, component, entry)
        if is_directory:
            folder.modified = entry.modified
            return
        known = folder.children.get(components[-1])
        if isinstance(known, Folder):
            self._note(entry, "a directory has the same name, left out")
            return
        if known is not None:
            self._note(entry, f"entry {known.number} has the same name, the last one counts")
        self._nodes += known is None
        folder.children[components[-1]] = entry

    def _enter(self, folder: Folder, name: str, entry: ZipEntry) -> Folder:
        child = folder.children.get(name)
        if isinstance(child, Folder):
            return child
        if child is not None:
            self._note(entry, f"entry {child.number} is a file where a directory must be, left out")
        else:
            self._nodes += 1
        self._folders += 1
        made = folder.children[name] = Folder(self._folders)
        return made

    def _components(self, entry: ZipEntry) -> list[str]:
        # Slashes must be forward ones (APPNOTE.TXT 4.4.17.1); some writers use backslashes, and unzip corrects them
        # too.
        parts = entry.name.replace("\0", "_").replace("\\", "/").split("/")
        components = [
            name_of_bytes(part.encode("utf-8", "surrogateescape"))
            .encode()[:DIRECTORY_NAME_LIMIT]
            .decode("utf-8", "ignore")
            for part in parts
            if part not in {"", ".", ".."}
        ]
        # "./name" is what bsdtar and `zip -r x.zip ./folder` write: it means the name.
        wanted = [part for part in parts if part != "."]
        if entry.attributes & FileAttributes.DIRECTORY and wanted and not wanted[-1]:
            del wanted[-1]
        if components != wanted or "\\" in entry.name:
            self._note(entry, f"shown as {'/'.join(components)[:64]!r}")
        return components
