"""IMAGE:PATH on the command line: where the image's name ends, and what a path with wildcards matches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from callgate.disk.media.opening import STANDARD_INPUT
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.listing import ListedFile
from callgate.tools.inspection.image_argument import image_path
from callgate.tools.inspection.volumes import ImageVolumes, Volume, VolumeError


@dataclass(frozen=True, slots=True)
class Place:
    """A file or directory of a volume: its path from the root, and its entry; None for the root and link targets."""

    volume: Volume
    path: str
    entry: ListedFile | None = None

    @property
    def name(self) -> str:
        """Its name as its directory has it, which may be invalid; for a root that of the volume, or ""."""
        return self.entry.name if self.entry is not None else self.volume.name

    @property
    def is_directory(self) -> bool:
        """Whether it is a root, or listed as a directory."""
        return self.entry is None or bool(self.entry.attributes & FileAttributes.DIRECTORY)

    @property
    def shown(self) -> str:
        """The path as it is written on the command line."""
        return "/".join(filter(None, [self.volume.name, self.path]))


def split_argument(text: str) -> tuple[Path, str | None]:
    """Return image and path of `IMAGE:PATH`; the path is None if there is no colon for it.

    Names of images may hold colons: the image is the shortest beginning that exists, or all up to the first colon.
    `-` is standard input.
    """
    name, colon, rest = text.partition(":")
    if image_path(name) == STANDARD_INPUT:
        return STANDARD_INPUT, rest if colon else None
    ends = [match.start() for match in re.finditer(":", text)]
    there = (end for end in [*ends, len(text)] if Path(text[:end]).exists() and not Path(text[:end]).is_dir())
    end = next(there, ends[0] if ends else len(text))
    return image_path(text[:end]), text[end + 1 :] if end < len(text) else None


def is_wild(name: str) -> bool:
    """Whether a name has wildcards."""
    return "*" in name or "?" in name


def places(image: ImageVolumes, path: str) -> list[Place]:
    """Return the files that a path matches, in the order of the volume; VolumeError, NOT_FOUND if there is none.

    `*` stands for any characters and `?` for one, in every part of a path; a name that exists as it is typed wins.
    """
    volume, rest = image.split(path)
    if volume is None:
        return [Place(one, "") for one in image.volumes.values()]
    found = [Place(volume, "")]
    for name in normal(rest):
        found = [deeper for place in found for deeper in _below(place, name, single=len(found) == 1)]
    if not found:
        raise VolumeError(ErrorCode.NOT_FOUND, "no such file")
    return found


def normal(path: str) -> list[str]:
    """Return the names of a path: `.` is nothing, `..` removes the one before it, as servers do it."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            del names[-1:]
        elif name not in {"", "."}:
            names.append(name)
    return names


def _below(place: Place, name: str, *, single: bool) -> Iterator[Place]:
    """Yield what is called `name` in a place; of several places some may be none in which anything is."""
    try:
        entries = place.volume.listing(place.path)
    except VolumeError as error:
        if single or error.code not in {ErrorCode.NOT_DIRECTORY, ErrorCode.NOT_FOUND}:
            raise
        return
    exact = [entry for entry in entries if entry.name == name]
    same = exact or [entry for entry in entries if _matches(name, entry.name, place.volume.case_sensitive)]
    for entry in same if is_wild(name) else same[:1]:
        yield Place(place.volume, f"{place.path}/{entry.name}".lstrip("/"), entry)
    if not same and not is_wild(name):
        # A server may know names that it does not list: FAT's short ones, those of directories that are cut short.
        try:
            yield _by_name(place, name)
        except VolumeError:
            if single:
                raise


def _by_name(place: Place, name: str) -> Place:
    path = f"{place.path}/{name}".lstrip("/")
    try:
        size = place.volume.size(path)
    except VolumeError as error:
        if error.code is not ErrorCode.IS_DIRECTORY:
            raise
        return Place(place.volume, path, ListedFile(name, FileAttributes.DIRECTORY))
    return Place(place.volume, path, ListedFile(name, 0, size))


def _matches(pattern: str, name: str, case_sensitive: bool) -> bool:
    """Whether a name matches a pattern; `*.*` is `*`, as in the shell."""
    if not case_sensitive:
        pattern, name = pattern.casefold(), name.casefold()
    if pattern == "*.*":
        return True
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(expression, name, re.DOTALL) is not None
