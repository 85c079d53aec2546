"""Breaks of the kernel's invariants, one each: the findings of `Kernel.check`, and their texts."""

from collections.abc import Callable

from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, PTE_PRESENT, PTE_USER, PTE_WRITABLE
from callgate.kernel.abi.message import Endpoint, SlotState
from callgate.kernel.abi.selectors import GDT_ENTRIES, SELECTOR_SERVER_TABLE, SLOTS
from callgate.kernel.abi.thread import GateFrame
from callgate.kernel.core.records import EndpointState, Process, SectorPiece
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.file_data.spans import Span
from callgate.kernel.kernel import Kernel
from callgate.kernel.memory.page_tables import NX, USER_DATA, USER_READ

WRITABLE_CODE = PTE_PRESENT | PTE_USER | PTE_WRITABLE


RING_3_DATA = 0x00CF_F200_0000_FFFF


Break = Callable[[Kernel], None]


def shell(kernel: Kernel) -> Process:
    return kernel.state.tasks.processes[kernel.state.tasks.shell]


def rom(kernel: Kernel) -> EndpointState:
    return kernel.state.endpoints.by_number[0]


def used(kernel: Kernel) -> EndpointState:
    """Return an endpoint that has answered requests."""
    return next(p for p in kernel.state.endpoints.by_number.values() if kernel.slots.block(p)["free"])


def map_page(kernel: Kernel, frame: int, flags: int = USER_READ) -> None:
    """Map a frame into the shell at a free address, bypassing all managers."""
    process = shell(kernel)
    address = max(process.pages) & -PAGE_SIZE
    entry = kernel.memory.tables.entry_address(process.pointers, address)
    assert entry is not None
    free = next(
        at for at in range(entry & -PAGE_SIZE, (entry & -PAGE_SIZE) + PAGE_SIZE, 8) if not kernel.guest.quads[at >> 3]
    )
    kernel.guest.quads[free >> 3] = frame | flags


def free_a_held_frame(kernel: Kernel) -> None:
    kernel.state.low.changes += 1  # a pool is sealed until it counts a change
    kernel.state.low.free.append(next(iter(shell(kernel).pages.values())))


def free_a_frame_twice(kernel: Kernel) -> None:
    kernel.state.low.release(kernel.state.low.allocate())
    kernel.state.low.free.append(kernel.state.low.free[-1])


def lose_a_frame(kernel: Kernel) -> None:
    low = kernel.state.low
    low.counts[(low.allocate() - low.start) // PAGE_SIZE] = 0


def hold_once_too_often(kernel: Kernel) -> None:
    kernel.state.low.hold(next(iter(shell(kernel).pages.values())))


def hold_nothing(kernel: Kernel) -> None:
    kernel.state.low.allocate()


def map_what_is_free(kernel: Kernel) -> None:
    frame = kernel.state.low.allocate()
    kernel.state.low.release(frame)
    map_page(kernel, frame)


def map_a_page_table(kernel: Kernel) -> None:
    map_page(kernel, shell(kernel).tables[1])


def map_a_kernel_stack(kernel: Kernel) -> None:
    map_page(kernel, kernel.state.tasks.stack_frames[0][0])


def map_an_endpoint_block(kernel: Kernel) -> None:
    map_page(kernel, rom(kernel).block)


def map_a_path_page(kernel: Kernel) -> None:
    map_page(kernel, kernel.threads.block(shell(kernel).threads[0])["path_page"] - KERNEL_BASE)


def map_a_high_frame(kernel: Kernel) -> None:
    map_page(kernel, kernel.state.high.limit - PAGE_SIZE)


def open_the_kernel(kernel: Kernel) -> None:
    entry = kernel.memory.tables.kernel_entry_address(kernel.state.space, kernel.guest.address("kernel_words"))
    kernel.guest.quads[entry >> 3] |= PTE_USER


def share_a_writable_page(kernel: Kernel) -> None:
    map_page(kernel, max(rom(kernel).process.pages.items())[1], USER_DATA)  # the server's stack


def share_a_block_of_the_cache(kernel: Kernel) -> None:
    map_page(kernel, next(iter(kernel.cache.state.blocks.values())).frame, USER_DATA)


def map_writable_code(kernel: Kernel) -> None:
    map_page(kernel, shell(kernel).pages[max(shell(kernel).pages)], WRITABLE_CODE)


def map_code_writable_elsewhere(kernel: Kernel) -> None:
    process = shell(kernel)
    code = next(a for a in process.pages if not kernel.memory.tables.entry(process.pointers, a) & NX)
    map_page(kernel, process.pages[code], USER_DATA)


def put_a_descriptor_for_ring_3(kernel: Kernel) -> None:
    kernel.gdt.put(0x48, RING_3_DATA)


def move_a_thread_descriptor(kernel: Kernel) -> None:
    thread = shell(kernel).threads[0]
    kernel.gdt.put_data(thread.selector, thread.stack + 16, 511)


def leave_a_descriptor(kernel: Kernel) -> None:
    kernel.gdt.put_data((GDT_ENTRIES - 1) * 8, KERNEL_BASE, 2 * PAGE_SIZE - 1)


def rename_a_control_block(kernel: Kernel) -> None:
    kernel.threads.block(shell(kernel).threads[0])["selector"] = 8


def give_a_client_the_server_gate(kernel: Kernel) -> None:
    kernel.threads.block(shell(kernel).threads[0])["ldt"] = SELECTOR_SERVER_TABLE


def lock_a_block_without_a_user(kernel: Kernel) -> None:
    (disk, number), _ = next(iter(kernel.cache.state.blocks.items()))
    kernel.cache.lock(disk, [number])


def pin_a_block_without_a_lock(kernel: Kernel) -> None:
    (disk, number), _ = next(iter(kernel.cache.state.blocks.items()))
    rom(kernel).pins[0] = [("block", disk, number)]


def pin_a_block_that_is_not_there(kernel: Kernel) -> None:
    rom(kernel).pins[0] = [("block", 0, 1 << 40)]


def miscount_locked(kernel: Kernel) -> None:
    kernel.cache.state.locked += 1


def miscount_changed(kernel: Kernel) -> None:
    kernel.cache.state.changed -= 1


def miscount_waiters(kernel: Kernel) -> None:
    kernel.slots.block(rom(kernel))["slot_waiters"] += 1


def name_an_endpoint_that_is_not_there(kernel: Kernel) -> None:
    kernel.guest.kernel_words["endpoints"] |= 1 << 31


def free_a_slot_twice(kernel: Kernel) -> None:
    fields = kernel.slots.block(used(kernel))
    fields["unused"] |= fields["free"]


def free_a_slot_in_use(kernel: Kernel) -> None:
    slot = next(slot for slot in range(SLOTS) if kernel.slots.block(used(kernel))["free"] >> slot & 1)
    kernel.slots.put_state(used(kernel), slot, SlotState.POSTED)


def announce_a_server_thread_that_is_not_there(kernel: Kernel) -> None:
    kernel.slots.block(rom(kernel))["idle"] |= 1 << 31


def leave_a_request_to_a_thread(kernel: Kernel) -> None:
    at = used(kernel).block + offset_of(Endpoint, "server_of")
    kernel.guest.ram.view(at, 2)[:] = used(kernel).servers[0].to_bytes(2, "little")


def map_a_message_page_that_is_not_served(kernel: Kernel) -> None:
    entry = kernel.slots.block(used(kernel))["window_table"] - KERNEL_BASE
    kernel.guest.words[entry // 4] = used(kernel).frames[0] | PTE_PRESENT | PTE_WRITABLE | PTE_USER


def allow_code_in_a_message_page(kernel: Kernel) -> None:
    entry = kernel.slots.block(used(kernel))["window_table"] - KERNEL_BASE
    kernel.guest.words[entry // 4 + 1] = 0


def note_a_post_that_was_none(kernel: Kernel) -> None:
    endpoint = used(kernel)
    fields = kernel.slots.block(endpoint)
    fields["free"] &= ~1
    kernel.slots.put_token(endpoint, 0, 1)


def wait_for_no_reply(kernel: Kernel) -> None:
    kernel.state.files.waiting[77] = (1, Span(77, 0, 1))


def mark_a_slot_as_posted(kernel: Kernel) -> None:
    kernel.slots.put_token(used(kernel), 0, 1)


def leave_a_record_of_a_span(kernel: Kernel) -> None:
    endpoint = used(kernel)
    kernel.span_records.reserve(endpoint)
    kernel.span_records.insert(endpoint, Span(78, 0, 1))


def lose_a_handle(kernel: Kernel) -> None:
    kernel.span_records.reserve(used(kernel))
    used(kernel).free_spans.pop()


def put_a_span_twice_over_the_same_bytes(kernel: Kernel) -> None:
    file = FileObject(1, 0, 0, 0, 100, 0, 0)
    file.spans = [Span(1, 0, 60), Span(2, 50, 10)]
    kernel.state.files.objects[file.number] = file


def wait_by_another_number(kernel: Kernel) -> None:
    kernel.state.files.waiting[77] = (1, Span(78, 0, 1))


def count_an_arrival_twice(kernel: Kernel) -> None:
    endpoint, span = used(kernel), Span(77, 0, 1)
    kernel.span_records.reserve(endpoint)
    kernel.span_records.insert(endpoint, span)
    span.list_frame, _ = kernel.sector_lists.write(0, span.address, [SectorPiece(8, 0, 16)])
    kernel.sector_lists.mark_arrived(span.list_frame, [0, 0])
    kernel.state.files.waiting[77] = (1, span)


def give_back_without_telling(kernel: Kernel) -> None:
    rom(kernel).releases.entries.append((Operation.CLOSE, 1))
    rom(kernel).held += 1


def lose_what_was_posted(kernel: Kernel) -> None:
    rom(kernel).releases.posted.append((Operation.CLOSE, 1))
    rom(kernel).held += 1


def hold_one_thing_more(kernel: Kernel) -> None:
    rom(kernel).held += 1


def keep_a_block_on_no_list(kernel: Kernel) -> None:
    uses = kernel.cache.state.blocks.uses
    uses.retain(next(uses.in_order()))


def miscount_requests_of_a_disk(kernel: Kernel) -> None:
    kernel.disk_requests.state.in_flight[0] = 3


def miscount_spans(kernel: Kernel) -> None:
    kernel.state.files.blocks += 1


def book_a_list_to_no_family(kernel: Kernel) -> None:
    kernel.state.tasks.lists[77] = 1


def miscount_what_windows_hold(kernel: Kernel) -> None:
    shell(kernel).shown += 1


def give_the_fpu_to_no_thread(kernel: Kernel) -> None:
    kernel.guest.kernel_words["fpu_owner"] = 0xFFF8


def forget_to_kill(kernel: Kernel) -> None:
    shell(kernel).dying = True


def kill_without_the_flag(kernel: Kernel) -> None:
    shell(kernel).dying = True
    shell(kernel).threads[0].killed = True


def set_vm(kernel: Kernel) -> None:
    thread = shell(kernel).threads[0]
    kernel.threads.overlay(thread, GateFrame, thread.stack - size_of(GateFrame))["eflags"] |= 1 << 17


def set_iopl(kernel: Kernel) -> None:
    thread = shell(kernel).threads[0]
    kernel.threads.overlay(thread, GateFrame, thread.stack - size_of(GateFrame))["eflags"] |= 3 << 12


def set_iopl_of_the_cpu(kernel: Kernel) -> None:
    kernel.machine.cpu.eflags |= 1 << 12


def have_a_kernel_thread_wait(kernel: Kernel) -> None:
    thread = next(thread for thread in kernel.state.tasks.threads.values() if thread.name == "watch")
    kernel.scheduler.note_wait(thread, WaitReason.REPLY)


def transfer_to_a_stack(kernel: Kernel) -> None:
    kernel.machine.dma_watch(kernel.state.tasks.stack_frames[0][0], 512)


BREAKS: dict[Break, tuple[str, str]] = {
    free_a_held_frame: ("frames_are_free_or_held", "is free and held"),
    free_a_frame_twice: ("frames_are_free_or_held", "is free twice"),
    lose_a_frame: ("frames_are_free_or_held", "1 frames of the pool"),
    hold_once_too_often: ("holders_are_those_on_record", "is held 2 times, on record 1 times"),
    hold_nothing: ("holders_are_those_on_record", "is held 1 times, on record 0 times"),
    map_what_is_free: ("user_pages_are_held_and_of_ring_3", "which is not held"),
    map_a_page_table: ("user_pages_are_held_and_of_ring_3", "a page table"),
    map_a_kernel_stack: ("user_pages_are_held_and_of_ring_3", "a kernel stack"),
    map_an_endpoint_block: ("user_pages_are_held_and_of_ring_3", "an endpoint block"),
    map_a_path_page: ("user_pages_are_held_and_of_ring_3", "a page for paths"),
    map_a_high_frame: ("user_pages_are_held_and_of_ring_3", "which is not held"),
    open_the_kernel: ("user_pages_are_held_and_of_ring_3", "of kernel space, is mapped for ring 3"),
    share_a_writable_page: ("low_frames_have_one_writer", "is writable in process"),
    share_a_block_of_the_cache: ("writable_high_pages_are_changed_or_claimed", "which is not allowed"),
    map_writable_code: ("no_page_is_writable_and_executable", "is writable and executable"),
    map_code_writable_elsewhere: ("no_page_is_writable_and_executable", "and executable in process"),
    put_a_descriptor_for_ring_3: ("only_four_entries_are_for_ring_3", "GDT entry 0x9 has DPL 3"),
    move_a_thread_descriptor: ("descriptors_match_their_owners", "of thread"),
    leave_a_descriptor: ("descriptors_match_their_owners", "GDT entry 0x63f of no one"),
    rename_a_control_block: ("selectors_lead_to_control_blocks", "not to its control block"),
    give_a_client_the_server_gate: ("the_server_gate_is_for_servers_only", "has the LDT 0x40"),
    lock_a_block_without_a_user: ("block_locks_equal_a_recount", "has 1 locks, on record 0"),
    pin_a_block_without_a_lock: ("block_locks_equal_a_recount", "has 0 locks, on record 1"),
    pin_a_block_that_is_not_there: ("block_locks_equal_a_recount", "is pinned, and not in the cache"),
    miscount_locked: ("cache_totals_equal_a_recount", "cache.locked is"),
    miscount_changed: ("cache_totals_equal_a_recount", "cache.changed is -1, counted 0"),
    miscount_waiters: ("slot_waiters_equal_a_recount", "rom: slot_waiters is 1, counted 0"),
    announce_a_server_thread_that_is_not_there: ("sleeping_servers_live", "bit 31 of idle names selector 0x0"),
    leave_a_request_to_a_thread: ("requests_that_are_given_are_served", "slot 0 is given to selector"),
    map_a_message_page_that_is_not_served: (
        "message_pages_are_mapped_while_they_are_served",
        "the page of slot 0 is mapped, and its state is 0",
    ),
    allow_code_in_a_message_page: ("message_pages_are_mapped_while_they_are_served", "slot 0's page is 0x0"),
    name_an_endpoint_that_is_not_there: ("endpoint_mask_equals_the_records", "the mask of endpoints is 0x8"),
    free_a_slot_twice: ("a_slot_is_in_one_place", "is free and unused"),
    free_a_slot_in_use: ("a_slot_is_in_one_place", "is free, and POSTED"),
    note_a_post_that_was_none: ("posted_requests_equal_a_recount", "slot 0 has the token 0x1, and is FREE"),
    wait_for_no_reply: ("posted_requests_equal_a_recount", "span 77 waits for 0 replies"),
    mark_a_slot_as_posted: ("posted_requests_equal_a_recount", "slot 0 is free, and has the token 0x1"),
    leave_a_record_of_a_span: ("span_records_are_those_of_the_spans", "record 0 and the spans do not agree"),
    lose_a_handle: ("span_records_are_those_of_the_spans", "handles are neither free nor in use"),
    put_a_span_twice_over_the_same_bytes: ("spans_of_a_file_do_not_overlap", "reaches into"),
    wait_by_another_number: ("what_spans_wait_for_equals_a_recount", "span 77 waits, and has the token 78"),
    count_an_arrival_twice: ("what_spans_wait_for_equals_a_recount", "span 77: 0 entries are to arrive, counted 1"),
    lose_what_was_posted: ("releases_are_on_their_way", "rom: 1 deferred releases are posted, in flight is False"),
    give_back_without_telling: ("releases_are_on_their_way", "rom: 1 deferred releases that are not being sent"),
    hold_one_thing_more: ("what_servers_hold_equals_a_recount", "rom: holds"),
    keep_a_block_on_no_list: ("evictable_blocks_equal_a_recount", "is evictable or on the list"),
    miscount_requests_of_a_disk: ("requests_of_disks_equal_a_recount", "requests by disk are"),
    miscount_spans: ("spans_equal_a_recount", "there are 1 spans, counted 0"),
    book_a_list_to_no_family: ("spans_equal_a_recount", "lists by family are {77: 1}, counted {}"),
    miscount_what_windows_hold: ("what_windows_hold_equals_a_recount", "windows hold 1 frames, counted 0"),
    give_the_fpu_to_no_thread: ("fpu_registers_are_their_owners_or_locked", "which is not a thread"),
    forget_to_kill: ("a_dying_process_has_killed_threads_only", "has not been killed"),
    kill_without_the_flag: ("a_dying_process_has_killed_threads_only", "has not been killed"),
    set_vm: ("ring_3_has_neither_vm_nor_iopl", "goes back to ring 3 with EFLAGS"),
    set_iopl: ("ring_3_has_neither_vm_nor_iopl", "goes back to ring 3 with EFLAGS"),
    set_iopl_of_the_cpu: ("ring_3_has_neither_vm_nor_iopl", "the CPU's EFLAGS"),
    have_a_kernel_thread_wait: ("kernel_threads_do_not_wait_for_servers", "'watch' waits for REPLY"),
    transfer_to_a_stack: ("transfers_have_gone_to_cache_frames", "512 bytes of DMA went to"),
}


#: Other invariants that a break contradicts by its nature.
ALSO: dict[Break, set[str]] = {
    map_writable_code: {"low_frames_have_one_writer"},  # it is writable in its process twice
    wait_for_no_reply: {"spans_equal_a_recount"},  # nor is it booked to a family
    wait_by_another_number: {"spans_equal_a_recount", "posted_requests_equal_a_recount"},  # nor is it posted
    count_an_arrival_twice: {"spans_equal_a_recount", "span_records_are_those_of_the_spans"},  # it is no file's
    put_a_span_twice_over_the_same_bytes: {  # nor have they records, nor its file a page
        *("spans_equal_a_recount", "span_records_are_those_of_the_spans", "holders_are_those_on_record"),
        "what_servers_hold_equals_a_recount",
    },
    put_a_descriptor_for_ring_3: {"descriptors_match_their_owners"},
}
