"""Endpoints, slots, requests and replies, on a plain guest: the tests do the work of servers and machine code."""

import struct

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import TOKEN_RELEASES, Endpoint, EndpointFlags, SlotState
from callgate.kernel.abi.selectors import MAX_ENDPOINTS
from callgate.kernel.abi.thread import ThreadState
from plain_guest import drive, refusal
from plain_ipc import DATA, Ipc


@pytest.fixture
def ipc() -> Ipc:
    return Ipc()


# Endpoints.


def test_a_new_endpoint_has_32_unused_slots_and_a_ring_with_nothing_in_it(ipc: Ipc) -> None:
    block = Endpoint.from_buffer(ipc.guest.ram.view(ipc.endpoint.block, 4096))
    assert (block.unused, block.free, block.window_base, block.number) == (0xFFFF_FFFF, 0, 0xA002_0000, 0)
    assert bytes(block.ring) == b"\xe0" * 32
    assert ipc.guest.kernel_words["endpoints"] == 1


def test_a_server_has_at_most_32_threads_each_with_its_bit(ipc: Ipc) -> None:
    thread = ipc.thread
    for _ in range(32):
        ipc.servers.check_room(ipc.endpoint)
        ipc.servers.add_server(ipc.endpoint, thread)
    assert (thread.server_index, ipc.threads.block(thread)["server_index"]) == (31, 31)
    with refusal(ErrorCode.NO_RESOURCES):
        ipc.servers.check_room(ipc.endpoint)


def test_the_33rd_volume_takes_the_place_of_a_dead_one_without_threads_in_it(ipc: Ipc) -> None:
    for number in range(1, MAX_ENDPOINTS):
        ipc.create(f"d{number}")
    with refusal(ErrorCode.NO_RESOURCES):
        ipc.create("one too many")
    ipc.servers.die(ipc.endpoint, ErrorCode.UNPLUGGED)
    ipc.in_use = True  # one of its files is still open
    with refusal(ErrorCode.NO_RESOURCES):
        ipc.create("one too many")
    ipc.in_use = False
    used = ipc.low.used
    assert ipc.create("new").number == 0
    assert ipc.low.used == used + 5  # the space and its table for messages; one block for the other


def test_a_servers_death_fails_waits_for_a_slot_at_once_and_served_requests_later(
    ipc: Ipc,
) -> None:
    served = ipc.take()[0]
    ipc.take(31)
    waiting = ipc.new_thread(ipc.shell)
    assert ipc.wait(waiting) is None
    server = ipc.new_thread(ipc.endpoint.process)
    ipc.servers.die(ipc.endpoint, ErrorCode.UNPLUGGED)
    ipc.servers.die(ipc.endpoint, ErrorCode.SERVER_DIED)  # the first reason counts
    assert (ipc.died, ipc.fields["flags"]) == ([ErrorCode.UNPLUGGED], EndpointFlags.DEAD)
    assert (ipc.threads.block(waiting)["slot_error"], ipc.scheduler.state_of(waiting)) == (
        ErrorCode.UNPLUGGED,
        ThreadState.READY,
    )
    assert ipc.slots.slot_state(ipc.endpoint, served) == SlotState.POSTED
    ipc.endpoint.process.threads.remove(server)
    ipc.servers.sweep(ipc.endpoint)
    message = ipc.message(served)
    assert ipc.slots.slot_state(ipc.endpoint, served) == SlotState.DONE
    assert (message.error, message.eax, message.eflags & 1) == (ErrorCode.UNPLUGGED, ErrorCode.UNPLUGGED, 1)
    assert ipc.fields["aborted"] == 32


# Slots.


def test_slots_go_to_waiting_threads_in_the_order_in_which_they_came(ipc: Ipc) -> None:
    assert ipc.take(32) == list(range(32))
    waiting = [ipc.new_thread(ipc.shell) for _ in range(3)]
    assert [ipc.wait(thread) for thread in waiting] == [None] * 3
    for slot, thread in zip((7, 3), waiting, strict=False):
        ipc.slots.host_slot_give(slot)
        assert (ipc.threads.block(thread)["slot"], ipc.scheduler.state_of(thread)) == (slot, ThreadState.READY)
        assert ipc.slots.slot_state(ipc.endpoint, slot) == SlotState.TAKEN
    assert (ipc.fields["slot_waiters"], ipc.fields["free"]) == (1, 0)


def test_deferred_releases_queue_for_a_slot_like_a_thread(ipc: Ipc) -> None:
    ipc.take(32)
    ipc.slots.queue_releases(ipc.endpoint)
    thread = ipc.new_thread(ipc.shell)
    ipc.wait(thread)
    ipc.slots.free_slot(ipc.endpoint, 5)
    assert (ipc.granted, list(ipc.endpoint.waiters)) == ([(0, 5)], [thread.selector])


def test_a_thread_that_leaves_the_queue_is_told_why_and_has_no_slot(ipc: Ipc) -> None:
    ipc.take(32)
    thread = ipc.new_thread(ipc.shell)
    ipc.wait(thread)
    ipc.slots.host_slot_wait(1)
    assert ipc.threads.block(thread)["slot_error"] == ErrorCode.INTERRUPTED
    ipc.slots.host_slot_give(4)
    assert (ipc.fields["slot_waiters"], ipc.fields["free"]) == (0, 1 << 4)


def test_a_slot_without_memory_for_its_page_keeps_the_queue_waiting(ipc: Ipc) -> None:
    kept = ipc.low.allocate_several(ipc.low.available)
    assert ipc.wait(ipc.thread) is None
    ipc.slots.host_first_use(1)
    assert ipc.threads.block(ipc.thread)["slot_error"] == ErrorCode.NO_MEMORY
    ipc.low.release(kept[0])
    ipc.slots.host_slot_give(9)
    assert ipc.endpoint.waiters == type(ipc.endpoint.waiters)()


def test_a_first_use_gives_a_zeroed_page_with_a_selector_of_its_own(ipc: Ipc) -> None:
    ipc.guest.ram.view(ipc.low.next, 4096)[:] = b"\xff" * 4096
    ipc.slots.host_first_use(3)
    frame = ipc.endpoint.frames[3]
    assert ipc.guest.ram.read(frame, 4096) == bytes(4096)
    physical, linear, selector, client = struct.unpack("<QIHH", ipc.guest.ram.read(ipc.endpoint.block + 48, 16))
    assert (physical, linear - ipc.fields["window_base"]) == (frame, 3 * 4096)
    assert (selector // 8, client) == (32 + 32 + 512 + 3, 0)
    assert ipc.guest.ram.u64(0x2000 + selector) == 0x40_9200_0000_0FFF | (
        (KERNEL_BASE + frame & 0xFF_FFFF) << 16 | KERNEL_BASE + frame >> 24 << 56
    )


def test_an_answer_by_policy_ends_the_handle_and_frees_the_slot_if_no_thread_waits(
    ipc: Ipc,
) -> None:
    slot = ipc.take()[0]
    handle = ipc.slots.handle(ipc.endpoint, slot)
    ipc.slots.complete(ipc.endpoint, slot)
    assert ipc.slots.handle(ipc.endpoint, slot) == handle + 0x100
    assert ipc.slots.client(ipc.endpoint, slot) == 0
    ipc.slots.put_token(ipc.endpoint, slot, 44)
    ipc.endpoint.pins[slot] = [("block", 0x100, 3)]
    ipc.slots.complete(ipc.endpoint, slot)
    assert (ipc.files.heard, ipc.unlocked) == ([("failed", 44)], [(0x100, 3)])
    assert ipc.fields["free"] == 1 << slot


def test_a_request_to_a_dead_endpoint_is_answered_once_its_server_has_left(ipc: Ipc) -> None:
    slot = ipc.take()[0]
    ipc.endpoint.error = ErrorCode.SERVER_DIED
    ipc.slots.host_slot_fail(slot)
    assert ipc.slots.slot_state(ipc.endpoint, slot) == SlotState.POSTED
    ipc.endpoint.swept = True
    ipc.slots.host_slot_fail(slot)
    assert ipc.message(slot).eax == ErrorCode.SERVER_DIED


def test_a_request_that_policy_answers_counts_as_aborted_unless_its_client_has_abandoned_it(ipc: Ipc) -> None:
    waited_for, posted, abandoned = ipc.take(3)
    for slot in (posted, abandoned):
        ipc.guest.words[ipc.endpoint.block // 4 + slot * 4 + 3] &= 0xFFFF  # no client waits
    ipc.slots.put_token(ipc.endpoint, posted, 44)
    counts = []
    for slot in (waited_for, posted, abandoned):
        ipc.slots.fail_slot(ipc.endpoint, slot, ErrorCode.SERVER_DIED)
        counts.append(ipc.fields["aborted"])
    assert counts == [1, 2, 2]


def test_a_dropped_reply_is_reported_to_its_sender_and_its_addresses_are_cleared(ipc: Ipc) -> None:
    slot = ipc.take()[0]
    assert ipc.slots.take_pins(ipc.endpoint, slot) == ()
    ipc.endpoint.pins[slot] = (("block", 0x100, 3), ("block", 0x100, 4))
    ipc.slots.message(ipc.endpoint, slot)[DATA : DATA + 24] = b"\xaa" * 24
    ipc.message(slot).eax = 9
    ipc.slots.host_slot_drop(slot)
    assert ipc.unclaimed == [9]
    assert ipc.unlocked == [(0x100, 3), (0x100, 4)]
    assert bytes(ipc.slots.message(ipc.endpoint, slot)[DATA : DATA + 24]) == bytes(16) + b"\xaa" * 8


def test_a_reply_to_policys_own_request_reaches_its_sender_and_its_token_leaves_the_slot(ipc: Ipc) -> None:
    first, second = ipc.take(2, state=SlotState.SERVED)
    ipc.slots.put_token(ipc.endpoint, first, TOKEN_RELEASES)
    ipc.slots.put_token(ipc.endpoint, second, 7)
    assert ipc.slots.tokens(ipc.endpoint) == {first: 0xFFFF_FFFF, second: 7}
    for slot in (second, first):
        drive(ipc.slots.host_replied(slot))
    assert ipc.files.heard == [("replied", 7)]
    assert ipc.deferred_releases.heard == [("replied", 0xFFFF_FFFF)]
    assert ipc.slots.tokens(ipc.endpoint) == {}
