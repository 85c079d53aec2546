"""`callgate map`: reads memory when the shell is about to exit, and writes what was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.calls import SystemCall
from callgate.tools.pictures.memory import show
from callgate.tools.pictures.memory.survey import Survey, survey
from callgate.tools.session.outputs import HEAD, Report

if TYPE_CHECKING:
    from callgate.disk.media.medium import Image
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System

FORMS: Final[dict[str, tuple[Callable[[Survey], str], bytes]]] = {
    "txt": (show.as_text, show.TEXT_MARK),
    "svg": (show.as_svg, f"<!-- callgate {show.KIND} -->".encode()),
    "html": (show.as_html, show.MARK),
}


class MapObserver:
    """The observer of a session whose memory is to be shown."""

    def __init__(self, form: str, path: Path) -> None:
        self.draw, self.mark = FORMS[form]
        self.path = path
        self.found: Survey | None = None
        self.report: Report | None = None

    def open(self, images: list[Image], others: Sequence[Report]) -> None:
        """Open and check the file; OutputRefused, OSError."""
        self.report = Report("-o", self.path, lambda head: self.mark in head[:HEAD], "map of callgate")
        self.report.check(images, others)

    def begin(self, system: System) -> None:
        """Wait for the end of the shell."""

        def look(event: Event) -> None:
            shell = system.kernel.scheduler.current.process.number == system.kernel.state.tasks.shell
            if event.fields["call"] == SystemCall.EXIT and shell:
                self.found = survey(system)

        system.machine.stream.subscribe(look, ["gate.system"])

    def end(self, system: System) -> None:
        """Write the map: of the end of the run, if the shell has not reached its own; OSError."""
        assert self.report is not None
        self.report.write(self.draw(self.found or survey(system)).encode())
