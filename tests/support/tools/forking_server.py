"""A process that has imported callgate once and forks a child for each command; `forked.py` is its client.

A child starts as a new process of `callgate` does: it has the streams, the environment, the folder and the terminal
that its request names, the signals of a new process, and no other descriptor.  It has nothing to import or to assemble.
Its streams are buffered even where PYTHONUNBUFFERED is set.
"""

import contextlib
import fcntl
import gc
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
from pathlib import Path
from typing import Any

from callgate.tools.cli.debugging import adapter  # noqa: F401  # which `debug --dap` imports
from callgate.tools.cli.main import main

REQUEST = 1 << 17  # bytes of a request at most
DESCRIPTORS = 4  # of a request: the three streams, and a pipe for the number of the process and for its exit code
NUMBER = struct.Struct("<i")
WARM = (["boot", "-q", "-c", "exit"], ["debug", "-e", "quit"], ["boot", "--help"])


def warm_up() -> None:
    """Import and assemble what most commands need; the garbage collector will not look at it again."""
    with Path(os.devnull).open("r+", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        for arguments in WARM:
            sys.argv = ["callgate", *arguments]
            with contextlib.suppress(SystemExit):
                main()
    gc.collect()
    gc.freeze()


def serve(requests: socket.socket) -> bool:
    """Fork a child for each request.  Return True in a child, False when nothing is left that could ask."""
    running: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its number, and the pipe to its client
    while True:
        for ready in select.select([requests, *running], [], [])[0]:
            if ready is not requests:
                report(ready, *running.pop(ready))
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, REQUEST, DESCRIPTORS)
            if not message:
                return False
            number = os.fork()
            if not number:
                requests.detach()
                become(json.loads(message), descriptors)
                return True
            *streams, client = descriptors
            for stream in streams:
                os.close(stream)
            os.write(client, NUMBER.pack(number))
            running[os.pidfd_open(number)] = (number, client)


def report(process: int, number: int, client: int) -> None:
    """Tell the client how its process ended, as `subprocess` does."""
    _, status = os.waitpid(number, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(client, NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os.close(client)
    os.close(process)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Be as a process that has just been started."""
    for target, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, target)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)  # Unicorn takes it when it is opened
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["directory"])
    sys.argv = ["callgate", *request["arguments"]]
    sys.stdin, sys.stdout, sys.stderr = (stream(number) for number in range(3))


def stream(number: int) -> io.TextIOWrapper:
    """Open a standard stream as Python does at its start."""
    name, mode = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))[number]
    like = getattr(sys, f"__{name}__")
    binary = open(number, f"{mode}b", closefd=False)  # noqa: SIM115 - for good, by its number
    by_line = name == "stderr" or os.isatty(number)
    return io.TextIOWrapper(binary, like.encoding, like.errors, "\n", line_buffering=by_line)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server of tests that are interrupted ends with them
    link = socket.socket(fileno=int(sys.argv[1]))
    warm_up()
    if serve(link):
        main()
