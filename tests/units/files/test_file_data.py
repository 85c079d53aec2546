"""File data in memory: memory pressure, ageing, release, mapping and writing, on a plain guest."""

import pytest
from callgate.kernel.abi.calls import Operation, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FilePage, SpanState
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, USER_FILES
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.errors import DiskError, ServerFault
from callgate.kernel.core.records import Thread
from callgate.kernel.file_data.ageing_timer import PERIOD
from callgate.kernel.file_data.hunger import STARVED_LIMIT, TRIES, Patience
from callgate.kernel.file_data.objects import FileObject, sequence_of
from callgate.kernel.file_data.spans import Span
from plain_files import PAGE, FileData
from plain_guest import drive, refusal, returned

ACCESSED, DIRTY, WRITABLE = 0x20, 0x40, 2


@pytest.fixture
def data() -> FileData:
    return FileData()


# Readers that wait for memory.


def hungry(data: FileData, count: int) -> list[Thread]:
    """Return threads that wait for memory."""
    threads = [data.new_thread(data.shell) for _ in range(count)]
    data.files_state.starved = [thread.selector for thread in threads]
    return threads


def test_a_reader_waits_for_memory_only_while_others_have_data_on_their_way(data: FileData) -> None:
    with refusal(ErrorCode.NO_MEMORY):
        drive(data.hunger.starve(Patience()))
    data.expect(data.new_file(PAGE), 0, PAGE)
    patience = Patience()
    waits = []
    drive(data.hunger.starve(patience), block=lambda call: waits.append((call.eax, list(data.files_state.starved))))
    assert waits == [(WaitReason.FILE, [data.thread.selector])]
    assert (patience.tries, data.files_state.starved, data.scheduler.state.sleepers) == (TRIES + 1, [], [])


def test_a_reader_waits_five_seconds_for_memory_in_all_and_no_longer(data: FileData) -> None:
    data.expect(data.new_file(PAGE), 0, PAGE)
    patience = Patience()

    def block(_call: RoutineCall) -> None:
        assert data.scheduler.state.sleepers == [(STARVED_LIMIT, data.thread.selector)]
        data.now(data.guest.now + STARVED_LIMIT // 2)

    drive(data.hunger.starve(patience), block=block)
    drive(data.hunger.starve(patience), block=block)
    with refusal(ErrorCode.NO_MEMORY):
        drive(data.hunger.starve(patience), block=block)


def test_all_waiting_readers_are_woken_in_order_when_data_can_be_released(data: FileData) -> None:
    threads = hungry(data, 3)
    file = data.new_file(2 * PAGE)
    data.expect(file, PAGE, PAGE)
    span = data.put(file, 0, 1)
    with data.hunger.keeping(span):
        data.hunger.feed(span)
        assert data.ready() == []  # a reader is about to use it
    assert (data.ready(), data.files_state.starved) == (threads, [])


def test_waiting_readers_are_woken_when_nothing_is_in_flight(data: FileData) -> None:
    threads = hungry(data, 1)
    data.hunger.feed(Span(1, 0, PAGE, SpanState.FAILED))
    assert data.ready() == threads


def test_a_reader_that_has_died_while_it_waited_is_passed_over(data: FileData) -> None:
    threads = hungry(data, 2)
    data.run(threads[0])
    data.threads.finish(threads[0])
    data.hunger.feed(Span(1, 0, PAGE, SpanState.FAILED))
    assert data.ready() == threads[1:]


def test_a_killed_reader_does_not_starve(data: FileData) -> None:
    data.expect(data.new_file(PAGE), 0, PAGE)
    data.threads.kill(data.thread)
    with refusal(ErrorCode.KILLED):
        drive(data.hunger.starve(Patience()))
    assert data.files_state.starved == []


def test_a_reader_asks_100_times_and_says_why_it_gives_up() -> None:
    patience = Patience(error=ServerFault(ErrorCode.BAD_REPLY))
    for _ in range(TRIES):
        patience.spend()
    with refusal(ErrorCode.BAD_REPLY):
        patience.spend()


# Ageing.


def mapped(data: FileData, pages: int = 4) -> tuple[FileObject, Span, int]:
    """Map a span into the shell's window; return it and the address of its first page."""
    file = data.new_file(pages * PAGE)
    opened = data.open_window(file)
    span = data.put(file, 0, pages, request=9)
    data.mapping.map(data.shell, opened, file, span)
    return file, span, opened.window


def harvest(data: FileData, call: RoutineCall) -> RoutineResult:
    """Stand in for `harvest_accessed`: count and clear the accessed bits of ECX entries from EBX on."""
    first, found = (call.ebx - 0xC000_0000) // 8, 0
    for index in range(first, first + call.ecx):
        found += bool(data.guest.quads[index] & ACCESSED)
        data.guest.quads[index] &= ~ACCESSED
    return returned(call, eax=found)


def look(data: FileData) -> list[RoutineCall]:
    data.now(data.guest.now + PERIOD)
    data.scheduler.host_tick(0)
    return drive(data.ageing.host_files_age(0), harvest_accessed=lambda call: harvest(data, call))[1]


def test_data_that_are_idle_at_two_checks_are_released_and_the_server_is_told(data: FileData) -> None:
    file, span, window = mapped(data)
    data.mapping.tables.mark_dirty(data.shell.pointers, window + PAGE)  # accessed
    flushes = data.guest.machine.flushes
    look(data)
    assert data.guest.machine.flushes == flushes + 1, "the CPU notes the next access"
    look(data)
    assert (span.idle, span in file.spans) == (1, True)
    sequence = sequence_of(data.guest.ram, file)
    look(data)
    assert sequence_of(data.guest.ram, file) != sequence
    assert (file.spans, data.noted()) == ([], [(Operation.RELEASE, 9)])
    assert data.entry(data.shell.files[1], 0) == 0
    assert data.cache.state.locked == 0


def test_checking_pages_in_two_tables_takes_two_harvests_and_holds_the_tables(data: FileData) -> None:
    file = data.new_file(1024 * PAGE)
    opened = data.open_window(file)
    last = (LARGE_PAGE_SIZE - opened.window % LARGE_PAGE_SIZE) // PAGE - 1  # last page of the first table
    span = data.put(file, last * PAGE, 2)
    data.mapping.map(data.shell, opened, file, span)
    holders = []

    def harvest_accessed(call: RoutineCall) -> RoutineResult:
        holders.append(data.low.holders[(call.ebx - 0xC000_0000) & -PAGE])
        return harvest(data, call)

    data.now(PERIOD)
    _, calls = drive(data.ageing.host_files_age(0), harvest_accessed=harvest_accessed)
    assert ([call.ecx for call in calls], holders) == ([1, 1], [2, 2])
    assert {data.low.holders[table] for table in data.shell.tables} == {1}


def test_data_that_a_thread_waits_for_do_not_age(data: FileData) -> None:
    _, span, _ = mapped(data)
    span.kept = 1
    for _ in range(5):
        assert look(data) == []
    assert span.idle == 0


def test_idle_data_are_checked_250_ms_after_a_mapping_and_never_with_no_file_open(data: FileData) -> None:
    sleepers = data.scheduler.state.sleepers
    assert sleepers == []
    data.now(1000)
    data.timer.watch()
    data.timer.watch()
    assert sleepers == [(1000 + PERIOD, data.timer.state.thread.selector)]
    data.timer.rest()
    assert (data.scheduler.state.sleepers, data.timer.state.watching) == ([], False)
    drive(data.ageing.host_files_age(0))
    assert data.scheduler.state.sleepers == []


# Release.


def test_the_most_idle_data_are_released_first_and_no_more_than_needed(data: FileData) -> None:
    file = data.new_file(8 * PAGE)
    spans = [data.put(file, index * PAGE, 1) for index in range(4)]
    for span, idle in zip(spans, (0, 2, 1, 2), strict=True):
        span.idle = idle

    def gone() -> list[int]:
        return [index for index, span in enumerate(spans) if span not in file.spans]

    assert data.letting_go.reclaim()
    assert gone() == [1]
    assert data.letting_go.reclaim(enough=lambda: len(gone()) == 3)
    assert gone() == [1, 2, 3]


def test_data_on_their_way_and_data_that_a_reader_is_about_to_use_are_not_released(data: FileData) -> None:
    file = data.new_file(8 * PAGE)
    data.expect(file, 0, PAGE)
    kept, waited = data.put(file, PAGE, 1), data.put(file, 2 * PAGE, 1)
    kept.kept, waited.waiters = 1, [0x208]
    assert not data.letting_go.reclaim()
    assert len(file.spans) == 3


def test_low_memory_and_memory_of_a_server_are_sought_in_spans_that_hold_it(data: FileData) -> None:
    file, foreign = data.new_file(8 * PAGE), data.new_file(8 * PAGE)
    data.endpoints.by_number[1] = data.endpoints.by_number[0]
    foreign.endpoint = 1
    block, theirs = data.put(file, 0, 1), data.put(foreign, 0, 1, request=3)
    copy = data.put(file, PAGE, 1)
    copy.private = [data.low.allocate()]
    used = data.low.used
    assert data.letting_go.reclaim(low=True)
    assert (copy in file.spans, block in file.spans, data.low.used) == (False, True, used - 1)
    assert not data.letting_go.reclaim(low=True)
    assert not data.letting_go.reclaim(server=0)  # releasing blocks of the cache would not help the server
    assert data.letting_go.reclaim(server=1)
    assert theirs not in foreign.spans


def test_a_file_page_lists_what_is_in_memory_after_a_release(data: FileData) -> None:
    file = data.new_file(8 * PAGE)
    data.put(file, 0, 1)
    data.put(file, 4 * PAGE, 2).idle = 1
    data.letting_go.reclaim()
    page = FilePage.from_buffer(data.guest.ram.view(file.frame, PAGE))
    assert (page.sequence, page.count, page.areas[0].position, page.areas[0].length) == (2, 1, 0, PAGE)
    assert page.areas[1].position == (1 << 64) - 1


def test_the_last_close_gives_back_the_data_then_the_file(data: FileData) -> None:
    file = data.new_file(8 * PAGE)
    file.opens = 2
    data.put(file, 0, 1, request=7)
    data.letting_go.close_object(file)
    assert data.noted() == []
    data.letting_go.close_object(file)
    assert data.noted() == [(Operation.RELEASE, 7), (Operation.CLOSE, file.server_file)]
    assert (data.files_state.objects, file.frame in data.low.holders) == ({}, False)


def test_the_last_close_of_all_files_cancels_the_look_at_idle_data_and_no_other_close_does(data: FileData) -> None:
    first, second = data.new_file(PAGE), data.new_file(PAGE)
    data.timer.watch()
    data.letting_go.close_object(first)
    assert data.timer.state.watching
    data.letting_go.close_object(second)
    assert (data.scheduler.state.sleepers, data.timer.state.watching) == ([], False)


def test_data_that_were_read_ahead_and_are_released_unused_are_counted(data: FileData) -> None:
    file = data.new_file(2 * PAGE)
    used, unused = data.put(file, 0, 1), data.put(file, PAGE, 1)
    unused.ahead = True
    for span in (used, unused):
        data.letting_go.release(file, span)
    assert data.files_state.counters.wasted == 1


def test_a_file_closed_with_data_on_their_way_is_released_after_they_have_come(data: FileData) -> None:
    file = data.new_file(PAGE)
    span = data.expect(file, 0, PAGE)
    data.letting_go.close_object(file)
    assert (data.letting_go.in_use(data.endpoint), data.noted()) == (True, [])
    data.completion.fail(file, span, DiskError(ErrorCode.IO_ERROR))
    assert (data.letting_go.in_use(data.endpoint), data.noted()) == (False, [(Operation.CLOSE, file.server_file)])
    assert data.records.lists == {}


# Mapping.


def test_a_new_window_shows_only_the_files_page_until_data_are_mapped(data: FileData) -> None:
    file = data.new_file(3 * PAGE + 1)
    opened = data.open_window(file)
    assert (opened.page, opened.window) == (USER_FILES, USER_FILES + PAGE)
    assert data.tables.entry(data.shell.pointers, opened.page) & ~0xFFF & 0xF_FFFF_F000 == file.frame
    assert data.shell.windows[opened.page].pages == 1 + 4 + 1  # the file's page, four of data, one for the shift
    assert data.entry(opened, 0) == 0


def test_data_are_mapped_at_their_place_and_leave_every_window_at_once(data: FileData) -> None:
    file = data.new_file(8 * PAGE)
    other = data.new_process()
    windows = [(data.shell, data.open_window(file)), (other, data.open_window(file, process=other))]
    span = data.put(file, 4 * PAGE, 2)
    for process, opened in windows:
        data.mapping.map(process, opened, file, span)
        entries = [data.entry(opened, page, process) for page in range(3, 7)]
        assert [bool(entry & 1) for entry in entries] == [False, True, True, False]
        assert entries[1] & 0xF_FFFF_FFFF_F000 & ~(1 << 63) == span.frames[0]
        assert not entries[1] & WRITABLE
    assert data.files_state.mapped == 2
    flushes = data.machine.flushes
    data.mapping.unmap(file, span)
    assert [data.entry(opened, 4, process) for process, opened in windows] == [0, 0]
    assert (data.files_state.mapped, data.machine.flushes > flushes) == (0, True)


def test_a_window_is_moved_by_2_mib_steps_and_shows_nothing_of_before(data: FileData) -> None:
    file = data.new_file(100 << 20)
    opened = data.open_window(file)
    span = data.put(file, 0, 1)
    data.mapping.map(data.shell, opened, file, span)
    data.mapping.move(data.shell, opened, file, (80 << 20) + 5)
    assert (opened.position, data.entry(opened, 0)) == (80 << 20, 0)
    data.mapping.map(data.shell, opened, file, span)
    assert data.entry(opened, 0) == 0  # it lies before the window now


# Writable pages.


def writable(data: FileData, pages: int) -> tuple[FileObject, Span, object]:
    file = data.new_file(pages * PAGE)
    opened = data.open_window(file, writable=True)
    span = data.put(file, 0, pages)
    return file, span, opened


def test_whole_blocks_are_mapped_writable_while_there_is_room_and_the_rest_on_request(data: FileData) -> None:
    file, span, opened = writable(data, 36)
    span.whole[1] = False
    room = data.writing.changed_blocks.room(data.shell.family)
    data.mapping.map(data.shell, opened, file, span)
    rights = [bool(data.entry(opened, page) & WRITABLE) for page in range(36)]
    assert rights == [True, False] + [True] * (room - 1) + [False] * (35 - room)
    with refusal(ErrorCode.COPIED_PAGE):
        data.writing.allow(data.shell, opened, file, opened.window + PAGE)
    data.mapping.tables.mark_dirty(data.shell.pointers, opened.window)
    data.writing.allow(data.shell, opened, file, opened.window + 35 * PAGE)  # the unwritten ones make room
    rights = [bool(data.entry(opened, page) & WRITABLE) for page in (0, 2, 35)]
    assert rights == [True, False, True]
    assert data.cache.state.changed == 1


def test_changes_are_kept_when_their_page_leaves_the_window(data: FileData) -> None:
    file, span, opened = writable(data, 4)
    data.mapping.map(data.shell, opened, file, span)
    data.mapping.tables.mark_dirty(data.shell.pointers, opened.window + 2 * PAGE)
    data.letting_go.release(file, span)
    changed = [block for block in data.cache.state.blocks.values() if block.changed]
    assert (len(changed), data.cache.state.claimed, data.cache.state.locked) == (1, 0, 1)


def test_a_window_that_was_opened_for_reading_stays_read_only(data: FileData) -> None:
    file, span, window = mapped(data)
    with refusal(ErrorCode.NOT_WRITABLE):
        data.writing.allow(data.shell, data.shell.files[1], file, window)
    assert not data.entry(data.shell.files[1], 0) & WRITABLE
    assert span.users == {(data.shell.number, data.shell.files[1].page): {}}


def test_a_write_is_refused_when_changes_use_all_the_room(data: FileData) -> None:
    file, span, opened = writable(data, 36)
    data.mapping.map(data.shell, opened, file, span)
    for page in range(36):
        if data.entry(opened, page) & WRITABLE:
            data.mapping.tables.mark_dirty(data.shell.pointers, opened.window + page * PAGE)
    with refusal(ErrorCode.NO_MEMORY):
        data.writing.allow(data.shell, opened, file, opened.window + 35 * PAGE)
