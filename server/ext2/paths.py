"""From a path to an inode: names, symbolic links and ``..``.

``..`` in a request's path was resolved by its spelling before (server/paths.py); ``..`` in the target of a link
means the directory above the one in which the link stands.  Links stay inside the volume: an absolute target
begins at its root, and the root's ``..`` is the root.
"""

from typing import Final

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.structures import DIRECTORY_NAME, ROOT_INODE, Kind
from callgate.server.ext2.volume import ExtVolume
from callgate.server.paths import parse_path

LINKS_LIMIT: Final = 40  # links followed for one path, as Linux does
NAMES_LIMIT: Final = 4096  # names looked up for one path


async def find(volume: ExtVolume, path: str, *, link: bool = False) -> Inode:
    """Return what ``path`` leads to, links followed to their end; with ``link`` not one that is the last name.

    FileSystemError: NOT_FOUND (also of a link that leads nowhere, or round in circles), NOT_DIRECTORY,
    NAME_TOO_LONG, CORRUPT.
    """
    parsed = parse_path(path)
    walk = _Walk(volume, await volume.inodes.read(ROOT_INODE), path, link=link)
    await walk.follow([*parsed.components, *([""] if parsed.directory else [])])
    return walk.stack[-1]


class _Walk:
    """A walk from the root: the top of ``stack`` is the present place, below it are the directories that lead there."""

    def __init__(self, volume: ExtVolume, root: Inode, path: str, *, link: bool) -> None:
        self.link = link
        self.volume = volume
        self.stack = [root]
        self.path = path
        self.links = 0

    async def follow(self, names: list[str]) -> None:
        """Follow ``names``; an empty one asks for a directory."""
        waiting = names[::-1]
        for _ in range(NAMES_LIMIT):
            if not waiting:
                return
            name = waiting.pop()
            here = self.stack[-1]
            if not here.is_directory:
                raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{self.path}: inode {here.number} is not a directory")
            if name == "..":
                if len(self.stack) > 1:
                    self.stack.pop()
            elif name not in {"", "."}:
                waiting += await self._step(here, name, last=not waiting)
        raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{self.path}: more than {NAMES_LIMIT} names, links followed")

    async def _step(self, here: Inode, name: str, *, last: bool) -> list[str]:
        """Step to ``name``; return the names to follow first if it is a link, last name first."""
        found = await self._look_up(here, name)
        if found.kind is not Kind.SYMLINK or (self.link and last):
            if any(found.number == above.number for above in self.stack):
                raise FileSystemError(
                    ErrorCode.CORRUPT, f"{self.path}: directory loop, inode {found.number} is one of its own parents"
                )
            self.stack.append(found)
            return []
        self.links += 1
        if self.links > LINKS_LIMIT:
            raise FileSystemError(ErrorCode.NOT_FOUND, f"{self.path}: more than {LINKS_LIMIT} symbolic links")
        target = await self.volume.link_target(found)
        if target.startswith("/"):
            del self.stack[1:]
        return target.split("/")[::-1]

    async def _look_up(self, here: Inode, name: str) -> Inode:
        if len(name.encode("utf-8")) > DIRECTORY_NAME and "%" not in name:
            raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{self.path}: a name has at most {DIRECTORY_NAME} bytes")
        directory = await self.volume.directory(here)
        entry = directory.find(name)
        if entry is None and directory.truncated:
            raise FileSystemError(
                ErrorCode.CORRUPT,
                f"{self.path}: {name} not found, and its directory is damaged: {directory.truncated}",
            )
        if entry is None:
            raise FileSystemError(ErrorCode.NOT_FOUND, f"{self.path}: no {name} in inode {here.number}")
        return await self.volume.inodes.read(entry.inode)
