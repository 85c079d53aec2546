"""vCont and its older forms: which thread goes on, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from callgate.tools.debugger.debuggee import Ending, Reason
from callgate.tools.debugger.gdb.protocol.errors import Refused
from callgate.tools.debugger.gdb.protocol.ids import ALL, ThreadId, number, parse

if TYPE_CHECKING:
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread

CONTINUE, STEP, RANGE, STOP = "c", "s", "r", "t"
MOST_ACTIONS = 2000


@dataclass(frozen=True, slots=True)
class Action:
    """One action of vCont, and the threads that it is for; `low` and `high` are the range of RANGE."""

    kind: str
    threads: ThreadId
    low: int = 0
    high: int = 0


@lru_cache(maxsize=64)  # gdb sends the same one for each step
def read_actions(text: str) -> tuple[Action, ...]:
    """Read `action[:thread-id][;action…]`; Refused.  Signals are ignored: the guest knows none."""
    actions = []
    for part in text.split(";")[:MOST_ACTIONS]:
        what, colon, threads = part.partition(":")
        who = parse(threads) if colon else ThreadId(ALL, ALL)
        kind = what[:1].lower()
        if kind == RANGE:
            low, comma, high = what[1:].partition(",")
            if not comma:
                raise Refused(f"{what[:40]!r} is not a range")
            actions.append(Action(RANGE, who, number(low), number(high)))
        elif kind in (CONTINUE, STEP, STOP):
            actions.append(Action(kind, who))
        else:
            raise Refused(f"{what[:40]!r} is not an action")
    return tuple(actions)


def carry_out(debuggee: Debuggee, actions: Sequence[Action], wanted: Callable[[], bool]) -> Ending:
    """Let the machine run as the actions say: there is one CPU, and each thread has the first action that is for it.

    A thread that is to step is stepped; one that does not run is waited for.  The guest's scheduler chooses: threads
    without an action run as well when it comes to them.
    """
    running = debuggee.threads.running()
    for action in actions:
        if action.kind not in (STEP, RANGE):
            continue
        if action_of(running, actions) is action:
            if action.kind == RANGE:
                return debuggee.step_range(action.low, action.high, wanted)
            return debuggee.step()
        thread = stepped(debuggee, action, actions)
        if thread is not None:
            return debuggee.step_thread(thread, wanted)
        if action.threads.thread > 0:
            return Ending(Reason.ENDED, text=f"thread {action.threads.thread} has ended")
    return debuggee.run(wanted)


def action_of(thread: DebugThread, actions: Sequence[Action]) -> Action | None:
    """Return the first action that is for a thread."""
    process = thread.process.number + 1
    return next((action for action in actions if action.threads.covers(process, thread.number)), None)


def stepped(debuggee: Debuggee, action: Action, actions: Sequence[Action]) -> DebugThread | None:
    """Return the thread that a step is for, if it names one: steps of all threads are those of the running one."""
    if action.threads.thread <= 0:
        return None
    return next((thread for thread in debuggee.threads if action_of(thread, actions) is action), None)
