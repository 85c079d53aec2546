"""Images that come as a stream, from standard input or from a decompressor: put into a temporary file.

The file has no name from the beginning, so it is gone when it is closed, or when the program ends in any way.
"""

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from callgate.disk.media.image_file import RawFile
from callgate.disk.media.medium import ImageError

INPUT_NAME: Final = Path("standard input")
LIMIT: Final = 16 << 30  # bytes of one image
_CHUNK: Final = 1 << 20
_GRAIN: Final = 1 << 16  # bytes that become a hole of the file if all of them are zeros


def spool(path: Path, chunks: Iterable[bytes], hint: str) -> RawFile:
    """Put a stream into a temporary file and return it; ImageError, with `hint`, if it does not fit.

    `path` is the name of the image. Exceptions of the stream are passed on.
    """
    size = 0
    with _temporary(path, hint) as file:
        for chunk in chunks:
            if size + len(chunk) > LIMIT:
                raise ImageError(path, f"has more than {LIMIT >> 30} GiB", hint)
            with _room(path, hint):
                _write(file.fileno(), chunk, size)
            size += len(chunk)
        with _room(path, hint):
            os.ftruncate(file.fileno(), size)
        return RawFile(path, os.dup(file.fileno()))


def _temporary(path: Path, hint: str) -> IO[bytes]:
    with _room(path, hint):
        return tempfile.TemporaryFile(prefix="callgate-")


@contextmanager
def _room(path: Path, hint: str) -> Iterator[None]:
    """Raise ImageError if the block cannot write."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"does not fit into {tempfile.gettempdir()}"
            raise ImageError(path, reason, f"set TMPDIR to a directory with room, or {hint}") from None
        raise ImageError(path, f"cannot be put into a temporary file: {error.strerror or error}") from None


def _write(fd: int, data: bytes, offset: int) -> None:
    """Write a block that is not only zeros."""
    view = memoryview(data)
    for start in range(0, len(data), _GRAIN):
        piece = view[start : start + _GRAIN]
        if data.count(0, start, start + _GRAIN) == len(piece):
            continue
        done = 0
        while done < len(piece):
            done += os.pwrite(fd, piece[done:], offset + start + done)


def open_input() -> RawFile:
    """Return standard input as a file; ImageError if it is a terminal, cannot be read, or does not fit.

    A file or a block device that the shell has opened as standard input is used as it is, from its beginning.
    """
    try:
        fd = sys.stdin.fileno()
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(INPUT_NAME, "is a directory, not a disk image")
        if os.isatty(fd):
            raise ImageError(INPUT_NAME, "is a terminal", "pipe an image into it, or name a file")
        if (stat.S_ISREG(mode) or stat.S_ISBLK(mode)) and os.lseek(fd, 0, os.SEEK_CUR) == 0:
            return RawFile(INPUT_NAME, os.dup(fd))
    except OSError as error:
        raise ImageError(INPUT_NAME, f"cannot be read: {error.strerror}") from None
    return spool(INPUT_NAME, iter(lambda: os.read(fd, _CHUNK), b""), "put it into a file and name that")
