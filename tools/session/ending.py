"""SIGTERM and SIGHUP end a run as Ctrl-C does: reports are written, the terminal is put back, then the signal ends us.

Python's handlers run on the main thread between two of its bytecodes, and so not at all while the engine does not
return. Therefore a separate thread waits for these signals, which are blocked meanwhile.  It asks the run to end, and
if that has not happened after `GRACE` seconds, or when a second signal comes, it lets the signal end the process.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Final, Self

GRACE: Final = 5.0  # seconds of the host, which may be busy


class Ending:
    """Waits for the signals while the context lasts; `number` is the one that has come, 0 for none.

    Does nothing off the main thread, nor about a signal that is ignored (nohup) or that has another handler.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        """`ask` makes the run end soon; it is called on another thread."""
        self.ask = ask
        self.number = 0
        self.signals: frozenset[signal.Signals] = frozenset()
        self.done = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        ours = (signal.SIGTERM, signal.SIGHUP)
        self.signals = frozenset(number for number in ours if signal.getsignal(number) is signal.SIG_DFL)
        if self.signals:
            signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
            self.thread = threading.Thread(target=self._wait, name="ending", daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.done.set()
        if self.thread is not None and self.thread.ident is not None:
            signal.pthread_kill(self.thread.ident, min(self.signals))
            self.thread.join()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)

    def _wait(self) -> None:
        taken = signal.sigwaitinfo(self.signals)
        if self.done.is_set() and (taken.si_signo, taken.si_pid) == (min(self.signals), os.getpid()):
            return  # `__exit__` has woken this thread
        # A signal that came before the run's end counts, although this thread sees it only now.
        self.number = number = taken.si_signo
        if self.done.is_set():
            return
        self.ask()
        again = signal.sigtimedwait(self.signals, GRACE)
        if not self.done.is_set():
            self.take_effect(again.si_signo if again else number)

    def take_effect(self, number: int | None = None) -> None:
        """Let the signal that has come end the process, so that its parent sees which it was."""
        number = number or self.number
        if number:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)
            os.kill(os.getpid(), number)
