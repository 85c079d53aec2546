"""The size of a recording while the guest idles: it grows by what comes from outside, and not by time.

The figure to hold: 1 KiB for a second in which nothing is typed.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from callgate.tools.bench.measuring import BenchmarkError, timing

PROGRAM: Final = "from callgate.tools.cli.main import main; main()"
IDLE: Final = 3.0  # seconds
PATIENCE: Final = 60.0  # seconds for a boot
READY: Final = b"/d0p1> "


def idle_bytes() -> tuple[int, int]:
    """Return the sizes of a recording when the shell waits for a line, and after IDLE seconds in which it waits."""
    master, slave = pty.openpty()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "idle.cgr"
        command = [sys.executable, "-c", PROGRAM, "boot", "--quiet", "--record", str(path)]
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            try:
                wait_for(master, READY)
                before = path.stat().st_size
                time.sleep(IDLE)
                after = path.stat().st_size
                os.write(master, b"exit\r")
                wait_for(master, b"")
            finally:
                os.close(master)  # hangs up, if it has not ended
    if process.returncode:
        raise BenchmarkError(f"the recorded run ended with status {process.returncode}")
    return before, after


def wait_for(descriptor: int, text: bytes) -> None:
    """Read a terminal until it shows a text, or has ended if that is empty."""
    shown = b""
    while not text or text not in shown:
        if not select.select([descriptor], [], [], PATIENCE)[0]:
            raise BenchmarkError(f"the shell does not say {text.decode()!r}: {shown[-200:].decode(errors='replace')}")
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:  # the other side has been closed
            data = b""
        if not data:
            if text:
                raise BenchmarkError(f"it has ended: {shown[-200:].decode(errors='replace')}")
            return
        shown += data


def bench_idle_recording() -> dict[str, Any]:
    """Return the element of a recording of IDLE seconds in which nothing happens."""
    before, after = idle_bytes()
    return {
        "name": "record-idle",
        "n": 1,
        "wall_us": timing([IDLE], 1),
        "bytes_before": before,
        "bytes_a_second": round((after - before) / IDLE, 1),
    }
