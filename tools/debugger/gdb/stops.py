"""What gdb is told when the machine stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.machine.cpu import exceptions
from callgate.tools.debugger.debuggee import Ending, Reason
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.gdb.points import HARDWARE

if TYPE_CHECKING:
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.gdb.context import Context

SIGINT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS, SIGSEGV = 2, 4, 5, 6, 8, 10, 11  # gdb's numbers
SIGNALS = {0: SIGFPE, 6: SIGILL, 7: SIGFPE, 13: SIGSEGV, 14: SIGSEGV, 16: SIGFPE, 17: SIGBUS, 19: SIGFPE}
WATCH = {Kind.WRITE: "watch", Kind.READ: "rwatch", Kind.ACCESS: "awatch"}
ENDS = {
    Reason.HALT: "the machine has halted, and nothing is to come that could wake it",
    Reason.TRIPLE_FAULT: "triple fault",
    Reason.PANIC: "the kernel gave up",
}


def stop_reply(context: Context, ending: Ending | None) -> bytes:
    """Return the stop reply for an ending; None: nothing has run yet."""
    debuggee = context.debuggee
    thread = debuggee.threads.running()
    if ending is not None and ending.thread is not None and ending.reason in (Reason.CREATED, Reason.ENDED):
        if ending.reason is Reason.CREATED:
            return reply(context, SIGTRAP, ending.thread, "create:;")
        if context.thread_events:
            # Of the last thread of a process too: gdb 18 waits for ever for a step over a breakpoint that ends by W.
            context.told_ended.add(ending.thread.number)
            return f"w00;{context.id_of(ending.thread)}".encode()
    if ending is not None and ending.thread is not None:
        left = debuggee.threads.by_number(ending.thread.number)
        if left is None:
            context.say(f"thread {ending.thread.number} ({ending.thread.name}) has ended\n")
        thread = left or thread
    if ending is None or ending.reason in (Reason.STEP, Reason.STARTED, Reason.ENDED, Reason.OTHER):
        return reply(context, SIGTRAP, thread)
    if ending.reason is Reason.EXIT:
        code = int(ending.stop.detail) & 0xFF if ending.stop is not None else 0
        return (f"W{code:02x};process:1" if "multiprocess" in context.client else f"W{code:02x}").encode()
    if ending.reason is Reason.DELIVERED:
        return reply(context, delivered(context, ending), thread)
    if ending.reason in ENDS:
        context.say(f"{ENDS[ending.reason]}{f': {ending.text}' if ending.text else ''}\n")
        return reply(context, SIGABRT, thread)
    return reply(
        context, SIGINT if ending.reason is Reason.INTERRUPTED else SIGTRAP, thread, why(context, ending, thread)
    )


def why(context: Context, ending: Ending, thread: DebugThread) -> str:
    """Return the reason of a stop as a T packet has it."""
    if ending.breakpoint is not None:
        kind = context.points.covering(ending.breakpoint.address, thread.process)
        reason = "hwbreak" if kind == HARDWARE else "swbreak"
        return f"{reason}:;" if kind is not None and reason in context.client else ""
    if ending.access is not None:
        access = ending.access
        if ending.text:
            context.say(f"{access.address:#x} was written by {ending.text}\n")
        if not any(point is access.watchpoint for point in context.points.known.values()):
            return ""  # monitor's own: gdb goes on after a watchpoint that it does not know
        return f"{WATCH[access.watchpoint.kind]}:{access.address:x};"
    if ending.call is not None:
        if context.catches_syscalls:
            return f"syscall_{'entry' if ending.call.entering else 'return'}:{ending.call.number:x};"
        how = "call to" if ending.call.entering else "returned from call"
        context.say(f"{how} {ending.call.name} ({ending.call.number})\n")
        return ""  # gdb would go on: it has no catchpoint
    return "replaylog:begin;" if ending.reason is Reason.BEGIN else ""


def delivered(context: Context, ending: Ending) -> int:
    """Return the signal for an exception that the user catches, SIGTRAP for one that a step came to."""
    incident = ending.incident
    assert incident is not None
    if incident.vector not in context.debuggee.catch:
        return SIGTRAP
    name = exceptions.name_of(incident.vector)
    context.say(f"{name} at {incident.eip:#x}, error code {incident.error_code:#x}; its handler is next\n")
    return SIGNALS.get(incident.vector, SIGTRAP)


def reply(context: Context, signal: int, thread: DebugThread, reason: str = "") -> bytes:
    """Return a T packet: signal, registers that gdb asks for anyway, thread, reason.

    gdb takes the thread for the selected one.
    """
    context.selected = thread
    return f"T{signal:02x}{context.registers.of_stop(thread)}thread:{context.id_of(thread)};{reason}".encode()
