"""Ctrl-C, pressed while a test runs code that may not end by itself.

A host may be so busy that code has not begun after any time, or takes any time to end.  So it is pressed when something
holds, and what follows is measured by the CPU time of this process.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from callgate.kernel.machine import Machine

LOOK = 0.001  # seconds between two looks


@contextmanager
def ctrl_c_when(ready: Callable[[], bool]) -> Iterator[list[float]]:
    """Press Ctrl-C when something holds; yield a list to which the CPU time of this process then is appended."""
    pressed: list[float] = []
    over = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        while not ready():
            if over.wait(LOOK):
                return
        pressed.append(time.process_time())
        signal.pthread_kill(main, signal.SIGINT)  # a signal for the process may come to a thread that does not wait

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield pressed
    finally:
        over.set()
        thread.join()


def has_run(machine: Machine, seconds: float) -> Callable[[], bool]:
    """Return a condition: a run of the machine has begun, and this process has since taken this much CPU time."""
    begun: list[float] = []

    def ready() -> bool:
        if not begun and machine.control.running:
            begun.append(time.process_time())
        return bool(begun) and time.process_time() - begun[0] >= seconds

    return ready
