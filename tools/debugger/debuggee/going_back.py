"""Going backward in a debuggee, by its history."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from callgate.tools.debugger.debuggee import breakpoints, gate_calls, watchpoints
from callgate.tools.debugger.debuggee.endings import Ending, Reason
from callgate.tools.debugger.history import HistoryInterrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.machine import Stop
    from callgate.tools.debugger.debuggee.debuggee import Debuggee
    from callgate.tools.debugger.history import History
    from callgate.tools.debugger.history.checkpoints import Moment

Result = TypeVar("Result")
STOPS = (breakpoints.HIT, watchpoints.HIT, gate_calls.HIT)


class GoingBack:
    """`Backwards` for a debuggee whose runs are kept."""

    def __init__(self, debuggee: Debuggee, history: History) -> None:
        """From now on the debuggee runs by the history, which has to be that of its system."""
        self.debuggee = debuggee
        self.history = history
        self.reasons = set(STOPS)  # of stops that end a search backward
        debuggee.run_machine = history.run
        history.restored.append(self._restored)
        history.branched.append(self._branched)
        history.returning.append(self.debuggee.at_rest)

    def close(self) -> None:
        """Let the debuggee run without the history again."""
        self.debuggee.run_machine = self.debuggee.machine.run
        self.history.restored.remove(self._restored)
        self.history.branched.remove(self._branched)
        self.history.returning.remove(self.debuggee.at_rest)

    def step_back(self) -> Ending:
        """Go back to the moment before the last instruction."""
        return Ending(Reason.STEP if self._moved(self.history.step_back) else Reason.BEGIN)

    def back_to_previous(self, wanted: Callable[[], bool]) -> Ending:
        """Go back to the last moment at which a breakpoint or a watchpoint would have ended a run.

        For a watchpoint that is before the access: the memory is seen to change on the way back as well.
        `wanted` is asked for each stretch of the past whether the search is to end; the system is then where it was.
        """
        try:
            stop = self._moved(lambda: self._back_to(wanted))
        except HistoryInterrupted:
            return Ending(Reason.INTERRUPTED)
        return Ending(Reason.BEGIN) if stop is None else self.debuggee.ending_of(stop)

    def restart(self) -> None:
        """Go to the beginning and have another run begin there."""
        self._moved(self.history.restart)
        self.debuggee.reported = set(self.debuggee.kernel.state.tasks.processes)

    def _back_to(self, wanted: Callable[[], bool]) -> Stop | None:
        stop = self.history.back_to(lambda stop: stop.reason in self.reasons, wanted)
        if stop is not None and stop.reason == watchpoints.HIT:
            self.history.step_back()
        return stop

    def _moved(self, move: Callable[[], Result]) -> Result:
        result = move()
        self.moved()
        return result

    def moved(self) -> None:
        """The system stands at another moment than before, other than by a run."""
        machine = self.debuggee.machine
        # The breakpoint at the instruction where the system now stands does not end the next run.
        self.debuggee.breakpoints.passed = int(machine.state.count), machine.cpu.eip
        self.debuggee.gates.passed = int(machine.state.count)
        self.debuggee.thread_changes.clear()
        self.debuggee.final = None
        self.debuggee.threads.forget()

    def _restored(self) -> None:
        self.debuggee.breakpoints.passed = (-1, 0)
        self.debuggee.gates.passed = -1
        self.debuggee.threads.forget()
        self.debuggee.watchpoints.renew()

    def _branched(self, moment: Moment) -> None:
        self.debuggee.gates.forget_after(moment.position.retired)
