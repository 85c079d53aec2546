"""Media: what a disk controller reads from and writes to, in 512-byte sectors.

A medium moves bytes straight between its file and the guest's memory (`preadv` into views of RAM).  Faults
are media too, wrapped around the real one: no controller or kernel code knows about them.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from callgate.kernel.abi.memory import SECTOR_SIZE

IOV_LIMIT = 512
SECTORS_LIMIT = 1 << 48


class ImageError(Exception):
    """An image that cannot be used: which one, why, and what to do."""

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


class MediumError(Exception):
    """Sectors that cannot be read or written; the controller reports it as the drive would."""

    removed = False  # whether there is no medium any more

    def __init__(self, lba: int, reason: str) -> None:
        super().__init__(f"sector {lba}: {reason}")
        self.lba = lba
        self.reason = reason


class MediumRemovedError(MediumError):
    """The medium is gone, and its drive with it."""

    removed = True


class Medium(Protocol):
    """A disk's content."""

    @property
    def sector_count(self) -> int:
        """Number of 512-byte sectors."""
        ...

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        ...

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Fill the views, in order, from sector `lba` on; their sum is a multiple of 512.  MediumError."""
        ...

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Write the views, in order, from sector `lba` on.  MediumError."""
        ...

    def flush(self) -> None:
        """Have everything written reach stable storage."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def check_bounds(medium: Medium, lba: int, views: Sequence[memoryview]) -> None:
    """MediumError if a transfer leaves the medium."""
    sectors = sum(len(view) for view in views) // SECTOR_SIZE
    if lba < 0 or lba + sectors > medium.sector_count:
        raise MediumError(lba, f"{sectors} sectors from here leave the medium of {medium.sector_count}")


class ImageFile:
    """A raw disk image, opened read-only."""

    read_only = True

    def __init__(self, path: Path) -> None:
        """Open an image; ImageError says why it cannot be used."""
        self.path = path
        self.fd = self._open()
        self.size = os.lseek(self.fd, 0, os.SEEK_END)
        self.warnings: list[str] = []
        if self.size < SECTOR_SIZE:
            os.close(self.fd)
            reason = "is empty" if not self.size else f"is {self.size} bytes long, shorter than one sector"
            raise ImageError(path, reason, "a disk image is a multiple of 512 bytes")
        if self.size % SECTOR_SIZE:
            rest = self.size % SECTOR_SIZE
            self.warnings.append(f"{path}: the last {rest} bytes are no whole sector and are padded with zeros")
        self.sector_count = -(-self.size // SECTOR_SIZE)
        if self.sector_count > SECTORS_LIMIT:
            os.close(self.fd)
            raise ImageError(path, f"has {self.sector_count} sectors; LBA48 ends at {SECTORS_LIMIT}")

    def _open(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            mode = os.fstat(fd).st_mode
        except FileNotFoundError:
            raise ImageError(self.path, "there is no such file") from None
        except PermissionError:
            raise ImageError(self.path, "may not be read", "check its permissions") from None
        except OSError as error:
            raise ImageError(self.path, f"cannot be opened: {error.strerror}") from None
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return fd
        os.close(fd)
        if stat.S_ISDIR(mode):
            hint = "make an image of it: callgate disk create OUT --from DIR"
            raise ImageError(self.path, "is a directory, not a disk image", hint)
        raise ImageError(self.path, "is no regular file")

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read straight into the views."""
        check_bounds(self, lba, views)
        offset = lba * SECTOR_SIZE
        for start in range(0, len(views), IOV_LIMIT):
            batch = list(views[start : start + IOV_LIMIT])
            wanted = sum(len(view) for view in batch)
            self._fill(batch, offset, wanted)
            offset += wanted

    def _fill(self, views: list[memoryview], offset: int, wanted: int) -> None:
        try:
            got = os.preadv(self.fd, views, offset)
        except OSError as error:
            raise MediumError(offset // SECTOR_SIZE, error.strerror or str(error)) from None
        if got == wanted:
            return
        if offset + got < self.size:
            rest = cut(views, got)
            if got and rest:
                self._fill(rest, offset + got, wanted - got)
                return
            raise MediumError((offset + got) // SECTOR_SIZE, "the image has become shorter")
        for view in cut(views, got):
            view[:] = bytes(len(view))

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Refuse: images are opened read-only."""
        raise MediumError(lba, os.strerror(errno.EROFS))

    def flush(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def cut(views: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return the views without their first `size` bytes."""
    rest = []
    for view in views:
        if size >= len(view):
            size -= len(view)
        else:
            rest.append(view[size:])
            size = 0
    return rest


class MemoryMedium:
    """A disk in host memory, for tests."""

    def __init__(self, data: bytes | bytearray, *, read_only: bool = False) -> None:
        """`data` is padded to whole sectors."""
        self.data = bytearray(data) + bytes(-len(data) % SECTOR_SIZE)
        self.read_only = read_only
        self.flushes = 0

    @property
    def sector_count(self) -> int:
        """Number of 512-byte sectors."""
        return len(self.data) // SECTOR_SIZE

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Copy into the views."""
        check_bounds(self, lba, views)
        offset = lba * SECTOR_SIZE
        for view in views:
            view[:] = self.data[offset : offset + len(view)]
            offset += len(view)

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Copy from the views."""
        if self.read_only:
            raise MediumError(lba, os.strerror(errno.EROFS))
        check_bounds(self, lba, views)
        offset = lba * SECTOR_SIZE
        for view in views:
            self.data[offset : offset + len(view)] = view
            offset += len(view)

    def flush(self) -> None:
        """Count the flush."""
        self.flushes += 1

    def close(self) -> None:
        """Nothing to let go of."""


class FaultInjecting:
    """A medium whose sectors in `bad` cannot be read, and that disappears after `removed_after` transfers."""

    def __init__(self, medium: Medium, *, bad: Sequence[int] = (), removed_after: int | None = None) -> None:
        self.medium = medium
        self.bad = frozenset(bad)
        self.left = removed_after
        self.read_only = medium.read_only
        self.sector_count = medium.sector_count

    def _check(self, lba: int, views: Sequence[memoryview]) -> None:
        if self.left is not None:
            if self.left == 0:
                raise MediumRemovedError(lba, "the disk has been removed")
            self.left -= 1
        sectors = sum(len(view) for view in views) // SECTOR_SIZE
        for sector in range(lba, lba + sectors):
            if sector in self.bad:
                raise MediumError(sector, "unrecoverable read error")

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read, unless a fault is due."""
        self._check(lba, views)
        self.medium.read_into(lba, views)

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Write, unless a fault is due."""
        self._check(lba, views)
        self.medium.write_from(lba, views)

    def flush(self) -> None:
        """Flush what lies below."""
        self.medium.flush()

    def close(self) -> None:
        """Close what lies below."""
        self.medium.close()
