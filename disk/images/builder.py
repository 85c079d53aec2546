"""Building a disk image from a folder of the host: `callgate disk create`.

The image appears whole or not at all: it is written beside its final place under another name and then
renamed.  Partitions start at 1 MiB and clusters are whole pages of the disk, so that the kernel can map file
data without copying.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from callgate.disk.formatters import exfat
from callgate.disk.formatters.fat import (
    SERIAL,
    FatWriter,
    Node,
    Target,
    directory_length,
    label_field,
    listed,
)
from callgate.disk.formatters.fat_layout import (
    ROOT_ENTRIES,
    SECTOR,
    FatGeometry,
    FormatError,
    plan,
)
from callgate.disk.images.tables import GPT_RESERVED, Planned, gpt, mbr
from callgate.disk.images.tree import BuildError, read_host_tree
from callgate.disk.partitioning.mbr import LIMIT as MBR_LIMIT

Scheme = Literal["mbr", "gpt"]
FileSystem = Literal["fat12", "fat16", "fat32", "exfat"]

MIB_SECTORS = 2048
PARTITION_START = MIB_SECTORS
EXFAT_WIDTH = 64
WIDTHS = {"fat12": 12, "fat16": 16, "fat32": 32}
SIZE_LIMIT = MBR_LIMIT * SECTOR  # FAT counts its sectors in 32 bits
ROOT_LIMIT = 65_520
# The width chosen for up to this many bytes of files, if none is given.
PREFERENCE = ((12, 4 << 20), (16, 480 << 20))
SPARE = 8  # one part in this many is left free when the size is ours to choose


@dataclass(frozen=True, slots=True)
class Built:
    """The image that was built: sizes in bytes, and the files left out."""

    path: Path
    size: int
    file_system: str
    scheme: str
    cluster: int
    files: int
    warnings: list[str] = field(default_factory=list)


def create_image(
    out: Path,
    from_dir: Path,
    *,
    fs: FileSystem | None = None,
    size: int | None = None,
    scheme: Scheme | None = None,
    label: str = "CALLGATE",
    serial: int = SERIAL,
    date: int | None = None,
    replace: bool = True,
) -> Built:
    """Write the files below `from_dir` to the image `out`; BuildError names the reason if that is impossible.

    An existing file is replaced, or is an error with `replace` False; anything but a regular file is always an error.

    `size` is that of the whole image in bytes, by default that of the files and an eighth more; `fs` by default suits
    the size; `date` (seconds since 1970 UTC) replaces the files' dates.
    """
    nodes, warnings = read_host_tree(from_dir, date)
    check_place(out, replace=replace)
    if fs == "exfat":
        return _create_exfat(out, nodes, warnings, size, scheme, label, replace=replace)
    try:
        label_field(label)
        geometry, disk_sectors = lay_out(nodes, fs, size, scheme, bool(label))
        start = PARTITION_START if scheme else 0
        with fresh_file(out, replace=replace) as fd:
            os.ftruncate(fd, disk_sectors * SECTOR)
            planned = Planned(start, geometry.sectors, geometry.width, label, active=scheme == "mbr")
            for sector, data in table_of(scheme, planned, disk_sectors):
                Target(fd, 0).put(sector, data)
            FatWriter(Target(fd, start), geometry, label, serial).write(nodes)
    except FormatError as error:
        raise BuildError(out, f"not built: {error}") from None
    except OSError as error:
        raise BuildError(out, f"cannot be written: {error.strerror}") from None
    total = sum(1 for node in walk(nodes) if not node.directory)
    kind = f"fat{geometry.width}"
    return Built(out, disk_sectors * SECTOR, kind, scheme or "none", geometry.cluster * SECTOR, total, warnings)


def _create_exfat(
    out: Path,
    nodes: Sequence[Node],
    warnings: list[str],
    size: int | None,
    scheme: Scheme | None,
    label: str,
    *,
    replace: bool,
) -> Built:
    """Write an exFAT volume; BuildError."""
    start = PARTITION_START if scheme else 0
    after = GPT_RESERVED if scheme == "gpt" else 0
    try:
        if size is None:
            geometry = smallest_exfat(nodes, start)
        else:
            geometry = exfat.plan(whole_sectors(size) - start - after, start)
        disk_sectors = start + geometry.sectors + after
        with fresh_file(out, replace=replace) as fd:
            os.ftruncate(fd, disk_sectors * SECTOR)
            planned = Planned(start, geometry.sectors, EXFAT_WIDTH, label)
            for sector, data in table_of(scheme, planned, disk_sectors):
                Target(fd, 0).put(sector, data)
            exfat.ExfatWriter(Target(fd, start), geometry, label).write(nodes)
    except FormatError as error:
        raise BuildError(out, f"not built: {error}") from None
    except OSError as error:
        raise BuildError(out, f"cannot be written: {error.strerror}") from None
    total = sum(1 for node in walk(nodes) if not node.directory)
    return Built(out, disk_sectors * SECTOR, "exfat", scheme or "none", geometry.cluster * SECTOR, total, warnings)


def smallest_exfat(nodes: Sequence[Node], start: int) -> exfat.ExfatGeometry:
    """Return the smallest exFAT volume, in whole MiB, that holds the files and an eighth more."""
    sectors = MIB_SECTORS
    while True:
        geometry = exfat.plan(sectors, start)
        wanted = exfat.clusters_needed(nodes, geometry)
        wanted += wanted // SPARE
        if geometry.clusters >= wanted:
            return geometry
        missing = (wanted - geometry.clusters) * geometry.cluster
        sectors += max(1, missing // MIB_SECTORS) * MIB_SECTORS


def check_place(out: Path, *, replace: bool) -> None:
    """BuildError if `out` exists and is not to be replaced, or is not a regular file."""
    if out.is_dir():
        raise BuildError(out, "is a directory", "name the file that is to be the image")
    if out.exists() and not out.is_file():
        raise BuildError(out, "is not a regular file", "name the file that is to be the image")
    if os.path.lexists(out) and not replace:
        raise BuildError(out, "already exists", "name another file, or replace it with --force")


@contextmanager
def fresh_file(out: Path, *, replace: bool) -> Iterator[int]:
    """Yield a descriptor of a new file that replaces `out` at the end, or is removed.

    A symbolic link stays, and its target is replaced. Without `replace`, FileExistsError if a file has been made there
    meanwhile.
    """
    out = out.resolve()
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "r+b") as file:
            yield file.fileno()
            os.fchmod(file.fileno(), 0o666 & ~current_umask())
        if not replace:
            claim(out)
        temporary.replace(out)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def claim(path: Path) -> None:
    """Make an empty file; FileExistsError if there is one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def current_umask() -> int:
    """Return the process's file mode creation mask."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def table_of(scheme: Scheme | None, planned: Planned, disk_sectors: int) -> list[tuple[int, bytes]]:
    """Return the sectors of the partition table."""
    if scheme == "mbr":
        return [(0, mbr([planned]))]
    return gpt([planned], disk_sectors) if scheme == "gpt" else []


def walk(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield every node of a tree."""
    for node in nodes:
        yield node
        yield from walk(node.children)


def lay_out(
    nodes: Sequence[Node], fs: FileSystem | None, size: int | None, scheme: Scheme | None, labelled: bool
) -> tuple[FatGeometry, int]:
    """Return the volume's geometry and the sectors of the disk; FormatError."""
    before = PARTITION_START if scheme else 0
    after = GPT_RESERVED if scheme == "gpt" else 0
    root = directory_length(listed(nodes), int(labelled)) // 32
    if size is not None:
        sectors = whole_sectors(size) - before - after
        if sectors <= 0:
            raise FormatError(f"{size} bytes have no room for a partition table and a partition")
        width = WIDTHS[fs] if fs else preferred_width(sectors * SECTOR)
        return plan(width, sectors, before, root_entries(width, root)), sectors + before + after
    found = sizes(nodes)
    width = WIDTHS[fs] if fs else preferred_width(clusters_needed(found, 8) * 8 * SECTOR)
    geometry = smallest(width, before, root_entries(width, root), lambda cluster: clusters_needed(found, cluster))
    return geometry, geometry.sectors + before + after


def whole_sectors(size: int) -> int:
    """Return the sectors of an image; FormatError if the size is invalid."""
    if size <= 0 or size % SECTOR:
        raise FormatError(f"{size} bytes: the size of an image is a multiple of {SECTOR}")
    if size > SIZE_LIMIT:
        raise FormatError(f"{size} bytes: FAT ends at {SIZE_LIMIT}")
    return size // SECTOR


def preferred_width(size: int) -> int:
    """Return the FAT width that suits a volume of `size` bytes."""
    return next((width for width, limit in PREFERENCE if size <= limit), 32)


def root_entries(width: int, needed: int) -> int:
    """Return the entries of a fixed root directory; FormatError if there are too many."""
    if width != 32 and needed > ROOT_LIMIT:
        raise FormatError(f"{needed} entries in the root directory; FAT{width} allows {ROOT_LIMIT}, use fat32")
    return max(ROOT_ENTRIES, needed)


def sizes(nodes: Sequence[Node]) -> list[int]:
    """Return the bytes of each file and directory of a tree, its root directory included; FormatError."""
    found = [directory_length(listed(nodes), 2)]
    for node in nodes:
        if node.directory:
            found += sizes(node.children)
        else:
            found.append(node.size)
    return found


def clusters_needed(found: Sequence[int], cluster: int) -> int:
    """Return the clusters of `cluster` sectors that files and directories of these sizes in bytes take."""
    size = cluster * SECTOR
    return sum(-(-one // size) for one in found)


def smallest(width: int, start: int, root: int, needed: Callable[[int], int]) -> FatGeometry:
    """Return the smallest volume, in whole MiB, with clusters of 4 KiB or more, that holds the files."""
    mib = 1
    while mib * MIB_SECTORS * SECTOR < SIZE_LIMIT:
        try:
            geometry = plan(width, mib * MIB_SECTORS, start, root)
        except FormatError:
            mib += 1
            continue
        wanted = needed(geometry.cluster)
        if geometry.cluster * SECTOR >= 4096 and geometry.clusters >= wanted + wanted // SPARE:
            return geometry
        # At least the missing sectors have to be added.
        mib += max(1, (wanted - geometry.clusters) * geometry.cluster // MIB_SECTORS)
    raise FormatError(f"the files do not fit into FAT{width}; use fat32 or leave some out")
