"""Directories: from blocks of records to names and inode numbers, read from front to back.

A hashed directory (htree) keeps its index where a linear reader sees unused records (ext4 documentation,
"Hash Tree Directories"), so it can be read in the same way.
"""

import struct
from typing import Any, Final, NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError
from callgate.server.ext2.structures import DIRECTORY_HEADER, DIRECTORY_NAME, FILE_TYPES, Kind
from callgate.server.formats.names import name_of_bytes

DIRECTORY_LIMIT: Final = 16 << 20  # bytes that are read of one directory
DAMAGE_KEPT: Final = 8
_RECORD: Final = struct.Struct("<IHBB")
_ALIGNMENT: Final = 4
_DOT_NAMES: Final = (b".", b"..")
_BLOCK_64K: Final = 1 << 16


class Entry(NamedTuple):
    """A name in a directory; ``kind`` is what the entry says, None if it says nothing."""

    name: str
    inode: int
    kind: Kind | None


class Directory:
    """The entries of one directory; immutable, so that snapshots may share it.

    ``truncated`` says why entries may be missing, if they may; ``damage`` lists records that cannot be used.
    ``lasting`` is False if the disk failed, which it may not do the next time.
    """

    __slots__ = ("_index", "damage", "entries", "lasting", "truncated")

    def __init__(self, entries: list[Entry], truncated: str, damage: list[str], *, lasting: bool) -> None:
        self.entries = tuple(entries)
        self.truncated = truncated
        self.lasting = lasting
        self.damage = tuple(damage[:DAMAGE_KEPT])
        self._index: dict[str, Entry] = {}
        for entry in entries:
            self._index.setdefault(entry.name, entry)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Directory":
        return self

    def find(self, name: str) -> Entry | None:
        """Return the entry of this very name; the first, should there be more."""
        return self._index.get(name)


class Parser:
    """Gathers the entries of a directory block by block."""

    def __init__(self, block_bytes: int, *, has_filetype: bool) -> None:
        self.block_bytes = block_bytes
        self.has_filetype = has_filetype
        self.entries: list[Entry] = []
        self.damage: list[str] = []
        self.truncated = ""
        self.lasting = True

    def finish(self) -> Directory:
        """Return the directory that the blocks so far make."""
        return Directory(self.entries, self.truncated, self.damage, lasting=self.lasting)

    def add_block(self, block: bytes, number: int) -> None:
        """Take the records of block ``number``; records after one of impossible length are lost."""
        offset = 0
        while offset < len(block):
            if offset + DIRECTORY_HEADER > len(block):
                self.lose(f"block {number}: no record fits at offset {offset}")
                return
            inode, raw_length, name_length, kind = _RECORD.unpack_from(block, offset)
            length = record_length(raw_length, self.block_bytes)
            if length < DIRECTORY_HEADER + _ALIGNMENT or length % _ALIGNMENT or offset + length > len(block):
                self.lose(f"block {number}, offset {offset}: a record of {length} bytes")
                return
            if inode:
                name_bytes = name_length if self.has_filetype else name_length | kind << 8
                room = min(length - DIRECTORY_HEADER, DIRECTORY_NAME)
                if name_bytes > room:
                    self.damage.append(f"block {number}, offset {offset}: a name of {name_bytes} bytes in {room}")
                else:
                    start = offset + DIRECTORY_HEADER
                    self._add(block[start : start + name_bytes], inode, kind, f"block {number}, offset {offset}")
            offset += length

    def lose(self, why: str) -> None:
        """Note that entries may be missing; the first reason stays."""
        self.truncated = self.truncated or why

    def fail(self, error: FileSystemError) -> None:
        """Note that blocks could not be read, because of the disk or of the volume."""
        self.lose(error.text)
        self.lasting = self.lasting and error.code is ErrorCode.CORRUPT

    def _add(self, raw: bytes, inode: int, kind: int, place: str) -> None:
        if raw in _DOT_NAMES:
            return
        if not raw or b"/" in raw or b"\0" in raw:
            self.damage.append(f"{place}: {raw!r} is not a name")
            return
        self.entries.append(Entry(name_of_bytes(raw), inode, FILE_TYPES.get(kind) if self.has_filetype else None))


def record_length(raw: int, block_bytes: int) -> int:
    """Return the meaning of rec_len: with blocks of 64 KiB, 0 and 65535 stand for a whole block.

    As ext4_rec_len_from_disk in Linux; with smaller blocks the number is the number.
    """
    if block_bytes < _BLOCK_64K:
        return raw
    if raw in (0, _BLOCK_64K - 1):
        return block_bytes
    return raw & 0xFFFC | (raw & 3) << 16
