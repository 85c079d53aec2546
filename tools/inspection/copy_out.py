"""Copying files and trees out of an image into a directory of the host, safely, whatever the image holds.

An image may be hostile.  All files are written below the destination: each directory is opened by its own name without
following links, relative to the one above it, and names that would lead elsewhere (`..`, with a `/` or a NUL, none) are
refused.  A file replaces nothing: it is made anew, or with `force` put in place of an older file, never of one that
this copy has made itself, so that two names of the image which are the same on the host are reported.  No link and no
device is made: a link to a file becomes that file, all others are left out and named.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.log import printable
from callgate.server.listing import ListedFile
from callgate.tools.inspection.paths import Place
from callgate.tools.inspection.volumes import Volume, VolumeError

DEPTH_LIMIT: Final = 100  # nested directories
NANOSECONDS: Final = 1_000_000_000
#: Errors that the next file would have as well.
FATAL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class CopyRefused(Exception):
    """A file or directory that is not copied, and why."""


@dataclass(slots=True)
class Counts:
    """Counts of what has been copied."""

    files: int = 0
    bytes: int = 0
    failures: int = 0


@dataclass(slots=True)
class Copier:
    """One run of copying.  `say` is called with a line for each thing left out, `progress` now and then."""

    host_files: Sequence[os.stat_result]  # of the images, never written over, even with `force`
    force: bool
    say: Callable[[str], None]
    progress: Callable[[Counts, str], None] = lambda _counts, _name: None
    counts: Counts = field(default_factory=Counts)
    made: set[tuple[int, int]] = field(default_factory=set)  # (device, inode) of files of this run
    seen: set[tuple[int, int]] = field(default_factory=set)  # (id of volume, identifier) of directories

    def copy(self, place: Place, folder: int, name: str) -> None:
        """Copy a file or tree to `name` in an open directory of the host; failures are reported and counted."""
        entry = place.entry
        if entry is None or place.is_directory:
            self._tree(place, folder, name, 0)
        else:
            self._attempt(place, lambda: self._file(place, folder, name, entry))

    def copy_into(self, place: Place, folder: int) -> None:
        """Copy the content of a directory into an open directory of the host."""
        self._attempt(place, lambda: self._entries(place, folder, 0))

    def _attempt(self, place: Place, work: Callable[[], None]) -> None:
        """Call a function; report and count its failure. OSError if nothing else could be copied either."""
        try:
            work()
        except (VolumeError, CopyRefused) as error:
            self.fail(place, str(error))
        except OSError as error:
            if error.errno in FATAL:
                raise
            self.fail(place, f"cannot be written: {error.strerror}")
        for line in place.volume.take_reports():
            self.say(f"{place.volume.name}: {line}" if place.volume.name else line)

    def fail(self, place: Place, reason: str) -> None:
        """Report that something has not been copied."""
        self.counts.failures += 1
        self.say(f"{printable(place.shown or '/')}: {reason}")

    def _tree(self, place: Place, folder: int, name: str, depth: int) -> None:
        def work() -> None:
            self._check_directory(place, depth)
            with made_directory(folder, check_name(name)) as inner:
                self._entries(place, inner, depth)
                if place.entry is not None:
                    set_time(inner, place.entry.modified)

        self._attempt(place, work)

    def _check_directory(self, place: Place, depth: int) -> None:
        """CopyRefused if a directory has been copied already, which would repeat for ever in a damaged volume."""
        if depth > DEPTH_LIMIT:
            raise CopyRefused(f"more than {DEPTH_LIMIT} nested directories")
        if place.entry is not None and place.entry.identifier:
            key = id(place.volume), place.entry.identifier
            if depth and key in self.seen:
                raise CopyRefused("lies in the volume twice, left out")
            self.seen.add(key)

    def _entries(self, place: Place, folder: int, depth: int) -> None:
        for entry in place.volume.listing(place.path):
            inner = Place(place.volume, f"{place.path}/{entry.name}".lstrip("/"), entry)
            try:
                check_name(entry.name)
            except CopyRefused as refused:
                self.fail(inner, str(refused))
                continue
            if entry.attributes & FileAttributes.DIRECTORY:
                self._tree(inner, folder, entry.name, depth + 1)
            else:
                self._member(inner, folder, entry)

    def _member(self, place: Place, folder: int, entry: ListedFile) -> None:
        """Copy a file of a tree."""

        def work() -> None:
            try:
                self._file(place, folder, entry.name, entry)
            except VolumeError as error:
                raise CopyRefused(explain(entry, error)) from None

        self._attempt(place, work)

    def _file(self, place: Place, folder: int, name: str, entry: ListedFile) -> None:
        check_name(name)
        size = place.volume.size(place.path)  # before anything is made: it may be a device, or gone
        self.progress(self.counts, place.shown)
        mode = 0o777 if entry.attributes & FileAttributes.EXECUTABLE else 0o666
        with self._fresh(folder, name, mode) as fd:
            self._fill(place.volume, place.path, size, fd)
            set_time(fd, entry.modified)
        self.counts.files += 1

    def _fill(self, volume: Volume, path: str, size: int, fd: int) -> None:
        """Write a file's content; holes stay holes."""
        try:
            for piece in volume.content(path):
                if piece.data is not None:
                    write_at(fd, piece.data, piece.position)
                self.counts.bytes += piece.size
                self.progress(self.counts, path)
        except VolumeError as error:
            raise CopyRefused(f"{error}, nothing of it is kept") from None
        os.ftruncate(fd, size)

    @contextmanager
    def _fresh(self, folder: int, name: str, mode: int) -> Iterator[int]:
        """Yield a new file that is called `name` if the block succeeds, and is removed if it does not."""
        old = self._older(folder, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        temporary = name if old is None else f".callgate-{os.getpid()}"
        fd = os.open(temporary, flags, mode, dir_fd=folder)
        try:
            yield fd
            if old is not None:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            status = os.fstat(fd)
            self.made.add((status.st_dev, status.st_ino))
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        finally:
            os.close(fd)

    def _older(self, folder: int, name: str) -> os.stat_result | None:
        """Return the file `name` that is to be replaced, None if there is none; CopyRefused."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if (status.st_dev, status.st_ino) in self.made:
            raise CopyRefused("has the name of another file of the image on this host, left out")
        if any(os.path.samestat(status, file) for file in self.host_files):
            raise CopyRefused("would replace an image that is read")
        if stat.S_ISDIR(status.st_mode):
            raise CopyRefused("a directory of that name already exists")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
            raise CopyRefused("something that is not a file already has that name")
        if not self.force:
            raise CopyRefused("already exists; --force replaces it")
        return status


def explain(entry: ListedFile, error: VolumeError) -> str:
    """Return why a member of a tree is left out."""
    if entry.attributes & FileAttributes.SYMLINK:
        if error.code == ErrorCode.IS_DIRECTORY:
            return "a symbolic link to a directory, left out"
        return f"a symbolic link that cannot be followed ({error}), left out"
    if error.code == ErrorCode.NOT_SUPPORTED:
        return "no regular file (a device, a pipe or a socket), left out"
    return str(error)


def check_name(name: str) -> str:
    """Return a name if it means a file of the directory in which it is used; CopyRefused if not."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise CopyRefused(f"{printable(ascii(name))} is not a name for a file, left out")
    return name


@contextmanager
def made_directory(folder: int, name: str) -> Iterator[int]:
    """Yield a directory of the host, made if it is missing; CopyRefused if it is not a directory."""
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except NotADirectoryError:
        raise CopyRefused("something that is not a directory already has that name") from None
    try:
        yield fd
    finally:
        os.close(fd)


def write_at(fd: int, data: bytes, position: int) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view, position = view[written:], position + written


def set_time(fd: int, modified: int) -> None:
    """Set the time of last change, in seconds since 1970; 0 and times that the host cannot have are ignored."""
    if modified:
        with suppress(OSError, OverflowError):
            os.utime(fd, ns=(modified * NANOSECONDS, modified * NANOSECONDS))
