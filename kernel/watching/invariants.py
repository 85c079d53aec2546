"""The table of the invariants (`checks.py` says what they are)."""

from collections.abc import Callable, Iterator

from callgate.kernel.watching import (
    check_descriptors,
    check_dma,
    check_frames,
    check_records,
    check_shares,
    check_spans,
)
from callgate.kernel.watching.check_facts import Facts

Invariant = Callable[[Facts], Iterator[str]]

INVARIANTS: tuple[Invariant, ...] = (
    check_frames.frames_are_free_or_held,
    check_frames.holders_are_those_on_record,
    check_frames.user_pages_are_held_and_of_ring_3,
    check_frames.low_frames_have_one_writer,
    check_frames.writable_high_pages_are_changed_or_claimed,
    check_frames.no_page_is_writable_and_executable,
    check_descriptors.only_four_entries_are_for_ring_3,
    check_descriptors.descriptors_match_their_owners,
    check_descriptors.selectors_lead_to_control_blocks,
    check_descriptors.the_server_gate_is_for_servers_only,
    check_records.block_locks_equal_a_recount,
    check_records.cache_totals_equal_a_recount,
    check_records.endpoint_mask_equals_the_records,
    check_records.slot_waiters_equal_a_recount,
    check_records.a_slot_is_in_one_place,
    check_records.sleeping_servers_live,
    check_records.requests_that_are_given_are_served,
    check_records.message_pages_are_mapped_while_they_are_served,
    check_records.posted_requests_equal_a_recount,
    check_records.releases_are_on_their_way,
    check_records.what_servers_hold_equals_a_recount,
    check_records.a_dying_process_has_killed_threads_only,
    check_records.ring_3_has_neither_vm_nor_iopl,
    check_records.kernel_threads_do_not_wait_for_servers,
    check_records.fpu_registers_are_their_owners_or_locked,
    check_dma.transfers_in_flight_have_cache_frames,
    check_dma.transfers_have_gone_to_cache_frames,
    check_shares.evictable_blocks_equal_a_recount,
    check_shares.requests_of_disks_equal_a_recount,
    check_shares.spans_equal_a_recount,
    check_shares.what_windows_hold_equals_a_recount,
    check_spans.span_records_are_those_of_the_spans,
    check_spans.spans_of_a_file_do_not_overlap,
    check_spans.what_spans_wait_for_equals_a_recount,
)
