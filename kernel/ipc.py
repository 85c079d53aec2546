"""The policy side of IPC: partition blocks, first use of slots, the queue for slots, reply conversion.

Machine code takes, fills, posts, maps and releases (asm/kernel/slots.asm, ring.asm, client.asm,
server.asm).  What it leaves to policy: where a slot's page comes from, who is next when all 32 are
busy, what a reply may carry, and what happens to requests when a server dies.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, SECTORS_PER_PAGE
from callgate.kernel.abi.message import (
    HANDLE_GENERATION_SHIFT,
    MESSAGE_ADDRESSES,
    MESSAGE_DATA_SIZE,
    RING_CELL_UNPUBLISHED,
    Message,
    Partition,
    PartitionFlags,
    ReplyType,
    SlotRecord,
    SlotState,
)
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.abi.volume import (
    SECTOR_ENTRY_COUNT_MASK,
    SECTOR_ENTRY_COUNT_SHIFT,
    SECTOR_ENTRY_HOLE,
    SECTOR_ENTRY_MASK,
)
from callgate.kernel.control import ControlBlock, word
from callgate.kernel.coroutines import CARRY
from callgate.kernel.errors import PolicyError
from callgate.kernel.frames import OutOfMemory
from callgate.kernel.records import GIVE_BACKS, PartitionState, Pin, Process, Thread

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

DATA = offset_of(Message, "data")
TCB_SLOT = word(ThreadControlBlock, "slot")
TCB_ARG0 = word(ThreadControlBlock, "arg0")
BLOCKING_WAITS = word(Partition, "blocking_waits")
NO_SLOT = 0xFFFF_FFFF
NEXT_GENERATION = 1 << HANDLE_GENERATION_SHIFT
OBJECT = struct.Struct("<II")
SLOT_MASK = selectors.SLOTS - 1


class SectorPiece(NamedTuple):
    """Sectors of one block: first one on the disk (None: a hole), first one within the page, how many."""

    lba: int | None
    first: int
    sectors: int


class Ipc:
    """Answers to FIRST_USE, SLOT_WAIT, SLOT_GIVE and CONVERT; the life of partition blocks."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    # The life of a partition.

    def create(self, process: Process, disk: int, start: int, sectors: int, name: str) -> PartitionState:
        """Make a partition block for a server process; its requests fail until a server thread waits."""
        kernel = self.kernel
        entry = kernel.memory.tables.entry_address(process.pointers, layout.USER_MESSAGES, process.tables)
        assert entry is not None
        block = kernel.memory.low.allocate()
        try:
            number = self._free_number()
        except PolicyError:
            kernel.memory.low.release(block)
            raise
        kernel.memory.tables.clear(block)
        selector = (selectors.GDT_FIRST_PARTITION + number) * 8
        kernel.gdt.put_data(selector, KERNEL_BASE + block, PAGE_SIZE - 1)
        partition = PartitionState(number, block, process, disk, start, sectors, name)
        kernel.state.endpoints.by_number[number] = partition
        process.partition = number

        fields = self.block(partition)
        fields["unused"] = 0xFFFF_FFFF
        fields["window_table"] = KERNEL_BASE + entry
        fields["window_base"] = layout.USER_MESSAGES
        fields["selector"] = selector
        fields["number"] = number
        ring = block + offset_of(Partition, "ring")
        kernel.machine.ram.view(ring, selectors.SLOTS)[:] = bytes([RING_CELL_UNPUBLISHED]) * selectors.SLOTS
        kernel.guest.kernel_words["partitions"] |= 1 << number
        return partition

    def _free_number(self) -> int:
        """Return the number of a new partition.  Nothing may fail from here on until it has its block.

        The number of a volume that has been buried still leads to its block, which is another's by now.
        """
        number = next(
            (n for n in range(selectors.MAX_PARTITIONS) if n not in self.kernel.state.endpoints.by_number), None
        )
        return self._bury() if number is None else number

    def _bury(self) -> int:
        """Give back the block of a volume that has died and that nobody is in any more; return its number.

        Its clients have been answered, so nobody waits; a client that is about to name the number will find
        whatever volume has it then, as with any number.
        """
        kernel = self.kernel
        for partition in kernel.state.endpoints.by_number.values():
            fields = self.block(partition)
            idle = (fields["unused"] | fields["free"]) == 0xFFFF_FFFF and not fields["slot_waiters"]
            ended = partition.process is None or not partition.process.threads
            used = any(file.partition == partition.number for file in kernel.files.objects.values())
            if partition.dead and idle and ended and not used and not partition.pins:
                del kernel.state.endpoints.by_number[partition.number]
                for frame in (partition.block, *partition.frames.values()):
                    kernel.memory.low.release(frame)
                return partition.number
        raise PolicyError(ErrorCode.NO_RESOURCES, f"no room for more than {selectors.MAX_PARTITIONS} volumes")

    def add_server(self, partition: PartitionState, thread: Thread) -> None:
        """Make `thread` a server thread of the partition, which has room for it."""
        index = len(partition.servers)
        partition.servers.append(thread.selector)
        thread.server_index = index
        block = self.kernel.threads.block(thread)
        block["partition"] = (selectors.GDT_FIRST_PARTITION + partition.number) * 8
        block["server_index"] = index
        at = partition.block + offset_of(Partition, "servers") + 2 * index
        self.kernel.machine.ram.view(at, 2)[:] = thread.selector.to_bytes(2, "little")

    def check_room(self, partition: PartitionState) -> None:
        """NO_RESOURCES if the partition has as many server threads as it may have."""
        if len(partition.servers) >= selectors.SLOTS:
            raise PolicyError(ErrorCode.NO_RESOURCES, f"a server has at most {selectors.SLOTS} threads")

    def die(self, partition: PartitionState, code: ErrorCode) -> None:
        """A partition's server or disk is gone: requests fail when its threads, which the caller kills, have ended.

        Who waits for a slot, and who waits for file data, is told at once.
        """
        if partition.dead:
            return
        partition.dead = True
        partition.error = code
        fields = self.block(partition)
        fields["flags"] |= PartitionFlags.DEAD
        fields["idle"] = 0
        while partition.waiters:
            selector = partition.waiters.popleft()
            fields["slot_waiters"] -= 1
            if selector != GIVE_BACKS:
                thread = self.kernel.state.tasks.threads[selector]
                self.kernel.guest.words[thread.tcb + TCB_ARG0] = code
                self.kernel.scheduler.wake(thread)
        self.kernel.give_backs.partition_died(partition)
        self.kernel.files.partition_died(partition, code)
        self.kernel.directories.partition_died(partition)
        if partition.process is None or not partition.process.threads:
            self.sweep(partition)

    def sweep(self, partition: PartitionState) -> None:
        """Answer what a dead partition's server has left: none of its threads will touch a slot any more.

        As long as one lives it may be anywhere in the kernel: about to mark a request as served, or between taking
        the client's selector out of the record and marking the slot as done.  Its requests are its own until then.
        """
        partition.swept = True
        fields = self.block(partition)
        fields["idle"] = 0
        fields["head"] = fields["tail"]
        for slot in range(selectors.SLOTS):
            if self.slot_state(partition, slot) in {SlotState.POSTED, SlotState.SERVED}:
                self.fail_slot(partition, slot, partition.error)

    def count_wait(self, partition: PartitionState) -> None:
        """Count a client that begins to wait for a reply."""
        at = partition.block // 4 + BLOCKING_WAITS
        self.kernel.guest.words[at] = self.kernel.guest.words[at] + 1 & 0xFFFF_FFFF

    def block(self, partition: PartitionState) -> ControlBlock:
        """Return the partition's block."""
        return ControlBlock(self.kernel.guest.words, Partition, partition.block // 4)

    # Slots.

    def host_first_use(self, value: int) -> None:
        """FIRST_USE: give slot `value` & 31 of partition `value` >> 16 its page and selector."""
        self.kernel.guest.words[self.kernel.scheduler.current.tcb + TCB_ARG0] = self._first_use(*split(value))

    def host_slot_wait(self, value: int) -> None:
        """SLOT_WAIT: queue the current thread for a slot of partition `value` >> 16, or (1) leave the queue."""
        thread = self.kernel.scheduler.current
        leave, number = value & 1, value >> 16
        partition = self.kernel.state.endpoints.by_number[number]
        fields = self.block(partition)
        if leave:
            if thread.selector in partition.waiters:
                partition.waiters.remove(thread.selector)
                fields["slot_waiters"] -= 1
                self.kernel.guest.words[thread.tcb + TCB_ARG0] = (
                    ErrorCode.KILLED if thread.killed else ErrorCode.INTERRUPTED
                )
            return
        self.kernel.guest.words[thread.tcb + TCB_ARG0] = 0
        if partition.dead:
            fields["slot_waiters"] -= 1
            self.kernel.guest.words[thread.tcb + TCB_ARG0] = ErrorCode.SERVER_DIED
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
        partition = self.kernel.state.endpoints.by_number[number]
        self.block(partition)["free"] |= 1 << slot
        self._serve_waiters(partition)

    def host_slot_drop(self, value: int) -> None:
        """SLOT_DROP: let go of what the reply in slot `value` & 31 holds, here and at the server."""
        slot, number = split(value)
        partition = self.kernel.state.endpoints.by_number[number]
        message = self.message(partition, slot)
        posted = partition.posted.get(slot)
        if posted is None:
            self.kernel.give_backs.orphaned(partition, message)
        elif posted == GIVE_BACKS:
            del partition.posted[slot]
            self.kernel.give_backs.answered(partition, message)
        else:
            self.kernel.fills.refused(partition, slot)
        self.drop_pins(partition, slot)

    def host_slot_fail(self, value: int) -> None:
        """SLOT_FAIL: slot `value` & 31 was posted to a dead partition; before `sweep` there is nothing to do."""
        slot, number = split(value)
        partition = self.kernel.state.endpoints.by_number[number]
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
                self.kernel.give_backs.granted(partition, slot)
                continue
            thread = self.kernel.state.tasks.threads[selector]
            self.kernel.guest.words[thread.tcb + TCB_SLOT] = slot
            self.kernel.scheduler.wake(thread)

    def _first_use(self, slot: int, number: int) -> int:
        kernel = self.kernel
        partition = kernel.state.endpoints.by_number[number]
        try:
            frame = kernel.memory.low.allocate()
        except OutOfMemory:
            return ErrorCode.NO_MEMORY
        kernel.memory.tables.clear(frame)
        partition.frames[slot] = frame
        kernel.guest.words[(partition.block + HANDLES) // 4 + slot] = slot
        selector = (selectors.GDT_FIRST_MESSAGE + number * selectors.SLOTS + slot) * 8
        kernel.gdt.put_data(selector, KERNEL_BASE + frame, PAGE_SIZE - 1)
        record = ControlBlock(kernel.guest.words, SlotRecord, (partition.block + slot * 16) // 4)
        kernel.guest.quads[(partition.block + slot * 16) // 8] = frame
        kernel.guest.words[record.base + 3] = selector
        return ErrorCode.OK

    def slot_state(self, partition: PartitionState, slot: int) -> int:
        """Return the slot's SlotState."""
        return self.kernel.machine.ram.view(partition.block + STATE + slot, 1)[0]

    def put_state(self, partition: PartitionState, slot: int, state: SlotState) -> None:
        """Set the slot's SlotState."""
        self.kernel.machine.ram.view(partition.block + STATE + slot, 1)[0] = state

    def client(self, partition: PartitionState, slot: int) -> int:
        """Return the selector of the thread that waits for the slot's reply, 0 if nobody does."""
        return int(self.kernel.guest.words[(partition.block + slot * 16) // 4 + 3]) >> 16

    def handle(self, partition: PartitionState, slot: int) -> int:
        """Return the handle that answers the slot's present request."""
        return int(self.kernel.guest.words[(partition.block + HANDLES) // 4 + slot])

    def message(self, partition: PartitionState, slot: int) -> memoryview:
        """Return the slot's message page."""
        return self.kernel.machine.ram.view(partition.frames[slot], PAGE_SIZE)

    # Completion by policy.

    def fail_slot(self, partition: PartitionState, slot: int, code: ErrorCode) -> None:
        """Answer a request with an error; the page leaves the server first."""
        self._unmap(partition, slot)
        if self.client(partition, slot) or slot in partition.posted:
            self.block(partition)["aborted"] += 1  # else its client has given it up before
        write_error(self.message(partition, slot), code)
        self.complete(partition, slot)

    def complete(self, partition: PartitionState, slot: int) -> None:
        """Hand a slot back to its client, or release it if nobody waits any more."""
        kernel = self.kernel
        handle = (partition.block + HANDLES) // 4 + slot
        kernel.guest.words[handle] = kernel.guest.words[handle] + NEXT_GENERATION & 0xFFFF_FFFF
        record = (partition.block + slot * 16) // 4 + 3
        client = kernel.guest.words[record] >> 16
        kernel.guest.words[record] &= 0xFFFF
        self.block(partition)["posted"] &= ~(1 << slot)
        if client:
            self.put_state(partition, slot, SlotState.DONE)
            kernel.scheduler.host_wake(client)
            return
        if partition.posted.get(slot) == GIVE_BACKS:
            del partition.posted[slot]
            self.kernel.give_backs.answered(partition)
        else:
            self.kernel.fills.abandoned(partition, slot, partition.error)
        self.drop_pins(partition, slot)
        self.put_state(partition, slot, SlotState.FREE)
        self.block(partition)["free"] |= 1 << slot
        self._serve_waiters(partition)

    def _unmap(self, partition: PartitionState, slot: int) -> None:
        linear = (partition.block + slot * 16) // 4 + 2
        if self.kernel.guest.words[linear] and partition.process is not None:
            self.kernel.memory.tables.unmap(partition.process.pointers, self.kernel.guest.words[linear])
            self.kernel.guest.words[linear] = 0
            self.kernel.guest.flush_tlb()

    # Conversion of replies.

    async def convert(self, value: int) -> None:
        """CONVERT: check and translate the reply in slot `value` & 31."""
        slot, number = split(value)
        partition = self.kernel.state.endpoints.by_number[number]
        message = self.message(partition, slot)
        posted = partition.posted.get(slot)
        if posted is not None:
            if posted == GIVE_BACKS:  # which brings nothing, whatever the reply says
                del partition.posted[slot]
                self.kernel.give_backs.answered(partition, message)
            else:
                await self.kernel.fills.replied(partition, slot, message)
            return
        try:
            self._convert(partition, slot, message)
        except PolicyError as error:
            self.kernel.log(f"{partition.name}: reply refused: {error}", partition)
            self.block(partition)["bad_replies"] += 1
            self.drop_pins(partition, slot)
            write_error(message, ErrorCode.BAD_REPLY)

    def _convert(self, partition: PartitionState, slot: int, message: memoryview) -> None:
        header = Message.from_buffer(message)
        match ReplyType(header.reply):
            case ReplyType.DATA:
                if header.count > MESSAGE_DATA_SIZE:
                    raise PolicyError(ErrorCode.BAD_REPLY, f"{header.count} bytes of data")
            case ReplyType.OBJECT:
                frames, partition.pins[slot] = self.object_frames(partition, message)
                struct.pack_into(f"<{len(frames)}Q", message, DATA, *frames)
                header.count = len(frames)
            case ReplyType.SECTORS:
                self.sector_pieces(partition, message)
                raise PolicyError(ErrorCode.BAD_REPLY, "sectors for a request that does not read a file")
            case ReplyType.NONE | ReplyType.REGISTERS:
                header.count = 0

    def object_frames(self, partition: PartitionState, message: memoryview) -> tuple[list[int], list[Pin]]:
        """Return the frames of an object reply's pages, and what holds them until the client is done."""
        base, size = OBJECT.unpack_from(message, DATA)
        pages = -(-size // PAGE_SIZE)
        if pages > MESSAGE_ADDRESSES:
            raise PolicyError(ErrorCode.BAD_REPLY, f"object of {size} bytes at {base:#x}")
        assert partition.process is not None
        frames = []
        for address in range(base, base + pages * PAGE_SIZE, PAGE_SIZE):
            frame = partition.process.pages.get(address)
            if frame is None:
                raise PolicyError(ErrorCode.BAD_REPLY, f"object page {address:#x} is not the server's own")
            frames.append(frame)
        for frame in frames:
            self.kernel.memory.low.hold(frame)
        return frames, [("frame", frame, 0) for frame in frames]

    def sector_pieces(self, partition: PartitionState, message: memoryview) -> list[SectorPiece]:
        """Return the pieces of a sectors reply, each inside the partition and within one block."""
        count = Message.from_buffer(message).count
        if count > MESSAGE_ADDRESSES:
            raise PolicyError(ErrorCode.BAD_REPLY, f"{count} sector entries")
        entries = struct.unpack_from(f"<{count}Q", message, DATA)
        return [self._check_entry(partition, entry) for entry in entries]

    def _check_entry(self, partition: PartitionState, entry: int) -> SectorPiece:
        first = entry & SECTOR_ENTRY_MASK
        sectors = (entry >> SECTOR_ENTRY_COUNT_SHIFT & SECTOR_ENTRY_COUNT_MASK) + 1
        if entry & SECTOR_ENTRY_HOLE:
            if first + sectors > SECTORS_PER_PAGE:
                raise PolicyError(ErrorCode.BAD_REPLY, f"a hole of {sectors} sectors at {first} crosses a page")
            return SectorPiece(None, first, sectors)
        lba = partition.start + first
        if first + sectors > partition.sectors:
            raise PolicyError(ErrorCode.BAD_REPLY, f"sector {first} lies outside the partition")
        if lba % SECTORS_PER_PAGE + sectors > SECTORS_PER_PAGE:
            raise PolicyError(ErrorCode.BAD_REPLY, f"{sectors} sectors at {first} cross a block")
        return SectorPiece(lba, lba % SECTORS_PER_PAGE, sectors)

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
        self.kernel.pins.release(self.take_pins(partition, slot))


STATE = offset_of(Partition, "state")
HANDLES = offset_of(Partition, "handles")


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
