"""Directory pages as a server sends them: in the one layout that clients read (abi/directory.py)."""

from collections.abc import Iterable

from callgate.kernel.abi import directory
from callgate.kernel.abi.directory import DirectoryPage, ListedFile, NameSizeError, read_pages
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import MESSAGE_ADDRESSES
from callgate.server.errors import ReplyError

__all__ = ["ListedFile", "build_pages", "fitting_pages", "read_pages"]


def build_pages(files: Iterable[ListedFile], version: int) -> bytes:
    """Return directory pages for ``files`` in their order; an empty directory has one empty page.

    ReplyError if a name takes none or more than DIRECTORY_NAME_LIMIT bytes of UTF-8.
    """
    try:
        return directory.build_pages(files, version)
    except NameSizeError as error:
        raise ReplyError(str(error)) from None


def fitting_pages(files: Iterable[ListedFile], version: int) -> tuple[bytes, int]:
    """Return directory pages with as many of the files as one object reply carries, and how many these are.

    All, but of the very largest directories; what is left out can still be opened by name.
    """
    data = build_pages(files, version)[: MESSAGE_ADDRESSES * PAGE_SIZE]
    pages = range(0, len(data), PAGE_SIZE)
    return data, sum(DirectoryPage.from_buffer_copy(data, page).entries for page in pages)
