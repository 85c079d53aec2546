"""Deferred releases alone, on the IPC room."""

from typing import Self

from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import TOKEN_RELEASES
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.ipc.deferred_releases import ENTRY, DeferredReleases, DeferredReleasesState
from plain_guest import drive
from plain_ipc import DATA, Ipc


class ReleasesRig(Ipc):
    """Deferred releases with their thread, on the IPC room; stops of the machine are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.stops = 0
        self.back = DeferredReleases(DeferredReleasesState(), self.guest, self.threads, self.slots, self.log, self.stop)
        self.posted.releases = self.back
        self.posted.granted = self.back.granted
        self.back.start()
        self.queue = self.endpoint.releases
        self.poster = self.back.state.thread
        self.endpoint.held = 10

    def put_off_a_close(self) -> Self:
        """Have the server close files with OPEN, and put the CLOSE of file 5 off for one."""
        self.endpoint.closes_at_open = True
        self.back.add_close(self.endpoint, 5)
        assert (self.queue.busy, self.back.state.put_off, self.endpoint.held) == (False, [self.endpoint], 10)
        return self

    def stop(self) -> None:
        self.stops += 1

    def post(self) -> list[tuple[int, int, int]]:
        """Have the thread post the entries that have a slot; return (operation, EAX, EDX) of each."""
        found = []
        self.messages = 0

        def ipc_post_slot(call: RoutineCall) -> None:
            found.append((self.threads.block(self.scheduler.current)["request_operation"], call.eax, call.edx))
            self.messages += 1

        def ipc_post_batch(call: RoutineCall) -> None:
            block = self.threads.block(self.scheduler.current)
            assert block["request_operation"] == Operation.BATCH
            assert block["request_bytes"] == call.ecx * ENTRY.size
            number = block["request_endpoint"] // 8 - GDT_FIRST_ENDPOINT
            page = self.slots.message(self.endpoints.by_number[number], block["slot"])
            entries = ENTRY.iter_unpack(page[DATA : DATA + block["request_bytes"]])
            found.extend((entry[0], entry[1], entry[4]) for entry in entries)
            self.messages += 1

        current = self.scheduler.current
        self.run(self.poster)
        drive(self.back.host_post_releases(0), ipc_post_slot=ipc_post_slot, ipc_post_batch=ipc_post_batch)
        self.scheduler.note_wait(self.poster, WaitReason.SLEEP)
        self.run(current)
        return found

    def add_closes(self, count: int) -> None:
        for number in range(count):
            self.back.add(self.endpoint, Operation.CLOSE, number)

    def answer(self, *, error: ErrorCode = ErrorCode.OK, failed: dict[int, ErrorCode] | None = None) -> None:
        """Have the server answer the deferred releases that were posted to it; of a batch some may have failed."""
        slot = next(slot for slot, token in self.slots.tokens(self.endpoint).items() if token == TOKEN_RELEASES)
        message = self.message(slot)
        message.eax, message.eflags = error, int(error is not ErrorCode.OK)
        for index, code in (failed or {}).items():
            at = DATA + index * ENTRY.size
            number, _, *others, _ = ENTRY.unpack_from(self.slots.message(self.endpoint, slot), at)
            ENTRY.pack_into(self.slots.message(self.endpoint, slot), at, number, code, *others, 1)
        drive(self.slots.host_replied(slot))
        self.slots.free_slot(self.endpoint, slot)
