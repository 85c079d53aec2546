"""The requests in an endpoint's slots, as a person looks at them: whose they are, where they stand, what they say.

>>> system.slots("d0p1")[0]
<slot 0 of d0p1: SERVED, client 9 'shell', page 0x… at 0xa0020000 in the server, OPEN>
>>> system.request().message.operation
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import BATCH_ENTRY_SHIFT, Endpoint, Message, MessageFlags, SlotState
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT, SLOTS
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.core.records import EndpointState, Thread
from callgate.kernel.machine.observation.structures import Structure
from callgate.kernel.programs.kernel_labels import POST_SLOT

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.asm.assembler.output.unit import EventSite
    from callgate.kernel.kernel import Kernel

REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi")


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot as it was when it was asked for; `message` is None as long as its page has not been filled."""

    endpoint: str
    index: int
    state: SlotState
    client: Thread | None  # that waits for the reply
    server: Thread | None  # that was given the request
    record: Structure
    message: Structure | None

    @property
    def operation(self) -> str:
        """The operation's name, "" without a message; a number that is none of the protocol's stays one.

        With BATCH stands how many requests it is; while a native server serves it, the one that it is at.
        """
        if self.message is None:
            return ""
        value = self.message.operation
        if value == Operation.BATCH and self.message.flags & MessageFlags.DATA:
            return f"BATCH of {self.message.count >> BATCH_ENTRY_SHIFT}"
        return value.name if isinstance(value, Operation) else f"operation {value:#x}"

    def __repr__(self) -> str:
        parts = [self.state.name]
        if self.client is not None:
            parts.append(f"client {self.client.number} {self.client.name!r}")
        if self.message is not None:
            where = f" at {self.record.linear:#010x} in the server" if self.state is SlotState.SERVED else ""
            parts.append(f"page {self.record.physical:#x}{where}")
            parts.append(self.operation)
        return f"<slot {self.index} of {self.endpoint}: {', '.join(parts)}>"


def endpoint_named(kernel: Kernel, name: str) -> EndpointState:
    """Return an endpoint by its name ("d0p1", "rom"), its number, or its file system ("fat"), the first one.

    KeyError names those there are.
    """
    endpoints = kernel.state.endpoints.by_number
    for endpoint in endpoints.values():
        if name in (endpoint.name, str(endpoint.number)):
            return endpoint
    for endpoint in endpoints.values():
        if endpoint.file_system and name.lower() in endpoint.file_system.lower():
            return endpoint
    raise KeyError(f"no endpoint {name!r}; there is {those_like(name, [e.name for e in endpoints.values()])}")


def slots(kernel: Kernel, endpoint: EndpointState) -> list[SlotView]:
    """Return the 32 slots of an endpoint."""
    block = block_of(kernel, endpoint)
    return [_view(kernel, endpoint, block, index) for index in range(SLOTS)]


def slot_at(kernel: Kernel, endpoint: EndpointState, index: int) -> SlotView:
    """Return one slot of an endpoint; IndexError."""
    return _view(kernel, endpoint, block_of(kernel, endpoint), index)


def block_of(kernel: Kernel, endpoint: EndpointState) -> Structure:
    """Return the endpoint's block in guest memory."""
    data = kernel.machine.ram.read(endpoint.block, PAGE_SIZE)
    return Structure(Endpoint, data, KERNEL_BASE + endpoint.block)


def _view(kernel: Kernel, endpoint: EndpointState, block: Structure, index: int) -> SlotView:
    threads = kernel.state.tasks.threads
    record = block.slots[index]
    frame = endpoint.frames.get(index)
    message = None
    if frame is not None:
        message = Structure(Message, kernel.machine.ram.read(frame, PAGE_SIZE), KERNEL_BASE + frame)
    served = block.state[index] == SlotState.SERVED
    return SlotView(
        endpoint.name,
        index,
        state_of(block, index),
        threads.get(record.client),
        threads.get(block.server_of[index]) if served else None,
        record,
        message,
    )


def state_of(block: Structure | Endpoint, index: int) -> SlotState:
    """Return how far a slot is on its way round, from the block of its endpoint.

    By the masks a slot is taken; `Endpoint.state` says so only of one that policy has taken, and else FREE until it is
    posted.
    """
    state = SlotState(block.state[index])
    available = (block.free | block.unused) >> index & 1
    return SlotState.TAKEN if state is SlotState.FREE and not available else state


def request_of(kernel: Kernel, thread: Thread) -> SlotView | None:
    """Return the request that a thread makes, waits for or serves; None if there is none."""
    for endpoint in kernel.state.endpoints.by_number.values():
        block = block_of(kernel, endpoint)
        for index in range(SLOTS):
            busy = block.state[index] != SlotState.FREE
            if busy and thread.selector in (block.slots[index].client, block.server_of[index]):
                view = _view(kernel, endpoint, block, index)
                if thread in (view.client, view.server):
                    return view
    return _in_hand(kernel, thread)


def _in_hand(kernel: Kernel, thread: Thread) -> SlotView | None:
    """Return the request that the running thread is about in the kernel, where the endpoint does not say whose it is.

    That is: from the taking of its slot until it is posted or served, from the fetching until it is served, and from
    the reply until it is released.  GS is the endpoint there, and ECX the slot; EBP after a reply by a direct switch.
    """
    cpu = kernel.machine.cpu
    endpoint = kernel.state.endpoints.by_number.get((cpu.gs >> 3) - GDT_FIRST_ENDPOINT)
    if endpoint is None or cpu.cpl or kernel.scheduler.running is not thread:
        return None
    block = block_of(kernel, endpoint)
    for index in (cpu.ecx, cpu.ebp):
        if index >= SLOTS or state_of(block, index) is SlotState.FREE:
            continue
        view = _view(kernel, endpoint, block, index)
        if view.state is SlotState.POSTED and index not in queue_of(block):
            return replace(view, server=thread)
        if view.state is not SlotState.POSTED and view.client in (None, thread) and view.server is None:
            filled = view.state is not SlotState.TAKEN or _filled(kernel.image, cpu.eip)
            return replace(view, client=thread, message=view.message if filled else None)
    return None


def _filled(image: Program, eip: int) -> bool:
    """Whether a thread that has taken a slot, and is at `eip`, has filled its page: else a former request lies there.

    It has after the event that says so, in a routine that has this event, and in routines that only post.
    """
    routine = routine_of(image, eip)
    sites = [site for site in image.events if _routine_of_event(image, site) == routine]
    fills = [site.address for site in sites if site.name == "ipc.fill"]
    if fills:
        return min(fills) <= eip
    return routine == POST_SLOT or any(site.name == "ipc.post" for site in sites)


def _routine_of_event(image: Program, site: EventSite) -> str:
    """Return the routine that an event is of: that of the instruction before it, for the next may begin another one."""
    return routine_of(image, site.address - 1)


def routine_of(image: Program, address: int) -> str:
    """Return the name of the routine of the kernel that an address lies in."""
    return image.symbol_at(address).partition("+")[0].partition(".")[0]


def queue_of(block: Structure) -> tuple[int, ...]:
    """Return the slots whose requests wait in the ring of an endpoint, from its block: the first one first."""
    waiting = min((block.tail - block.head) % (1 << 32), SLOTS)
    return tuple(block.ring[ticket % SLOTS] % SLOTS for ticket in range(block.head, block.head + waiting))
