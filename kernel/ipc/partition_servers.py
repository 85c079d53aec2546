"""Endpoints: the blocks that servers' partitions have in guest memory, their making and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import RING_CELL_UNPUBLISHED, Partition, PartitionFlags, SlotState
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.records import GIVE_BACKS, PartitionState, Process, Thread
from callgate.kernel.ipc.slots import TCB_ARG0, Slots
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.tasks.threads import Threads


class User(Protocol):
    """A manager of what servers hold: files, directories, give-backs."""

    def partition_died(self, partition: PartitionState, code: ErrorCode) -> None:
        """The server or the disk is gone; `code` is what those who wait get."""


class PartitionServers:
    """Partition blocks, and which threads serve them."""

    def __init__(
        self,
        slots: Slots,
        memory: PhysicalMemory,
        gdt: GlobalTable,
        threads: Threads,
        users: Sequence[User],
        in_use: Callable[[PartitionState], bool],
    ) -> None:
        """`users` hear of each death, in their order; `in_use` says whether anybody still names a dead partition."""
        self.state = slots.state
        self.guest = slots.guest
        self.memory = memory
        self.gdt = gdt
        self.threads = threads
        self.scheduler = threads.scheduler
        self.slots = slots
        self.users = users
        self.in_use = in_use

    def create(self, process: Process, disk: int, start: int, sectors: int, name: str) -> PartitionState:
        """Make a partition block for a server process; its requests fail until a server thread waits."""
        entry = self.memory.tables.entry_address(process.pointers, layout.USER_MESSAGES, process.tables)
        assert entry is not None
        block = self.memory.low.allocate()
        try:
            number = self._free_number()
        except PolicyError:
            self.memory.low.release(block)
            raise
        self.memory.tables.clear(block)
        selector = (selectors.GDT_FIRST_PARTITION + number) * 8
        self.gdt.put_data(selector, KERNEL_BASE + block, PAGE_SIZE - 1)
        partition = PartitionState(number, block, process, disk, start, sectors, name)
        self.state.by_number[number] = partition
        process.partition = number

        fields = self.slots.block(partition)
        fields["unused"] = 0xFFFF_FFFF
        fields["window_table"] = KERNEL_BASE + entry
        fields["window_base"] = layout.USER_MESSAGES
        fields["selector"] = selector
        fields["number"] = number
        ring = block + offset_of(Partition, "ring")
        self.guest.ram.view(ring, selectors.SLOTS)[:] = bytes([RING_CELL_UNPUBLISHED]) * selectors.SLOTS
        self.guest.kernel_words["partitions"] |= 1 << number
        return partition

    def _free_number(self) -> int:
        """Return the number of a new partition.  Nothing may fail from here on until it has its block.

        The number of a volume that has been buried still leads to its block, which is another's by now.
        """
        number = next((n for n in range(selectors.MAX_PARTITIONS) if n not in self.state.by_number), None)
        return self._bury() if number is None else number

    def _bury(self) -> int:
        """Give back the block of a volume that has died and that nobody is in any more; return its number.

        Its clients have been answered, so nobody waits; a client that is about to name the number will find
        whatever volume has it then, as with any number.
        """
        for partition in self.state.by_number.values():
            fields = self.slots.block(partition)
            idle = (fields["unused"] | fields["free"]) == 0xFFFF_FFFF and not fields["slot_waiters"]
            ended = partition.process is None or not partition.process.threads
            unused = idle and ended and not partition.pins and not self.in_use(partition)
            if partition.dead and unused:
                del self.state.by_number[partition.number]
                for frame in (partition.block, *partition.frames.values()):
                    self.memory.low.release(frame)
                return partition.number
        raise PolicyError(ErrorCode.NO_RESOURCES, f"no room for more than {selectors.MAX_PARTITIONS} volumes")

    def add_server(self, partition: PartitionState, thread: Thread) -> None:
        """Make `thread` a server thread of the partition, which has room for it."""
        index = len(partition.servers)
        partition.servers.append(thread.selector)
        thread.server_index = index
        block = self.threads.block(thread)
        block["partition"] = (selectors.GDT_FIRST_PARTITION + partition.number) * 8
        block["server_index"] = index
        at = partition.block + offset_of(Partition, "servers") + 2 * index
        self.guest.ram.view(at, 2)[:] = thread.selector.to_bytes(2, "little")

    def check_room(self, partition: PartitionState) -> None:
        """NO_RESOURCES if the partition has as many server threads as it may have."""
        if len(partition.servers) >= selectors.SLOTS:
            raise PolicyError(ErrorCode.NO_RESOURCES, f"a server has at most {selectors.SLOTS} threads")

    def die(self, partition: PartitionState, code: ErrorCode) -> None:
        """A partition's server or disk is gone: requests fail when its threads, which the caller kills, have ended.

        Threads that wait for a slot, and those that wait for file data, are told at once.
        """
        if partition.dead:
            return
        partition.dead = True
        partition.error = code
        fields = self.slots.block(partition)
        fields["flags"] |= PartitionFlags.DEAD
        fields["idle"] = 0
        while partition.waiters:
            selector = partition.waiters.popleft()
            fields["slot_waiters"] -= 1
            if selector != GIVE_BACKS:
                thread = self.scheduler.tasks.threads[selector]
                self.guest.words[thread.tcb + TCB_ARG0] = code
                self.scheduler.wake(thread)
        for user in self.users:
            user.partition_died(partition, code)
        if partition.process is None or not partition.process.threads:
            self.sweep(partition)

    def sweep(self, partition: PartitionState) -> None:
        """Answer what a dead partition's server has left: none of its threads will touch a slot any more.

        As long as one lives it may be anywhere in the kernel: about to mark a request as served, or between taking
        the client's selector out of the record and marking the slot as done.  Its requests are its own until then.
        """
        partition.swept = True
        fields = self.slots.block(partition)
        fields["idle"] = 0
        fields["head"] = fields["tail"]
        for slot in range(selectors.SLOTS):
            if self.slots.slot_state(partition, slot) in {SlotState.POSTED, SlotState.SERVED}:
                self.slots.fail_slot(partition, slot, partition.error)
