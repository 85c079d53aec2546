"""From a path to an entry, symbolic links followed: the content of a link's entry is where it leads.

Links stay inside the archive: an absolute target begins at its root, and the root's ``..`` is the root.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.paths import parse_path
from callgate.server.zip_archive.catalogue import Catalogue, Folder
from callgate.server.zip_archive.entry import ZipEntry

LINKS_LIMIT: Final = 40  # links followed for one path, as Linux does
NAMES_LIMIT: Final = 4096  # names looked up for one path
TARGET_LIMIT: Final = 4096  # bytes of a target

ReadTarget = Callable[[ZipEntry], Awaitable[bytes]]


async def find(catalogue: Catalogue, path: str, read: ReadTarget, *, link: bool = False) -> Folder | ZipEntry:
    """Return the node to which a path leads; ``read`` returns the content of a link's entry.

    With ``link`` a link that is the last name is not followed.

    FileSystemError: NOT_FOUND (also of a link that leads nowhere, or round in circles), NOT_DIRECTORY, NAME_TOO_LONG.
    """
    parsed = parse_path(path)
    waiting = [*parsed.components, *([""] if parsed.directory else [])][::-1]
    above: list[Folder] = []
    node: Folder | ZipEntry = catalogue.root
    links = 0
    for _ in range(NAMES_LIMIT):
        if not waiting:
            return node
        name = waiting.pop()
        if not isinstance(node, Folder):
            raise FileSystemError(ErrorCode.NOT_DIRECTORY, f"{parsed}: what comes before is not a directory")
        if name == "..":
            node = above.pop() if above else node
        elif name not in {"", "."}:
            found = node.children.get(name)
            if found is None:
                raise FileSystemError(ErrorCode.NOT_FOUND, f"{parsed}: no such file or directory")
            if isinstance(found, Folder) or not is_link(found) or (link and not waiting):
                above.append(node)
                node = found
                continue
            links += 1
            if links > LINKS_LIMIT:
                raise FileSystemError(ErrorCode.NOT_FOUND, f"{parsed}: more than {LINKS_LIMIT} symbolic links")
            target = await target_of(found, read)
            if target.startswith("/"):
                above, node = [], catalogue.root
            waiting += target.split("/")[::-1]
    raise FileSystemError(ErrorCode.NAME_TOO_LONG, f"{parsed}: more than {NAMES_LIMIT} names, links followed")


async def target_of(entry: ZipEntry, read: ReadTarget) -> str:
    """Return where a link leads."""
    return (await read(entry)).decode("utf-8", "replace")


def is_link(entry: ZipEntry) -> bool:
    """Whether an entry is a symbolic link whose target can be its content."""
    return bool(entry.attributes & FileAttributes.SYMLINK) and 0 < entry.size <= TARGET_LIMIT
