"""`callgate trace --flame`: counts a run by routines, and writes what was counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.tools.pictures.flame import draw
from callgate.tools.pictures.flame.profile import Profile
from callgate.tools.session.outputs import HEAD, Report

if TYPE_CHECKING:
    from callgate.disk.media.medium import Image
    from callgate.kernel.system import System

FORMS: Final[dict[str, tuple[Callable[[draw.Counts, str], str], bytes, str]]] = {
    ".svg": (draw.as_svg, f"<!-- callgate {draw.KIND} -->".encode(), "flame graph of callgate"),
    ".speedscope.json": (draw.as_speedscope, draw.SPEEDSCOPE_MARK, "speedscope profile of callgate"),
}


class Flame:
    """The observer of a session whose instructions are to be counted by routines."""

    def __init__(self, ending: str, path: Path, command: str) -> None:
        """`ending` is one of FORMS."""
        self.draw, self.mark, self.name = FORMS[ending]
        self.path = path
        self.command = command
        self.profile: Profile | None = None
        self.report: Report | None = None

    def open(self, images: list[Image], others: Sequence[Report]) -> None:
        """Open and check the file; OutputRefused, OSError."""
        self.report = Report("--flame", self.path, lambda head: self.mark in head[:HEAD], self.name)
        self.report.check(images, others)

    def begin(self, system: System) -> None:
        """Count from the first instruction on."""
        self.profile = Profile(system)

    def end(self, system: System) -> None:
        """Write what has been counted; OSError."""
        assert self.profile is not None
        assert self.report is not None
        self.report.write(self.draw(self.profile.finish(), self.command).encode())
