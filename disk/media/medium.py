"""Media: the storage that a disk controller reads and writes, in 512-byte sectors.

A medium moves bytes straight between its file and the guest's memory (`preadv` into views of RAM).  Faults
are media too, wrapped around the real one: no controller or kernel code knows about them.
"""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from callgate.kernel.abi.memory import SECTOR_SIZE


class ImageError(Exception):
    """An image that cannot be used: its name, the reason, and the remedy."""

    def __init__(self, path: Path | str, reason: str, hint: str = "") -> None:
        self.path = str(path)
        self.reason = reason
        self.hint = hint
        super().__init__(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


class MediumError(Exception):
    """Sectors that cannot be read or written; the controller reports it as the drive would."""

    removed = False  # whether the medium is gone

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
        """Flush all written data to stable storage.  MediumError."""
        ...

    def delay(self, lba: int, sectors: int) -> int:
        """Return how much longer than others these sectors take, in ns of virtual time."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Image(Medium, Protocol):
    """A disk image of the host."""

    format: str  # `raw`, or how the disk lies in its file: `qcow2`, `gzip`, `gzip, qcow2`

    @property
    def path(self) -> Path:
        """The file, or its name in messages."""
        ...

    @property
    def host_files(self) -> Sequence[os.stat_result]:
        """The files of the host that hold the disk: writing to one of them would destroy it."""
        ...

    @property
    def warnings(self) -> list[str]:
        """Warnings about the image as such, each with its name."""
        ...


def check_bounds(medium: Medium, lba: int, views: Sequence[memoryview]) -> None:
    """MediumError if a transfer leaves the medium."""
    sectors = sum(len(view) for view in views) // SECTOR_SIZE
    if lba < 0 or lba + sectors > medium.sector_count:
        raise MediumError(lba, f"{sectors} sectors from here leave the medium of {medium.sector_count}")


def refuse_to_write(lba: int) -> NoReturn:
    """MediumError: the medium is read-only."""
    raise MediumError(lba, os.strerror(errno.EROFS))


class NoDelay:
    """A medium on which all sectors are equally near."""

    def delay(self, lba: int, sectors: int) -> int:
        """Return no extra time."""
        del lba, sectors
        return 0
