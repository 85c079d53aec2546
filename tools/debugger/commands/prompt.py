"""Lines that are carried out one after the other, from wherever they come: what is said goes to a text file."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from callgate.tools.debugger.commands import moving
from callgate.tools.debugger.commands.at_stops import SILENT, complete, take
from callgate.tools.debugger.commands.language import Command, Desk, carry_out, perform
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench

STEP = 0.01  # of a query, after which its progress is shown again


class ScriptError(Exception):
    """A line of a script that was not carried out: the file, the number of the line, and the reason."""


class Prompt:
    """Reads commands and carries them out."""

    def __init__(self, bench: Workbench, output: TextIO) -> None:
        self.output = output
        self.desk = Desk(bench, self.say, progress=self._progress if output.isatty() else lambda _share: None)
        self.said_share: float | None = None  # the share of a query that the last line of progress says
        self.last: tuple[Command, str] | None = None
        bench.history.branched.append(self._branched)

    def say(self, line: str) -> None:
        """Write a line."""
        print(line, file=self.output, flush=True)

    def _progress(self, share: float) -> None:
        """Show how far a query is, in one line that is overwritten; at its end the line is gone."""
        if share >= 1:
            text, self.said_share = "\r\x1b[K" if self.said_share is not None else "", None
        elif self.said_share is None or share >= self.said_share + STEP:
            text, self.said_share = f"\r\x1b[K{share:4.0%} of the history", share
        else:
            return
        self.output.write(text)
        self.output.flush()

    def _branched(self, moment: Moment) -> None:
        self.say(f"from {moment.position} on the run goes another way: what came after it is forgotten")

    def begin(self) -> None:
        """Say where the system stands."""
        moving.report(self.desk, None)

    def line(self, text: str) -> None:
        """Carry a line out: an empty one is the last step or run again.  CommandError.

        Lines between `commands N` and `end` are given to the stop.
        """
        text = text.split("#", maxsplit=1)[0].strip() if text.lstrip().startswith("#") else text.strip()
        self.desk.due = None
        if self.desk.taking is not None:
            if text:
                take(self.desk, text)
            return
        if not text:
            if self.last is not None:
                perform(self.desk, *self.last)
        else:
            entry = carry_out(self.desk, text)
            _, _, rest = text.partition(" ")
            self.last = (entry, rest if len(entry.names[0].split()) == 1 else "") if entry.repeats else None
        self._after_stop()

    def _after_stop(self) -> None:
        """Carry out the commands of the stop that has ended a run, up to one that moves; CommandError names the line.

        If that runs to a stop, its commands come next.
        """
        history = self.desk.bench.history
        while self.desk.due is not None:
            stopping, self.desk.due = self.desk.due, None
            for text in stopping.commands:
                before = history.moment
                if text != SILENT:
                    try:
                        carry_out(self.desk, text)
                    except CommandError as error:
                        raise CommandError(f"commands of stop {stopping.number}: {text!r}: {error}") from None
                if self.desk.ended or self.desk.due is not None or history.moment != before:
                    break

    def script(self, path: Path) -> None:
        """Carry out the lines of a file; ScriptError names the one that could not be."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ScriptError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        for number, text in enumerate(lines, 1):
            if not text.strip() or self.desk.ended:
                continue
            try:
                self.line(text)
            except CommandError as error:
                raise ScriptError(f"{path}:{number}: {error}") from None
        try:
            complete(self.desk)
        except CommandError as error:
            raise ScriptError(f"{path}: {error}") from None
