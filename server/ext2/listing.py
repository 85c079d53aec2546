"""A directory as a client sees it: names with the sizes, times and attributes of their inodes."""

from typing import Final

from callgate.kernel.abi.directory import DIRECTORY_NAME_OFFSET, FileAttributes
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.ext2.directory import Directory, Entry
from callgate.server.ext2.inode import Inode
from callgate.server.ext2.structures import Kind
from callgate.server.ext2.volume import ExtVolume
from callgate.server.listing import ListedFile

_BYTES_LIMIT: Final = MESSAGE_ADDRESSES * PAGE_SIZE  # what one reply carries
_ENTRIES_LIMIT: Final = _BYTES_LIMIT // (DIRECTORY_NAME_OFFSET + 8)  # names take 8 bytes at least
#: The attributes of an entry by its kind, when its inode cannot be read.
_ATTRIBUTES: Final = {Kind.DIRECTORY: FileAttributes.DIRECTORY, Kind.SYMLINK: FileAttributes.SYMLINK}


class Listing:
    """The listed entries of one directory, and the number of all; immutable, so that snapshots may share it."""

    __slots__ = ("entries", "files", "lasting")

    def __init__(self, files: list[ListedFile], directory: Directory, *, lasting: bool) -> None:
        self.files = tuple(files)
        self.entries = len(directory.entries)
        self.lasting = lasting  # or else a disk that recovers may have more

    def __deepcopy__(self, memo: dict[int, object]) -> "Listing":
        return self


async def list_directory(volume: ExtVolume, directory: Directory) -> tuple[Listing, list[str]]:
    """Return the entries of a directory with data of their inodes, and the faults as text.

    Of entries that cannot fit in a reply in any case, the inodes are not read.
    """
    entries = directory.entries[:_ENTRIES_LIMIT]
    inodes = await volume.inodes.read_many(entry.inode for entry in entries)
    damage = [*([directory.truncated] if directory.truncated else []), *directory.damage]
    lost = [entry for entry in entries if entry.inode not in inodes]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        damage.append(f"{lost[0].name!r}{more}: inode {lost[0].inode} cannot be used")
    files = [_listed(entry, inodes.get(entry.inode)) for entry in entries]
    return Listing(files, directory, lasting=directory.lasting and not lost), damage


def _listed(entry: Entry, inode: Inode | None) -> ListedFile:
    if inode is None:
        attributes = _ATTRIBUTES.get(entry.kind, FileAttributes(0)) if entry.kind else FileAttributes(0)
        return ListedFile(entry.name, attributes, identifier=entry.inode)
    size = 0 if inode.is_directory else inode.size
    return ListedFile(entry.name, inode.attributes, size, inode.modified, inode.number)
