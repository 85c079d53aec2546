"""Endpoints: their blocks in guest memory, how they are made and how they end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import RING_CELL_UNPUBLISHED, Endpoint, EndpointFlags, SlotState
from callgate.kernel.core.errors import Shortage
from callgate.kernel.core.records import RELEASES, EndpointState, Process, Thread
from callgate.kernel.ipc.slots import SLOT_ERROR, Slots
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.tasks.threads import Threads


class User(Protocol):
    """A manager of things that servers hold: files, directories, deferred releases."""

    def endpoint_died(self, endpoint: EndpointState, code: ErrorCode) -> None:
        """The endpoint's server or disk is gone; `code` is the error that waiting threads receive."""


class EndpointLifetimes:
    """Endpoint blocks, and the threads that serve them."""

    def __init__(
        self,
        slots: Slots,
        memory: PhysicalMemory,
        gdt: GlobalTable,
        threads: Threads,
        users: Sequence[User],
        in_use: Callable[[EndpointState], bool],
    ) -> None:
        """`users` are told of each death, in their order; `in_use` says whether a record still names an endpoint."""
        self.state = slots.state
        self.guest = slots.guest
        self.memory = memory
        self.gdt = gdt
        self.threads = threads
        self.scheduler = threads.scheduler
        self.slots = slots
        self.users = users
        self.in_use = in_use

    def create(self, process: Process, disk: int, start: int, sectors: int, name: str) -> EndpointState:
        """Make an endpoint block for a server process without threads: `sectors` of `disk` from `start` on.

        Requests wait until a server thread takes them.  NO_MEMORY, or NO_RESOURCES if all numbers are in use.
        """
        entry = self.memory.tables.entry_address(process.pointers, layout.USER_MESSAGES, process.tables)
        assert entry is not None
        number = self._free_number()
        block = self.memory.low.allocate()
        self.memory.tables.clear(block)
        selector = (selectors.GDT_FIRST_ENDPOINT + number) * 8
        self.gdt.put_data(selector, KERNEL_BASE + block, PAGE_SIZE - 1)
        endpoint = EndpointState(number, block, process, disk, start, sectors, name)
        self.state.by_number[number] = endpoint
        process.endpoint = number

        fields = self.slots.block(endpoint)
        fields["unused"] = 0xFFFF_FFFF
        fields["window_table"] = KERNEL_BASE + entry
        fields["window_base"] = layout.USER_MESSAGES
        fields["selector"] = selector
        fields["space"] = process.pointers
        fields["number"] = number
        ring = block + offset_of(Endpoint, "ring")
        self.guest.ram.view(ring, selectors.SLOTS)[:] = bytes([RING_CELL_UNPUBLISHED]) * selectors.SLOTS
        self.guest.kernel_words["endpoints"] |= 1 << number
        return endpoint

    def _free_number(self) -> int:
        """Return the number of a new endpoint; NO_RESOURCES.  The caller makes its block next.

        A number that `_bury` has freed still leads to the old block, which has been released: so there is a frame for
        the new one.
        """
        number = next((n for n in range(selectors.MAX_ENDPOINTS) if n not in self.state.by_number), None)
        return self._bury() if number is None else number

    def _bury(self) -> int:
        """Release the block of a dead volume that no thread or record uses; return its number; NO_RESOURCES.

        Its clients have been answered, so no thread waits; a client that names the number later reaches the volume
        that has it then, as with any number.
        """
        for endpoint in self.state.by_number.values():
            fields = self.slots.block(endpoint)
            idle = (fields["unused"] | fields["free"]) == 0xFFFF_FFFF and not fields["slot_waiters"]
            ended = endpoint.process is None or not endpoint.process.threads
            unused = idle and ended and not endpoint.pins and not self.in_use(endpoint)
            if endpoint.dead and unused:
                del self.state.by_number[endpoint.number]
                for frame in (endpoint.block, *endpoint.frames.values()):
                    self.memory.low.release(frame)
                return endpoint.number
        raise Shortage(ErrorCode.NO_RESOURCES, f"no room for more than {selectors.MAX_ENDPOINTS} volumes")

    def add_server(self, endpoint: EndpointState, thread: Thread) -> None:
        """Make `thread` a server thread of the endpoint, which has room for it."""
        index = len(endpoint.servers)
        endpoint.servers.append(thread.selector)
        thread.server_index = index
        block = self.threads.block(thread)
        block["endpoint"] = (selectors.GDT_FIRST_ENDPOINT + endpoint.number) * 8
        block["server_index"] = index
        at = endpoint.block + offset_of(Endpoint, "servers") + 2 * index
        self.guest.ram.view(at, 2)[:] = thread.selector.to_bytes(2, "little")

    def forget_server(self, endpoint: EndpointState, thread: Thread) -> None:
        """Take a server thread that ends out of `idle`: it may have announced its sleep after the server died."""
        self.slots.block(endpoint)["idle"] &= ~(1 << thread.server_index)

    def check_room(self, endpoint: EndpointState) -> None:
        """Raise NO_RESOURCES if the endpoint has as many server threads as it may have."""
        if len(endpoint.servers) >= selectors.SLOTS:
            raise Shortage(ErrorCode.NO_RESOURCES, f"a server has at most {selectors.SLOTS} threads")

    def die(self, endpoint: EndpointState, code: ErrorCode) -> None:
        """Mark an endpoint dead, because its server or disk is gone; killing the server's threads is the caller's job.

        Requests fail with `code` when the server's last thread has ended; threads that wait for a slot or for file
        data fail at once.
        """
        if endpoint.dead:
            return
        endpoint.dead = True
        endpoint.error = code
        fields = self.slots.block(endpoint)
        fields["flags"] |= EndpointFlags.DEAD
        fields["idle"] = 0
        while endpoint.waiters:
            selector = endpoint.waiters.popleft()
            fields["slot_waiters"] -= 1
            if selector != RELEASES:
                thread = self.scheduler.tasks.threads[selector]
                self.guest.words[thread.tcb + SLOT_ERROR] = code
                self.scheduler.wake(thread)
        for user in self.users:
            user.endpoint_died(endpoint, code)
        if endpoint.process is None or not endpoint.process.threads:
            self.sweep(endpoint)

    def sweep(self, endpoint: EndpointState) -> None:
        """Fail the requests of a dead endpoint whose server has no thread left, with the error of its death.

        A thread of the server that still lives may be anywhere in the kernel: about to mark a request as served, or
        between taking the client's selector out of the record and marking the slot as done.
        """
        endpoint.swept = True
        fields = self.slots.block(endpoint)
        fields["idle"] = 0
        fields["head"] = fields["tail"]
        for slot in range(selectors.SLOTS):
            if self.slots.slot_state(endpoint, slot) in {SlotState.POSTED, SlotState.SERVED}:
                self.slots.fail_slot(endpoint, slot, endpoint.error)
