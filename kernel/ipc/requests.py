"""Requests that policy makes of a server on behalf of the current thread.

`make` runs the client's half in machine code (asm/kernel/ipc/client.asm, `ipc_request`), which leaves the
slot taken: `RequestReply` has the reply's registers; its data or addresses are in the message page.  The caller
ends a `RequestReply` with one of its `take` methods or `finish`, which release the slot.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from callgate.kernel.abi import selectors
from callgate.kernel.abi.calls import NAME_ABSENT, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import MESSAGE_ADDRESSES, MESSAGE_DATA_SIZE, Message, ReplyType
from callgate.kernel.abi.selectors import SLOT_ABANDONED
from callgate.kernel.core.coroutines import RoutineResult, routine
from callgate.kernel.core.errors import (
    DiskError,
    GivenUp,
    NameAbsent,
    Overdue,
    PolicyError,
    error_of_code,
    error_of_reply,
)
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import EndpointState, Pin
from callgate.kernel.ipc.slots import NO_SLOT, Slots
from callgate.kernel.tasks.threads import Threads

DATA = offset_of(Message, "data")


class RequestReply:
    """A reply whose slot is still taken."""

    def __init__(self, slots: Slots, endpoint: EndpointState, slot: int, registers: RoutineResult) -> None:
        self.slots = slots
        self.endpoint = endpoint
        self.slot = slot
        self.registers = registers
        page = slots.message(endpoint, slot)
        header = Message.from_buffer(page)
        self.kind = header.reply
        self.count = header.count

    async def take_data(self) -> bytes:
        """Return the bytes of a data reply, none for another reply, and release the slot."""
        page = self.slots.message(self.endpoint, self.slot)
        data = bytes(page[DATA : DATA + min(self.count, MESSAGE_DATA_SIZE)]) if self.kind == ReplyType.DATA else b""
        await self.finish()
        return data

    async def take_pages(self) -> tuple[tuple[int, ...], tuple[Pin, ...]]:
        """Return the frames of an object reply with the pins that hold them, and release the slot.

        The caller owns the pins and ends them by `Pins.release`.  Both are empty for another reply.
        """
        frames: tuple[int, ...] = ()
        pins: tuple[Pin, ...] = ()
        if self.kind == ReplyType.OBJECT:
            count = min(self.count, MESSAGE_ADDRESSES)
            page = self.slots.message(self.endpoint, self.slot)
            frames = struct.unpack_from(f"<{count}Q", page, DATA)
            pins = self.slots.take_pins(self.endpoint, self.slot)
        await self.finish()
        return frames, pins

    async def finish(self) -> None:
        """Release pages that were not taken, and the slot."""
        self.slots.drop_pins(self.endpoint, self.slot)
        await routine("ipc_finish")


class Requests:
    """Makes requests on behalf of the current thread."""

    def __init__(self, guest: Guest, threads: Threads, slots: Slots, disk_there: Callable[[int], bool]) -> None:
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.slots = slots
        self.disk_there = disk_there
        self.sent = True  # whether the server has the request, or will have it, that has just ended with an error

    async def make(
        self,
        endpoint: EndpointState,
        operation: Operation,
        *,
        eax: int = 0,
        ebx: int = 0,
        ecx: int = 0,
        edx: int = 0,
        esi: int = 0,
        data: tuple[int, int] = (0, 0),
    ) -> RequestReply:
        """Make one request and wait for its reply; the caller ends the reply, and so releases its slot.

        `data` is (kernel linear address, bytes) of data to be copied into the message.  PolicyError: the server's
        answer (ServerAnswer, ServerFault), SERVER_DIED, KILLED, INTERRUPTED, or no memory for a slot.
        """
        thread = self.scheduler.current
        block = self.threads.block(thread)
        self.threads.check_wait(thread)
        block["request_operation"] = operation
        block["request_endpoint"] = (selectors.GDT_FIRST_ENDPOINT + endpoint.number) * 8
        block["request_data"], block["request_bytes"] = data
        result = await routine("ipc_request", eax=eax, ebx=ebx, ecx=ecx, edx=edx, esi=esi)
        slot = block["slot"]
        self.sent = slot != NO_SLOT
        if slot == SLOT_ABANDONED:
            raise GivenUp(ErrorCode.KILLED if thread.killed else ErrorCode.INTERRUPTED)
        if slot == NO_SLOT:
            raise error_of_code(ErrorCode(block["slot_error"]))
        reply = RequestReply(self.slots, endpoint, slot, result)
        if result.failed:
            await reply.finish()
            error = self.error_of(endpoint, result.eax)
            if error.code is ErrorCode.NOT_FOUND and result.edi == NAME_ABSENT:
                raise NameAbsent(error.code)
            raise error
        return reply

    async def make_until(self, deadline: int, endpoint: EndpointState, operation: Operation) -> RequestReply:
        """As `make`; Overdue when virtual time is `deadline`, in nanoseconds, and there is no reply.

        The server keeps the slot until it answers; its reply is then dropped.
        """
        thread, scheduler = self.scheduler.current, self.scheduler
        thread.deadline = deadline
        scheduler.sleep_until(thread, deadline)
        try:
            return await self.make(endpoint, operation)
        except GivenUp:
            if not thread.killed and self.guest.now >= deadline:
                raise Overdue from None
            raise
        finally:
            thread.deadline = None
            scheduler.cancel_sleep(thread)
            if self.guest.now >= deadline:
                self.threads.clear_interrupt(thread)  # the deadline's, which may have come after the reply

    def error_of(self, endpoint: EndpointState, value: int) -> PolicyError:
        """Return the error for a reply with CF set: the server's answer, or the kernel's error if the server is gone.

        A server may report UNPLUGGED before the driver's own report has made policy end the server.  That is believed
        only if the disk has been removed.
        """
        if endpoint.dead:
            return error_of_code(endpoint.error)
        if value == ErrorCode.UNPLUGGED and endpoint.disk >= 0 and not self.disk_there(endpoint.disk):
            return DiskError(ErrorCode.UNPLUGGED)
        return error_of_reply(value)
