"""The frame of the running thread that is looked at: `frame N`, `up`, `down`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.machine.cpu.paging import PageFault
from callgate.tools.debugger.debuggee.frames import Frame, frames
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.inspection.wording import counted

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.history import History, Moment

OF_FRAMES: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")
OF_CPU: Final = ("cr0", "cr2", "cr3", "cr4")  # the same in each frame


@dataclass(frozen=True, slots=True)
class Selected:
    """A frame by its number, from 0, the innermost, on, and the process whose memory it sees."""

    index: int
    frame: Frame
    process: Process
    debuggee: Debuggee

    def register(self, name: str) -> int | None:
        """Return what a register was in this frame; None if it is not known: nothing on the way has saved it."""
        known = name in ("eip", "esp") or name in self.frame.saved
        return self.frame.values.get(name) if known else None

    def read(self, linear: int, size: int) -> bytes:
        """Return memory as this frame sees it; PageFault where none is mapped."""
        data = self.debuggee.memory.read(self.process, linear, size)
        if len(data) < size:
            raise PageFault(linear, 0)
        return data


class Selection:
    """Which frame is looked at; frame 0 from the moment on at which the system stands elsewhere."""

    def __init__(self, debuggee: Debuggee, history: History) -> None:
        self.debuggee = debuggee
        self.history = history
        self.chosen: tuple[Moment, int] | None = None

    @property
    def index(self) -> int:
        """The number of the frame that is selected."""
        return self.chosen[1] if self.chosen is not None and self.chosen[0] == self.history.moment else 0

    def choose(self, index: int) -> None:
        """Select a frame; CommandError if there is none of this number."""
        there = len(self._frames())
        if not 0 <= index < there:
            only = "frame 0" if there == 1 else f"frames 0 to {there - 1}"
            raise CommandError(f"no frame {index}: the backtrace has {counted(there, 'frame')}, {only}")
        self.chosen = self.history.moment, index

    def forget(self) -> None:
        """Select frame 0."""
        self.chosen = None

    def now(self) -> Selected | None:
        """Return the frame that is selected; None for frame 0, which is what the CPU is in."""
        if not self.index:
            return None
        process = self.debuggee.threads.running().process
        return Selected(self.index, self._frames()[self.index], process, self.debuggee)

    def _frames(self) -> list[Frame]:
        return frames(self.debuggee, self.debuggee.threads.running())
