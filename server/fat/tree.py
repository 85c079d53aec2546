"""Walking the whole tree of a volume, and reading files, without a server: for `callgate disk inspect`."""

from typing import Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.server.errors import FileSystemError
from callgate.server.fat.directory import ROOT, FatEntry
from callgate.server.fat.file import OpenFile
from callgate.server.fat.volume import FatVolume
from callgate.server.pieces import piece

ENTRIES_LIMIT: Final = 1_000_000  # on sound volumes of any use; a bound for hostile ones


class Found(NamedTuple):
    """A file or directory of the tree, with its path from the volume's root ("/DOCS/README.TXT")."""

    path: str
    entry: FatEntry


class Tree(NamedTuple):
    """All files of a volume, parents before children, and the faults met, as text."""

    found: list[Found]
    problems: list[str]


async def walk(volume: FatVolume) -> Tree:
    """Walk all directories, each first cluster once, so that no loop or cross-link repeats for ever."""
    tree = Tree([], [])
    seen = {volume.layout.root_cluster: "/"}
    waiting = [Found("", ROOT)]
    while waiting:
        parent = waiting.pop()
        name = parent.path or "/"
        try:
            directory = await volume.directory(parent.entry)
        except FileSystemError as error:
            tree.problems.append(f"directory {name}: {error.text}")
            continue
        faults = (directory.truncated, *directory.damage) if directory.truncated else directory.damage
        tree.problems.extend(f"directory {name}: {fault}" for fault in faults)
        if len(tree.found) + len(directory.entries) > ENTRIES_LIMIT:
            tree.problems.append(f"directory {name} and what follows are left out: too many entries")
            break
        found = [Found(f"{parent.path}/{entry.name}", entry) for entry in directory.entries]
        tree.found.extend(found)
        waiting.extend(reversed(_unseen(found, seen, tree.problems)))
    return tree


def _unseen(found: list[Found], seen: dict[int, str], problems: list[str]) -> list[Found]:
    """Return the directories among ``found`` whose first cluster is new; report the others."""
    unseen = []
    for child in found:
        if not child.entry.is_directory:
            continue
        other = seen.get(child.entry.cluster)
        if other is None:
            seen[child.entry.cluster] = child.path
            unseen.append(child)
        else:
            problems.append(f"directory {child.path}: its cluster {child.entry.cluster} is that of {other}")
    return unseen


async def read_file(volume: FatVolume, path: str, position: int = 0, size: int | None = None) -> bytes:
    """Return ``size`` bytes (default: all) of the file at ``path`` from ``position``.

    FileSystemError as the server would give it, CORRUPT when the chain is shorter than that.
    """
    entry = await volume.find(path)
    if entry.is_directory:
        raise FileSystemError(ErrorCode.IS_DIRECTORY, f"{path} is a directory")
    file = OpenFile(path, entry)
    end = entry.size if size is None else min(entry.size, position + size)
    parts = []
    while position < end:
        extract = await file.locate(volume, position, end - position, 0)
        pieces = [
            (first, count) for first, count in map(piece, extract.entries) if first is not None
        ]  # no holes in FAT
        data = b"".join([await volume.reader.read(first, count) for first, count in pieces])
        part = data[position % SECTOR_SIZE : min(extract.size, end - extract.position)]
        parts.append(part)
        position += len(part)
    return b"".join(parts)
