"""The ROM image: what the loader puts at USER_HEAP of the ROM server."""

from ctypes import c_uint32
from typing import Final

from callgate.kernel.abi.layout import Layout

ROM_MAGIC: Final = 0x6D6F_7267


class RomHeader(Layout):
    """The first bytes of the image; `RomEntry` records follow."""

    _fields_ = [("magic", c_uint32), ("entries", c_uint32), ("size", c_uint32), ("reserved", c_uint32)]
    _notes_ = {"size": "bytes of the whole image"}


class RomEntry(Layout):
    """A file or directory; offsets are from the start of the image."""

    _fields_ = [
        ("path", c_uint32),
        ("path_length", c_uint32),
        ("attributes", c_uint32),
        ("data", c_uint32),
        ("size", c_uint32),
        ("items", c_uint32),
    ]
    _notes_ = {
        "path": "without a leading slash; the root directory's is empty",
        "data": "page-aligned: a file's bytes, a directory's pages",
        "size": "bytes of a file, or of the pages of a directory",
        "items": "entries of a directory",
    }
