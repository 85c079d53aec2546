"""Ctrl-C while a test runs guest code.

Python would raise KeyboardInterrupt in whatever Python function runs next.  While the engine runs, that is one that the
engine has called, and from there nothing can be raised: the interrupt would be lost.  So it becomes a request to the
machine, which stops between two instructions; `BareCpu` then raises KeyboardInterrupt.  A second one is raised at once:
the function that does not return may be one of the test's own.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine


class CtrlC:
    """Takes SIGINT for one machine until `remove`; without a run under way, the previous handler is called."""

    def __init__(self, machine: Machine) -> None:
        """Install the handler, once for all runs: two system calls a run would cost more than a short run does."""
        self.machine = machine
        self.installed = threading.current_thread() is threading.main_thread()  # others may not, and get no signals
        if self.installed:
            self.previous = signal.signal(signal.SIGINT, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.machine.control.running and not self.machine.control.interrupted:
            self.machine.control.interrupt()
        elif callable(self.previous):
            self.previous(number, frame)
        elif self.previous != signal.SIG_IGN:
            raise KeyboardInterrupt

    def remove(self) -> None:
        """Restore the previous handler, unless another one has been installed since."""
        if self.installed and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self.previous)
        self.installed = False
