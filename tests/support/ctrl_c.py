"""Ctrl-C, pressed while a test runs code that may not end by itself."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[list[float]]:
    """Press Ctrl-C in a while; yield a list to which the time of that is appended."""
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, press)
    timer.start()
    try:
        yield pressed
    finally:
        timer.cancel()
        timer.join()
