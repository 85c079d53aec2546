"""Invariants of policy's records against one another and against what machine code keeps, for `Kernel.check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.limits import BATCH_ENTRIES
from callgate.kernel.abi.memory import (
    KERNEL_BASE,
    PTE_ACCESSED,
    PTE_DIRTY,
    PTE_NX_HIGH,
    PTE_PRESENT,
    PTE_USER,
    PTE_WRITABLE,
)
from callgate.kernel.abi.message import TOKEN_RELEASES, Endpoint, SlotState
from callgate.kernel.abi.selectors import SELECTOR_USER_CODE, SLOTS
from callgate.kernel.abi.thread import GateFrame, ThreadControlBlock, ThreadFlags, TrapFrame
from callgate.kernel.core.control_block import word
from callgate.kernel.core.records import RELEASES, EndpointState, Pin, Thread
from callgate.kernel.programs.kernel_labels import EXIT_THREAD, POLICY_END, TAKE_SLOT_QUEUE, TAKE_SLOT_WAIT
from callgate.kernel.storage.disk_requests import Key
from callgate.kernel.watching.check_facts import Facts

FLAG_VM, FLAG_IOPL = 1 << 17, 3 << 12
TCB_FLAGS = word(ThreadControlBlock, "flags")
STATE = offset_of(Endpoint, "state")
SERVER_OF = offset_of(Endpoint, "server_of")
ON_ITS_WAY = {SlotState.TAKEN, SlotState.POSTED, SlotState.SERVED}
FOR_A_SERVER = {WaitReason.REPLY, WaitReason.CALL, WaitReason.SLOT, WaitReason.FILE}
#: Kernel threads that may wait for a server, because asking it is their job: those that mount.
ASKS_SERVERS = ("init", "mount ")


# The disk cache.


def block_locks_equal_a_recount(facts: Facts) -> Iterator[str]:
    """A block's locks are the pins that name it, and one more if it has been changed.

    While policy is under way a coroutine may hold locks that no record names yet: then only too few are an error.
    """
    pins: Counter[Key] = Counter(_pinned_blocks(facts))
    blocks = facts.kernel.cache.state.blocks
    for key, block in blocks.items():
        counted = pins[key] + block.changed
        if block.locks < counted or (block.locks > counted and facts.quiescent):
            yield f"block {key} has {block.locks} locks, on record {counted}"
    for key in sorted(pins.keys() - {*blocks}):
        yield f"block {key} is pinned, and not in the cache"


def _pinned_blocks(facts: Facts) -> Iterator[Key]:
    for span in facts.spans:
        for run in span.blocks:
            yield from run.keys
    holders: list[Iterable[Pin]] = [
        pins for endpoint in facts.state.endpoints.by_number.values() for pins in endpoint.pins.values()
    ]
    holders += [window.pins for process in facts.state.tasks.processes.values() for window in process.windows.values()]
    yield from ((disk, block) for pins in holders for kind, disk, block in pins if kind == "block")


def cache_totals_equal_a_recount(facts: Facts) -> Iterator[str]:
    """`locked` and `changed` of the cache are the numbers of such blocks, and `claimed` that of the windows' claims.

    `held` is how many of the latter two each family has.
    """
    state = facts.kernel.cache.state
    for name, total, counted in (
        ("locked", state.locked, sum(1 for block in state.blocks.values() if block.locks)),
        ("changed", state.changed, sum(1 for block in state.blocks.values() if block.changed)),
        ("claimed", state.claimed, sum(block.writers for block in state.blocks.values())),
    ):
        if total != counted:
            yield f"cache.{name} is {total}, counted {counted}"
    held = Counter(block.family for block in state.blocks.values() if block.changed)
    for span in facts.spans:
        for (process, _), claims in span.users.items():
            held[facts.state.tasks.processes[process].family] += len(claims)
    if +held != state.held:
        yield f"cache.held is {dict(state.held)}, counted {dict(+held)}"


# Requests.


def slot_waiters_equal_a_recount(facts: Facts) -> Iterator[str]:
    """`slot_waiters` is the length of the queue for a slot.

    Machine code counts itself before it calls SLOT_WAIT: one more for each thread that is between the two.
    """
    address = facts.kernel.guest.address
    first, behind = address(TAKE_SLOT_QUEUE), address(TAKE_SLOT_WAIT)
    between = sum(1 for thread in facts.state.tasks.threads.values() if facts.within(thread, first, behind))
    for endpoint in facts.state.endpoints.by_number.values():
        counted = len(endpoint.waiters)
        waiters = facts.kernel.slots.block(endpoint)["slot_waiters"]
        if not counted <= waiters <= counted + between:
            yield f"{endpoint.name}: slot_waiters is {waiters}, counted {counted}"


def endpoint_mask_equals_the_records(facts: Facts) -> Iterator[str]:
    """Ring 3 can name an endpoint if and only if there is a record of it."""
    recorded = sum(1 << number for number in facts.state.endpoints.by_number)
    mask = facts.kernel.guest.kernel_words["endpoints"]
    if mask != recorded:
        yield f"the mask of endpoints is {mask:#x}, on record {recorded:#x}"


def sleeping_servers_live(facts: Facts) -> Iterator[str]:
    """A bit of `idle` names a thread of the endpoint's server that has not ended."""
    for endpoint in facts.state.endpoints.by_number.values():
        idle = facts.kernel.slots.block(endpoint)["idle"]
        for index in (index for index in range(SLOTS) if idle >> index & 1):
            selector = endpoint.servers[index] if index < len(endpoint.servers) else 0
            thread = facts.state.tasks.threads.get(selector)
            if thread is None or thread.process is not endpoint.process:
                yield f"{endpoint.name}: bit {index} of idle names selector {selector:#x}, which no server thread has"


def message_pages_are_mapped_while_they_are_served(facts: Facts) -> Iterator[str]:
    """The entry of a slot's page is present only while the request is served, and leads to no other page."""
    for endpoint in facts.state.endpoints.by_number.values():
        if endpoint.process is None or endpoint.dead:
            continue
        first = facts.kernel.slots.block(endpoint)["window_table"] - KERNEL_BASE
        states = _states(facts, endpoint)
        for slot, frame in endpoint.frames.items():
            entry = facts.quads[first // 8 + slot]
            if entry & PTE_PRESENT and states[slot] != SlotState.SERVED:
                yield f"{endpoint.name}: the page of slot {slot} is mapped, and its state is {states[slot]}"
            low = frame | PTE_PRESENT | PTE_WRITABLE | PTE_USER if entry & PTE_PRESENT else 0
            if entry & ~(PTE_ACCESSED | PTE_DIRTY) != PTE_NX_HIGH << 32 | low:
                yield f"{endpoint.name}: the entry of slot {slot}'s page is {entry:#x}"


def requests_that_are_given_are_served(facts: Facts) -> Iterator[str]:
    """A slot names the thread that was given its request only while that is served."""
    for endpoint in facts.state.endpoints.by_number.values():
        given = facts.kernel.machine.ram.view(endpoint.block + SERVER_OF, 2 * SLOTS).cast("H")
        for slot, (selector, state) in enumerate(zip(given, _states(facts, endpoint), strict=True)):
            if selector and state != SlotState.SERVED:
                yield f"{endpoint.name}: slot {slot} is given to selector {selector:#x}, and its state is {state}"


def a_slot_is_in_one_place(facts: Facts) -> Iterator[str]:
    """No slot is both free and unused, and none of these two holds a request."""
    for endpoint in facts.state.endpoints.by_number.values():
        fields = facts.kernel.slots.block(endpoint)
        free, unused = fields["free"], fields["unused"]
        states = _states(facts, endpoint)
        for slot in range(SLOTS):
            here = free >> slot & 1
            if here and unused >> slot & 1:
                yield f"{endpoint.name}: slot {slot} is free and unused"
            if (here or unused >> slot & 1) and states[slot] != SlotState.FREE:
                yield f"{endpoint.name}: slot {slot} is free, and {SlotState(states[slot]).name}"
            if here and slot not in endpoint.frames:
                yield f"{endpoint.name}: slot {slot} is free, and has no page"


def posted_requests_equal_a_recount(facts: Facts) -> Iterator[str]:
    """A slot with a token is on its way, and no client takes its reply; a span waits for one thing only.

    That is a slot, or the disk, or the policy that handles the reply.  Policy takes the token out (REPLIED) before the
    slot is free.  A slot that machine code has just taken, and is filling, is still FREE, and not in the mask of those.
    """
    counted: Counter[int] = Counter()
    for endpoint in facts.state.endpoints.by_number.values():
        states = _states(facts, endpoint)
        fields = facts.kernel.slots.block(endpoint)
        for slot, token in facts.kernel.slots.tokens(endpoint).items():
            counted[token] += 1
            if (fields["free"] | fields["unused"]) >> slot & 1:
                yield f"{endpoint.name}: slot {slot} is free, and has the token {token:#x}"
            filled = not facts.quiescent and states[slot] == SlotState.FREE
            if not (filled or states[slot] in ON_ITS_WAY) or facts.kernel.slots.client(endpoint, slot):
                yield f"{endpoint.name}: slot {slot} has the token {token:#x}, and is {SlotState(states[slot]).name}"
    for number, (_, span) in facts.kernel.state.files.waiting.items():
        ways = counted[number] + bool(span.list_frame)
        if span.state is not SpanState.WAITING or ways > 1 or (ways == 0 and facts.quiescent):
            yield f"span {number} waits for {ways} replies or disk requests, and is {span.state.name}"


def _states(facts: Facts, endpoint: EndpointState) -> bytes:
    return facts.kernel.machine.ram.read(endpoint.block + STATE, SLOTS)


# Threads.


def a_dying_process_has_killed_threads_only(facts: Facts) -> Iterator[str]:
    """Every thread of a process that dies has been killed, and its control block says so until it ends."""
    address = facts.kernel.guest.address
    first, behind = address(EXIT_THREAD), address(POLICY_END)
    for thread in facts.state.tasks.threads.values():
        if not thread.process.dying:
            continue
        flagged = facts.words[thread.tcb + TCB_FLAGS] & ThreadFlags.KILLED
        if not thread.killed or not (flagged or facts.within(thread, first, behind)):
            yield f"thread {thread.number} of dying process {thread.process.number} has not been killed"


def ring_3_has_neither_vm_nor_iopl(facts: Facts) -> Iterator[str]:
    """EFLAGS.VM and IOPL are clear: in the CPU, and in every frame that leads back to ring 3."""
    if facts.kernel.machine.cpu.eflags & (FLAG_VM | FLAG_IOPL):
        yield f"the CPU's EFLAGS are {facts.kernel.machine.cpu.eflags:#x}"
    for thread in facts.state.tasks.threads.values():
        flags = _saved_flags(facts, thread)
        if flags & (FLAG_VM | FLAG_IOPL):
            yield f"thread {thread.number} goes back to ring 3 with EFLAGS {flags:#x}"


def _saved_flags(facts: Facts, thread: Thread) -> int:
    """Return EFLAGS of the frame at the top of a thread's kernel stack; 0 if there is none, or not yet.

    A call gate pushes no EFLAGS, so CS lies one word higher than in the frame of a trap (`GateFrame`, `TrapFrame`).
    """
    cpu = facts.kernel.machine.cpu
    running = thread is facts.kernel.scheduler.running
    if thread.process.number == 0 or (running and cpu.cpl == 3):
        return 0
    for layout in (GateFrame, TrapFrame):
        base = thread.stack - size_of(layout)
        flags = base + offset_of(layout, "eflags")
        if facts.stack_word(thread, base + offset_of(layout, "cs")) == SELECTOR_USER_CODE:
            return 0 if running and cpu.esp > flags else facts.stack_word(thread, flags)
    return 0


def kernel_threads_do_not_wait_for_servers(facts: Facts) -> Iterator[str]:
    """No thread of the kernel waits for a server, but for those that mount."""
    for thread in facts.state.tasks.threads.values():
        if thread.process.number or thread.name.startswith(ASKS_SERVERS):
            continue
        reason = facts.kernel.scheduler.reason_of(thread)
        if reason in FOR_A_SERVER:
            yield f"kernel thread {thread.name!r} waits for {reason.name}"


def fpu_registers_are_their_owners_or_locked(facts: Facts) -> Iterator[str]:
    """The x87, MMX and SSE registers are their owner's alone, and those of a dead thread are nowhere.

    The routines that hand them over (asm/kernel/threads/fpu.asm) are an exception.
    """
    yield from facts.kernel.fpu.check()


def releases_are_on_their_way(facts: Facts) -> Iterator[str]:
    """What is to be given back waits for a slot, has one, or is with the server that lives; in one place."""
    for endpoint in facts.state.endpoints.by_number.values():
        queue = endpoint.releases
        ways = endpoint.waiters.count(RELEASES) + (queue.slot >= 0)
        ways += list(facts.kernel.slots.tokens(endpoint).values()).count(TOKEN_RELEASES)
        started = facts.kernel.releases.state.thread is not None
        if ways > 1 or (facts.quiescent and ways != queue.busy):
            yield f"{endpoint.name}: deferred releases are in {ways} places, busy is {queue.busy}"
        in_flight = TOKEN_RELEASES in facts.kernel.slots.tokens(endpoint).values()
        if facts.quiescent and not endpoint.dead and in_flight != bool(queue.posted):
            yield f"{endpoint.name}: {len(queue.posted)} deferred releases are posted, in flight is {in_flight}"
        put_off = facts.kernel.releases.state.put_off.count(endpoint)
        kinds = {operation for operation, _ in queue.entries}
        few = len(queue.entries) == 1 or (kinds == {Operation.UNLOCK_DIRECTORY} and len(queue.entries) < BATCH_ENTRIES)
        if put_off and (put_off > 1 or endpoint.dead or queue.busy or not few):
            yield f"{endpoint.name}: {len(queue.entries)} deferred releases are put off, {put_off} times"
        if not endpoint.dead and queue.entries and started and not queue.busy and not put_off:
            yield f"{endpoint.name}: {len(queue.entries)} deferred releases that are not being sent"


def what_servers_hold_equals_a_recount(facts: Facts) -> Iterator[str]:
    """`held` of a server that lives counts open files, locks, spans and deferred releases."""
    for endpoint in facts.state.endpoints.by_number.values():
        counted = held_by(facts, endpoint)
        if facts.quiescent and not endpoint.dead and endpoint.held != counted:
            yield f"{endpoint.name}: holds {endpoint.held} things, counted {counted}"


def held_by(facts: Facts, endpoint: EndpointState) -> int:
    """Return what `EndpointState.held` must be while the server lives."""
    files = [file for file in facts.kernel.files.objects.values() if file.endpoint == endpoint.number]
    blocks = sum(bool(span.server_request) for file in files for span in file.spans)
    versions = set(facts.kernel.directories.state.versions.values())
    for process in facts.state.tasks.processes.values():
        versions.update(lock.of for lock in process.locks.values() if lock.of is not None)
    locks = sum(version.server is endpoint for version in versions)
    queue = endpoint.releases
    return len(files) + blocks + locks + len(queue.entries) + len(queue.posted)
