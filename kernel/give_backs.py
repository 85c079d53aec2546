"""What servers hold for nobody any more: open files, locks of directories, memory with file data.

Whoever lets go of something notes it here, wherever he is; it is sent by the next thread that may wait for a server:
one that reads, closes or unlocks, else the thread that looks after idle file data (kernel/file_ageing.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import Message
from callgate.kernel.coroutines import CARRY
from callgate.kernel.errors import Abandoned, PolicyError
from callgate.kernel.state import PartitionState

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel


@dataclass(slots=True)
class GiveBacksState:
    """Records: (server, operation, what it is about), oldest first."""

    pending: list[tuple[PartitionState, Operation, int]] = field(default_factory=list)


class GiveBacks:
    """RELEASE, CLOSE and UNLOCK_DIRECTORY for what nobody uses."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    @property
    def state(self) -> GiveBacksState:
        """The records, part of the kernel's state."""
        state: GiveBacksState = self.kernel.state.managers.setdefault("give_backs", GiveBacksState())
        return state

    def add(self, server: PartitionState, operation: Operation, number: int) -> None:
        """Note what a server may forget; a partition's number may be another server's by the time it is sent."""
        self.state.pending.append((server, operation, number))

    def orphaned(self, partition: PartitionState, message: memoryview) -> None:
        """A reply has come for a client that has been killed: what it brought is nobody's.

        The page may say what it likes: what is given back is what this very server has said that it holds.
        """
        header = Message.from_buffer(message)
        if header.eflags & CARRY:
            return
        if header.operation == Operation.OPEN:
            self.add(partition, Operation.CLOSE, header.eax)
        elif header.operation == Operation.LOCK_DIRECTORY:
            self.add(partition, Operation.UNLOCK_DIRECTORY, header.edx)
        else:
            return
        self.kernel.file_ageing.watch()

    async def send(self) -> None:
        """Tell servers; not from a server's own thread."""
        while self.state.pending:
            entry = self.state.pending.pop(0)
            partition, operation, number = entry
            if partition.dead:
                continue
            try:
                reply = await self.kernel.requests.make(partition, operation, eax=number, edx=number)
                await reply.finish()
            except Abandoned:
                # The server has heard of this one; others may be left, and the sender is about to end.
                self.kernel.file_ageing.watch()
                return
            except PolicyError as error:
                if error.code is ErrorCode.KILLED:
                    # Killed while it waited for a slot: the server has not heard of it.
                    self.state.pending.insert(0, entry)
                    self.kernel.file_ageing.watch()
                    return
                self.kernel.log(f"{partition.name}: {operation.name} {number}: {error}", partition)
