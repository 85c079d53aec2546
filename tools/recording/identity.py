"""What must be the same for a run to be the same: the content of the images, and callgate itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import callgate.asm
import callgate.disk
import callgate.kernel
import callgate.server
import unicorn
from callgate.disk.media import Medium, MediumError
from callgate.disk.media.image_file import ImageFile
from callgate.kernel.abi.memory import SECTOR_SIZE

CHUNK: Final = 1 << 20
"""Bytes of an image that are read at once; what is all zeros adds nothing to its digest."""
SOURCES: Final = (callgate.kernel, callgate.asm, callgate.disk, callgate.server)
SUFFIXES: Final = (".py", ".asm", ".inc")
ZEROS: Final = bytes(CHUNK)


def digest_of(image: Medium) -> str:
    """Return the SHA-256 of what a guest can read of an image, as hex; MediumError.

    Holes of a file take no time: a copy without them has the same digest.
    """
    found = hashlib.sha256(image.sector_count.to_bytes(8, "little"))
    for index in chunks(image):
        sectors = min(CHUNK // SECTOR_SIZE, image.sector_count - index * (CHUNK // SECTOR_SIZE))
        data = bytearray(sectors * SECTOR_SIZE)
        try:
            image.read_into(index * (CHUNK // SECTOR_SIZE), [memoryview(data)])
        except MediumError as error:
            data = bytearray(str(error.reason).encode())  # a place that cannot be read stays one
        if data != ZEROS[: len(data)]:
            found.update(index.to_bytes(8, "little"))
            found.update(data)
    return found.hexdigest()


def chunks(image: Medium) -> Iterator[int]:
    """Yield the numbers of the chunks that may hold something other than zeros."""
    count = -(-image.sector_count * SECTOR_SIZE // CHUNK)
    if not isinstance(image, ImageFile):
        yield from range(count)
        return
    index = 0
    while index < count:
        try:
            data = os.lseek(image.file.fd, index * CHUNK, os.SEEK_DATA)
        except OSError:  # nothing but a hole follows
            return
        index = max(index, data // CHUNK)
        hole = os.lseek(image.file.fd, data, os.SEEK_HOLE)
        last = min(count, -(-hole // CHUNK))
        yield from range(index, last)
        index = max(last, index + 1)


@cache
def callgate_version() -> str:
    """Return the version of callgate and of its engine."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("callgate")
    except PackageNotFoundError:
        own = "unknown"
    return f"callgate {own}, unicorn {unicorn.__version__}"


@cache
def sources_digest() -> str:
    """Return the SHA-256, as hex, of all sources that decide what a guest does."""
    found = hashlib.sha256()
    for package in SOURCES:
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*")):
            if path.suffix in SUFFIXES:
                found.update(f"{package.__name__}/{path.relative_to(root)}\0".encode())
                found.update(path.read_bytes())
    return found.hexdigest()
