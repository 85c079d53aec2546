"""System calls that policy answers: the table from SystemCall to handlers.

A handler receives the caller's registers (`GateFrame`) and writes results into them.  A call that has to wait
raises `Park`: the stub blocks its thread in machine code and makes the call again when it is woken, so
that no Python frame exists while a thread sleeps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.thread import GateFrame, ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import CARRY
from callgate.kernel.core.errors import CallerError, GivenUp, PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Thread
from callgate.kernel.gates.caller import fail
from callgate.kernel.tasks.threads import Threads

Handler = Callable[[Thread, ControlBlock], Coroutine[Any, Any, None] | None]
WAIT_RESULT = word(ThreadControlBlock, "wait_again")
FRAME = word(ThreadControlBlock, "frame")


class Park(Exception):
    """The call has to wait: block for `reason`, then make it again."""

    def __init__(self, reason: WaitReason) -> None:
        super().__init__(reason.name)
        self.reason = reason


class SystemCalls:
    """Dispatch of SYSTEM."""

    def __init__(self, guest: Guest, threads: Threads, table: Mapping[int, Handler]) -> None:
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.table = table

    def host_system(self, number: int) -> Coroutine[Any, Any, None] | None:
        """SYSTEM: carry out SystemCall `number` with the current thread's registers; return a coroutine if it waits.

        A PolicyError becomes CF and the error's code in EAX.
        """
        thread = self.scheduler.current
        self.guest.words[thread.tcb + WAIT_RESULT] = 0
        frame = self.threads.overlay(thread, GateFrame, self.guest.words[thread.tcb + FRAME])
        frame["eflags"] &= ~CARRY
        handler = self.table.get(number)
        try:
            if thread.killed:
                raise GivenUp(ErrorCode.KILLED)  # the thread ends at the end of the gate
            if handler is None:
                raise CallerError(ErrorCode.BAD_CALL)
            waiting = handler(thread, frame)
        except PolicyError as error:
            fail(frame, error.code)
            return None
        except Park as park:
            self.guest.words[thread.tcb + WAIT_RESULT] = park.reason
            return None
        return None if waiting is None else self._finish(frame, waiting)

    async def _finish(self, frame: ControlBlock, waiting: Awaitable[None]) -> None:
        try:
            await waiting
        except PolicyError as error:
            fail(frame, error.code)
