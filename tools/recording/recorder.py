"""Writes a recording while a system runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

from callgate.disk.media import Medium
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.outside import Outside, Plug
from callgate.kernel.system import System, SystemOptions
from callgate.tools.recording.calls import Answer, CallsHeader, beginning_of_calls, plain_answer
from callgate.tools.recording.identity import callgate_version, digest_of, sources_digest
from callgate.tools.recording.lines import dump, plain, text_of
from callgate.tools.recording.occurred import Occurred

FORMAT: Final = 1
KEY: Final = "callgate recording"
OPTIONS: Final = (
    *("memory", "high_memory", "ide", "commands", "interactive", "columns", "shell"),
    *("map_edges", "fast_path", "scratch", "places", "mount_deadline"),
)
"""The options of a system that a guest can notice, beside its history of lines."""


class Recorder:
    """Writes what comes from outside as it comes: what was written before a crash can be used.

    Make it before the system runs.
    """

    def __init__(
        self, system: System, file: IO[str], unplug: Sequence[tuple[int, int]] = (), *, demo: bool = False
    ) -> None:
        """Write the beginning; OSError.

        `unplug` is (clock in ns, disk) of what was scheduled; `demo` says that the image is the embedded one.
        """
        self.system, self.file = system, file
        self.next = system.machine.outside
        self._write(beginning(system, system.media, unplug, demo=demo))
        system.machine.outside = self._from_outside

    def _write(self, entry: Mapping[str, Any]) -> None:
        self.file.write(dump(dict(entry)))
        self.file.flush()

    def _from_outside(self, what: Outside) -> None:
        self.next(what)
        entry = plain(Occurred(self.system.machine.position, what))
        if isinstance(what, Plug):
            entry["medium"] = describe(self.system.media[what.image])
        self._write(entry)

    def finish(self) -> None:
        """Write where the run has ended, and the registers there; OSError."""
        machine = self.system.machine
        machine.outside = self.next
        self._write(ending(machine))


def beginning(
    system: System, media: Sequence[Medium], unplug: Sequence[tuple[int, int]] = (), *, demo: bool = False
) -> dict[str, Any]:
    """Return the first line of a recording: `media` are the images that the system began with."""
    options: dict[str, Any] = {name: getattr(system.options, name) for name in OPTIONS}
    if system.options.history is not None:
        options["history"] = text_of(system.options.history)
    return {
        KEY: FORMAT,
        "version": callgate_version(),
        "sources": sources_digest(),
        "options": options,
        "unplug": [list(pair) for pair in unplug],
        "images": [{**describe(image), "demo": demo} for image in media],
    }


def ending(machine: Machine) -> dict[str, Any]:
    """Return the last line of a recording: where the run is, and the registers there."""
    return {"end": list(machine.position), "registers": machine.cpu.registers()}


def written(system: System, media: Sequence[Medium], occurred: Sequence[Occurred]) -> str:
    """Return a recording of what has been: from power-on with `media` to where the system is.

    ValueError if an image is no file's.
    """
    lines = [beginning(system, media)]
    images = len(media)
    for entry in occurred:
        line = plain(entry)
        if isinstance(entry.what, Plug):
            line |= {"image": images, "medium": describe(system.media[entry.what.image])}
            images += 1
        lines.append(line)
    system.machine.runner.settle()
    return "".join(map(dump, [*lines, ending(system.machine)]))


def written_calls(
    test: str, calls: CallsHeader, occurred: Sequence[Occurred], answers: Sequence[Answer], last: Mapping[str, Any]
) -> str:
    """Return a recording of the calls of a test; `last` is its last line, as `ending` returns it."""
    lines = [{KEY: FORMAT, **beginning_of_calls(test, calls)}]
    lines += map(plain, occurred)
    lines += map(plain_answer, answers)
    return "".join(map(dump, [*lines, dict(last)]))


def describe(medium: Medium) -> dict[str, Any]:
    """Return what a recording says of an image; ValueError for a medium that is no file's."""
    path = getattr(medium, "path", None)
    if path is None:
        raise ValueError(f"{medium} is not an image file: it could not be opened again")
    return {"path": str(path), "sectors": medium.sector_count, "sha256": digest_of(medium)}


def options_of(plain_options: Mapping[str, Any]) -> SystemOptions:
    """Return the options of a system from what a recording says; TypeError or ValueError if it is nonsense."""
    values = dict(plain_options)
    history = values.pop("history", None)
    unknown = values.keys() - set(OPTIONS)
    if unknown:
        raise ValueError(f"unknown options {', '.join(sorted(unknown))}")
    defaults = SystemOptions()
    for name, value in values.items():
        if not isinstance(value, (type(getattr(defaults, name)), str if name == "commands" else type(None))) and not (
            name == "commands" and value is None
        ):
            raise TypeError(f"option {name}")
    return SystemOptions(**values, history=None if history is None else history.encode("latin-1"))
