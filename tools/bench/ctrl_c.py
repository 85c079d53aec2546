"""Ctrl-C during a measurement: the run of a machine ends by it, and the measurement must not go on."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end, whatever came of the block, if SIGINT has come while a machine was running.

    Machines handle the signal themselves as they run; Python notes each signal in a pipe as well.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
        with os.fdopen(reader, "rb") as noted:
            came = signal.SIGINT in (noted.read() or b"")
        if came:
            raise KeyboardInterrupt from None
