"""Reads a recording, and makes the system that it is of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.disk.media import Image, ImageError, open_image
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.outside import Forgotten, Plug, SetUp
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.system import System
from callgate.tools.recording.calls import Answer, CallsRun, header_of, parsed_answer
from callgate.tools.recording.changes import GENERAL, SEGMENTS
from callgate.tools.recording.identity import callgate_version, digest_of, sources_digest
from callgate.tools.recording.lines import numbers, parsed, position_of
from callgate.tools.recording.occurred import Occurred
from callgate.tools.recording.recorder import FORMAT, KEY, options_of

BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class RecordingError(Exception):
    """A recording that cannot be used: its name, the reason, and what to do."""

    def __init__(self, path: Path, reason: str, hint: str = "") -> None:
        self.path, self.reason, self.hint = path, reason, hint
        super().__init__(f"{path}: {reason}" + (f"; {hint}" if hint else ""))


@dataclass(slots=True)
class Recording:
    """A recording as it stands in its file."""

    path: Path
    header: dict[str, Any]
    occurred: list[Occurred] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)  # those there were, and those that came later
    end: Position | None = None  # None if the file was cut off
    registers: dict[str, int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)  # of a test's functions
    from_start: bool = False  # it is opened at its beginning, also if it is of a test that failed

    @property
    def last(self) -> Position:
        """The last position that is known: the end, or where the last thing came from outside."""
        if self.end is not None:
            return self.end
        return self.occurred[-1].position if self.occurred else Position(0)

    @property
    def of_calls(self) -> bool:
        """Whether it is of a test's calls on a machine without a kernel, and not of a system."""
        return "calls" in self.header

    def calls(self) -> CallsRun:
        """Return the machine before the first instruction of the first call; RecordingError.

        What the test has set up for that call has been done, and is taken out of `occurred`.
        """
        self.check()
        try:
            header = header_of(self.header["calls"])
            changes = [entry.what for entry in self.occurred] + [answer.changes for answer in self.answers]
            set_ups = [what for what in changes if isinstance(what, SetUp)]
            check_memory(set_ups, header.memory)
            if not self.occurred or self.occurred.pop(0).what not in set_ups:
                raise ValueError("nothing is set up")
            return CallsRun(header, set_ups[0], self.answers)
        except (*BROKEN, IndexError, PageFault) as error:
            raise RecordingError(self.path, f"does not describe the calls of a test: {error}") from None

    def check(self) -> None:
        """RecordingError if another callgate has written it: its guest would do something else."""
        if self.header.get("version") != callgate_version():
            raise RecordingError(
                self.path,
                f"was recorded by {self.header.get('version')}, and this is {callgate_version()}",
                "use that version",
            )
        if self.header.get("sources") != sources_digest():
            raise RecordingError(
                self.path,
                "was recorded by this version with other sources, whose guest may do something else",
                "check out the sources that it was recorded with",
            )

    def system(self, images: Sequence[Path] = ()) -> System:
        """Return the system, before its first instruction.

        `images` are files to be used in place of those that the recording names.  RecordingError, ImageError.
        """
        self.check()
        media: list[Image] = []
        try:
            for index, described in enumerate(self.images):
                media.append(self._open(index, described, images))
            system = System(media[: self._first], options_of(self.header["options"]))
            system.media += media[self._first :]
            for clock, disk in self.header["unplug"]:
                system.unplug_at(int(clock), int(disk))
        except BaseException as error:
            for medium in media:
                medium.close()
            if isinstance(error, BROKEN):
                raise RecordingError(self.path, f"does not describe a system: {error}") from None
            raise
        return system

    @property
    def _first(self) -> int:
        """The number of images that were there at the beginning."""
        return len(self.header["images"])

    def _open(self, index: int, described: dict[str, Any], images: Sequence[Path]) -> Image:
        path = Path(described["path"])
        place = images[index] if index < len(images) else self._found(path, demo=bool(described.get("demo")))
        try:
            image = open_image(place)
        except ImageError as error:
            raise ImageError(place, error.reason, f"name the image of d{index} after the recording") from None
        if (image.sector_count, digest_of(image)) != (described["sectors"], described["sha256"]):
            image.close()
            raise RecordingError(self.path, f"was recorded with another {path.name}: {place} differs from it")
        return image

    def _found(self, path: Path, *, demo: bool) -> Path:
        """Return an image's path, or if it is not there, a file of its name beside the recording."""
        if demo:
            return demo_image(cache_directory())
        beside = self.path.parent / path.name
        return beside if not path.exists() and beside.exists() else path


def check_memory(set_ups: Sequence[SetUp], size: int) -> None:
    """ValueError if something is to be written beyond memory."""
    for physical, data in (piece for what in set_ups for piece in what.memory):
        if not 0 <= physical <= size - len(data):
            raise ValueError(f"{len(data)} bytes at {physical:#x} are not within {size} bytes of memory")


def is_recording(head: bytes) -> bool:
    """Whether a file that begins with `head` is a recording."""
    return head.startswith(b'{"' + KEY.encode())


def read_recording(path: Path) -> Recording:
    """Return the recording in a file; RecordingError.  One that was cut off ends with its last whole line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror}") from None
    return parsed_recording(path, content)


def parsed_recording(path: Path, content: bytes) -> Recording:
    """Return a recording of this content; `path` names it.  RecordingError."""
    if not is_recording(content):
        raise RecordingError(path, "is not a recording of callgate", "make one: callgate boot --record FILE")
    lines = content.split(b"\n")
    recording = _begun(path, lines[0])
    for number, line in enumerate(lines[1:-1], 2):
        try:
            _take(recording, json.loads(line))
        except BROKEN:
            raise RecordingError(path, f"line {number} is damaged") from None
    return recording


def _begun(path: Path, line: bytes) -> Recording:
    try:
        header = json.loads(line)
        written = header[KEY]
        recording = Recording(path, header, images=list(header["images"]))
    except BROKEN:
        raise RecordingError(path, "its first line is damaged") from None
    if written != FORMAT:
        raise RecordingError(path, f"has format {written}, and this callgate reads {FORMAT}", "use a newer callgate")
    return recording


def _take(recording: Recording, entry: dict[str, Any]) -> None:
    if "end" in entry:
        recording.end = position_of(entry["end"])
        recording.registers = dict(numbers(entry["registers"], (*GENERAL, *SEGMENTS)))
        recording.occurred = [
            each for each in recording.occurred if each.position <= recording.end
        ]  # it ends in the past
        return
    if "answer" in entry:
        recording.answers.append(parsed_answer(entry))
        return
    occurred = parsed(entry)
    if isinstance(occurred.what, Forgotten):
        if not 0 < occurred.what.count <= len(recording.occurred):
            raise ValueError("it forgets more than has come")
        del recording.occurred[-occurred.what.count :]
        return
    if recording.occurred and occurred.position < recording.occurred[-1].position:
        raise ValueError("it comes before the line above")
    recording.occurred.append(occurred)
    if isinstance(occurred.what, Plug):
        recording.images.append(dict(entry["medium"]))
