"""`callgate boot --gdb`: where gdb connects, and how the session of a boot is driven by it.

The machine stands before its first instruction until gdb continues.  After `detach` it runs freely; another gdb may
connect at any time, which stops it.  A gdb that goes away without a word leaves it stopped, and waiting for the next.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from shlex import quote
from threading import Event
from typing import TYPE_CHECKING

from callgate.kernel.core.errors import KernelPanic
from callgate.tools.debugger.debuggee import Debuggee, Ending, Reason
from callgate.tools.debugger.debuggee.going_back import GoingBack
from callgate.tools.debugger.gdb.context import Context
from callgate.tools.debugger.gdb.lifetimes import DETACHED, KILLED
from callgate.tools.debugger.gdb.monitoring.terminal_commands import TerminalCommands
from callgate.tools.debugger.gdb.protocol.connection import POLL_SECONDS, Connection
from callgate.tools.debugger.gdb.stub import Stub
from callgate.tools.debugger.gdb.vfile import content, exec_file
from callgate.tools.debugger.history import BUDGET, History

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop
    from callgate.kernel.system import System
    from callgate.tools.debugger.debuggee import Backwards

LOOPBACK = "127.0.0.1"
SCRIPT = Path(__file__).with_name("gdb_script.py")
PIPE = "-"
PATIENCE = 5  # looks, of POLL_SECONDS each, at a gdb that has detached and not gone yet
RUNS = (b"vCont;", b"c", b"s", b"C", b"S", b"b")  # how packets begin that let the machine run


class AddressRefused(Exception):
    """The server cannot listen there; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where gdb connects: a host and a port (0: any that is free), or a pipe (`host` is PIPE)."""

    host: str
    port: int = 0


def read_address(text: str) -> Address:
    """Read `-`, `PORT`, `:PORT` or `HOST:PORT`; ValueError names what is wrong."""
    if text == PIPE:
        return Address(PIPE)
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or LOOPBACK
    if not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise ValueError(f"{text!r} is not [HOST:]PORT with a port from 0 to 65535, nor -")
    return Address(host, int(port))


class GdbServer:
    """Listens for gdb, and lets it drive a system."""

    def __init__(self, address: Address, say: Callable[[str], None], budget: int = BUDGET) -> None:
        """Take the port at once: AddressRefused if that cannot be done.  gdb can connect from `ready` on.

        `say` writes a line for people; `budget` is the memory for going back, in bytes, at least LEAST.
        """
        self.say = say
        self.budget = budget
        self.listener: socket.socket | None = None
        self.connection: Connection | None = None
        self.history: Backwards | None = None  # what goes backwards, while a system is driven
        self.terminal: TerminalCommands | None = None  # those of `monitor`
        self.debuggee: Debuggee | None = None
        self.leaving = False  # the session is to end: Ctrl-C that is not the guest's, or a signal
        self.ready = Event()  # it listens: all that gdb asks for first has been made, since it waits for seconds only
        if address.host == PIPE:
            # The guest's console must not write into the packets.
            pipe = os.dup(0), os.dup(1)
            self.connection = Connection(*pipe, lambda: list(map(os.close, pipe)))
            return
        self.listener = bound(address)
        self.port: int = self.listener.getsockname()[1]

    def waits_on(self) -> list[int]:
        """Return the descriptors that end a wait for console input: gdb may have something to say."""
        if self.connection is not None:
            return [] if self.connection.ended else [self.connection.reading]
        return [] if self.listener is None else [self.listener.fileno()]

    def run(self, system: System) -> Stop:
        """Let gdb drive a system to its end; return the machine's last stop."""
        machine = system.machine
        self.debuggee = debuggee = Debuggee(system)
        history = History(system, self.budget)
        self.history = GoingBack(debuggee, history)
        self.terminal = TerminalCommands(debuggee, history, self.history)
        console = machine.on_interrupt

        def interrupted() -> bool:
            if self.speaks():
                return True  # a wait for input that gdb has ended is no Ctrl-C
            told = console is not None and console()
            self.leaving = not told
            return told

        machine.on_interrupt = interrupted
        ending: Ending | None = None
        freed = False
        try:
            while True:
                if self.connection is None and not freed and not self._accept(debuggee):
                    return stopped(debuggee, "interrupted")
                if self.connection is not None:
                    ending, freed = self._serve(debuggee, self.connection, ending)
                    self._drop()
                    if ending is not None and (ending.final or ending.text == KILLED):
                        return final(debuggee, ending)
                    if self.listener is None and not freed:
                        return stopped(debuggee, "interrupted")
                if freed:
                    ending = debuggee.run(self._knocks)
                    if ending.reason is not Reason.INTERRUPTED or (ending.stop and ending.stop.reason == "interrupted"):
                        return final(debuggee, ending)
                    freed = False
        finally:
            machine.on_interrupt = console
            debuggee.close()
            self.close()

    def open(self) -> bool:
        """Let gdb connect, and say how; False if the port has been taken meanwhile.  `run` does it otherwise."""
        listener = self.listener
        assert listener is not None
        host, port = listener.getsockname()[:2]
        place = f"[{host}]:{port}" if ":" in host else f"{'' if host == LOOPBACK else host}:{port}"
        try:
            listener.listen(1)
        except OSError as error:
            self.say(f"gdb: {place}: {error.strerror}; name another port, or 0 for any that is free")
            return False
        finally:
            self.ready.set()
        self.say(f"gdb: the machine waits for `target remote {place}` in gdb")
        self.say(f"gdb: or, with printers and commands: gdb -x {quote(str(SCRIPT))} -ex 'target remote {place}'")
        return True

    def speaks(self) -> bool:
        """Whether gdb has sent something, or another one wants to connect."""
        waits = self.waits_on()
        return bool(waits and select.select(waits, [], [], 0)[0])

    def close(self) -> None:
        """Close the connection and the port."""
        self._drop()
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def _knocks(self) -> bool:
        return self.listener is not None and bool(select.select([self.listener], [], [], 0)[0])

    def _accept(self, debuggee: Debuggee) -> bool:
        """Wait for gdb; False if the session is to end instead."""
        assert self.listener is not None
        for process in debuggee.threads.processes():  # gdb does not wait long for their files
            content(debuggee, exec_file(debuggee, process))
        if not self.ready.is_set() and not self.open():
            return False
        while not self.leaving and not debuggee.machine.control.interrupted:
            try:
                if not select.select([self.listener], [], [], POLL_SECONDS)[0]:
                    continue
            except KeyboardInterrupt:
                return False
            link, _ = self.listener.accept()
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connection = Connection(link.fileno(), link.fileno(), link.close)
            return True
        return False

    def _serve(self, debuggee: Debuggee, connection: Connection, last: Ending | None) -> tuple[Ending | None, bool]:
        """Answer one gdb until it goes; return the last ending, and whether the machine is to run freely."""
        context = Context(debuggee, connection.send, self.history, self.terminal)
        stub = Stub(context, connection.poll)
        stub.last = last
        try:
            ending = self._answer(debuggee, connection, stub)
        except KeyboardInterrupt:
            debuggee.machine.control.interrupt()
            ending = None
        finally:
            stub.close()
        if ending is not None:
            return ending, False
        if context.off or stub.lifetimes.ended == KILLED:
            return Ending(Reason.OTHER, text=KILLED), False
        if stub.lifetimes.ended == DETACHED or (connection.ended and context.free):
            self.say("gdb: detached; the machine goes on")
            return stub.last, True
        if connection.ended and self.listener is not None:
            where = debuggee.machine.name_address(debuggee.machine.cpu.eip)
            self.say(f"gdb: the connection is gone; the machine is stopped at {where} and waits for the next gdb")
        return stub.last, False

    def _answer(self, debuggee: Debuggee, connection: Connection, stub: Stub) -> Ending | None:
        """Answer packets until gdb goes or leaves; return the machine's end, if that comes while gdb is detached."""
        context, control = stub.context, debuggee.machine.control
        while not stub.lifetimes.ended:
            if context.free and context.extended and (ending := self._free(debuggee, connection)) is not None:
                return ending
            payload = connection.receive(lambda: self.leaving or control.interrupted or context.free)
            if payload is None and context.free and not (connection.ended or self.leaving or control.interrupted):
                continue  # what had come was no packet
            if payload is None:
                break
            if payload.startswith(RUNS):
                connection.prods = 0
            answer = stub.answer(payload)
            if answer is not None:
                connection.send(answer)
            if payload.startswith(b"vRun;"):
                connection.prod()
            if context.no_acknowledgements:
                connection.acknowledged = False
        if stub.lifetimes.ended == DETACHED:
            take_leave(connection, stub)
        return None

    def _free(self, debuggee: Debuggee, connection: Connection) -> Ending | None:
        """Run until the gdb that has detached says something; the ending, if another one comes before that."""
        ending = debuggee.run(connection.speaks)
        gdbs = ending.reason is Reason.INTERRUPTED and connection.speaks()
        return None if gdbs else ending

    def _drop(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def take_leave(connection: Connection, stub: Stub) -> None:
    """Answer what a gdb that has detached still says before it goes.

    It may detach from processes that there are no more, or, where it has gone back, not yet; if the connection were
    closed before that, it would take the end of the session for an error.
    """
    while (payload := connection.receive(silent_for(PATIENCE))) is not None:
        answer = stub.answer(payload) if payload.startswith((b"D", b"H", b"q")) else b""
        if answer is not None:
            connection.send(answer)


def silent_for(looks: int) -> Callable[[], bool]:
    """Return a function that says whether it has been asked this many times."""
    asked = count(1)
    return lambda: next(asked) > looks


def bound(address: Address) -> socket.socket:
    """Return a socket that has an address, and does not listen yet; AddressRefused."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        unknown = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        hint = "name an address of this host" if unknown else "name another port, or 0 for any that is free"
        raise AddressRefused(f"--gdb {address.host}:{address.port}: {error.strerror}; {hint}") from None
    return listener


def stopped(debuggee: Debuggee, reason: str) -> Stop:
    """Return the present moment as a stop of the machine."""
    from callgate.kernel.machine import Stop

    machine = debuggee.machine
    return Stop(reason, machine.clock.retired, machine.cpu.eip, None, machine.clock.now)


def final(debuggee: Debuggee, ending: Ending) -> Stop:
    """Return the stop with which a session ends; KernelPanic if the kernel gave up."""
    if ending.reason is Reason.PANIC:
        raise KernelPanic(ending.text)
    return ending.stop or stopped(debuggee, "killed by gdb")
