"""The IPC room on a plain guest, for unit tests of managers: slots, requests, and the work of machine code on them."""

from __future__ import annotations

from callgate.kernel.abi.calls import WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import Message, ReplyType, SlotState
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.records import EndpointState, Thread
from callgate.kernel.ipc.endpoint_lifetimes import EndpointLifetimes
from callgate.kernel.ipc.posted import Posted
from callgate.kernel.ipc.replies import Replies
from callgate.kernel.ipc.requests import Requests
from callgate.kernel.ipc.slots import Slots
from callgate.kernel.memory.pins import Pins
from plain_guest import Routine, Tasks, returned

DATA = 48  # of a message page


class Listener:
    """Records replies to posted requests."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []

    async def replied(self, _endpoint: EndpointState, token: int, _message: memoryview) -> None:
        self.heard.append(("replied", token))

    def failed(self, _endpoint: EndpointState, token: int) -> None:
        self.heard.append(("failed", token))


class Ipc(Tasks):
    """The IPC room with one endpoint on a plain guest; unlocked blocks and granted deferred releases are lists."""

    def __init__(self) -> None:
        super().__init__()
        self.unlocked: list[tuple[int, int]] = []
        self.granted: list[tuple[int, int]] = []
        self.died: list[ErrorCode] = []
        self.in_use = False
        self.posted = Posted()
        self.posted.granted = lambda endpoint, slot: self.granted.append((endpoint.number, slot))
        self.unclaimed: list[int] = []  # EAX of replies whose clients are gone
        self.posted.unclaimed = lambda _endpoint, message: self.unclaimed.append(Message.from_buffer(message).eax)
        self.files, self.deferred_releases = Listener(), Listener()
        self.posted.file_data, self.posted.releases = self.files, self.deferred_releases
        pins = Pins(self.low, self.unlocked.extend)
        self.slots = Slots(self.endpoints, self.guest, self.memory, self.gdt, self.scheduler, pins, self.posted)
        self.servers = EndpointLifetimes(
            self.slots, self.memory, self.gdt, self.threads, [self], lambda _endpoint: self.in_use
        )
        self.endpoint = self.create()
        self.fields = self.slots.block(self.endpoint)
        self.requests = Requests(self.guest, self.threads, self.slots, lambda _disk: True)
        self.replies = Replies(self.endpoints, self.memory, self.slots, self.log)

    def endpoint_died(self, _endpoint: EndpointState, code: ErrorCode) -> None:
        self.died.append(code)

    def create(self, name: str = "d0p1") -> EndpointState:
        process = self.processes.create("server")
        return self.servers.create(process, 0x100, 63, 1000, name)

    def wait(self, thread: Thread) -> int | None:
        """Have a thread wait for a slot as machine code does; return the one that it is given."""
        self.run(thread)
        self.fields["slot_waiters"] += 1
        self.slots.host_slot_wait(0)
        self.scheduler.note_wait(thread, WaitReason.SLOT)
        return self.threads.block(thread)["slot"] if thread.selector not in self.endpoint.waiters else None

    def take(self, count: int = 1, *, state: SlotState = SlotState.POSTED) -> list[int]:
        """Take slots for the shell's thread, and put them into a state."""
        slots = [self.wait(self.thread) for _ in range(count)]
        for slot in slots:
            assert slot is not None
            self.slots.put_state(self.endpoint, slot, state)
            self.guest.words[self.endpoint.block // 4 + slot * 4 + 3] |= self.thread.selector << 16
        return [slot for slot in slots if slot is not None]

    def message(self, slot: int) -> Message:
        return Message.from_buffer(self.slots.message(self.endpoint, slot))


def answers(ipc: Ipc, kind: ReplyType = ReplyType.REGISTERS, data: bytes = b"", **registers: int) -> Routine:
    """Return the routine `ipc_request` with this answer of a server."""
    failed = bool(registers.pop("failed", 0))

    def ipc_request(call: RoutineCall) -> RoutineResult:
        slot = ipc.take(state=SlotState.DONE)[0]
        ipc.slots.message(ipc.endpoint, slot)[DATA : DATA + len(data)] = data
        message = ipc.message(slot)
        message.reply, message.count = kind, len(data)
        return returned(call, failed=failed, **registers)

    return ipc_request
