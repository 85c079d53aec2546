"""What is on a disk image, for `callgate disk inspect`: table, partitions, file systems, problems.

Partitions are found and claimed as a booting system does it, and each volume is mounted by its server in rehearsal:
the report of a volume is that of its server. Reads only; never fails on content, however damaged: damage is part of the
report.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from callgate.disk.media import Medium, open_image
from callgate.disk.partitioning.partitions import SECTOR, Partition
from callgate.tools.inspection.alignment import Alignment, measure
from callgate.tools.inspection.mounting import Mounted, mount_all, raised


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What is in a partition: its name ("" if it is unknown), label, numbers of note, and problems."""

    kind: str = ""
    label: str = ""
    details: dict[str, int | str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition and the file system in it; `alignment` is None if it cannot be mounted."""

    partition: Partition
    file_system: FileSystem
    aligned: bool  # whether the partition starts on a multiple of 4 KiB
    alignment: Alignment | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """A disk image: size in 512-byte sectors, scheme "none", "mbr" or "gpt", volumes, problems.

    `format` is "raw", or how the disk is stored in its file: "qcow2", "gzip".
    """

    path: str
    sectors: int
    scheme: str
    volumes: list[Volume]
    problems: list[str] = field(default_factory=list)
    format: str = "raw"


def inspect_image(path: Path) -> Inspection:
    """Inspect a disk image; ImageError if it cannot be used at all."""
    image = open_image(path)
    try:
        return replace(inspect_medium(image, str(image.path), image.warnings), format=image.format)
    finally:
        image.close()


def inspect_medium(medium: Medium, name: str, warnings: list[str] | None = None) -> Inspection:
    """Inspect a medium of any kind."""
    layout, mounted = mount_all(medium)
    volumes = [look_at(each) for each in mounted]
    return Inspection(name, medium.sector_count, layout.scheme, volumes, [*(warnings or []), *layout.problems])


def look_at(mounted: Mounted) -> Volume:
    """Examine every file of a volume, if it is mounted."""
    partition, walk = mounted.partition, mounted.walk
    file_system, alignment = FileSystem(mounted.kind, problems=mounted.said), None
    try:
        if walk is not None:
            label, alignment = walk.label(), measure(walk, partition.start)
            server = walk.rehearsal.server
            problems = walk.problems() + mounted.problems
            file_system = FileSystem(server.kind or mounted.kind, label, dict(server.details), problems)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a third party's server may raise anything, SystemExit too
        file_system = FileSystem(mounted.kind, problems=[raised(error), *mounted.problems])
    return Volume(partition, file_system, partition.start % 8 == 0, alignment)


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """Return it as plain data, for JSON."""
    found = asdict(inspection)
    for volume, plain in zip(inspection.volumes, found["volumes"], strict=True):
        plain["partition"] = volume.partition._asdict()
    return found


def render(inspection: Inspection) -> str:
    """Return it as text for people."""
    scheme = {"none": "no partition table", "mbr": "MBR", "gpt": "GPT"}[inspection.scheme]
    sectors = f"{inspection.sectors} sector{'s' * (inspection.sectors != 1)}"
    stored = f"{inspection.format}, " * (inspection.format != "raw")
    lines = [f"{inspection.path}: {stored}{sectors} ({size_text(inspection.sectors)}), {scheme}"]
    for volume in inspection.volumes:
        lines += render_volume(volume)
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
    label = f', label "{printable(found.label)}"' if found.label else ""
    lines = [
        f"  {title}{name}: {where}, type {partition.kind}",
        f"    {found.kind or 'unknown file system'}{label}",
    ]
    if found.details:
        lines.append("    " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found.details.items()))
    if not volume.aligned:
        lines.append("    starts on no multiple of 4 KiB: file data is mapped with private pages at its edges")
    lines += [f"    problem: {printable(problem)}" for problem in found.problems]
    if volume.alignment:
        lines.append(f"    {volume.alignment.describe()}")
    return lines


def printable(text: str) -> str:
    """Return a text with control characters replaced."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def size_text(sectors: int) -> str:
    """Return a size for people."""
    size = sectors * SECTOR
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
