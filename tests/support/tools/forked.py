"""`callgate` in a process of its own that costs no imports: a child of the server in `forking_server.py`.

`Forked` has what tests use of `subprocess.Popen`.  What is about the start itself starts `callgate` by `subprocess`.
"""

import atexit
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE
from types import TracebackType
from typing import BinaryIO, Self

from forking_server import NUMBER

SERVER = Path(__file__).with_name("forking_server.py")
EXPECTED = 60.0  # seconds for what a test waits for


@cache
def server() -> socket.socket:
    """Start the server; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, str(SERVER), str(its.fileno())]
        process = subprocess.Popen(command, stdin=DEVNULL, pass_fds=[its.fileno()])
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


class Forked:
    """`callgate ARGUMENTS`; the streams are given as for `subprocess.Popen`.

    With `terminal`, standard input becomes the terminal of a session of its own, whose keys are signals.
    """

    def __init__(
        self,
        *arguments: str | Path,
        stdin: int = DEVNULL,
        stdout: int = PIPE,
        stderr: int = PIPE,
        terminal: bool = False,
    ) -> None:
        self.returncode: int | None = None
        self.stdin: BinaryIO
        self.stdout: BinaryIO
        self.stderr: BinaryIO
        request = {
            "arguments": [str(argument) for argument in arguments],
            "directory": str(Path.cwd()),
            "environment": dict(os.environ),
            "terminal": terminal,
        }
        self.report, told = os.pipe()
        given = [self._given(*stream) for stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr))]
        socket.send_fds(server(), [json.dumps(request).encode()], [*given, told])
        for descriptor in ({*given} - {stdin, stdout, stderr}) | {told}:
            os.close(descriptor)
        self.pid = self._number()

    def _given(self, name: str, stream: int) -> int:
        """Return the descriptor that the process gets, and keep the other end of a pipe."""
        if stream == DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        if stream != PIPE:
            return stream
        ends = os.pipe()
        its, ours = ends if name == "stdin" else reversed(ends)
        setattr(self, name, os.fdopen(ours, "wb" if name == "stdin" else "rb"))
        return its

    def _number(self) -> int:
        data = os.read(self.report, NUMBER.size)
        assert data, "the server of processes has ended"
        return int(NUMBER.unpack(data)[0])

    def poll(self) -> int | None:
        """Return the exit code, or minus the signal; None while the process runs."""
        if self.returncode is None and self._ends_within(0):
            self._end()
        return self.returncode

    def wait(self, timeout: float = EXPECTED) -> int:
        """Wait for the end; return the exit code, or minus the signal."""
        if self.returncode is None:
            if not self._ends_within(timeout):
                raise subprocess.TimeoutExpired("callgate", timeout)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _ends_within(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self.report, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _end(self) -> None:
        self.returncode = self._number()
        os.close(self.report)

    def computes(self, seconds: float) -> None:
        """Wait until the process has used this much more CPU time, whatever else the host does."""
        end = self._used() + seconds
        while self._used() < end:
            assert self.poll() is None, "the process has ended"
            time.sleep(0.001)

    def _used(self) -> float:
        """Return its CPU time up to now, to 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once, if it has not ended."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, data: bytes = b"", timeout: float = EXPECTED) -> tuple[bytes, bytes]:
        """Write to standard input and close it; return all that comes on the other two streams until the end."""
        with ThreadPoolExecutor(2) as readers:
            output, errors = (readers.submit(self._rest, name) for name in ("stdout", "stderr"))
            try:
                if hasattr(self, "stdin"):
                    with suppress(BrokenPipeError), self.stdin:
                        self.stdin.write(data)
                self.wait(timeout)
            finally:
                self.kill()
        return output.result(), errors.result()

    def _rest(self, name: str) -> bytes:
        """Return what comes on a pipe until its end; nothing for a stream that is none of our pipes."""
        with getattr(self, name, None) or io.BytesIO() as stream:
            return bytes(stream.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        self.close()
        self.wait()

    def close(self) -> None:
        """Close the pipes."""
        for name in ("stdin", "stdout", "stderr"):
            if hasattr(self, name):
                with suppress(BrokenPipeError):
                    getattr(self, name).close()
