"""Slots: their states, the queue of threads that wait for one, and what policy does with requests that are in them.

Machine code takes, fills, posts, maps and releases (asm/kernel/ipc/slots.asm, ring.asm, client.asm, server_half.asm).
Policy gives a slot its page, chooses the next thread when all 32 are busy, and answers a request whose server has died.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, PTE_NX_HIGH
from callgate.kernel.abi.message import (
    HANDLE_GENERATION_SHIFT,
    Endpoint,
    Message,
    ReplyType,
    SlotRecord,
    SlotState,
)
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import CARRY, RoutineCall
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import RELEASES, Endpoints, EndpointState, Pin
from callgate.kernel.ipc.posted import Posted
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.pins import Pins
from callgate.kernel.tasks.scheduler import Scheduler

DATA = offset_of(Message, "data")
TCB_SLOT = word(ThreadControlBlock, "slot")
SLOT_ERROR = word(ThreadControlBlock, "slot_error")
BLOCKING_WAITS = word(Endpoint, "blocking_waits")
NO_SLOT = 0xFFFF_FFFF
NEXT_GENERATION = 1 << HANDLE_GENERATION_SHIFT
SLOT_MASK = selectors.SLOTS - 1
STATE = offset_of(Endpoint, "state")
HANDLES = offset_of(Endpoint, "handles")
SERVER_OF = offset_of(Endpoint, "server_of")
TOKENS = offset_of(Endpoint, "tokens")


class Slots:
    """Answers to FIRST_USE, SLOT_WAIT, SLOT_GIVE, SLOT_DROP, SLOT_FAIL and REPLIED."""

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
        """FIRST_USE: give slot `value` & 31 of endpoint `value` >> 16 its page and selector."""
        self.guest.words[self.scheduler.current.tcb + SLOT_ERROR] = self._first_use(*split(value))

    def host_slot_wait(self, value: int) -> None:
        """SLOT_WAIT: queue the current thread for a slot of endpoint `value` >> 16; if `value` & 1, leave the queue."""
        thread = self.scheduler.current
        leave, number = value & 1, value >> 16
        endpoint = self.state.by_number[number]
        fields = self.block(endpoint)
        if leave:
            if thread.selector in endpoint.waiters:
                endpoint.waiters.remove(thread.selector)
                fields["slot_waiters"] -= 1
                self.guest.words[thread.tcb + SLOT_ERROR] = ErrorCode.KILLED if thread.killed else ErrorCode.INTERRUPTED
            return
        self.guest.words[thread.tcb + SLOT_ERROR] = 0
        if endpoint.dead:
            fields["slot_waiters"] -= 1
            self.guest.words[thread.tcb + SLOT_ERROR] = ErrorCode.SERVER_DIED
            return
        endpoint.waiters.append(thread.selector)
        self._serve_waiters(endpoint)

    def queue_releases(self, endpoint: EndpointState) -> None:
        """Have the endpoint's deferred releases wait for a slot, in order of arrival, as a thread does in `take_slot`.

        `DeferredReleases.granted` is called when they have one, which may be before this returns.
        """
        endpoint.waiters.append(RELEASES)
        self.block(endpoint)["slot_waiters"] += 1
        self._serve_waiters(endpoint)

    def free_slot(self, endpoint: EndpointState, slot: int) -> None:
        """Release a slot that policy owns and has not posted."""
        self.put_state(endpoint, slot, SlotState.FREE)
        self.block(endpoint)["free"] |= 1 << slot
        self._serve_waiters(endpoint)

    def host_slot_give(self, value: int) -> None:
        """SLOT_GIVE: hand slot `value` & 31 to the thread that has waited longest."""
        slot, number = split(value)
        endpoint = self.state.by_number[number]
        self.block(endpoint)["free"] |= 1 << slot
        self._serve_waiters(endpoint)

    def host_slot_drop(self, value: int) -> None:
        """SLOT_DROP: the client of the reply in slot `value` & 31 is gone: release what the reply holds.

        That is the memory it pins here, and what the server holds for it.
        """
        slot, number = split(value)
        endpoint = self.state.by_number[number]
        self.posted.unclaimed(endpoint, self.message(endpoint, slot))
        self.drop_pins(endpoint, slot)

    def host_replied(self, value: int) -> Coroutine[Any, Any, RoutineCall | None]:
        """REPLIED: the server has answered policy's own request in slot `value` & 31."""
        slot, number = split(value)
        endpoint = self.state.by_number[number]
        token = self.take_token(endpoint, slot)
        return self.posted.of(token).replied(endpoint, token, self.message(endpoint, slot))

    def host_slot_fail(self, value: int) -> None:
        """SLOT_FAIL: slot `value` & 31 was posted to a dead endpoint: fail it, unless `sweep` is still to come."""
        slot, number = split(value)
        endpoint = self.state.by_number[number]
        if endpoint.swept and self.slot_state(endpoint, slot) == SlotState.POSTED:
            self.fail_slot(endpoint, slot, endpoint.error)

    def _serve_waiters(self, endpoint: EndpointState) -> None:
        """Give free slots, then unused ones, to the queue in order of arrival."""
        fields = self.block(endpoint)
        while endpoint.waiters:
            slot = lowest(fields["free"])
            if slot is None:
                slot = lowest(fields["unused"])
                if slot is None or self._first_use(slot, endpoint.number):
                    return
                fields["unused"] &= ~(1 << slot)
            else:
                fields["free"] &= ~(1 << slot)
            selector = endpoint.waiters.popleft()
            fields["slot_waiters"] -= 1
            self.put_state(endpoint, slot, SlotState.TAKEN)
            if selector == RELEASES:
                self.posted.granted(endpoint, slot)
                continue
            thread = self.scheduler.tasks.threads[selector]
            self.guest.words[thread.tcb + TCB_SLOT] = slot
            self.scheduler.wake(thread)

    def _first_use(self, slot: int, number: int) -> int:
        endpoint = self.state.by_number[number]
        try:
            frame = self.memory.low.allocate()
        except OutOfMemory:
            return ErrorCode.NO_MEMORY
        self.memory.tables.clear(frame)
        endpoint.frames[slot] = frame
        self.guest.words[(endpoint.block + HANDLES) // 4 + slot] = slot
        selector = (selectors.GDT_FIRST_MESSAGE + number * selectors.SLOTS + slot) * 8
        self.gdt.put_data(selector, KERNEL_BASE + frame, PAGE_SIZE - 1)
        record = ControlBlock(self.guest.words, SlotRecord, (endpoint.block + slot * 16) // 4)
        self.guest.quads[(endpoint.block + slot * 16) // 8] = frame
        self.guest.words[record.base + 3] = selector
        fields = self.block(endpoint)
        record["linear"] = fields["window_base"] + slot * PAGE_SIZE
        self.guest.words[(fields["window_table"] - KERNEL_BASE) // 4 + 2 * slot + 1] = frame >> 32 | PTE_NX_HIGH
        return ErrorCode.OK

    def slot_state(self, endpoint: EndpointState, slot: int) -> int:
        """Return the slot's SlotState."""
        return self.guest.ram.view(endpoint.block + STATE + slot, 1)[0]

    def put_state(self, endpoint: EndpointState, slot: int, state: SlotState) -> None:
        """Set the slot's SlotState."""
        self.guest.ram.view(endpoint.block + STATE + slot, 1)[0] = state

    def client(self, endpoint: EndpointState, slot: int) -> int:
        """Return the selector of the thread that waits for the slot's reply, 0 if none does."""
        return int(self.guest.words[(endpoint.block + slot * 16) // 4 + 3]) >> 16

    def handle(self, endpoint: EndpointState, slot: int) -> int:
        """Return the handle by which a server answers the slot's present request."""
        return int(self.guest.words[(endpoint.block + HANDLES) // 4 + slot])

    def token(self, endpoint: EndpointState, slot: int) -> int:
        """Return the token of policy's own request in a slot, 0 if it holds none."""
        return int(self.guest.words[(endpoint.block + TOKENS) // 4 + slot])

    def put_token(self, endpoint: EndpointState, slot: int, token: int) -> None:
        """Set the token of a slot that policy owns; 0 says that it holds no request of policy's own."""
        self.guest.words[(endpoint.block + TOKENS) // 4 + slot] = token

    def take_token(self, endpoint: EndpointState, slot: int) -> int:
        """Return the token of a slot and clear it, so that its request ends only once."""
        token = self.token(endpoint, slot)
        self.put_token(endpoint, slot, 0)
        return token

    def tokens(self, endpoint: EndpointState) -> dict[int, int]:
        """Return the tokens of policy's own requests by slot."""
        found = {slot: self.token(endpoint, slot) for slot in range(selectors.SLOTS)}
        return {slot: token for slot, token in found.items() if token}

    def message(self, endpoint: EndpointState, slot: int) -> memoryview:
        """Return the slot's message page."""
        return self.guest.ram.view(endpoint.frames[slot], PAGE_SIZE)

    def fail_slot(self, endpoint: EndpointState, slot: int, code: ErrorCode) -> None:
        """Answer a request with an error; the page is unmapped from the server first."""
        self._unmap(endpoint, slot)
        if self.client(endpoint, slot) or self.token(endpoint, slot):
            self.block(endpoint)["aborted"] += 1  # else its client has abandoned it, and has counted it
        write_error(self.message(endpoint, slot), code)
        self.complete(endpoint, slot)

    def complete(self, endpoint: EndpointState, slot: int) -> None:
        """Hand a slot back to its client, or release it if no client waits."""
        handle = (endpoint.block + HANDLES) // 4 + slot
        self.guest.words[handle] = self.guest.words[handle] + NEXT_GENERATION & 0xFFFF_FFFF
        self.guest.ram.view(endpoint.block + SERVER_OF + 2 * slot, 2)[:] = bytes(2)
        record = (endpoint.block + slot * 16) // 4 + 3
        client = self.guest.words[record] >> 16
        self.guest.words[record] &= 0xFFFF
        if client:
            self.put_state(endpoint, slot, SlotState.DONE)
            self.scheduler.host_wake(client)
            return
        if token := self.take_token(endpoint, slot):
            self.posted.of(token).failed(endpoint, token)
        self.drop_pins(endpoint, slot)
        self.put_state(endpoint, slot, SlotState.FREE)
        self.block(endpoint)["free"] |= 1 << slot
        self._serve_waiters(endpoint)

    def _unmap(self, endpoint: EndpointState, slot: int) -> None:
        if self.slot_state(endpoint, slot) == SlotState.SERVED and endpoint.process is not None:
            linear = int(self.guest.words[(endpoint.block + slot * 16) // 4 + 2])
            self.memory.tables.unmap(endpoint.process.pointers, linear)
            self.guest.flush_tlb()

    def take_pins(self, endpoint: EndpointState, slot: int) -> tuple[Pin, ...]:
        """Return the pins of the reply in `slot`, now the caller's: ("frame", frame, 0) and ("block", disk, block).

        The caller has read the addresses before: this clears them, so that no server sees them (rule 2).
        """
        if slot not in endpoint.pins:
            return ()
        pins = endpoint.pins.pop(slot)
        if pins:
            self.message(endpoint, slot)[DATA : DATA + 8 * len(pins)] = bytes(8 * len(pins))
        return pins

    def drop_pins(self, endpoint: EndpointState, slot: int) -> None:
        """Release what the reply in `slot` holds."""
        self.pins.release(self.take_pins(endpoint, slot))

    def count_wait(self, endpoint: EndpointState) -> None:
        """Count one more wait of a client for a reply."""
        at = endpoint.block // 4 + BLOCKING_WAITS
        self.guest.words[at] = self.guest.words[at] + 1 & 0xFFFF_FFFF

    def block(self, endpoint: EndpointState) -> ControlBlock:
        """Return the endpoint's block."""
        return ControlBlock(self.guest.words, Endpoint, endpoint.block // 4)


def split(value: int) -> tuple[int, int]:
    """Return (slot, endpoint) of a host call's argument."""
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
