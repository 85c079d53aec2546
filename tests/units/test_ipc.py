"""Endpoints, slots, requests and replies, on a plain guest: no server runs, and machine code is what the tests do."""

import struct

import pytest
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import Partition, PartitionFlags, SlotState
from callgate.kernel.abi.selectors import MAX_PARTITIONS
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.core.records import GIVE_BACKS
from plain_endpoint import DATA, Endpoint
from plain_guest import refusal


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


# Endpoints.


def test_a_new_endpoint_has_32_unused_slots_and_a_ring_with_nothing_in_it(endpoint: Endpoint) -> None:
    block = Partition.from_buffer(endpoint.guest.ram.view(endpoint.partition.block, 4096))
    assert (block.unused, block.free, block.window_base, block.number) == (0xFFFF_FFFF, 0, 0xA000_0000, 0)
    assert bytes(block.ring) == b"\xe0" * 32
    assert endpoint.guest.kernel_words["partitions"] == 1


def test_a_server_has_at_most_32_threads_each_with_its_bit(endpoint: Endpoint) -> None:
    thread = endpoint.thread
    for _ in range(32):
        endpoint.servers.check_room(endpoint.partition)
        endpoint.servers.add_server(endpoint.partition, thread)
    assert (thread.server_index, endpoint.threads.block(thread)["server_index"]) == (31, 31)
    with refusal(ErrorCode.NO_RESOURCES):
        endpoint.servers.check_room(endpoint.partition)


def test_the_33rd_volume_takes_the_place_of_a_dead_one_that_nobody_is_in(endpoint: Endpoint) -> None:
    for number in range(1, MAX_PARTITIONS):
        endpoint.create(f"d{number}")
    with refusal(ErrorCode.NO_RESOURCES):
        endpoint.create("one too many")
    endpoint.servers.die(endpoint.partition, ErrorCode.UNPLUGGED)
    endpoint.in_use = True  # a file of it is still open
    with refusal(ErrorCode.NO_RESOURCES):
        endpoint.create("one too many")
    endpoint.in_use = False
    used = endpoint.low.used
    assert endpoint.create("new").number == 0
    assert endpoint.low.used == used + 6  # the space and its table for messages; one block for the other


def test_a_death_is_told_at_once_to_threads_that_wait_for_a_slot_and_later_to_those_whose_request_is_served(
    endpoint: Endpoint,
) -> None:
    served = endpoint.take()[0]
    endpoint.take(31)
    waiting = endpoint.new_thread(endpoint.shell)
    assert endpoint.wait(waiting) is None
    server = endpoint.new_thread(endpoint.partition.process)
    endpoint.servers.die(endpoint.partition, ErrorCode.UNPLUGGED)
    endpoint.servers.die(endpoint.partition, ErrorCode.SERVER_DIED)  # the first reason counts
    assert (endpoint.died, endpoint.fields["flags"]) == ([ErrorCode.UNPLUGGED], PartitionFlags.DEAD)
    assert (endpoint.threads.block(waiting)["arg0"], waiting.state) == (ErrorCode.UNPLUGGED, ThreadState.READY)
    assert endpoint.slots.slot_state(endpoint.partition, served) == SlotState.POSTED
    endpoint.partition.process.threads.remove(server)
    endpoint.servers.sweep(endpoint.partition)
    message = endpoint.message(served)
    assert endpoint.slots.slot_state(endpoint.partition, served) == SlotState.DONE
    assert (message.error, message.eax, message.eflags & 1) == (ErrorCode.UNPLUGGED, ErrorCode.UNPLUGGED, 1)
    assert endpoint.fields["aborted"] == 32


# Slots.


def test_slots_go_to_waiting_threads_in_the_order_in_which_they_came(endpoint: Endpoint) -> None:
    assert endpoint.take(32) == list(range(32))
    waiting = [endpoint.new_thread(endpoint.shell) for _ in range(3)]
    assert [endpoint.wait(thread) for thread in waiting] == [None] * 3
    for slot, thread in zip((7, 3), waiting, strict=False):
        endpoint.slots.host_slot_give(slot)
        assert (endpoint.threads.block(thread)["slot"], thread.state) == (slot, ThreadState.READY)
        assert endpoint.slots.slot_state(endpoint.partition, slot) == SlotState.TAKEN
    assert (endpoint.fields["slot_waiters"], endpoint.fields["free"]) == (1, 0)


def test_give_backs_queue_for_a_slot_like_a_thread(endpoint: Endpoint) -> None:
    endpoint.take(32)
    endpoint.slots.queue_give_backs(endpoint.partition)
    thread = endpoint.new_thread(endpoint.shell)
    endpoint.wait(thread)
    endpoint.slots.free_slot(endpoint.partition, 5)
    assert (endpoint.granted, list(endpoint.partition.waiters)) == ([(0, 5)], [thread.selector])


def test_a_thread_that_leaves_the_queue_is_told_why_and_gets_no_slot(endpoint: Endpoint) -> None:
    endpoint.take(32)
    thread = endpoint.new_thread(endpoint.shell)
    endpoint.wait(thread)
    endpoint.slots.host_slot_wait(1)
    assert endpoint.threads.block(thread)["arg0"] == ErrorCode.INTERRUPTED
    endpoint.slots.host_slot_give(4)
    assert (endpoint.fields["slot_waiters"], endpoint.fields["free"]) == (0, 1 << 4)


def test_a_slot_without_memory_for_its_page_keeps_the_queue_waiting(endpoint: Endpoint) -> None:
    kept = endpoint.low.allocate_several(endpoint.low.available)
    assert endpoint.wait(endpoint.thread) is None
    endpoint.slots.host_first_use(1)
    assert endpoint.threads.block(endpoint.thread)["arg0"] == ErrorCode.NO_MEMORY
    endpoint.low.release(kept[0])
    endpoint.slots.host_slot_give(9)
    assert endpoint.partition.waiters == type(endpoint.partition.waiters)()


def test_a_first_use_gives_a_zeroed_page_with_a_selector_of_its_own(endpoint: Endpoint) -> None:
    endpoint.guest.ram.view(endpoint.low.next, 4096)[:] = b"\xff" * 4096
    endpoint.slots.host_first_use(3)
    frame = endpoint.partition.frames[3]
    assert endpoint.guest.ram.read(frame, 4096) == bytes(4096)
    physical, linear, selector, client = struct.unpack(
        "<QIHH", endpoint.guest.ram.read(endpoint.partition.block + 48, 16)
    )
    assert (physical, linear, selector // 8, client) == (frame, 0, 64 + 512 + 128 + 32 + 3, 0)
    assert endpoint.guest.ram.u64(0x2000 + selector) == 0x40_9200_0000_0FFF | (
        (KERNEL_BASE + frame & 0xFF_FFFF) << 16 | KERNEL_BASE + frame >> 24 << 56
    )


def test_an_answer_that_policy_gives_ends_the_handle_and_a_request_that_nobody_waits_for_frees_the_slot(
    endpoint: Endpoint,
) -> None:
    slot = endpoint.take()[0]
    handle = endpoint.slots.handle(endpoint.partition, slot)
    endpoint.slots.complete(endpoint.partition, slot)
    assert endpoint.slots.handle(endpoint.partition, slot) == handle + 0x100
    assert endpoint.slots.client(endpoint.partition, slot) == 0
    endpoint.partition.posted[slot] = 44
    endpoint.partition.pins[slot] = [("block", 0x100, 3)]
    endpoint.slots.complete(endpoint.partition, slot)
    assert (endpoint.files.heard, endpoint.unlocked) == ([("failed", slot)], [(0x100, 3)])
    assert endpoint.fields["free"] == 1 << slot


def test_a_request_to_a_dead_endpoint_is_answered_once_its_server_has_left(endpoint: Endpoint) -> None:
    slot = endpoint.take()[0]
    endpoint.partition.error = ErrorCode.SERVER_DIED
    endpoint.slots.host_slot_fail(slot)
    assert endpoint.slots.slot_state(endpoint.partition, slot) == SlotState.POSTED
    endpoint.partition.swept = True
    endpoint.slots.host_slot_fail(slot)
    assert endpoint.message(slot).eax == ErrorCode.SERVER_DIED


def test_a_dropped_reply_is_heard_of_by_its_sender_and_its_addresses_leave_the_page(endpoint: Endpoint) -> None:
    slot = endpoint.take()[0]
    endpoint.partition.pins[slot] = [("block", 0x100, 3), ("block", 0x100, 4)]
    endpoint.slots.message(endpoint.partition, slot)[DATA : DATA + 24] = b"\xaa" * 24
    endpoint.slots.host_slot_drop(slot)
    assert endpoint.clients.heard == [("dropped", slot)]
    assert endpoint.unlocked == [(0x100, 3), (0x100, 4)]
    assert bytes(endpoint.slots.message(endpoint.partition, slot)[DATA : DATA + 24]) == bytes(16) + b"\xaa" * 8


def test_each_slots_reply_goes_to_the_listener_of_its_sender(endpoint: Endpoint) -> None:
    endpoint.partition.posted = {1: GIVE_BACKS, 2: 7}
    found = [endpoint.posted.of(endpoint.partition, slot) for slot in range(3)]
    assert found == [endpoint.clients, endpoint.give_backs, endpoint.files]
