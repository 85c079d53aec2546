"""`callgate disk ls`: a directory of an image, by the servers that boots use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from callgate.tools.cli.copying import EXIT_FAILED, EXIT_IMAGE, opened, say
from callgate.tools.inspection.image_argument import PathInImageCommand

if TYPE_CHECKING:
    from callgate.server.listing import ListedFile
    from callgate.tools.inspection.volumes import ImageVolumes, Volume

LETTERS: Final = {"d": "DIRECTORY", "r": "READ_ONLY", "h": "HIDDEN", "s": "SYSTEM", "a": "ARCHIVE"}

LS_EPILOG = """\b
Examples:
  callgate disk ls their.img                     the volumes, or what is in the only one
  callgate disk ls "their.img:p1/docs/*.txt"
  callgate disk ls their.img:docs --json
  callgate disk ls -:docs < their.qcow2

\b
Exit codes: 0 listed; 1 it is not there or cannot be read; 2 usage; 5 no disk image, or no volume
in it that can be used.
"""


@click.command("ls", cls=PathInImageCommand, epilog=LS_EPILOG, short_help="List a directory of an image.")
@click.argument("place", metavar="IMAGE[:PATH]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_directory(place: str, as_json: bool) -> int:
    """List a directory of IMAGE as `ls -l` of the shell does; of an image with several volumes, these.

    A path begins with the partition (p1, p2) if the image has several volumes. '*' and '?' stand for other characters
    in every part of it; what they stand for is listed by path, and directories among it are not entered. The image may
    be of any kind that `callgate boot` takes; - is standard input.
    """
    from callgate.disk.media import ImageError
    from callgate.tools.inspection.paths import split_argument
    from callgate.tools.inspection.volumes import VolumeError

    path, inner = split_argument(place)
    try:
        with opened(path) as image:
            if image.split(inner or "")[0] is None:
                show_volumes(image, as_json)
            else:
                show(image, inner or "", as_json)
    except ImageError as error:
        say(str(error))
        return EXIT_IMAGE
    except VolumeError as error:
        say(f"{place}: {error}")
        return EXIT_FAILED
    return 0


def show_volumes(image: ImageVolumes, as_json: bool) -> None:
    """Print the volumes."""
    volumes = [{"name": one.name, "file_system": one.kind, "label": one.label} for one in image.volumes.values()]
    if as_json:
        click.echo(json.dumps({"image": str(image.path), "volumes": volumes}, indent=2))
        return
    for one in volumes:
        click.echo(f"{one['name']:<5} {one['file_system']:<9} {shown(one['label']) or '(no label)'}")


def show(image: ImageVolumes, inner: str, as_json: bool) -> None:
    """Print the entries of a directory, or the names that a path with wildcards matches."""
    from callgate.tools.inspection.paths import is_wild, places

    found = places(image, inner)
    volume = found[0].volume
    if len(found) == 1 and found[0].is_directory and not is_wild(inner):
        prefix = f"{found[0].path}/" if found[0].path else ""
        entries = [(entry.name, entry, f"{prefix}{entry.name}") for entry in volume.listing(found[0].path)]
    else:
        entries = [(place.path, place.entry, place.path) for place in found if place.entry is not None]
    listed = [Listed(name, entry, target_of(volume, path, entry)) for name, entry, path in entries]
    if as_json:
        about = {"image": str(image.path), "volume": volume.name, "file_system": volume.kind, "path": found[0].path}
        if is_wild(inner):
            about["path"] = inner
        click.echo(json.dumps({**about, "entries": [one.as_dict() for one in listed]}, indent=2))
    else:
        for one in listed:
            click.echo(one.line())
    for report in volume.take_reports():
        say(f"{image.path}: {report}")


def target_of(volume: Volume, path: str, entry: ListedFile) -> str | None:
    """Return the target of a symbolic link; None for other entries, and if it cannot be read, which is reported."""
    from callgate.kernel.abi.directory import FileAttributes
    from callgate.kernel.abi.errors import ErrorCode
    from callgate.tools.inspection.volumes import VolumeError

    if not entry.attributes & FileAttributes.SYMLINK:
        return None
    try:
        return volume.link_target(path)
    except VolumeError as error:
        if error.code is not ErrorCode.NOT_SUPPORTED:
            say(f"{shown(path)}: {error}")
        return None


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry with the name under which it is listed, and its target if it is a symbolic link."""

    name: str
    entry: ListedFile
    target: str | None = None

    def line(self) -> str:
        """Return it as a line: attributes, size in bytes, time of last change to the minute, name, target."""
        from callgate.kernel.abi.directory import FileAttributes

        entry = self.entry
        letters = "".join(letter if entry.attributes & FileAttributes[one] else "-" for letter, one in LETTERS.items())
        if entry.attributes & FileAttributes.SYMLINK:
            letters = f"l{letters[1:]}"
        arrow = "" if self.target is None else f" -> {shown(self.target)}"
        when = moment(entry.modified, " ")[:16] or "-"
        return f"{letters} {entry.size:>11} {when:<16} {shown(self.name)}{arrow}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: size in bytes, time of last change in ISO 8601 or null, target of links only."""
        from callgate.kernel.abi.directory import FileAttributes

        attributes = FileAttributes(self.entry.attributes & sum(FileAttributes))
        link = FileAttributes.SYMLINK in attributes
        kind = "directory" if FileAttributes.DIRECTORY in attributes else "file"
        found = {
            "name": self.name,
            "type": "link" if link else kind,
            "size": self.entry.size,
            "modified": moment(self.entry.modified) or None,
            "attributes": [one.name.lower() for one in FileAttributes if one in attributes and one.name],
        }
        return {**found, "target": self.target} if link else found


def shown(text: str) -> str:
    """Return a name or label as it can be shown on a terminal."""
    from callgate.kernel.core.log import printable

    return printable(text)


def moment(seconds: int, separator: str = "T") -> str:
    """Return a time in seconds since 1970 in ISO 8601, without a zone, for file systems note none; "" for none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(separator) if seconds else ""
    except (OverflowError, OSError, ValueError):
        return ""
