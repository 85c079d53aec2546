"""Files on the host, and raw disk images in them, read straight into the guest's memory."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from callgate.disk.media.medium import ImageError, MediumError, NoDelay, check_bounds, refuse_to_write
from callgate.kernel.abi.memory import SECTOR_SIZE

IOV_LIMIT = 512
SECTORS_LIMIT = 1 << 48
ARCHIVE = b"PK"  # a ZIP archive is not an image of a disk, so its size need not be whole sectors
ARCHIVE_END = b"PK\5\6"  # of one that follows a program, for instance
ARCHIVE_TAIL = 22 + 65535  # bytes in which that lies: the record and the longest comment


SHRUNK = "the image has become shorter"


class ShrunkError(OSError):
    """A file has become shorter while it was read."""

    def __init__(self, offset: int) -> None:
        super().__init__(0, SHRUNK)
        self.offset = offset  # where it ends now


class RawFile:
    """A file that is open to be read at any place."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        """Open `path`, or take over `fd`, of which `path` is the name in messages; ImageError names the reason."""
        self.path = path
        self.named = fd is None  # whether there is a file of this name
        self.fd = open_file(path) if fd is None else fd
        try:
            self.size = os.lseek(self.fd, 0, os.SEEK_END)
            self.host_files = [os.fstat(self.fd)]  # of the file that was named, also if its content was unpacked
            os.pread(self.fd, 1, 0)
        except OSError as error:
            self.close()
            raise ImageError(path, f"cannot be read: {error.strerror}") from None

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes, fewer at the end of the file; OSError."""
        return os.pread(self.fd, length, offset)

    def fill(self, views: Sequence[memoryview], offset: int, wanted: int) -> None:
        """Fill views of `wanted` bytes in all; what lies past the end of the file is zeros.  OSError."""
        for start in range(0, len(views), IOV_LIMIT):
            batch = list(views[start : start + IOV_LIMIT])
            size = wanted if len(views) <= IOV_LIMIT else sum(map(len, batch))
            self._fill(batch, offset, size)
            offset += size

    def _fill(self, views: list[memoryview], offset: int, wanted: int) -> None:
        got = os.preadv(self.fd, views, offset)
        if got == wanted:
            return
        if offset + got < self.size:
            rest = cut(views, got)
            if got and rest:
                self._fill(rest, offset + got, wanted - got)
                return
            raise ShrunkError(offset + got)
        for view in cut(views, got):
            view[:] = bytes(len(view))

    def close(self) -> None:
        """Close the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_file(path: Path) -> int:
    """Open a regular file or a block device to be read; ImageError names the reason if that is impossible."""
    try:
        # Opening a pipe without a writer must not wait.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(fd).st_mode
    except FileNotFoundError:
        hint = "only the shell expands ~, where it is not quoted" if str(path).startswith("~") else ""
        raise ImageError(path, "there is no such file", hint) from None
    except PermissionError:
        raise ImageError(path, "may not be read", "check its permissions") from None
    except OSError as error:
        raise ImageError(path, f"cannot be opened: {error.strerror}") from None
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        hint = "make an image of it: callgate disk create OUT --from DIR"
        raise ImageError(path, "is a directory, not a disk image", hint)
    raise ImageError(path, "is not a regular file")


class ImageFile(NoDelay):
    """A raw disk image, opened read-only: its bytes are the file's."""

    read_only = True

    def __init__(self, path: Path, file: RawFile | None = None) -> None:
        """Open an image, or take over an open file; ImageError says why it cannot be used."""
        self.path = path
        self.file = RawFile(path) if file is None else file
        self.format = "raw"
        self.size = self.file.size
        self.warnings: list[str] = []
        archive = self._is_archive()
        if self.size < SECTOR_SIZE and not archive:
            self.close()
            reason = "is empty" if not self.size else f"is {self.size} bytes long, shorter than one sector"
            raise ImageError(path, reason, "a disk image is a multiple of 512 bytes")
        if self.size % SECTOR_SIZE and not archive:
            rest = self.size % SECTOR_SIZE
            self.warnings.append(f"{path}: the last {rest} bytes are not a whole sector and are padded with zeros")
        self.sector_count = -(-self.size // SECTOR_SIZE)
        if self.sector_count > SECTORS_LIMIT:
            self.close()
            raise ImageError(path, f"has {self.sector_count} sectors; LBA48 ends at {SECTORS_LIMIT}")

    def _is_archive(self) -> bool:
        try:
            tail = self.file.read(max(0, self.size - ARCHIVE_TAIL), ARCHIVE_TAIL)
            return self.file.read(0, len(ARCHIVE)) == ARCHIVE or ARCHIVE_END in tail
        except OSError as error:
            self.close()
            raise ImageError(self.path, f"cannot be read: {error.strerror}") from None

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read straight into the views."""
        check_bounds(self, lba, views)
        try:
            self.file.fill(views, lba * SECTOR_SIZE, sum(map(len, views)))
        except ShrunkError as error:
            raise MediumError(error.offset // SECTOR_SIZE, SHRUNK) from None
        except OSError as error:
            raise MediumError(lba, error.strerror or str(error)) from None

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        """Refuse: images are opened read-only."""
        refuse_to_write(lba)

    def flush(self) -> None:
        """Nothing was written."""

    @property
    def host_files(self) -> list[os.stat_result]:
        """The file."""
        return self.file.host_files

    def close(self) -> None:
        """Close the file."""
        self.file.close()


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
