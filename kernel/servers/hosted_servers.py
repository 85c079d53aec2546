"""Hosted handlers: file-system servers in Python, stepped on behalf of their ring-3 threads.

The thread's stub (asm/user/servers/server.asm) calls HOSTED_STEP through the server gate; policy resumes the
handler's coroutine up to the gate call that it awaits, leaves the call's registers in the thread's
HostedBlock, and returns; the stub makes the call itself and steps again.  The handler sees memory only
as its process does (`UserMemory`).

A handler that names bad memory, raises, or does not return kills its server, never the kernel. One that loops reaches a
limit: on the gate calls of a request, or on the accesses to memory of a step and their bytes. Both are counted, and so
the same in every run (docs/performance.md says what the largest sound step needs). Only Python that computes without
touching its process's memory cannot be counted cheaply: it has a limit of CPU time of the host a step, which is
generous: a handler that finishes does not reach it.
"""

from __future__ import annotations

import signal
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import Any

from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.thread import HostedBlock, HostedGate
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.memory.user_memory import BadAddress, UserMemory
from callgate.kernel.servers.mounting import Mounting
from callgate.kernel.tasks.processes import Processes
from callgate.server.errors import FileSystemError
from callgate.server.gate import GateCall, GateResult
from callgate.server.hosted import HostedServer
from callgate.server.raised import describe, last_frames

STEPS_LIMIT = 100_000  # gate calls of a request, or of a mount
ACCESSES_LIMIT = 10_000  # reads and writes of a step
BYTES_LIMIT = 16 << 20  # that they move
STEP_SECONDS = 10.0  # of CPU time
AGAIN_SECONDS = 0.1


class HandlerStuck(BaseException):
    """Raised inside a handler that has used up its time; BaseException so that no handler swallows it."""


class Hosted:
    """The servers by process number, and the coroutines of the requests being served."""

    def __init__(
        self,
        servers: dict[int, HostedServer],
        guest: Guest,
        processes: Processes,
        mounting: Mounting,
        end_server: Callable[[Process, str, Sequence[str]], None],
    ) -> None:
        """`end_server` ends a server's process: the process, the reason, and further lines of the log."""
        self.servers = servers
        self.guest = guest
        self.processes = processes
        self.mounting = mounting
        self.end_server = end_server
        self.running: dict[int, Any] = {}  # thread selector -> coroutine
        self.steps: dict[int, int] = {}
        self.changes: Counter[int] = Counter()  # by process number: how often a server's state may have changed
        self.step_seconds = STEP_SECONDS
        self.steps_limit = STEPS_LIMIT
        self.accesses_limit = ACCESSES_LIMIT
        self.accesses = self.bytes = 0  # of the step that runs

    def memory_of(self, process: Process) -> UserMemory:
        """Return a process's memory as its own Python sees it: each access is counted."""
        return self.processes.memory_of(process, self.touch)

    def add(self, process: Process, server: HostedServer) -> None:
        """Let a server's Python run in a process."""
        self.servers[process.number] = server
        self.changes[process.number] += 1

    def limited(self) -> AbstractContextManager[None]:
        """Return a context with the CPU time of a step, for a server's Python that no thread steps: HandlerStuck."""
        return time_limit(self.step_seconds, "its Python")

    def touch(self, size: int) -> None:
        """Count an access of hosted Python to its process's memory; HandlerStuck if it is one too many.

        A handler that swallows that meets it again at each further access.
        """
        self.accesses += 1
        self.bytes += size
        if self.accesses > self.accesses_limit:
            raise HandlerStuck(f"handler touched memory more than {self.accesses_limit} times in one step")
        if self.bytes > BYTES_LIMIT:
            raise HandlerStuck(f"handler touched more than {BYTES_LIMIT >> 20} MiB of memory in one step")

    def step(self, thread: Thread, message: int) -> int:
        """HOSTED_STEP: run the thread's handler to its next gate call; return the HostedGate.

        Kills the server and returns DONE if the handler breaks.
        """
        server = self.servers.get(thread.process.number)
        if server is None:
            raise CallerError(ErrorCode.BAD_CALL, f"{thread.process.name} has no hosted handlers")
        self.changes[thread.process.number] += 1
        memory = self.memory_of(thread.process)
        self.accesses = self.bytes = 0
        try:
            return self._advance(server, thread, message, memory)
        except FileSystemError as error:
            self._end(thread, f"{error}")
        except BadAddress as error:
            self._end(thread, f"handler used a {error}")
        except HandlerStuck as stuck:
            self._end(thread, str(stuck))
        except KeyboardInterrupt:
            raise  # the user's, not the handler's
        except BaseException as error:  # noqa: BLE001 - any exception of a server, SystemExit too, ends the server
            self._end(thread, f"handler raised {describe(error)}", last_frames(error))
        finally:
            self._book(server)
        return HostedGate.DONE

    def _book(self, server: HostedServer) -> None:
        """Book the bytes that the server's Python has decompressed."""
        self.guest.machine.ledger.extra["inflated_bytes"] += server.inflated
        server.inflated = 0

    def _advance(self, server: HostedServer, thread: Thread, message: int, memory: UserMemory) -> int:
        running = self.running.get(thread.selector)
        value: GateResult | None = None
        if running is None:
            server.blocks[message] = thread.hosted_block
            running = self.running[thread.selector] = server.serve(message)
            self.steps[thread.selector] = 0
        else:
            value = self._result(thread, memory)
        self.steps[thread.selector] += 1
        if self.steps[thread.selector] > self.steps_limit:
            raise HandlerStuck(f"handler made more than {self.steps_limit} gate calls for one request")
        try:
            with time_limit(self.step_seconds):
                call = running.send(value)
        except StopIteration as stop:
            self._forget(thread)
            server.blocks.pop(message, None)
            self._log_reports(server, thread.process)
            memory.write(thread.hosted_block + REPLY, int(ServerCall(stop.value)).to_bytes(4, "little"))
            return HostedGate.DONE
        if not isinstance(call, GateCall):
            raise TypeError(f"handler awaited {call!r}, which is not a gate call")
        self._store(thread, memory, call.gate, tuple(call[1:]))
        return call.gate

    def _store(self, thread: Thread, memory: UserMemory, gate: int, registers: tuple[int, ...]) -> None:
        memory.write(thread.hosted_block + GATE, CALL.pack(gate, *registers))

    def _result(self, thread: Thread, memory: UserMemory) -> GateResult:
        block = HostedBlock.from_buffer_copy(memory.read(thread.hosted_block, HOSTED_SIZE))
        return GateResult(block.eax, block.ebx, block.ecx, block.edx, block.esi, block.edi, block.eflags)

    def _log_reports(self, server: HostedServer, process: Process) -> None:
        for line in server.take_reports():
            self.mounting.say_of(server.geometry.name, [line], process)

    def _end(self, thread: Thread, reason: str, frames: Sequence[str] = ()) -> None:
        """Kill the server; log why, and where in its code that was."""
        server = self.servers[thread.process.number]
        with suppress(Exception):  # a server may have reports of its own, and raise in making them
            self._log_reports(server, thread.process)
        self.forget(thread)
        self.end_server(thread.process, reason, frames)

    def _forget(self, thread: Thread) -> None:
        del self.running[thread.selector]
        del self.steps[thread.selector]

    def forget(self, thread: Thread) -> None:
        """Close the coroutine of a thread that dies; log an exception that it raises then."""
        objection = self._close(thread.selector)
        if objection:
            self.mounting.log.urgent(
                f"{thread.process.name}: handler raised {objection} when it was ended", thread.process
            )

    def abandon(self) -> None:
        """Close every coroutine: their requests are undone."""
        for selector in list(self.running):
            self._close(selector)

    def _close(self, selector: int) -> str:
        """Close a thread's coroutine, if it has one; return the name of the exception that it raises, or nothing."""
        running = self.running.pop(selector, None)
        self.steps.pop(selector, None)
        if running is None:
            return ""
        self.accesses = self.bytes = 0
        try:
            with time_limit(self.step_seconds):
                running.close()
        except KeyboardInterrupt:
            raise  # the user's, not the handler's
        except BaseException as error:  # noqa: BLE001 - a handler that raises when it is closed is ended all the same
            return type(error).__name__
        return ""

    def end_process(self, process: Process) -> None:
        """Forget the server object of a process that has ended."""
        self.servers.pop(process.number, None)


HOSTED_SIZE = size_of(HostedBlock)
GATE = offset_of(HostedBlock, "gate")
REPLY = offset_of(HostedBlock, "reply")
CALL = struct.Struct("<7I")  # gate and six registers, as they lie in the block


class Alarm:
    """Raises HandlerStuck on the main thread when the CPU time allowed is used up, and again every AGAIN_SECONDS.

    The signal's handler is installed for a step.  Within `kept` it stays for the steps that follow: to exchange it for
    each takes longer than most steps.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.what = ""  # that is limited
        self.runs = 0  # that keep the handler
        self.before: Any = None  # the handler that is to come back
        self.installed = False

    def set(self, seconds: float, what: str) -> None:
        """Allow the main thread a number of seconds of CPU time from now on, for what the message names."""
        if not self.installed:
            self.before = signal.signal(signal.SIGVTALRM, self._expired)
            self.installed = True
        self.seconds, self.what = seconds, what
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, AGAIN_SECONDS)

    def clear(self) -> None:
        """Allow any time."""
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        self._remove()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Leave the handler where it is, once it has been installed, to the end of the block."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.runs += 1
        try:
            yield
        finally:
            self.runs -= 1
            self._remove()

    def _remove(self) -> None:
        if self.installed and not self.runs:
            self.installed = False
            signal.signal(signal.SIGVTALRM, self.before)

    def _expired(self, _signal: int, _frame: FrameType | None) -> None:
        raise HandlerStuck(f"{self.what} did not return within {self.seconds:g} s")


ALARM = Alarm()  # of the process, as the signal is


@contextmanager
def time_limit(seconds: float, what: str = "handler") -> Iterator[None]:
    """Raise HandlerStuck in the block when it has used the CPU time allowed; its message names `what`.

    By a signal on the main thread, and again every AGAIN_SECONDS while the handler swallows it; elsewhere, where Python
    delivers none, a trace function reads the clock on every line of the handler.
    """
    if threading.current_thread() is not threading.main_thread():
        with traced_limit(seconds, what):
            yield
        return

    ALARM.set(seconds, what)
    try:
        yield
    finally:
        ALARM.clear()


@contextmanager
def traced_limit(seconds: float, what: str) -> Iterator[None]:
    """Do what `time_limit` says on a thread that gets no signals."""
    end = time.thread_time() + seconds
    previous = sys.gettrace()

    def trace(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        if time.thread_time() > end:
            sys.settrace(previous)
            raise HandlerStuck(f"{what} did not return within {seconds:g} s")
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(previous)
