"""The observer of a session that is to be recorded: `callgate boot --record FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from callgate.tools.recording import Recorder, is_recording
from callgate.tools.session.outputs import STANDARD_OUTPUT, OutputRefused, Report

if TYPE_CHECKING:
    from callgate.disk.media.medium import Image
    from callgate.kernel.system import System


class Recorded:
    """Writes a recording while a session runs."""

    def __init__(self, path: Path, unplug: Sequence[tuple[int, int]], *, demo: bool) -> None:
        """`unplug` and `demo` are those of `Recorder`."""
        self.path = path
        self.unplug = unplug
        self.demo = demo
        self.report: Report | None = None
        self.recorder: Recorder | None = None

    def open(self, images: list[Image], others: Sequence[Report]) -> None:
        """Open and check the file; OutputRefused, OSError."""
        if str(self.path) == STANDARD_OUTPUT:
            raise OutputRefused("--record -: a recording is a file, not standard output")
        self.report = Report("--record", self.path, is_recording, "recording of callgate")
        self.report.check(images, others)

    def begin(self, system: System) -> None:
        """Write what the run begins with; OSError names the file."""
        assert self.report is not None
        try:
            self.recorder = Recorder(system, self.report.file, self.unplug, demo=self.demo)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def end(self, system: System) -> None:
        """Write where the run has ended; OSError."""
        assert self.recorder is not None
        assert self.recorder.system is system
        self.recorder.finish()
