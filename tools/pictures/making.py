"""`callgate trace`: run a session, record it, and write the picture that its output's name asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callgate.tools.pictures import page, perfetto, sequence
from callgate.tools.pictures.recorder import Recorder
from callgate.tools.pictures.records import RunRecord
from callgate.tools.session.outputs import HEAD, OutputRefused, Report

if TYPE_CHECKING:
    from callgate.disk.media.medium import Image
    from callgate.kernel.system import System

SVG_MARK: Final = f"<!-- callgate {sequence.KIND} -->".encode()


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of picture: what draws it, what its files have near their beginning, what messages call it."""

    draw: Callable[[RunRecord], str | bytes]
    mark: bytes
    name: str

    def recognise(self, head: bytes) -> bool:
        """Whether a file that begins with `head` is one of these."""
        return self.mark in head[:HEAD]


FORMS: Final = {
    "svg": Form(sequence.draw, SVG_MARK, "sequence diagram of callgate"),
    "html": Form(page.draw, page.MARK, "page of callgate trace"),
    "perfetto-trace": Form(perfetto.draw, perfetto.MARK, "Perfetto trace of callgate"),
}


class Picture:
    """The observer of a session that is to be drawn: it records from the first instruction on.

    With `request`, a number from 1, only that request is drawn.
    """

    def __init__(self, form: Form, path: Path, recording: RunRecord, request: int | None = None) -> None:
        self.form = form
        self.path = path
        self.recording = recording
        self.request = request
        self.recorder: Recorder | None = None
        self.report: Report | None = None

    def open(self, images: list[Image], others: Sequence[Report]) -> None:
        """Open and check the file; OutputRefused, OSError."""
        self.report = Report("-o", self.path, self.form.recognise, self.form.name)
        self.report.check(images, others)

    def begin(self, system: System) -> None:
        """Record a system."""
        self.recorder = Recorder(system, self.recording)

    def end(self, system: System) -> None:
        """Write what has been recorded; OSError, and OutputRefused if there was no such request."""
        assert self.recorder is not None
        assert self.report is not None
        drawn = self.form.draw(self._wanted(self.recorder.finish()))
        self.report.write(drawn if isinstance(drawn, bytes) else drawn.encode())

    def _wanted(self, recording: RunRecord) -> RunRecord:
        if self.request is None:
            return recording
        try:
            return recording.only(self.request)
        except IndexError:
            raise OutputRefused(f"there was no request {self.request}; the run had {len(recording.requests)}") from None
