"""`callgate debug --dap`: an editor launches systems, and steps through them."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Final

import click
from callgate.tools.debugger.dap import extension
from callgate.tools.debugger.dap.adapter import Adapter, Launch
from callgate.tools.session.outputs import OutputRefused, Report

LOOPBACK: Final = "127.0.0.1"
ADAPTER: Final = ("-P", "-m", "callgate.tools.cli.main", "debug", "--dap")
"""For this Python; -P: no module of the folder in which an editor starts it is imported."""
EXIT_PORT: Final = 3


def serve(launch: Launch, port: int | None) -> int:
    """Serve one client, by a port or by standard input and output; return the exit code."""
    if port is None:
        source, output = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no message
        Adapter(source, output, launch).serve()
        return 0
    try:
        with socket.create_server((LOOPBACK, port)) as server:
            print(f"callgate: the debug adapter listens at {LOOPBACK}:{server.getsockname()[1]}", file=sys.stderr)
            connection, _ = server.accept()
    except OSError as error:
        print(f"callgate: --dap-port {port}: {os.strerror(error.errno or 0)}; name another one", file=sys.stderr)
        return EXIT_PORT
    except KeyboardInterrupt:
        return 0
    with connection, suppress(OSError):
        stream: IO[bytes]
        with connection.makefile("rb") as stream, connection.makefile("wb") as written:
            Adapter(stream, written, launch).serve()
            connection.shutdown(socket.SHUT_RDWR)
    return 0


def write_extension(path: Path) -> int:
    """Write the extension for Visual Studio Code, and say how it is installed; return the exit code.

    click.UsageError for a file that is there and is not an earlier one; click.FileError.
    """
    content = extension.packed(version("callgate"), (sys.executable, *ADAPTER))
    try:
        with closing(Report("--vsix", path, extension.is_ours, "Visual Studio Code extension of callgate")) as file:
            file.check(())
            file.begin()
            file.write(content)
    except OutputRefused as refused:
        raise click.UsageError(str(refused)) from None
    except OSError as error:
        raise click.FileError(str(path), error.strerror or str(error)) from None
    print(
        f"callgate: {path} is written; install it by: code --install-extension {shlex.quote(str(path))}",
        file=sys.stderr,
    )
    return 0
