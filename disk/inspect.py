"""What is on a disk image, for `callgate disk inspect`: table, partitions, file systems, problems.

Reads only; never fails on content, however damaged: what is wrong is part of the answer.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from callgate.disk.media import ImageFile, Medium, MediumError
from callgate.disk.partitions import SECTOR, DiskLayout, Partition, ReadError, run_sync, scan
from callgate.disk.recognise import HEAD_SECTORS, Recognised, recognise


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition and the file system in it."""

    partition: Partition
    file_system: Recognised
    aligned: bool  # whether the partition starts on a multiple of 4 KiB


@dataclass(frozen=True, slots=True)
class Inspection:
    """A disk image: size in 512-byte sectors, scheme "none", "mbr" or "gpt", volumes, problems."""

    path: str
    sectors: int
    scheme: str
    volumes: list[Volume]
    problems: list[str] = field(default_factory=list)


def inspect_image(path: Path) -> Inspection:
    """Look at a disk image; ImageError if it cannot be used at all."""
    image = ImageFile(path)
    try:
        return inspect_medium(image, str(path), image.warnings)
    finally:
        image.close()


def inspect_medium(medium: Medium, name: str, warnings: list[str] | None = None) -> Inspection:
    """Look at a medium of any kind."""

    async def read(lba: int, count: int) -> bytes:
        return read_medium(medium, lba, count)

    problems = list(warnings or [])
    try:
        layout = run_sync(scan(read, medium.sector_count))
    except ReadError as error:
        layout = DiskLayout("none", problems=[f"the partition table cannot be read: {error}"])
    volumes = [look_at(medium, partition) for partition in layout.partitions]
    return Inspection(name, medium.sector_count, layout.scheme, volumes, problems + layout.problems)


def look_at(medium: Medium, partition: Partition) -> Volume:
    """Tell the file system of one partition."""
    try:
        head = read_medium(medium, partition.start, min(HEAD_SECTORS, partition.sectors))
    except ReadError as error:
        found = Recognised("", problems=[str(error)])
    else:
        found = recognise(head, partition.sectors)
    return Volume(partition, found, partition.start % 8 == 0)


def read_medium(medium: Medium, lba: int, count: int) -> bytes:
    """Read sectors of a medium; ReadError."""
    data = bytearray(count * SECTOR)
    try:
        medium.read_into(lba, [memoryview(data)])
    except MediumError as error:
        raise ReadError(str(error)) from None
    return bytes(data)


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """Return it as plain data, for JSON."""
    return asdict(inspection)


def render(inspection: Inspection, notes: Sequence[str] = ()) -> str:
    """Return it as text for people; `notes` are a line more for each volume, "" for none."""
    scheme = {"none": "no partition table", "mbr": "MBR", "gpt": "GPT"}[inspection.scheme]
    lines = [f"{inspection.path}: {inspection.sectors} sectors ({size_text(inspection.sectors)}), {scheme}"]
    for volume, note in zip_longest(inspection.volumes, notes, fillvalue=""):
        assert isinstance(volume, Volume)
        lines += render_volume(volume)
        if note:
            lines.append(f"    {note}")
    if not inspection.volumes:
        lines.append("  no partitions")
    lines += [f"  problem: {problem}" for problem in inspection.problems]
    return "\n".join(lines) + "\n"


def render_volume(volume: Volume) -> list[str]:
    """Return the lines of one partition."""
    partition, found = volume.partition, volume.file_system
    where = f"sectors {partition.start} to {partition.end - 1}, {size_text(partition.sectors)}"
    title = f"partition {partition.number}" if partition.number else "whole disk"
    name = f' "{printable(partition.name)}"' if partition.name else ""
    label = f', label "{found.label}"' if found.label else ""
    lines = [
        f"  {title}{name}: {where}, type {partition.kind}",
        f"    {found.kind or 'unknown file system'}{label}",
    ]
    if found.details:
        lines.append("    " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.details.items()))
    if not volume.aligned:
        lines.append("    starts on no multiple of 4 KiB: file data is mapped with private pages at its edges")
    return lines + [f"    problem: {problem}" for problem in found.problems]


def printable(text: str) -> str:
    """Return a text with what would disturb a terminal replaced."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def size_text(sectors: int) -> str:
    """Return a size for people."""
    size = sectors * SECTOR
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
