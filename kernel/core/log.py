r"""The log: lines for people, and a rate limit on lines that ring 3 causes.

A program's fault and the end of a server are *urgent*: they are shown even to a user who does not want the boot log.

A line that a program or a server causes names it as the source. A source has LOG_BURST lines at once and
LOG_LINES_PER_SECOND of virtual time after that; further lines are left out and counted, and the count is written as
soon as the source may write again. The kernel's own lines have no limit: they cannot be provoked.

A line holds text from ring 3 and disks: labels, names, a server's messages. So control characters are written as
`\x0a`: no such text can begin a line that looks like another source's, or control a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Final

from callgate.kernel.common.record import record
from callgate.kernel.abi.limits import LOG_BURST, LOG_LINE_CHARACTERS, LOG_LINES_PER_SECOND
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Endpoints, EndpointState, Process

LINE: Final = 1_000_000_000 // LOG_LINES_PER_SECOND  # nanoseconds of virtual time that a line costs
# C0, DEL and C1, other characters that end a line, and those that change the order of text (Unicode 15, chapter 23).
CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SOURCES: Final = 256  # that are remembered; older ones are forgotten, with their counts of lines left out


@record(eq=True)
class Source:
    """`paid` is the clock at which everything that the source has written is paid for."""

    paid: int = 0
    left_out: int = 0
    urgent: bool = False  # some of the lines left out were


@record
class LogState:
    """Records: sources by name, in the order of their first line."""

    sources: dict[str, Source] = field(default_factory=dict)


class Log:
    """The type of `kernel.log`."""

    def __init__(
        self,
        state: LogState,
        guest: Guest,
        endpoints: Endpoints,
        write: Callable[[str], None],
        write_urgent: Callable[[str], None] | None = None,
    ) -> None:
        """Write urgent lines with a function of their own, if there is one."""
        self.state = state
        self.guest = guest
        self.endpoints = endpoints
        self.write = write
        self.write_urgent = write_urgent or write

    def __call__(self, text: str | Sequence[str], source: Process | EndpointState | None = None) -> None:
        """Write one line, or several: the kernel's own, or those that a program or a server causes."""
        self._say(text, source, urgent=False)

    def urgent(self, text: str | Sequence[str], source: Process | EndpointState | None = None) -> None:
        """Write a line that is shown even if the boot log is not."""
        self._say(text, source, urgent=True)

    def _say(self, text: str | Sequence[str], source: Process | EndpointState | None, *, urgent: bool) -> None:
        lines = [text] if isinstance(text, str) else text
        now = self.guest.now
        if source is not None and not self.admits(source, len(lines), urgent=urgent):
            return
        self._write_counts(now)
        write = self.write_urgent if urgent else self.write
        write("\n".join(printable(line)[:LOG_LINE_CHARACTERS] for line in lines))

    def admits(self, source: Process | EndpointState, lines: int, *, urgent: bool = False) -> bool:
        """Book lines to a source; False if it has written too many, and these are counted as left out."""
        return self._pays(name_of(self.endpoints, source), lines, urgent)

    def finish(self) -> None:
        """Write the count of lines left out for every source: the system ends."""
        for name, source in self.state.sources.items():
            self._write_count(name, source)

    def _pays(self, name: str, lines: int, urgent: bool) -> bool:
        """Book lines to a source; False if they are to be left out."""
        now = self.guest.now
        sources = self.state.sources
        if name not in sources and len(sources) >= SOURCES:
            del sources[next(iter(sources))]
        source = sources.setdefault(name, Source())
        if max(0, source.paid - now) + lines * LINE > LOG_BURST * LINE:
            source.left_out += lines
            source.urgent |= urgent
            return False
        self._write_count(name, source)
        source.paid = max(source.paid, now) + lines * LINE
        return True

    def _write_counts(self, now: int) -> None:
        """Write the counts of the sources that may write again."""
        for name, source in self.state.sources.items():
            if source.left_out and source.paid - now < LOG_BURST * LINE:
                self._write_count(name, source)

    def _write_count(self, name: str, source: Source) -> None:
        if source.left_out:
            write = self.write_urgent if source.urgent else self.write
            write(f"{printable(name)}: {source.left_out} more line{'s' * (source.left_out != 1)} left out")
            source.left_out, source.urgent = 0, False


def printable(line: str) -> str:
    r"""Return a line with its control characters as escapes: `\xhh`, `\uhhhh`."""
    return CONTROL.sub(lambda found: _escape(ord(found[0])), line[:LOG_LINE_CHARACTERS])


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def name_of(endpoints: Endpoints, source: Process | EndpointState) -> str:
    """Return the name of a source in the log: a volume, or the program that a family began with."""
    if isinstance(source, Process):
        endpoint = endpoints.by_number.get(source.endpoint)
        if endpoint is None:
            return f"process {source.family} and what it started"
        source = endpoint
    return f"/{source.name}"
