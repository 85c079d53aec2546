"""How a run under a debugger ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine import Stop
    from callgate.kernel.machine.cpu.exceptions import Incident
    from callgate.tools.debugger.debuggee.breakpoints import Breakpoint
    from callgate.tools.debugger.debuggee.gate_calls import GateCall
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.debuggee.watchpoints import Access


class Reason(StrEnum):
    """Why a run ended."""

    BREAKPOINT = "breakpoint"  # before the instruction
    WATCHPOINT = "watchpoint"  # after the access
    STEP = "step"  # as many instructions as were asked for
    GATE = "gate"  # a thread has come through a gate, or is about to go back
    DELIVERED = "delivered"  # an exception or interrupt has been: the handler's first instruction is next
    INTERRUPTED = "interrupted"  # the front end asked for it
    CREATED = "created"  # a thread has been made
    ENDED = "ended"  # a thread that is stepped or watched has; the CPU is still on its stack, or on another one's
    STARTED = "started"  # a process has been made; its first thread is next to be chosen
    EXIT = "exit"  # the system has ended
    HALT = "halt"  # HLT, and nothing is to come that could end it
    TRIPLE_FAULT = "triple-fault"
    PANIC = "panic"  # the kernel gave up
    BEGIN = "begin"  # the oldest moment that is kept, on the way backwards
    OTHER = "other"  # `stop` says which


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run: the reason, and what belongs to it."""

    reason: Reason
    stop: Stop | None = None  # the machine's own report; None on the way backwards
    breakpoint: Breakpoint | None = None
    access: Access | None = None
    incident: Incident | None = None
    call: GateCall | None = None
    process: Process | None = None
    thread: DebugThread | None = None  # of a step, if the CPU has switched to another thread by it
    text: str = ""  # in words, if the reason does not say it all

    @property
    def final(self) -> bool:
        """Whether the machine cannot go on."""
        return self.reason in (Reason.EXIT, Reason.HALT, Reason.TRIPLE_FAULT, Reason.PANIC)
