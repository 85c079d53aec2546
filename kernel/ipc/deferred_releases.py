"""Deferred releases: telling servers which open files, locked directories and file data are no longer used.

Any code, interrupt handlers included, may note a release here; it never waits for the server.  Each endpoint has a
queue of its own.  Its oldest entry queues up for a slot of that endpoint like a client (`RELEASES` in
`EndpointState.waiters`); a kernel thread posts it once it has one (`release_thread` in
asm/kernel/threads/watch_thread.asm), with those after it as a batch, and after the server's answer, whatever it is, the
next one queues up.  So a server that does not answer blocks one slot of its own, no thread, and no other server.

The queue is bounded: the things that a server holds for others, released or not, are counted (`EndpointState.held`),
and at `HELD_OF_SERVER` it is sent no new OPEN, LOCK_DIRECTORY or READ.  Clients that open and close faster than the
server answers would fill the queue, and others would be refused: so while it is half full, a thread that is about to
ask the server waits first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from struct import Struct
from typing import Final

from callgate.kernel.abi import selectors
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode, error_of_server
from callgate.kernel.abi.limits import BATCH_ENTRIES, HELD_OF_SERVER
from callgate.kernel.abi.message import TOKEN_RELEASES, Message
from callgate.kernel.common.record import record
from callgate.kernel.core.coroutines import CARRY, routine
from callgate.kernel.core.errors import Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import EndpointState, Thread
from callgate.kernel.ipc.slots import DATA, Slots
from callgate.kernel.tasks.threads import Threads

ENTRY = Struct("<8I")  # BatchEntry: operation, six registers, EFLAGS
BEHIND_LIMIT: Final = 1_000_000_000  # nanoseconds of virtual time: the longest wait for a server that is behind
LAST_WORDS = 1_000_000  # nanoseconds of virtual time for deferred releases after the shell has ended


@record
class DeferredReleasesState:
    """Records: the thread that posts, and the endpoints of which it has a slot."""

    thread: Thread | None = None
    due: list[EndpointState] = field(default_factory=list)
    put_off: list[EndpointState] = field(default_factory=list)  # with a CLOSE for the next OPEN, or UNLOCKs only
    ending: bool = False  # the shell has ended: the machine stops when all servers have been told, or at `last`
    last: int = 0  # clock


class DeferredReleases:
    """Sends RELEASE, CLOSE and UNLOCK_DIRECTORY."""

    def __init__(
        self,
        state: DeferredReleasesState,
        guest: Guest,
        threads: Threads,
        slots: Slots,
        log: Log,
        stop: Callable[[], None],
    ) -> None:
        """`stop` stops the machine: called when the shell has ended and all servers have been told."""
        self.state = state
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.slots = slots
        self.endpoints = slots.state
        self.log = log
        self.stop = stop
        self.limit = HELD_OF_SERVER

    def start(self) -> None:
        """Make the thread that posts; it sleeps until there is something to release."""
        thread = self.threads.create_kernel("releases", "release_thread")
        self.scheduler.note_wait(thread, WaitReason.SLEEP)
        self.state.thread = thread
        for endpoint in self.endpoints.by_number.values():
            self._next(endpoint)

    # What a server holds.

    def check_room(self, endpoint: EndpointState) -> None:
        """Raise NO_RESOURCES if the server holds `HELD_OF_SERVER` things for others, unanswered releases included."""
        if endpoint.held >= self.limit:
            raise Shortage(ErrorCode.NO_RESOURCES, f"/{endpoint.name} holds {endpoint.held} things for others")

    def _is_behind(self, endpoint: EndpointState) -> bool:
        return len(endpoint.releases.entries) >= self.limit // 2 and not endpoint.dead

    async def catch_up(self, endpoint: EndpointState) -> bool:
        """Have the current thread, which is about to ask a server, wait while that one is far behind.

        Return whether it has waited; it waits for `BEHIND_LIMIT` at most.  KILLED or INTERRUPTED if it must not wait.
        """
        thread, queue = self.scheduler.current, endpoint.releases
        begin = self.guest.now
        waited = False
        while self._is_behind(endpoint) and self.guest.now < begin + BEHIND_LIMIT:
            self.threads.check_wait(thread)
            waited = True
            queue.behind.append(thread.selector)
            self.scheduler.sleep_until(thread, begin + BEHIND_LIMIT)
            await routine("block", eax=WaitReason.FILE)
            self.scheduler.cancel_sleep(thread)
            if thread.selector in queue.behind:
                queue.behind.remove(thread.selector)
        return waited

    def _caught_up(self, endpoint: EndpointState) -> None:
        """Wake the threads in `catch_up`, if the server is no longer far behind."""
        queue = endpoint.releases
        if queue.behind and not self._is_behind(endpoint):
            behind, queue.behind = queue.behind, []
            for selector in behind:
                self.scheduler.host_wake(selector)

    def taken(self, endpoint: EndpointState) -> None:
        """Count one more thing that a server, by its own answer, holds for others."""
        endpoint.held += 1

    # What it is to release.

    def add(self, endpoint: EndpointState, operation: Operation, number: int) -> None:
        """Note that a server may release the file, lock or data `number`; the caller does not wait for it."""
        if endpoint.dead:
            return
        endpoint.releases.entries.append((operation, number))
        self._next(endpoint)

    def add_close(self, endpoint: EndpointState, number: int) -> None:
        """As `add` of CLOSE, but put off: the next OPEN of this server carries it, or it is sent when the CPU idles.

        Only if the server closes files with OPEN, and while it is the only thing that the server is to be told: a
        RELEASE that it has not answered may concern this file, and comes before its end.
        """
        queue = endpoint.releases
        entries = queue.entries
        if not endpoint.closes_at_open or endpoint.dead or queue.busy or entries or self.state.ending:
            self.add(endpoint, Operation.CLOSE, number)
            return
        entries.append((Operation.CLOSE, number))
        self.state.put_off.append(endpoint)

    def add_unlock(self, endpoint: EndpointState, number: int) -> None:
        """As `add` of UNLOCK_DIRECTORY, but put off until a batch has gathered, or the CPU idles and no disk works.

        A walk through a tree gives back a directory for each one that it locks, and a message for each would be as many
        switches.  Only for a server that holds little, and while it is to be told nothing else.
        """
        queue = endpoint.releases
        entries = queue.entries
        alone = all(operation is Operation.UNLOCK_DIRECTORY for operation, _ in entries)
        roomy = endpoint.held < self.limit // 2 and not self.state.ending
        if endpoint.dead or queue.busy or queue.one_by_one or not alone or not roomy:
            self.add(endpoint, Operation.UNLOCK_DIRECTORY, number)
            return
        entries.append((Operation.UNLOCK_DIRECTORY, number))
        if len(entries) >= BATCH_ENTRIES:
            self._next(endpoint)
        elif endpoint not in self.state.put_off:
            self.state.put_off.append(endpoint)

    def take_along(self, endpoint: EndpointState) -> int:
        """Return the file that the OPEN which is about to be sent is to close, 0 for none; it is told by that."""
        if endpoint not in self.state.put_off or endpoint.releases.entries[0][0] is not Operation.CLOSE:
            return 0
        self.state.put_off.remove(endpoint)
        _, number = endpoint.releases.entries.popleft()
        endpoint.held -= 1
        return int(number)

    def put_back(self, endpoint: EndpointState, number: int) -> None:
        """The OPEN that was to close a file has not been sent: send a CLOSE."""
        if number and not endpoint.dead:
            self.taken(endpoint)
            self.add(endpoint, Operation.CLOSE, number)

    def send_put_off(self, *, disk_works: bool = False) -> None:
        """Send what was put off: the CPU is about to idle, or the end has come.

        While a disk works, the CPU idles for a moment only: UNLOCKs wait on.
        """
        for endpoint in list(self.state.put_off):
            if not disk_works or endpoint.releases.entries[0][0] is not Operation.UNLOCK_DIRECTORY:
                self._next(endpoint)

    def send_now(self, endpoint: EndpointState) -> bool:
        """Send what was put off for one server, whose memory is wanted; False if nothing was."""
        if endpoint not in self.state.put_off:
            return False
        self._next(endpoint)
        return True

    def _next(self, endpoint: EndpointState) -> None:
        """Have the oldest entry queue up for a slot of its endpoint, unless one is under way."""
        queue = endpoint.releases
        if endpoint in self.state.put_off:
            self.state.put_off.remove(endpoint)
        if queue.busy or not queue.entries or self.state.thread is None:
            return
        queue.busy = True
        self.slots.queue_releases(endpoint)

    def granted(self, endpoint: EndpointState, slot: int) -> None:
        """Have the oldest entry posted in the slot that it has been given."""
        endpoint.releases.slot = slot
        self.state.due.append(endpoint)
        assert self.state.thread is not None
        self.scheduler.wake(self.state.thread)

    async def host_post_releases(self, _value: int) -> None:
        """POST_RELEASES: post the entries that have a slot.  This never waits: `ipc_post_slot` returns at once."""
        state = self.state
        while state.due:
            endpoint = state.due.pop(0)
            slot, endpoint.releases.slot = endpoint.releases.slot, -1
            if endpoint.dead:
                self.slots.free_slot(endpoint, slot)
                self.answered(endpoint)
                continue
            await self._post(endpoint, slot)
        if state.ending and (self.idle or self.guest.now >= state.last):
            self.stop()

    async def _post(self, endpoint: EndpointState, slot: int) -> None:
        """Post the oldest entry, or a batch of the oldest ones: a RELEASE still comes before the CLOSE of its file."""
        queue = endpoint.releases
        count = 1 if queue.one_by_one else min(len(queue.entries), BATCH_ENTRIES)
        queue.posted = [queue.entries.popleft() for _ in range(count)]
        self.slots.put_token(endpoint, slot, TOKEN_RELEASES)
        block = self.threads.block(self.scheduler.current)
        block["slot"] = slot
        block["request_endpoint"] = (selectors.GDT_FIRST_ENDPOINT + endpoint.number) * 8
        if count == 1:
            block["request_operation"], number = queue.posted[0]
            await routine("ipc_post_slot", eax=number, edx=number)
            return
        data = b"".join(ENTRY.pack(operation, number, 0, 0, number, 0, 0, 0) for operation, number in queue.posted)
        self.slots.message(endpoint, slot)[DATA : DATA + len(data)] = data
        block["request_operation"], block["request_bytes"] = Operation.BATCH, len(data)
        self.guest.machine.ledger.extra["batched_requests"] += count
        await routine("ipc_post_batch", ecx=count)

    async def replied(self, endpoint: EndpointState, _token: int, message: memoryview) -> None:
        """REPLIED to a deferred release: the server has been told, whatever its reply says.  Send the next."""
        self.answered(endpoint, message)

    def failed(self, endpoint: EndpointState, _token: int) -> None:
        """Policy has answered a deferred release, because its server has ended."""
        self.answered(endpoint)

    def answered(self, endpoint: EndpointState, message: memoryview | None = None) -> None:
        """The server has answered what was posted, or has died: send the next; log errors of the reply `message`.

        A server that knows no batches is sent the same entries once more, one by one.
        """
        queue = endpoint.releases
        posted, queue.posted = queue.posted, []
        queue.busy = False
        if endpoint.dead:
            return
        known, errors = said_of(message, len(posted)) if message is not None else (True, [])
        if not known:
            queue.one_by_one = True
            queue.entries.extendleft(reversed(posted))
        else:
            endpoint.held -= len(posted)
            self._caught_up(endpoint)
            for code in errors:
                self.log(f"{endpoint.name}: what was given back: {error_of_server(code).name}", endpoint)
        self._next(endpoint)
        if not queue.busy:
            self._all_said(endpoint)

    def endpoint_died(self, endpoint: EndpointState, _code: ErrorCode) -> None:
        """Drop the queue of a server that has ended: it no longer holds anything.

        An entry that has a slot keeps the queue busy until the slot is free again; one that waited for a slot does not.
        """
        queue = endpoint.releases
        queue.entries.clear()
        if endpoint in self.state.put_off:
            self.state.put_off.remove(endpoint)
        queue.busy = queue.slot >= 0 or TOKEN_RELEASES in self.slots.tokens(endpoint).values()
        endpoint.held = 0
        self._all_said(endpoint)
        self._caught_up(endpoint)

    def _all_said(self, endpoint: EndpointState) -> None:
        waiters, endpoint.releases.waiters = endpoint.releases.waiters, []
        for selector in waiters:
            self.scheduler.host_wake(selector)
        if self.state.ending and self.state.thread is not None:
            self.scheduler.wake(self.state.thread)

    async def said(self, endpoint: EndpointState) -> None:
        """Have the current thread wait until a server that it has asked has answered all entries, or has died.

        KILLED or INTERRUPTED if it must not wait.
        """
        self._next(endpoint)
        queue = endpoint.releases
        thread = self.scheduler.current
        while queue.busy and not endpoint.dead:
            self.threads.check_wait(thread)
            queue.waiters.append(thread.selector)
            await routine("block", eax=WaitReason.FILE)
            if thread.selector in queue.waiters:
                queue.waiters.remove(thread.selector)

    # The end.

    @property
    def idle(self) -> bool:
        """Whether every server that lives has answered all its entries."""
        return not any(p.releases.busy for p in self.endpoints.by_number.values() if not p.dead)

    def end(self) -> None:
        """The shell has ended: stop the machine when servers have answered all entries, or after `LAST_WORDS`."""
        state = self.state
        self.send_put_off()
        if self.idle or state.thread is None:
            self.stop()
            return
        state.ending = True
        state.last = self.guest.now + LAST_WORDS
        self.scheduler.sleep_until(state.thread, state.last)

    # Replies whose clients have been killed, or have abandoned the request.

    def unclaimed(self, endpoint: EndpointState, message: memoryview) -> None:
        """Release the file or lock that a reply has opened for a client that is gone.

        The page may hold any number: the release is sent to this same server, so it can lose only its own things.
        """
        header = Message.from_buffer(message)
        if header.eflags & CARRY or endpoint.dead:
            return
        if header.operation == Operation.OPEN:
            self._give_back(endpoint, Operation.CLOSE, header.eax)
        elif header.operation == Operation.LOCK_DIRECTORY:
            self._give_back(endpoint, Operation.UNLOCK_DIRECTORY, header.edx)

    def _give_back(self, endpoint: EndpointState, operation: Operation, number: int) -> None:
        self.taken(endpoint)
        self.add(endpoint, operation, number)


def said_of(message: memoryview, count: int) -> tuple[bool, list[int]]:
    """Return what a message says of `count` releases: whether the server knows batches, and the codes of what failed.

    Of a batch that has failed as a whole, the code is its own, and none of its entries has been served.
    """
    header = Message.from_buffer(message)
    if header.eflags & CARRY:
        return count == 1 or header.eax != ErrorCode.BAD_CALL, [header.eax]
    if count == 1:
        return True, []
    entries = ENTRY.iter_unpack(message[DATA : DATA + count * ENTRY.size])
    return True, [eax for _operation, eax, *_others, eflags in entries if eflags & CARRY]
