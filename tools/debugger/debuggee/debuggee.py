"""The system or bare machine that is debugged: one object for every front end.

    debuggee = Debuggee(system)
    debuggee.breakpoints.add(system.kernel.image.address(TAKE_SLOT))
    ending = debuggee.run()
    debuggee.registers.general(debuggee.threads.running())

Between two runs the machine stands before an instruction.  Only one thread of the host may use this object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from callgate.kernel.core.errors import KernelPanic
from callgate.kernel.programs.kernel_labels import DIRECT_SWITCHES
from callgate.tools.debugger.debuggee import breakpoints, gate_calls, watchpoints
from callgate.tools.debugger.debuggee.breakpoints import Breakpoints
from callgate.tools.debugger.debuggee.endings import Ending, Reason
from callgate.tools.debugger.debuggee.gate_calls import GateCalls
from callgate.tools.debugger.debuggee.memory import Memory
from callgate.tools.debugger.debuggee.programs import StartedPrograms
from callgate.tools.debugger.debuggee.registers import ThreadRegisters
from callgate.tools.debugger.debuggee.threads import DebugThread, as_thread
from callgate.tools.debugger.debuggee.watchpoints import Watchpoints
from callgate.tools.debugger.debuggee.world import world_of
from callgate.tools.debugger.target import Subject, target_of

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process, Thread
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.machine import Stop
    from callgate.kernel.machine.cpu.exceptions import Incident
    from callgate.kernel.system import System

Wanted = Callable[[], bool]
DELIVERED = "debugger delivered"
STARTED = "debugger started"
THREADS = "debugger threads"
ENDED = "debugger ended"
RESUMED = "debugger resumed"
REASONS = {
    "fuel": Reason.STEP,
    "until": Reason.INTERRUPTED,
    "interrupted": Reason.INTERRUPTED,
    "exit": Reason.EXIT,
    "halt": Reason.HALT,
    "triple-fault": Reason.TRIPLE_FAULT,
}


class RunMachine(Protocol):
    """`Machine.run`, as far as it is used."""

    def __call__(self, *, fuel: int | None = None, until: Callable[[], bool] | None = None) -> Stop:
        """Run the machine."""
        ...


ASKED_AFTER = 1000  # steps of a range after which the front end is asked whether it wants to stop


class Debuggee:
    """A target under a debugger.  `close` takes everything out of it again: it then runs as if nothing had been."""

    def __init__(self, subject: Subject) -> None:
        self.target = target = target_of(subject)
        self.machine = target.machine
        self.world = world = world_of(target)
        self.threads = world.threads
        self.memory = Memory(self.machine, world)
        self.registers = ThreadRegisters(target, self.threads)
        self.breakpoints = Breakpoints(self.machine, world)
        self.watchpoints = Watchpoints(self.machine, world, self.memory)
        self.gates = GateCalls(target, self.threads)
        self.catch: set[int] = set()  # vectors of exceptions whose delivery ends a run
        self.report_starts = False  # end a run when a process has been made
        self.report_threads = False  # end a run when another thread of a process has been made, or one has ended
        self.thread_changes: deque[Ending] = deque()  # of which no run has told yet
        self.stepping = False
        self.awaited: DebugThread | None = None  # the thread whose step has begun: its end is the end of the step
        self.final: Ending | None = None  # how the machine has ended: it is not run again
        self.reported: set[int] = set()  # numbers of processes whose start has been reported, or was before
        self.run_machine: RunMachine = self.machine.run  # or that of a history
        self.machine.traps.observer = self._delivered
        self.programs = StartedPrograms()
        if target.has_kernel:
            self.reported |= self.kernel.state.tasks.processes.keys()
            self.kernel.processes.load_observer = self.programs.loaded
            self.kernel.threads.observer = self._thread_made
            self.kernel.threads.end_observer = self._thread_ended

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Look for nothing within the block: what is hit all the time would make minutes of it, deaf to Ctrl-C."""
        self.watchpoints.asleep = True
        try:
            with self.breakpoints.lifted():
                yield
        finally:
            self.watchpoints.asleep = False
            self.watchpoints.renew()

    @property
    def system(self) -> System:
        """The system; NoKernel for a bare machine."""
        return self.target.system

    @property
    def kernel(self) -> Kernel:
        """The system's kernel; NoKernel for a bare machine."""
        return self.target.system.kernel

    def close(self) -> None:
        """Remove every breakpoint, watchpoint and observer."""
        self.breakpoints.clear()
        self.watchpoints.clear()
        self.gates.catch(None)
        self.machine.traps.observer = None
        if self.target.has_kernel:
            self.kernel.threads.observer = self.kernel.threads.end_observer = None
            self.kernel.processes.load_observer = None

    # Running.

    def run(self, wanted: Wanted | None = None) -> Ending:
        """Run until something ends it.

        `wanted` is asked at least every `machine.running.SLICE` instructions whether the run is to end.
        """
        return self._run(None, wanted)

    def step(self) -> Ending:
        """Execute one instruction.

        Where an interrupt or an exception is delivered instead, that is the end: `Reason.DELIVERED`, and its handler's
        first instruction is the next.  Where the CPU switches to another thread, the ending names the one that it has
        left, which stands where it will resume.  Breakpoints do not count: the front end sees where it is.
        """
        before = self.threads.running()
        ending = self._step()
        if ending.reason is not Reason.STEP or self.threads.running() == before:
            return ending
        return Ending(Reason.STEP, ending.stop, thread=before)

    def _step(self) -> Ending:
        runner = self.machine.runner
        # A signal handler for one instruction would cost more than the instruction.
        kept, runner.ctrl_c, self.stepping = runner.ctrl_c, False, True
        try:
            return self._run(1, None)
        finally:
            runner.ctrl_c, self.stepping = kept, False

    def step_thread(self, thread: DebugThread, wanted: Wanted | None = None) -> Ending:
        """Execute one instruction of a thread; one that does not run is waited for, while the others run.

        If it ends before that, so does the step: `Reason.ENDED`.
        """
        if thread != self.threads.running():
            if self.threads.by_number(thread.number) != thread:
                return Ending(Reason.ENDED, thread=thread)
            self.awaited = thread
            try:
                ending = self._until_resumed(thread, wanted)
            finally:
                self.awaited = None
            if ending is not None:
                return ending
        return self.step()

    def step_range(self, low: int, high: int, wanted: Wanted | None = None) -> Ending:
        """Step the running thread until EIP has left [low, high).

        Handlers of interrupts and exceptions run through, breakpoints in them count.  Another thread that the CPU
        switches to has left the range.
        """
        thread = self.threads.running()
        for done in range(1, 1 << 62):
            ending = self.step()
            if ending.reason is Reason.DELIVERED:
                early = self._until_returned(thread, ending.incident, wanted)
                if early is not None:
                    return early
            elif ending.reason is not Reason.STEP:
                return ending
            eip = self.machine.cpu.eip
            point = self.breakpoints.at(eip)
            if point is not None:
                return Ending(Reason.BREAKPOINT, ending.stop, breakpoint=point)
            if not low <= eip < high or ending.thread is not None:
                return ending
            if wanted is not None and done % ASKED_AFTER == 0 and wanted():
                return Ending(Reason.INTERRUPTED, ending.stop)
        raise AssertionError("a range is left, or a front end gives up")

    def _until_returned(self, thread: DebugThread, incident: Incident | None, wanted: Wanted | None) -> Ending | None:
        """Run a handler until it has returned to what it interrupted; None if it has."""
        assert incident is not None
        return self._until(lambda: self.threads.running() == thread, wanted, incident.eip)

    def _until_resumed(self, thread: DebugThread, wanted: Wanted | None) -> Ending | None:
        """Run until a thread that does not run has come to where its registers say it stands; None if it has.

        Or to a direct switch, by which it goes on elsewhere: the next instruction is its own.
        """
        values = self.registers.general(thread)
        eip, esp = values["eip"], values["esp"]
        assert eip is not None
        words, image = self.kernel.guest.kernel_words, self.kernel.image

        def resumed() -> bool:
            if self.machine.cpu.eip == eip:
                return self.machine.cpu.esp == esp
            return words["current"] == thread.selector

        return self._until(resumed, wanted, eip, *map(image.address, DIRECT_SWITCHES))

    def _until(self, condition: Wanted, wanted: Wanted | None, *addresses: int) -> Ending | None:
        """Run until the CPU is at an address and `condition` holds; the ending, if another one comes before that."""

        def reached() -> None:
            if condition():
                self.machine.request_stop(RESUMED)

        with ExitStack() as probes:
            for address in addresses:
                probes.enter_context(self.machine.probing(address, reached))
            ending = self._run(None, wanted)
        return None if ending.stop is not None and ending.stop.reason == RESUMED else ending

    def _run(self, fuel: int | None, wanted: Wanted | None) -> Ending:
        if self.final is not None:
            return self.final
        if self.thread_changes:
            return self.thread_changes.popleft()
        self.watchpoints.renew()
        self.threads.forget()
        try:
            ending = self.ending_of(self.run_machine(fuel=fuel, until=wanted))
        except KernelPanic as panic:
            ending = Ending(Reason.PANIC, text=str(panic))
        if ending.final:
            self.final = ending
        return ending

    def ending_of(self, stop: Stop) -> Ending:
        """Return a stop of the machine as the end of a run."""
        detail = stop.detail
        if stop.reason == breakpoints.HIT:
            return Ending(Reason.BREAKPOINT, stop, breakpoint=detail)
        if stop.reason == watchpoints.HIT:
            return Ending(Reason.WATCHPOINT, stop, access=detail, text="" if detail.by == "cpu" else detail.by)
        if stop.reason == gate_calls.HIT:
            return Ending(Reason.GATE, stop, call=detail)
        if stop.reason == DELIVERED:
            return Ending(Reason.DELIVERED, stop, incident=detail)
        if stop.reason == THREADS and self.thread_changes:
            return self.thread_changes.popleft()
        if stop.reason == ENDED:
            return Ending(Reason.ENDED, stop, thread=detail)
        if stop.reason == STARTED:
            return Ending(Reason.STARTED, stop, process=detail)
        return Ending(REASONS.get(stop.reason, Reason.OTHER), stop, text="" if detail is None else str(detail))

    # What the machine and policy tell.

    def _delivered(self, incident: Incident) -> None:
        if self.stepping or (incident.vector in self.catch and not incident.external):
            self.machine.request_stop(DELIVERED, incident)

    def _thread_ended(self, thread: Thread) -> None:
        awaited = self.awaited is not None and self.awaited.number == thread.number
        if self.report_threads:
            self._thread_changed(Reason.ENDED, thread)
        elif awaited:
            self.machine.request_stop(ENDED, self.awaited)

    def _thread_made(self, thread: Thread) -> None:
        process: Process = thread.process
        if self.report_starts and process.number not in self.reported:
            self.machine.request_stop(STARTED, process)
        elif self.report_threads:
            self._thread_changed(Reason.CREATED, thread)
        self.reported.add(process.number)

    def _thread_changed(self, reason: Reason, thread: Thread) -> None:
        """End the run; one host call may make or end several threads, and each is an ending of its own."""
        self.thread_changes.append(Ending(reason, thread=as_thread(thread)))
        self.machine.request_stop(THREADS)
