"""A real gdb, and a small client that knows nothing of our packet layer, at a system of this process."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import host_programs
import pytest
from callgate.kernel.machine import Stop
from callgate.kernel.system import System
from callgate.tools.debugger.gdb.server import Address, GdbServer

LOOPBACK = "127.0.0.1"


class Serving:
    """A server that drives a system on another thread, until the system ends or the client has gone for good."""

    def __init__(self, system: System) -> None:
        self.said: list[str] = []
        self.server = GdbServer(Address(LOOPBACK), self.said.append)
        self.port = self.server.port
        self.system = system
        self.stop: Stop | None = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        assert self.server.ready.wait(60)

    def _run(self) -> None:
        try:
            self.stop = self.server.run(self.system)
        except BaseException as error:  # noqa: BLE001 - it is raised on the test's thread
            self.error = error

    def passes(self, instructions: int) -> None:
        """Wait until the machine has executed this many instructions more."""
        clock = self.system.machine.clock
        end = clock.retired + instructions
        while clock.retired < end:
            assert self.thread.is_alive(), self.error
            time.sleep(0.001)

    def end(self, *, by_itself: bool = False) -> None:
        """Wait for the end, and raise what went wrong; have the server give up unless it ends `by_itself`."""
        if not by_itself:
            self.system.machine.control.interrupt()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def serve() -> Iterator[Callable[[System], Serving]]:
    servings: list[Serving] = []

    def begin(system: System) -> Serving:
        servings.append(Serving(system))
        return servings[-1]

    yield begin
    for serving in servings:
        serving.end()


@pytest.fixture
def gdb(boot_demo: Callable[[str], System], serve: Callable[[System], Serving], tmp_path: Path) -> Callable[..., str]:
    """Run gdb with commands at a new system or a `serving` one; return what it prints.  Without gdb, skip."""

    def run(
        script: str,
        commands: str = "dir",
        program: str = "gdb",
        serving: Serving | None = None,
        target: str = "remote",
    ) -> str:
        host_programs.find(program)
        serving = serving or serve(boot_demo(commands))
        path = tmp_path / "script.gdb"
        head = f"set pagination off\nset confirm off\nset width 0\ntarget {target} {LOOPBACK}:{serving.port}\n"
        path.write_text(head + script)
        result = host_programs.attempt(program, "-nx", "-batch", "-x", path, HOME=str(tmp_path))
        return result.stdout.decode("utf-8", "replace") + result.stderr.decode("utf-8", "replace")

    return run


class Client:
    """Speaks the protocol as its manual says, without a line of the server's code."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def send(self, payload: bytes) -> None:
        """Send a packet; `payload` must need no escapes."""
        self.socket.sendall(b"$" + payload + b"#" + format(sum(payload) % 256, "02x").encode())

    def receive(self) -> bytes:
        """Return the next packet's payload, acknowledged."""
        while not (found := re.match(rb"[^$]*\$([^#]*)#(..)", self.data, re.DOTALL)):
            piece = self.socket.recv(65536)
            assert piece, f"the connection is closed after {self.data!r}"
            self.data += piece
        self.data = self.data[found.end() :]
        assert int(found[2], 16) == sum(found[1]) % 256
        self.socket.sendall(b"+")
        return found[1]

    def ask(self, payload: bytes) -> bytes:
        """Send a packet and return the answer."""
        self.send(payload)
        return self.receive()

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def connect() -> Iterator[Callable[[Serving], Client]]:
    clients: list[Client] = []

    def begin(serving: Serving) -> Client:
        clients.append(Client(serving.port))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
