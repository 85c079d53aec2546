"""The common parts of containers: a file whose every number may be wrong, and a medium whose bytes lie somewhere in it.

Only a few blocks of a container's tables are copied, so memory stays bounded whatever their sizes say.
"""

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from callgate.disk.media.image_file import SECTORS_LIMIT, RawFile
from callgate.disk.media.medium import ImageError, MediumError, NoDelay, check_bounds, refuse_to_write
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.common.recent import Recent

BLOCK: Final = 4096  # bytes of a table that are read at once
BLOCKS_KEPT: Final = 256  # 1 MiB of a container's tables
UNPACKED_KEPT: Final = 4  # clusters of at most 2 MiB
CONVERT: Final = "convert it: qemu-img convert -O raw IMAGE OUT"


class DamagedError(Exception):
    """A container contradicts itself."""


class Run(NamedTuple):
    """Bytes of a disk that lie together: in a container's file from `offset` on, or in `data`; else they are zeros."""

    size: int
    offset: int | None = None
    data: memoryview | None = None


class ContainerFile:
    """A container's file, with the blocks of its tables that have been read."""

    def __init__(self, file: RawFile, kind: str) -> None:
        self.file = file
        self.kind = kind  # "qcow2", for messages
        self.size = file.size
        self._blocks: Recent[bytes] = Recent(BLOCKS_KEPT)
        self._unpacked: Recent[memoryview] = Recent(UNPACKED_KEPT)

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Return bytes; DamagedError names `what` if they do not all lie in the file.  OSError."""
        if offset < 0 or offset + length > self.size:
            raise DamagedError(f"{what} at byte {offset} passes the end of the file of {self.size} bytes")
        return self.file.read(offset, length)

    def number(self, offset: int, size: int, order: str, what: str) -> int:
        """Return an entry of a table: `size` bytes, byte order "<" or ">"; DamagedError if it is not in the file."""
        if offset + size > self.size:
            raise DamagedError(f"{what} at byte {offset} lies past the end of the file of {self.size} bytes")
        number, place = divmod(offset, BLOCK)
        data = self._block(number)[place : place + size]
        if len(data) < size:
            data += self._block(number + 1)[: size - len(data)]
        return int.from_bytes(data, "little" if order == "<" else "big")

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        return self._blocks.keep(number, self.file.read(number * BLOCK, BLOCK)) if block is None else block

    def kept(self, number: int) -> memoryview | None:
        """Return the unpacked data kept under a number, if they are still there."""
        return self._unpacked.get(number)

    def keep(self, number: int, data: bytes) -> memoryview:
        """Keep unpacked data for a while, under a number that identifies them; return a view of them."""
        return self._unpacked.keep(number, memoryview(data))

    def refused(self, reason: str, hint: str = CONVERT) -> ImageError:
        """Return the error of a container that is sound, and not read."""
        return ImageError(self.file.path, f"is a {self.kind} image {reason}, which is not read", hint)


class ContainerImage(NoDelay, ABC):
    """The disk in a container.  A subclass says where its bytes are."""

    read_only = True

    def __init__(self, file: ContainerFile, size: int) -> None:
        """`size` is the disk's, in bytes; ImageError if it is 0, or more than a disk can have."""
        self.file = file
        self.path = file.file.path
        self.format = file.kind
        self.warnings: list[str] = []
        self.size = size
        self.sector_count = -(-size // SECTOR_SIZE)
        if not 0 < self.sector_count <= SECTORS_LIMIT:
            raise DamagedError(f"its disk has {size} bytes")

    @abstractmethod
    def locate(self, position: int, wanted: int) -> Run:
        """Return where the bytes from `position` on are, `wanted` at most and 1 at least; DamagedError."""

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Fill the views from the places of the sectors; MediumError."""
        check_bounds(self, lba, views)
        rest = Views(views)
        position = lba * SECTOR_SIZE
        while rest.left:
            try:
                run = self.locate(position, rest.left)
                self._fill(rest.take(run.size), run)
            except DamagedError as error:
                raise MediumError(position // SECTOR_SIZE, str(error)) from None
            except OSError as error:
                raise MediumError(position // SECTOR_SIZE, error.strerror or str(error)) from None
            position += run.size

    def _fill(self, views: list[memoryview], run: Run) -> None:
        if run.offset is not None:
            if run.offset >= self.file.size:
                raise DamagedError(f"data at byte {run.offset} lie past the end of the file of {self.file.size} bytes")
            self.file.file.fill(views, run.offset, run.size)
            return
        place = 0
        for view in views:
            view[:] = bytes(len(view)) if run.data is None else run.data[place : place + len(view)]
            place += len(view)

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Refuse: images are opened read-only."""
        refuse_to_write(lba)

    def flush(self) -> None:
        """Nothing was written."""

    @property
    def host_files(self) -> list[os.stat_result]:
        """The file."""
        return self.file.file.host_files

    def close(self) -> None:
        """Close the file."""
        self.file.file.close()


class Views:
    """Views that are filled from their beginning on, piece by piece."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self.left = sum(map(len, views))  # bytes that have not yet been filled
        self._views = views
        self._index = 0
        self._place = 0

    def take(self, size: int) -> list[memoryview]:
        """Return views of the next `size` bytes, of which there must be as many left."""
        taken = []
        self.left -= size
        while size:
            view = self._views[self._index]
            piece = view[self._place : self._place + size]
            if len(piece):
                taken.append(piece)
                size -= len(piece)
            self._place += len(piece)
            if self._place == len(view):
                self._index += 1
                self._place = 0
        return taken


def unpacked_struct(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    """Return the numbers of a record; DamagedError if it is cut short."""
    if len(data) < layout.size:
        raise DamagedError(f"its header of {layout.size} bytes is cut short")
    return layout.unpack_from(data)
