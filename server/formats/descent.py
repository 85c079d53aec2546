"""Going down a path on volumes whose directories are known by their first cluster: FAT and exFAT."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.paths import Path, parse_path


class Entry(Protocol):
    """What is at a path."""

    @property
    def cluster(self) -> int:
        """Its first cluster."""
        ...

    @property
    def is_directory(self) -> bool:
        """Whether the path may go on from here."""
        ...


E = TypeVar("E", bound=Entry)
Step = Callable[[E, str, Path], Awaitable[E]]


async def descend(path: str, root: E, roots: set[int], step: Step[E]) -> E:
    """Return the entry at a path; `step(directory, name, path so far)` takes one component of it.

    `roots` are the clusters by which the root directory is known.  FileSystemError: what `step` raises, CORRUPT where
    a directory lies in itself, NOT_DIRECTORY for a file whose path ends in a slash.
    """
    parsed = parse_path(path)
    entry = root
    passed = set(roots)
    for depth, component in enumerate(parsed.components):
        here = Path(parsed.components[: depth + 1], directory=True)
        entry = await step(entry, component, here)
        if entry.is_directory and entry.cluster in passed:
            raise FileSystemError(
                ErrorCode.CORRUPT, f"{here}: directory loop, cluster {entry.cluster} is one of its parents"
            )
        passed.add(entry.cluster)
    if parsed.directory and not entry.is_directory:
        raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parsed} is not a directory")
    return entry


def found(entry: E | None, here: Path, truncated: str) -> E:
    """Return the entry that a directory has; FileSystemError if it has none, CORRUPT if the directory is cut short."""
    if entry is None and truncated:
        raise FileSystemError(ErrorCode.CORRUPT, f"{here}: not found, and its directory is damaged: {truncated}")
    if entry is None:
        raise FileSystemError(ErrorCode.NOT_FOUND, f"{here}: no such file or directory")
    return entry
