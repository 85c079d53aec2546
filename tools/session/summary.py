"""The summary of a run that the guest has not ended: one line for every reason."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.symbols import symbol_of

if TYPE_CHECKING:
    from callgate.kernel.core.records import Thread
    from callgate.kernel.machine import Stop
    from callgate.kernel.system import System
    from callgate.kernel.tasks.scheduler import Scheduler

REASONS = {
    "fuel": "out of fuel",
    "interrupted": "interrupted",
    "triple-fault": "ended by a triple fault",
    "halt": "halted: nothing can end the HLT",
}
WAITS = {
    WaitReason.REPLY: "for a reply",
    WaitReason.CALL: "for a reply",
    WaitReason.SLOT: "for a message slot",
    WaitReason.DISK: "for a disk",
    WaitReason.INPUT: "for input",
    WaitReason.CHILD: "for a program",
    WaitReason.SLEEP: "for a time",
    WaitReason.FILE: "for data of a file",
}


def summary(system: System, stop: Stop, number: int = 0) -> str:
    """Return why and after how many instructions a run stopped, and the thread that ran or waited.

    `number` is the signal that ended it.
    """
    reason = f"ended by {signal.Signals(number).name}" if number else REASONS.get(stop.reason, str(stop.reason))
    instructions = f"{stop.retired} instruction{'s' * (stop.retired != 1)}"
    return f"{reason} after {instructions}, {stop.clock / 1e6:.3f} ms of virtual time; {_doing(system, stop)}"


def _doing(system: System, stop: Stop) -> str:
    """Return which thread ran and where; or, if none did, which waits for what."""
    state = system.kernel.state
    scheduler = system.kernel.scheduler
    current = scheduler.running
    if current is None:
        return f"at {system.machine.name_address(stop.eip)}"
    if current is not state.scheduler.idle:
        return f"{_name(current)} ran at {_place(system, current, stop.eip)}"
    waiting = [thread for thread in state.tasks.threads.values() if _waits(scheduler, thread)]
    programs = [thread for thread in waiting if thread.process.number]
    told = [f"{_name(thread)} waits {WAITS[scheduler.reason_of(thread)]}" for thread in programs or waiting]
    return ", ".join(told) or "no thread runs"


def _waits(scheduler: Scheduler, thread: Thread) -> bool:
    """Whether a thread waits for something under way: not a server without work or a sleeping kernel thread."""
    reason = scheduler.reason_of(thread)
    return reason in WAITS and (reason is not WaitReason.SLEEP or bool(thread.process.number))


def _name(thread: Thread) -> str:
    return (
        f"{thread.name} (process {thread.process.number})" if thread.process.number else f"kernel thread {thread.name}"
    )


def _place(system: System, thread: Thread, eip: int) -> str:
    if eip >= KERNEL_BASE:
        return system.machine.name_address(eip)
    symbol = symbol_of(thread.process.symbols, eip)
    return f"{eip:#010x} <{symbol}>" if symbol else f"{eip:#010x}"
