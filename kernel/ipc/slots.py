"""Slots: their states, the queue of those who want one, and what policy does with requests that are in them.

Machine code takes, spans, posts, maps and releases (asm/kernel/ipc/slots.asm, ring.asm, client.asm, server_half.asm).
What it leaves to policy: where a slot's page comes from, which thread is next when all 32 are busy, and the answer to a
request whose server has died.
"""

from __future__ import annotations

from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import (
    HANDLE_GENERATION_SHIFT,
    Message,
    Partition,
    ReplyType,
    SlotRecord,
    SlotState,
)
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import CARRY
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import GIVE_BACKS, Endpoints, PartitionState
from callgate.kernel.ipc.posted import Posted
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.pins import Pins
from callgate.kernel.tasks.scheduler import Scheduler

DATA = offset_of(Message, "data")
TCB_SLOT = word(ThreadControlBlock, "slot")
TCB_ARG0 = word(ThreadControlBlock, "arg0")
BLOCKING_WAITS = word(Partition, "blocking_waits")
NO_SLOT = 0xFFFF_FFFF
NEXT_GENERATION = 1 << HANDLE_GENERATION_SHIFT
SLOT_MASK = selectors.SLOTS - 1
STATE = offset_of(Partition, "state")
HANDLES = offset_of(Partition, "handles")


class Slots:
    """Answers to FIRST_USE, SLOT_WAIT, SLOT_GIVE, SLOT_DROP and SLOT_FAIL."""

    def __init__(
        self,
        state: Endpoints,
        guest: Guest,
        memory: PhysicalMemory,
        gdt: GlobalTable,
        scheduler: Scheduler,
        pins: Pins,
        posted: Posted,
    ) -> None:
        self.state = state
        self.guest = guest
        self.memory = memory
        self.gdt = gdt
        self.scheduler = scheduler
        self.pins = pins
        self.posted = posted

    def host_first_use(self, value: int) -> None:
        """FIRST_USE: give slot `value` & 31 of partition `value` >> 16 its page and selector."""
        self.guest.words[self.scheduler.current.tcb + TCB_ARG0] = self._first_use(*split(value))

    def host_slot_wait(self, value: int) -> None:
        """SLOT_WAIT: queue the current thread for a slot of partition `value` >> 16, or (1) leave the queue."""
        thread = self.scheduler.current
        leave, number = value & 1, value >> 16
        partition = self.state.by_number[number]
        fields = self.block(partition)
        if leave:
            if thread.selector in partition.waiters:
                partition.waiters.remove(thread.selector)
                fields["slot_waiters"] -= 1
                self.guest.words[thread.tcb + TCB_ARG0] = ErrorCode.KILLED if thread.killed else ErrorCode.INTERRUPTED
            return
        self.guest.words[thread.tcb + TCB_ARG0] = 0
        if partition.dead:
            fields["slot_waiters"] -= 1
            self.guest.words[thread.tcb + TCB_ARG0] = ErrorCode.SERVER_DIED
            return
        partition.waiters.append(thread.selector)
        self._serve_waiters(partition)

    def queue_give_backs(self, partition: PartitionState) -> None:
        """Have the partition's give-backs wait for a slot, in order of arrival, as a thread does in `take_slot`.

        `GiveBacks.granted` is called when their turn has come, which may be now.
        """
        partition.waiters.append(GIVE_BACKS)
        self.block(partition)["slot_waiters"] += 1
        self._serve_waiters(partition)

    def free_slot(self, partition: PartitionState, slot: int) -> None:
        """Give a slot back that policy owns and has not posted."""
        self.put_state(partition, slot, SlotState.FREE)
        self.block(partition)["free"] |= 1 << slot
        self._serve_waiters(partition)

    def host_slot_give(self, value: int) -> None:
        """SLOT_GIVE: hand slot `value` & 31 to the thread that has waited longest."""
        slot, number = split(value)
        partition = self.state.by_number[number]
        self.block(partition)["free"] |= 1 << slot
        self._serve_waiters(partition)

    def host_slot_drop(self, value: int) -> None:
        """SLOT_DROP: let go of what the reply in slot `value` & 31 holds, here and at the server."""
        slot, number = split(value)
        partition = self.state.by_number[number]
        message = self.message(partition, slot)
        self.posted.of(partition, slot).dropped(partition, slot, message)
        self.drop_pins(partition, slot)

    def host_slot_fail(self, value: int) -> None:
        """SLOT_FAIL: slot `value` & 31 was posted to a dead partition; before `sweep` there is nothing to do."""
        slot, number = split(value)
        partition = self.state.by_number[number]
        if partition.swept and self.slot_state(partition, slot) == SlotState.POSTED:
            self.fail_slot(partition, slot, partition.error)

    def _serve_waiters(self, partition: PartitionState) -> None:
        """Give free slots, then unused ones, to the queue in order of arrival."""
        fields = self.block(partition)
        while partition.waiters:
            slot = lowest(fields["free"])
            if slot is None:
                slot = lowest(fields["unused"])
                if slot is None or self._first_use(slot, partition.number):
                    return
                fields["unused"] &= ~(1 << slot)
            else:
                fields["free"] &= ~(1 << slot)
            selector = partition.waiters.popleft()
            fields["slot_waiters"] -= 1
            self.put_state(partition, slot, SlotState.TAKEN)
            if selector == GIVE_BACKS:
                self.posted.granted(partition, slot)
                continue
            thread = self.scheduler.tasks.threads[selector]
            self.guest.words[thread.tcb + TCB_SLOT] = slot
            self.scheduler.wake(thread)

    def _first_use(self, slot: int, number: int) -> int:
        partition = self.state.by_number[number]
        try:
            frame = self.memory.low.allocate()
        except OutOfMemory:
            return ErrorCode.NO_MEMORY
        self.memory.tables.clear(frame)
        partition.frames[slot] = frame
        self.guest.words[(partition.block + HANDLES) // 4 + slot] = slot
        selector = (selectors.GDT_FIRST_MESSAGE + number * selectors.SLOTS + slot) * 8
        self.gdt.put_data(selector, KERNEL_BASE + frame, PAGE_SIZE - 1)
        record = ControlBlock(self.guest.words, SlotRecord, (partition.block + slot * 16) // 4)
        self.guest.quads[(partition.block + slot * 16) // 8] = frame
        self.guest.words[record.base + 3] = selector
        return ErrorCode.OK

    def slot_state(self, partition: PartitionState, slot: int) -> int:
        """Return the slot's SlotState."""
        return self.guest.ram.view(partition.block + STATE + slot, 1)[0]

    def put_state(self, partition: PartitionState, slot: int, state: SlotState) -> None:
        """Set the slot's SlotState."""
        self.guest.ram.view(partition.block + STATE + slot, 1)[0] = state

    def client(self, partition: PartitionState, slot: int) -> int:
        """Return the selector of the thread that waits for the slot's reply, 0 if nobody does."""
        return int(self.guest.words[(partition.block + slot * 16) // 4 + 3]) >> 16

    def handle(self, partition: PartitionState, slot: int) -> int:
        """Return the handle that answers the slot's present request."""
        return int(self.guest.words[(partition.block + HANDLES) // 4 + slot])

    def message(self, partition: PartitionState, slot: int) -> memoryview:
        """Return the slot's message page."""
        return self.guest.ram.view(partition.frames[slot], PAGE_SIZE)

    def fail_slot(self, partition: PartitionState, slot: int, code: ErrorCode) -> None:
        """Answer a request with an error; the page leaves the server first."""
        self._unmap(partition, slot)
        if self.client(partition, slot) or slot in partition.posted:
            self.block(partition)["aborted"] += 1  # else its client has given it up before
        write_error(self.message(partition, slot), code)
        self.complete(partition, slot)

    def complete(self, partition: PartitionState, slot: int) -> None:
        """Hand a slot back to its client, or release it if nobody waits any more."""
        handle = (partition.block + HANDLES) // 4 + slot
        self.guest.words[handle] = self.guest.words[handle] + NEXT_GENERATION & 0xFFFF_FFFF
        record = (partition.block + slot * 16) // 4 + 3
        client = self.guest.words[record] >> 16
        self.guest.words[record] &= 0xFFFF
        self.block(partition)["posted"] &= ~(1 << slot)
        if client:
            self.put_state(partition, slot, SlotState.DONE)
            self.scheduler.host_wake(client)
            return
        self.posted.of(partition, slot).failed(partition, slot)
        self.drop_pins(partition, slot)
        self.put_state(partition, slot, SlotState.FREE)
        self.block(partition)["free"] |= 1 << slot
        self._serve_waiters(partition)

    def _unmap(self, partition: PartitionState, slot: int) -> None:
        linear = (partition.block + slot * 16) // 4 + 2
        if self.guest.words[linear] and partition.process is not None:
            self.memory.tables.unmap(partition.process.pointers, self.guest.words[linear])
            self.guest.words[linear] = 0
            self.guest.flush_tlb()

    def take_pins(self, partition: PartitionState, slot: int) -> list[tuple[str, int, int]]:
        """Take over what the reply in `slot` holds: ("frame", frame, 0) and ("block", disk, block).

        Whoever wants the addresses has read them: they leave the page here, before a server sees it again (rule 2).
        """
        pins = partition.pins.pop(slot, [])
        if pins:
            self.message(partition, slot)[DATA : DATA + 8 * len(pins)] = bytes(8 * len(pins))
        return pins

    def drop_pins(self, partition: PartitionState, slot: int) -> None:
        """Let go of what the reply in `slot` holds."""
        self.pins.release(self.take_pins(partition, slot))

    def count_wait(self, partition: PartitionState) -> None:
        """Count a client that begins to wait for a reply."""
        at = partition.block // 4 + BLOCKING_WAITS
        self.guest.words[at] = self.guest.words[at] + 1 & 0xFFFF_FFFF

    def block(self, partition: PartitionState) -> ControlBlock:
        """Return the partition's block."""
        return ControlBlock(self.guest.words, Partition, partition.block // 4)


def split(value: int) -> tuple[int, int]:
    """Return (slot, partition) of a host call's argument."""
    return value & SLOT_MASK, value >> 16


def lowest(mask: int) -> int | None:
    """Return the number of the lowest bit set, as BSF finds it."""
    return (mask & -mask).bit_length() - 1 if mask else None


def write_error(message: memoryview, code: ErrorCode) -> None:
    """Make a reply an error: CF, EAX and the error field."""
    header = Message.from_buffer(message)
    header.reply = ReplyType.REGISTERS
    header.count = 0
    header.error = code
    header.eax = code
    header.eflags = CARRY
