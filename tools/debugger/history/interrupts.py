"""Ctrl-C while the past is repeated: it ends a run of the machine, and nothing that has to be finished."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from callgate.kernel.machine import Machine


class HistoryInterrupted(Exception):
    """Ctrl-C has ended a search in the past; the system is where it was before the search."""


class Interrupts:
    """Where Ctrl-C goes while a history works.  A signal comes to the main thread only, as everywhere in Python."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.holding = False
        self.came = False
        self.deaf = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a Ctrl-C that comes between two runs of the machine end the next one.

        So it interrupts neither a restore nor the taking of a checkpoint.  KeyboardInterrupt after the block if no run
        followed.
        """
        if self.holding or not self.machine.runner.ctrl_c or not in_main_thread():
            yield
            return
        previous = signal.signal(signal.SIGINT, self._signalled)
        self.holding, self.came = True, False
        try:
            yield
        finally:
            self.holding = False
            signal.signal(signal.SIGINT, previous)
        control = self.machine.control
        if control.interrupted:
            control.interrupted = False
            raise KeyboardInterrupt

    @contextmanager
    def ignored(self) -> Iterator[None]:
        """Ignore Ctrl-C: it has been pressed, and what follows puts the system back."""
        runner = self.machine.runner
        with self.held():
            kept, runner.ctrl_c, self.deaf = runner.ctrl_c, False, True
            self.machine.control.interrupted = self.came = False
            try:
                yield
            finally:
                runner.ctrl_c, self.deaf = kept, False

    def _signalled(self, _signal: int, _frame: FrameType | None) -> None:
        self.came = not self.deaf
        self.pass_on()

    def ask(self) -> None:
        """Do what Ctrl-C does, from another thread than the one that works; `forget` when its work has ended."""
        self._signalled(signal.SIGINT, None)

    def forget(self) -> None:
        """Forget what was asked: it was for work that has ended."""
        self.machine.control.interrupted = self.came = False

    def pass_on(self) -> None:
        """Let a Ctrl-C that has been held end the next run: a restore makes the machine forget what was asked of it."""
        if self.came:
            self.machine.control.interrupt()


def in_main_thread() -> bool:
    """Whether this is the thread of the process that signals come to."""
    return threading.current_thread() is threading.main_thread()
