"""Server calls that policy answers: locked disk blocks, and steps of hosted handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import BLOCK_WINDOWS_OF_SERVER, LOCK_BLOCKS_BYTES
from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.thread import GateFrame, ThreadControlBlock
from callgate.kernel.cache import Locked
from callgate.kernel.control import ControlBlock, word
from callgate.kernel.coroutines import CARRY
from callgate.kernel.errors import PolicyError
from callgate.kernel.machine.accounts import Account
from callgate.kernel.records import PartitionState, Process, Thread
from callgate.kernel.system_calls import fail
from callgate.kernel.windows import Source

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from callgate.kernel.kernel import Kernel

FRAME = word(ThreadControlBlock, "frame")
LOCK_LIMIT = LOCK_BLOCKS_BYTES // SECTOR_SIZE


class ServerCalls:
    """Dispatch of SERVER."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def host_server(self, number: int) -> Coroutine[Any, Any, None] | None:
        """SERVER: run the call in the current thread's gate frame, here or as a coroutine."""
        kernel = self.kernel
        thread = kernel.scheduler.current
        frame = kernel.threads.overlay(thread, GateFrame, kernel.guest.words[thread.tcb + FRAME])
        frame["eflags"] &= ~CARRY
        try:
            if thread.killed:
                raise PolicyError(ErrorCode.KILLED)  # it ends on its way back
            if number == ServerCall.LOCK_BLOCKS:
                return self._lock(thread, frame)
            if number == ServerCall.UNLOCK_BLOCKS:
                self._unlock(thread.process, frame["ebx"])
            elif number == ServerCall.DIRECTORY_CHANGED:
                kernel.directories.changed(kernel.state.endpoints.by_number[thread.process.partition], frame["ebx"])
            elif number == ServerCall.HOSTED_STEP:
                frame["eax"] = kernel.hosted.step(thread, frame["ebx"])
            else:
                raise PolicyError(ErrorCode.BAD_CALL)
        except PolicyError as error:
            fail(frame, error.code)
        return None

    async def _lock(self, thread: Thread, frame: ControlBlock) -> None:
        """LOCK_BLOCKS: EDX:ESI first sector, ECX sectors; EAX where it lies in the server."""
        kernel = self.kernel
        partition = kernel.state.endpoints.by_number[thread.process.partition]
        first, count = frame["edx"] << 32 | frame["esi"], frame["ecx"]
        try:
            frame["eax"] = await self._lock_sectors(thread.process, partition, first, count)
        except PolicyError as error:
            fail(frame, error.code)

    async def _lock_sectors(self, process: Process, partition: PartitionState, first: int, count: int) -> int:
        if not 0 < count <= LOCK_LIMIT or first + count > partition.sectors or partition.disk < 0:
            raise PolicyError(ErrorCode.BAD_ARGUMENT)
        lba = partition.start + first
        blocks = list(range(lba // SECTORS_PER_PAGE, (lba + count - 1) // SECTORS_PER_PAGE + 1))
        self._check_share(process, partition, len(blocks))
        partition.locked_blocks += len(blocks)
        try:
            locked = await self.kernel.cache.read_locked(partition.disk, blocks)
            source = self._own(process, partition, locked)
            window = self.kernel.windows.open(process, "blocks", source)
        except PolicyError:
            partition.locked_blocks -= len(blocks)
            raise
        window.owner = window.address + lba % SECTORS_PER_PAGE * SECTOR_SIZE
        return window.owner

    def _check_share(self, process: Process, partition: PartitionState, count: int) -> None:
        """NO_RESOURCES if a server has locked as much as it may."""
        windows = sum(window.kind == "blocks" for window in process.windows.values())
        if windows >= BLOCK_WINDOWS_OF_SERVER:
            raise PolicyError(ErrorCode.NO_RESOURCES, f"{windows} pieces of the disk are locked")
        self.kernel.shares.check_blocks(partition, count)

    def _own(self, process: Process, partition: PartitionState, locked: Locked) -> Source:
        """Return what a server may see of locked blocks: of a block that is not all its own, a copy of its sectors.

        The rest of the copy is zeros (rule 7).  The block itself is a neighbour's too, or ends behind the disk.
        """
        source = Source([], [])
        foreign = []
        try:
            for key, frame in zip(locked.keys, locked.frames, strict=True):
                begin = max(0, partition.start - key[1] * SECTORS_PER_PAGE)
                end = min(SECTORS_PER_PAGE, partition.start + partition.sectors - key[1] * SECTORS_PER_PAGE)
                if (begin, end) == (0, SECTORS_PER_PAGE):
                    source.frames.append(frame)
                    source.pins.append(("block", *key))
                    continue
                source.private.append(self._copy(process, frame, begin * SECTOR_SIZE, end * SECTOR_SIZE))
                source.frames.append(source.private[-1])
                foreign.append(key)
        except PolicyError:
            self.kernel.windows.drop(Source([], [("block", *key) for key in locked.keys], source.private))
            raise
        self.kernel.cache.unlock(foreign)
        return source

    def _copy(self, process: Process, frame: int, begin: int, end: int) -> int:
        """Return a frame of zeros but for bytes `begin` to `end` of a block, booked as touched by the kernel."""
        kernel = self.kernel
        kernel.shares.check_frames(process, 1)
        copy = kernel.memory.low.allocate()
        kernel.memory.tables.clear(copy)
        ram = kernel.machine.ram
        ram.write(copy + begin, ram.view(frame + begin, end - begin, Account.KERNEL))
        return copy

    def _unlock(self, process: Process, address: int) -> None:
        """UNLOCK_BLOCKS: EBX is what LOCK_BLOCKS returned."""
        window = next((w for w in process.windows.values() if w.kind == "blocks" and w.owner == address), None)
        if window is None:
            raise PolicyError(ErrorCode.BAD_ADDRESS)
        self.kernel.windows.close(process, window)
