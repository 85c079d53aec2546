"""The run loop: the engine runs up to a boundary, then comes the work of a CPU between instructions.

That is: due events, interrupt lines, HLT.  A slice ends at the next event, at the end of the fuel, where a hook asked
for it, or after `SLICE` instructions to check for Ctrl-C.  While an interrupt waits for IF, the counting hook checks IF
itself before every instruction, so the boundary is exact and nearly free.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from callgate.kernel.machine.cpu.cpu import EFLAGS_IF, NotModelled
from callgate.kernel.machine.cpu.traps import BARREN
from callgate.kernel.machine.engine.counter_state import NEVER, NOWHERE
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.machine.observation.stop import Stop
from unicorn import UcError

if TYPE_CHECKING:
    from callgate.kernel.machine.parts import Parts

SLICE = 500_000  # instructions between two checks for Ctrl-C; the slowest (FNSAVE) take 1.5 µs each
IDLE_EVENTS = 1_000_000  # events without an interrupt after which a HLT is taken to last for ever
Condition = Callable[[], bool]


class EngineError(RuntimeError):
    """The engine failed where a CPU would not."""


class Runner:
    """Runs one machine."""

    def __init__(self, machine: Parts, *, ctrl_c: bool) -> None:
        self.machine = machine
        self.ctrl_c = ctrl_c
        self.state = machine.state
        self.control = machine.control
        self.waiting = False  # in a source of input

    def run(self, fuel: int | None, until: Condition | None, goal: Position | None = None) -> Stop:
        """Run until something ends it: reaching the position `goal`, for one.  RuntimeError if a run is under way."""
        if self.control.running:
            raise RuntimeError("the machine is running: a hook may not run it again")
        end = NEVER if fuel is None else self.state.count + fuel
        self.control.request = None
        self.machine.traps.barren = 0
        self.machine.traps.goal = goal
        self.control.running = True
        try:
            if not self.ctrl_c:
                return self._loop(end, until)
            with self._catching():
                return self._loop(end, until)
        except NotModelled as error:
            return self._stop("not-modelled", str(error))
        finally:
            self.control.running = False

    def _loop(self, end: int, until: Condition | None) -> Stop:
        while True:
            stop = self._between(end, until)
            if stop is not None:
                return stop
            if self.machine.cpu.halted is None or not self._halted():
                if not self._slice(end):
                    continue
                self.machine.cpu.halted = int(self.state.count), self.machine.cpu.eip
            if not self._halt() and not self.control.wanted:
                return self._stop("halt")

    def _between(self, end: int, until: Condition | None) -> Stop | None:
        """Do the work between two instructions; return the reason to stop, if there is one."""
        machine, control = self.machine, self.control
        self._finish()
        control.raise_error()
        if control.request is not None:
            return self._stop(*control.request)
        if control.interrupted:
            control.interrupted = False
            self._come_due()
            if machine.on_interrupt is None or not machine.on_interrupt():
                return self._stop("interrupted")
        if until is not None and until():
            return self._stop("until")
        if self.state.count >= end or (end != NEVER and machine.traps.barren >= BARREN):
            return self._stop("fuel")
        if machine.events.heap:
            self._come_due()
        if self._arrived():
            return self._stop("position")
        if machine.pic.pending() and machine.cpu.interruptible():
            machine.traps.external(machine.pic.acknowledge())
        if machine.traps.returns.wanted is not None and machine.traps.returns.due():
            self._return()
            return self._between(end, until)
        return self._between(end, None) if control.wanted else None

    def _finish(self) -> None:
        """Finish the last instruction: it may turn out to be refused, or to have changed code."""
        machine, traps, translations = self.machine, self.machine.traps, self.machine.translations
        if machine.filters.floating.later is not None:
            traps.executed()
        if traps.stepping.active:
            traps.interrupted()
        if traps.refusal is not None:
            traps.settle()
        if translations.stale or translations.all_stale:
            translations.settle()
        if machine.filters.full:
            machine.filters.forget_user_sites()
            machine.translations.flush_code()

    def _arrived(self) -> bool:
        goal = self.machine.traps.goal
        return goal is not None and self.machine.traps.position >= goal

    def _halted(self) -> bool:
        """Whether the CPU waits after a HLT.  An interrupt ends that, and so does a value set in EIP."""
        halted = self.machine.cpu.halted
        return halted is not None and halted[0] == self.state.count and halted[1] == self.machine.cpu.eip

    def settle(self) -> None:
        """Do what devices do at this time: the machine then stands at its position."""
        self._come_due()

    def _return(self) -> None:
        """Execute one IRETD with VM hidden (`machine.cpu.returns`)."""
        returns = self.machine.traps.returns
        returns.hide()
        try:
            self._slice(self.state.count + 1)
        finally:
            returns.show()

    def _come_due(self) -> None:
        machine = self.machine
        while (event := machine.events.pop_due(machine.clock.now)) is not None:
            machine.devices[event.device].on_event(event.token)

    def _slice(self, end: int) -> bool:
        """Run up to the next thing that may happen between instructions; True if HLT was executed."""
        machine, state = self.machine, self.state
        self._arm(end)
        state.stopped = 0
        state.last_address = NOWHERE  # EIP may have been set to the instruction executed last
        # EIP is an offset in CS, and so is the address at which the engine is to begin.
        machine.translations.filled = True
        machine.translations.begin(machine.cpu.eip)
        machine.filters.floating.resume()
        translator = machine.traps.translator
        outer = translator.guard(briefly=end - state.count <= 1)
        try:
            status = machine.counter.execute(machine.handle)
        finally:
            translator.release(outer)
        if status and self.control.error is None:
            raise EngineError(self._describe(status))
        return not state.stopped and not status

    def _arm(self, end: int) -> None:
        """Set the count to stop at; with an interrupt waiting, stop as soon as IF allows it.

        If IF is set already, the shadow of STI or MOV SS lasts, and the next boundary is the one.
        """
        machine, state = self.machine, self.state
        limit = min(end, state.count + SLICE)
        if machine.events.heap:
            limit = min(limit, machine.events.heap[0].time - machine.clock.idle)
        goal = machine.traps.goal
        if goal is not None:
            limit = min(limit, max(goal.retired, state.count + 1))
        waiting = machine.pic.pending()
        if waiting and machine.cpu.eflags & EFLAGS_IF:
            limit, waiting = min(limit, state.count + 1), False
        state.hard_limit = limit
        state.armed = int(waiting)
        state.limit = 0 if waiting else limit

    def _halt(self) -> bool:
        """Skip to the event that ends a HLT; False if there is none.

        Input is asked for when nothing else is due; the ticks of a periodic timer do not count as such.
        """
        machine = self.machine
        if not machine.cpu.eflags & EFLAGS_IF:
            return False
        ticked = False
        for _ in range(IDLE_EVENTS):
            if machine.pic.pending() or self.control.wanted or self._arrived():
                return True
            due = machine.events.next_time()
            ticks = machine.only_ticks()
            if (due is None or ticks) and self._ask_for_input():
                continue
            if due is None or (ticks and ticked):  # a tick that does not interrupt now never will: nothing executes
                return False
            machine.clock.idle += max(0, due - machine.clock.now)
            self._come_due()
            ticked = ticks
        return False

    def _ask_for_input(self) -> bool:
        """Let the console ask for input; Ctrl-C ends a source that waits."""
        self.waiting = True
        try:
            return self.machine.serial.idle()
        except KeyboardInterrupt:
            self.control.interrupt()
            return True
        finally:
            self.waiting = False

    def requested(self) -> Stop | None:
        """Return the stop that has been requested while nothing runs, which the next run would forget; None without."""
        return None if self.control.request is None else self._stop(*self.control.request)

    def _stop(self, reason: str, detail: object = None) -> Stop:
        machine = self.machine
        retired = int(self.state.count)
        return Stop(reason, retired, machine.cpu.eip, detail, retired + machine.clock.idle)

    def _describe(self, status: int) -> str:
        eip = self.machine.cpu.eip
        return f"the engine stopped at {self.machine.name_address(eip)}: {UcError(status)}"

    @contextmanager
    def _catching(self) -> Iterator[None]:
        """Turn Ctrl-C into a stop between two instructions.  Signals come to the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(_signal: int, _frame: FrameType | None) -> None:
            self.control.interrupt()
            if self.waiting:
                raise KeyboardInterrupt

        previous = signal.signal(signal.SIGINT, handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)
