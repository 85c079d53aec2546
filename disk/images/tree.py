"""The tree of files below a host folder, as the formatters take it.

Dates are part of the tree: those of the files in UTC, or one fixed date for all (as SOURCE_DATE_EPOCH asks
for), so that the same input gives the same image, byte for byte.
"""

import os
import stat
from pathlib import Path

from callgate.disk.formatters.fat import HostFile, Node


class BuildError(Exception):
    """An image that cannot be built: the file or image, the reason, and the remedy."""

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        self.hint = hint
        super().__init__(f"{self.path}: {reason}" + (f"; {hint}" if hint else ""))


def read_host_tree(root: Path, date: int | None = None) -> tuple[list[Node], list[str]]:
    """Return the tree below a host folder, and warnings about files left out.

    `date`, in seconds since 1970 UTC, replaces the date of every file.  Symbolic links and special files
    are skipped with a warning: FAT has neither.  BuildError if something cannot be read.
    """
    if not root.is_dir():
        reason = "is not a directory" if root.exists() else "there is no such directory"
        raise BuildError(root, reason, "name the directory whose files go on the image")
    warnings: list[str] = []
    return _read_folder(root, date, warnings), warnings


def _read_folder(path: Path, date: int | None, warnings: list[str]) -> list[Node]:
    nodes = []
    try:
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda item: os.fsencode(item.name)):
                node = _read_entry(entry, date, warnings)
                if node is not None:
                    nodes.append(node)
    except OSError as error:
        raise BuildError(error.filename or path, f"cannot be read: {error.strerror}") from None
    return nodes


def _read_entry(entry: os.DirEntry[str], date: int | None, warnings: list[str]) -> Node | None:
    path = Path(entry.path)
    status = entry.stat(follow_symlinks=False)
    modified = int(status.st_mtime) if date is None else date
    if stat.S_ISDIR(status.st_mode):
        return Node(entry.name, modified, None, _read_folder(path, date, warnings), origin=str(path))
    if stat.S_ISREG(status.st_mode):
        if not os.access(path, os.R_OK):
            raise BuildError(path, "may not be read", "check its permissions")
        return Node(entry.name, modified, HostFile(path, status.st_size), origin=str(path))
    kind = "symbolic link" if stat.S_ISLNK(status.st_mode) else "special file"
    warnings.append(f"{path}: a {kind}, skipped")
    return None
