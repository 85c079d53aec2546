"""`callgate disk copy`: files of an image for the host, by the servers that boots use."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from callgate.tools.inspection.image_argument import PathInImageCommand

if TYPE_CHECKING:
    from callgate.tools.inspection.copy_out import Copier, Counts
    from callgate.tools.inspection.paths import Place
    from callgate.tools.inspection.volumes import ImageVolumes

EXIT_FAILED, EXIT_IMAGE = 1, 5
STANDARD_OUTPUT: Final = "-"
PROGRESS_SECONDS: Final = 0.1
COLUMNS: Final = 79

COPY_EPILOG = """\b
Examples:
  callgate disk copy their.img:README.TXT .
  callgate disk copy "their.img:docs/*.txt" their.img:one out
  callgate disk copy their.img: out              all volumes
  callgate disk copy their.img:p2/notes.txt -    the second partition's, to standard output
  xz -dc their.img.xz | callgate disk copy -:docs out

\b
Exit codes: 0 all has been copied; 1 something has not, and is named; 2 usage; 5 no disk image, or
no volume in it that can be used.
"""


def say(text: str) -> None:
    """Write a line for people."""
    click.echo(f"callgate: {text}", err=True)


@contextmanager
def opened(path: Path) -> Iterator[ImageVolumes]:
    """Mount an image's volumes; report its problems."""
    from callgate.tools.inspection.volumes import ImageVolumes

    with ImageVolumes(path) as image:
        for problem in image.problems:
            say(f"{image.path}: {problem}")
        yield image


@click.command(cls=PathInImageCommand, epilog=COPY_EPILOG, short_help="Copy files and trees out of an image.")
@click.argument("sources", metavar="IMAGE:PATH...", nargs=-1, required=True)
@click.argument("destination", metavar="DEST")
@click.option("--force", is_flag=True, help="Replace existing files.")
def copy(sources: tuple[str, ...], destination: str, force: bool) -> int:
    """Copy files and trees out of disk images to DEST: a directory, a new name, or '-' for standard output.

    A path begins with the partition (p1, p2) if the image has several volumes. '*' and '?' stand for other characters
    in every part of it; quote them. A directory is copied with all that is in it, times included. The images are only
    read; they may be of any kind that `callgate boot` takes, and - is standard input.

    Nothing is written outside DEST, and nothing that is there is replaced without --force, whatever names an image
    holds. A symbolic link becomes the file that it leads to within its volume; links to directories and devices are
    left out and named.
    """
    from callgate.disk.media import ImageError
    from callgate.tools.inspection.paths import split_argument

    failures = 0
    arguments = []
    for text in sources:
        path, inner = split_argument(text)
        if inner is None:
            raise click.UsageError(f"{text}: write IMAGE:PATH; {text}: is all that is in the image")
        arguments.append((text, path, inner))
    target = Target(destination, several=len(arguments) > 1, force=force)
    try:
        with ExitStack() as stack:
            images = {
                path: stack.enter_context(opened(path)) for path in dict.fromkeys(path for _, path, _ in arguments)
            }
            target.host_files = [file for image in images.values() for file in image.host_files]
            for text, path, inner in arguments:
                failures += target.take(images[path], text, inner)
    except ImageError as error:
        say(str(error))
        return EXIT_IMAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        target.progress.say(f"{destination}: cannot be written: {error.strerror}")
        return EXIT_FAILED
    finally:
        target.progress.clear()
    return EXIT_FAILED if failures else 0


class Target:
    """The destination of copies: a directory, a new name, or standard output."""

    def __init__(self, destination: str, *, several: bool, force: bool) -> None:
        """`several`: there is more than one source, and so the destination is a directory."""
        self.destination = destination
        self.several = several
        self.force = force
        self.progress = Progress()
        self.host_files: list[os.stat_result] = []  # of the images
        self.made: set[tuple[int, int]] = set()

    def take(self, image: ImageVolumes, text: str, inner: str) -> int:
        """Copy the files of a path; return how many were not copied."""
        from callgate.tools.inspection.copy_out import Copier
        from callgate.tools.inspection.paths import is_wild, places
        from callgate.tools.inspection.volumes import VolumeError

        try:
            found = places(image, inner)
        except VolumeError as error:
            say(f"{text}: {error}")
            return 1
        if self.destination == STANDARD_OUTPUT:
            return sum(to_standard_output(place) for place in found)
        copier = Copier(self.host_files, self.force, self.progress.say, self.progress.show)
        copier.made = self.made
        several = self.several or is_wild(inner) or len(found) > 1
        for place in found:
            # A volume that was not named has no name in the destination either.
            nameless = not place.path and ((len(found) == 1 and not inner.strip("/.")) or not place.name)
            self._copy(copier, place, several=several, nameless=nameless)
        self.progress.clear()
        return copier.counts.failures

    def _copy(self, copier: Copier, place: Place, *, several: bool, nameless: bool) -> None:
        path = Path(self.destination)
        if several or path.is_dir() or self.destination.endswith("/"):
            with directory(path) as folder:
                if nameless:
                    copier.copy_into(place, folder)
                else:
                    copier.copy(place, folder, place.name)
        elif nameless:
            with directory(path) as folder:
                copier.copy_into(place, folder)
        else:
            with directory(path.parent, make=False) as folder:
                copier.copy(place, folder, path.name)


class Progress:
    """The progress of a copy, on a terminal, in one line that other lines overwrite."""

    def __init__(self) -> None:
        self.wanted = sys.stderr.isatty()
        self.shown = 0  # characters
        self.last = 0.0

    def show(self, counts: Counts, name: str) -> None:
        """Show it, not too often."""
        now = time.monotonic()
        if self.wanted and now - self.last >= PROGRESS_SECONDS:
            self.last = now
            self.clear()
            line = progress_line(counts, name)
            self.shown = len(line)
            click.echo(line, err=True, nl=False)

    def say(self, text: str) -> None:
        """Write a line for people."""
        self.clear()
        say(text)

    def clear(self) -> None:
        """Erase the line."""
        if self.shown:
            click.echo(f"\r{' ' * self.shown}\r", err=True, nl=False)
            self.shown = 0


def progress_line(counts: Counts, name: str) -> str:
    """Return a line of at most COLUMNS characters about a copy under way."""
    from callgate.kernel.core.log import printable

    begin = f"{counts.files} files, {counts.bytes / (1 << 20):.1f} MiB  "
    room = COLUMNS - len(begin)
    text = printable(name)
    return begin + (text if len(text) <= room else f"...{text[3 - room :]}")


@contextmanager
def directory(path: Path, *, make: bool = True) -> Iterator[int]:
    """Open a directory of the host that the user has named; it is made if it is missing and the one above it exists."""
    if make and not path.exists():
        path.mkdir()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def to_standard_output(place: Place) -> int:
    """Write a file's content; return 1 if that is not possible in full."""
    from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
    from callgate.kernel.core.log import printable
    from callgate.tools.inspection.volumes import VolumeError

    try:
        if place.is_directory:
            raise VolumeError(
                ErrorCode.IS_DIRECTORY, f"{ERROR_TEXT[ErrorCode.IS_DIRECTORY]}; name a file, or another DEST"
            )
        for piece in place.volume.content(place.path):
            for data in pieces_of(piece.data, piece.size):
                sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except VolumeError as error:
        say(f"{printable(place.shown or '/')}: {error}")
        return 1
    return 0


def pieces_of(data: bytes | None, size: int) -> Iterator[bytes]:
    """Yield bytes, or as many zeros, in pieces of at most 1 MiB."""
    if data is not None:
        yield data
        return
    while size:
        part = min(size, 1 << 20)
        yield bytes(part)
        size -= part
