"""What is on a disk image, for `callgate disk inspect`: table, partitions, file systems, problems.

Partitions are found and claimed as a booting system does it, and each volume is mounted by its server in rehearsal:
what is said here of a volume is what its server says of it.  Reads only; never fails on content, however damaged: what
is wrong is part of the answer.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from callgate.disk.foreign import name_foreign
from callgate.disk.media import Medium, open_image
from callgate.disk.partitions import SECTOR, DiskLayout, Partition, ReadError, forgiving, run_sync, scan
from callgate.kernel.server_packages import installed_servers
from callgate.server.errors import FileSystemError
from callgate.server.probing import PROBE_SECTORS, claim_by_beginning, unsaid
from callgate.server.raised import describe, last_frames
from callgate.tools.alignment import Alignment, measure
from callgate.tools.volume_walk import VolumeWalk, claimant, explanation, sectors_reader


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What is in a partition: its name ("" if nobody knows it), label, numbers of note, and problems."""

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
    """Look at a disk image; ImageError if it cannot be used at all."""
    image = open_image(path)
    try:
        return replace(inspect_medium(image, str(image.path), image.warnings), format=image.format)
    finally:
        image.close()


def inspect_medium(medium: Medium, name: str, warnings: list[str] | None = None) -> Inspection:
    """Look at a medium of any kind."""
    layout = read_layout(medium)
    volumes = [look_at(medium, partition) for partition in layout.partitions]
    return Inspection(name, medium.sector_count, layout.scheme, volumes, [*(warnings or []), *layout.problems])


def read_layout(medium: Medium) -> DiskLayout:
    """Find the partitions of a medium, with the servers that are installed as judges."""
    servers = installed_servers()
    read = forgiving(sectors_reader(medium))

    async def judge(partition: Partition) -> str | None:
        first = await read(partition.start, min(PROBE_SECTORS, partition.sectors))
        found = claim_by_beginning(servers, first, unsaid)
        return found.kind if found else None

    try:
        return run_sync(scan(sectors_reader(medium), medium.sector_count, judge))
    except ReadError as error:
        return DiskLayout("none", problems=[f"the partition table cannot be read: {error}"])


def look_at(medium: Medium, partition: Partition) -> Volume:
    """Mount one partition as a booted system would, and look at every file."""
    file_system, alignment = _look_into(medium, partition)
    return Volume(partition, file_system, partition.start % 8 == 0, alignment)


def _look_into(medium: Medium, partition: Partition) -> tuple[FileSystem, Alignment | None]:
    kind = ""
    broken: list[str] = []  # servers that could not tell
    try:
        found = claimant(medium, partition.start, partition.sectors, broken.append)
        if found is None:
            return _unclaimed(medium, partition, broken), None
        kind = found.kind
        walk = VolumeWalk(found.server, medium, partition.start, partition.sectors)
        label = walk.label()
        alignment = measure(walk, partition.start)
        server = walk.rehearsal.server
        return FileSystem(server.kind or kind, label, dict(server.details), walk.problems() + broken), alignment
    except ReadError as error:
        return FileSystem(problems=[str(error)]), None
    except FileSystemError as error:
        return FileSystem(kind, problems=[f"cannot be mounted: {error.text}"]), None
    except Exception as error:  # noqa: BLE001 - a third party's server may raise anything
        text = ": ".join([f"its server raised {describe(error)}", *last_frames(error)[-1:]])
        return FileSystem(kind, problems=[text]), None


def _unclaimed(medium: Medium, partition: Partition, broken: list[str]) -> FileSystem:
    """Say what a partition is that no server claims; `broken` collects what is said of servers that cannot tell."""
    text = explanation(medium, partition.start, partition.sectors, broken.append)
    if text:
        return FileSystem(problems=[text, *broken])
    read = forgiving(sectors_reader(medium, partition.start))
    found = run_sync(name_foreign(read, partition.sectors))
    return FileSystem(found.kind, problems=[str(found), *broken]) if found else FileSystem(problems=broken)


def as_dict(inspection: Inspection) -> dict[str, Any]:
    """Return it as plain data, for JSON."""
    return asdict(inspection)


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
    """Return a text with what would disturb a terminal replaced."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def size_text(sectors: int) -> str:
    """Return a size for people."""
    size = sectors * SECTOR
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.4g} {name}"
    return f"{size} bytes"
