"""Server calls that policy answers: locked disk blocks, changed directories, and steps of hosted handlers."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.thread import GateFrame, ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import CARRY
from callgate.kernel.core.errors import CallerError, GivenUp, PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Endpoints, Thread
from callgate.kernel.files.directories import Directories
from callgate.kernel.gates.block_windows import BlockWindows
from callgate.kernel.gates.caller import fail
from callgate.kernel.servers.hosted_servers import Hosted
from callgate.kernel.tasks.threads import Threads

FRAME = word(ThreadControlBlock, "frame")


class ServerCalls:
    """Dispatch of SERVER."""

    def __init__(
        self,
        guest: Guest,
        threads: Threads,
        endpoints: Endpoints,
        directories: Directories,
        hosted: Hosted,
        blocks: BlockWindows,
    ) -> None:
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.endpoints = endpoints
        self.directories = directories
        self.hosted = hosted
        self.blocks = blocks

    def host_server(self, number: int) -> Coroutine[Any, Any, None] | None:
        """SERVER: carry out ServerCall `number` with the current thread's registers; return a coroutine if it waits."""
        thread = self.scheduler.current
        frame = self.threads.overlay(thread, GateFrame, self.guest.words[thread.tcb + FRAME])
        frame["eflags"] &= ~CARRY
        try:
            if thread.killed:
                raise GivenUp(ErrorCode.KILLED)  # the thread ends at the end of the gate
            if number == ServerCall.LOCK_BLOCKS:
                return self._lock(thread, frame)
            if number == ServerCall.UNLOCK_BLOCKS:
                self.blocks.unlock(thread.process, frame["ebx"])
            elif number == ServerCall.DIRECTORY_CHANGED:
                self.directories.changed(self.endpoints.by_number[thread.process.endpoint], frame["ebx"])
            elif number == ServerCall.HOSTED_STEP:
                frame["eax"] = self.hosted.step(thread, frame["ebx"])
            else:
                raise CallerError(ErrorCode.BAD_CALL)
        except PolicyError as error:
            fail(frame, error.code)
        return None

    async def _lock(self, thread: Thread, frame: ControlBlock) -> None:
        """LOCK_BLOCKS: EDX:ESI first sector, ECX sectors; return the first one's address in the server in EAX."""
        endpoint = self.endpoints.by_number[thread.process.endpoint]
        first, count = frame["edx"] << 32 | frame["esi"], frame["ecx"]
        try:
            frame["eax"] = await self.blocks.lock(thread.process, endpoint, first, count)
        except PolicyError as error:
            fail(frame, error.code)
