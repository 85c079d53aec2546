"""A raw disk image on the host, read straight into the guest's memory."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from callgate.disk.medium import ImageError, MediumError, NoDelay, check_bounds
from callgate.kernel.abi.memory import SECTOR_SIZE

IOV_LIMIT = 512
SECTORS_LIMIT = 1 << 48
ARCHIVE = b"PK"  # a ZIP archive is no image of a disk: it ends where it ends
ARCHIVE_END = b"PK\5\6"  # of one that stands behind a program, say
ARCHIVE_TAIL = 22 + 65535  # bytes in which that is: the record and the longest comment


class ImageFile(NoDelay):
    """A raw disk image, opened read-only."""

    read_only = True

    def __init__(self, path: Path) -> None:
        """Open an image; ImageError says why it cannot be used."""
        self.path = path
        self.fd = self._open()
        self.warnings: list[str] = []
        try:
            self.size = os.lseek(self.fd, 0, os.SEEK_END)
            archive = self._is_archive()
        except OSError as error:
            os.close(self.fd)
            raise ImageError(path, f"cannot be read: {error.strerror}") from None
        if self.size < SECTOR_SIZE and not archive:
            os.close(self.fd)
            reason = "is empty" if not self.size else f"is {self.size} bytes long, shorter than one sector"
            raise ImageError(path, reason, "a disk image is a multiple of 512 bytes")
        if self.size % SECTOR_SIZE and not archive:
            rest = self.size % SECTOR_SIZE
            self.warnings.append(f"{path}: the last {rest} bytes are no whole sector and are padded with zeros")
        self.sector_count = -(-self.size // SECTOR_SIZE)
        if self.sector_count > SECTORS_LIMIT:
            os.close(self.fd)
            raise ImageError(path, f"has {self.sector_count} sectors; LBA48 ends at {SECTORS_LIMIT}")

    def _is_archive(self) -> bool:
        tail = os.pread(self.fd, ARCHIVE_TAIL, max(0, self.size - ARCHIVE_TAIL))
        return os.pread(self.fd, len(ARCHIVE), 0) == ARCHIVE or ARCHIVE_END in tail

    def _open(self) -> int:
        try:
            # A pipe without a writer must not keep us waiting.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            mode = os.fstat(fd).st_mode
        except FileNotFoundError:
            hint = "only the shell expands ~, where it is not quoted" if str(self.path).startswith("~") else ""
            raise ImageError(self.path, "there is no such file", hint) from None
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
