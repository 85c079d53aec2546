"""Directories, open files and reading through windows, on a plain guest with file data in plain memory."""

import pytest
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FILE_SEQUENCE_NONE, FILE_WINDOW_BYTES, FilePage, OpenFlags
from callgate.kernel.abi.limits import DIRECTORIES_KEPT, DIRECTORIES_OF_PROCESS, FILES_OF_PROCESS, MAPPED_BLOCKS
from callgate.kernel.abi.message import ReplyType, SlotState
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.errors import DiskError
from callgate.kernel.file_data.objects import FileObject
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.tasks.shares import frames_of
from plain_files import PAGE
from plain_guest import drive, refusal, returned
from plain_volume import PATH, Volume


@pytest.fixture
def volume() -> Volume:
    return Volume()


# Directories.


def test_locking_a_directory_again_takes_no_request_while_its_version_is_current(volume: Volume) -> None:
    first, _ = volume.lock(b"/d0p1/DOCS")
    volume.directories.unlock(volume.shell, first)
    _, lock = volume.lock(b"/d0p1/DOCS")
    assert volume.asked == [(Operation.LOCK_DIRECTORY, PATH + 6, 4)]
    assert (lock.version, lock.entries, lock.pages) == (1, 4, 1)
    volume.lock(b"/d0p1")
    assert volume.asked[1:] == [(Operation.LOCK_DIRECTORY, PATH + 5, 0)]


def test_a_changed_directory_is_requested_again_and_a_process_with_the_old_version_keeps_it(volume: Volume) -> None:
    number, old = volume.lock(b"/d0p1")
    volume.directories.changed(volume.endpoint, 1)
    volume.directories.changed(volume.endpoint, 1)  # this version is no longer known
    volume.version = 2
    _, new = volume.lock(b"/d0p1")
    assert (old.version, new.version, volume.noted()) == (1, 2, [])
    assert volume.tables.entry(volume.shell.pointers, old.window) & 1
    volume.directories.unlock(volume.shell, number)
    assert volume.noted() == [(Operation.UNLOCK_DIRECTORY, 1)]
    assert volume.tables.entry(volume.shell.pointers, old.window) == 0


@pytest.mark.parametrize("path", [b"/d0p1", b"/"])
def test_a_window_whose_page_table_the_process_must_not_have_is_refused_and_leaves_nothing(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, path: bytes
) -> None:
    """A lock takes a page for the directory and, at the first window, one for a page table."""
    volume.version = 0  # the server gives no version, so that the pages are not kept
    held = frames_of(volume.shell)
    monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", held + 1)
    with refusal(ErrorCode.NO_MEMORY):
        volume.lock(path)
    assert (frames_of(volume.shell), volume.shell.windows, volume.shell.locks) == (held, {}, {})
    assert volume.noted() == ([(Operation.UNLOCK_DIRECTORY, 1)] if path != b"/" else [])
    monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", held + 2)
    volume.lock(path)
    assert frames_of(volume.shell) == held + 2
    with refusal(ErrorCode.NO_MEMORY):
        volume.lock(path)
    monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", held + 3)
    volume.lock(path)  # its page table exists now


def test_a_version_that_is_no_longer_current_is_released_by_the_last_of_those_that_have_locked_it(
    volume: Volume,
) -> None:
    locks = [volume.lock(b"/d0p1")[0] for _ in range(2)]
    volume.directories.changed(volume.endpoint, 1)
    volume.directories.unlock(volume.shell, locks[0])
    assert volume.noted() == []
    volume.directories.unlock(volume.shell, locks[1])
    assert volume.noted() == [(Operation.UNLOCK_DIRECTORY, 1)]


def test_a_version_of_0_lives_as_long_as_its_lock(volume: Volume) -> None:
    volume.version = 0
    number, _ = volume.lock(b"/d0p1")
    assert volume.directories.state.versions == {}
    volume.directories.unlock(volume.shell, number)
    assert volume.noted() == [(Operation.UNLOCK_DIRECTORY, 1)]


def test_a_bounded_number_of_idle_versions_is_kept_and_the_least_recently_used_is_dropped_first(volume: Volume) -> None:
    def visit(name: int) -> None:
        volume.version += 1
        volume.directories.unlock(volume.shell, volume.lock(b"/d0p1/%d" % name)[0])

    for name in range(DIRECTORIES_KEPT):
        visit(name)
    visit(0)
    assert volume.noted() == []
    visit(99)
    assert volume.noted() == [(Operation.UNLOCK_DIRECTORY, 2)]  # the lock of /d0p1/1
    assert volume.directories.reclaim()
    assert volume.noted() == [(Operation.UNLOCK_DIRECTORY, 3)]


def test_directories_of_a_dead_server_are_no_longer_current(volume: Volume) -> None:
    number, _ = volume.lock(b"/d0p1")
    volume.directories.endpoint_died(volume.endpoint, ErrorCode.SERVER_DIED)
    assert not volume.directories.reclaim()
    assert volume.shell.locks[number].of.current is False


def test_an_object_without_a_page_is_not_a_directory(volume: Volume) -> None:
    def nothing(call: RoutineCall) -> RoutineResult:
        slot = volume.take(state=SlotState.DONE)[0]
        volume.message(slot).reply = ReplyType.REGISTERS
        return returned(call, edx=9, ebx=1)

    with refusal(ErrorCode.BAD_REPLY):
        drive(volume.directories.lock(volume.shell, b"/d0p1", PATH), ipc_request=nothing)
    assert (volume.noted(), volume.shell.locks) == ([(Operation.UNLOCK_DIRECTORY, 9)], {})


def test_the_root_lists_the_volumes_that_are_mounted(volume: Volume) -> None:
    for name, hidden in (("rom", False), ("bench", True)):
        volume.new_endpoint(name).hidden = hidden
    number, lock = volume.lock(b"/")
    assert (lock.entries, volume.asked) == (2, [])
    page = volume.processes.memory_of(volume.shell).read(lock.window, PAGE)
    assert (page.find(b"rom"), page.find(b"d0p1"), page.find(b"bench")) == (48, 88, -1)
    free = volume.low.available
    volume.directories.unlock(volume.shell, number)
    assert volume.low.available == free + 1


def test_the_locked_directories_of_a_process_are_limited_and_unlocked_when_it_ends(volume: Volume) -> None:
    for _ in range(DIRECTORIES_OF_PROCESS):
        volume.lock(b"/d0p1")
    with refusal(ErrorCode.NO_RESOURCES):
        volume.lock(b"/d0p1")
    with refusal(ErrorCode.BAD_HANDLE):
        volume.directories.unlock(volume.shell, DIRECTORIES_OF_PROCESS + 1)
    volume.directories.unlock_all(volume.shell)
    assert (volume.shell.locks, volume.shell.windows, volume.shell.shown) == ({}, {}, 0)


@pytest.mark.parametrize(
    ("path", "code"),
    [(b"/none", ErrorCode.NOT_FOUND), (b"d0p1", ErrorCode.BAD_ARGUMENT), (b"/d0p1/x", ErrorCode.UNPLUGGED)],
)
def test_a_path_that_leads_to_no_volume_is_refused_with_the_reason(
    volume: Volume, path: bytes, code: ErrorCode
) -> None:
    volume.endpoint.dead, volume.endpoint.error = True, ErrorCode.UNPLUGGED
    with refusal(code):
        volume.lock(path)
    assert volume.asked == []


@pytest.mark.parametrize("state", ["hidden", "mounting"])
def test_a_volume_that_is_hidden_or_not_mounted_yet_has_no_path(volume: Volume, state: str) -> None:
    setattr(volume.endpoint, state, True)
    with refusal(ErrorCode.NOT_FOUND):
        volume.lock(b"/d0p1")
    assert volume.asked == []


def test_a_changed_version_is_that_of_the_server_that_says_so_and_of_no_other_directory(volume: Volume) -> None:
    _, first = volume.lock(b"/d0p1")
    volume.version = 2
    _, second = volume.lock(b"/d0p1/DOCS")
    volume.directories.changed(volume.new_endpoint("other"), 1)
    assert (first.of.current, second.of.current) == (True, True)
    volume.directories.changed(volume.endpoint, 1)
    assert (first.of.current, second.of.current) == (False, True)


@pytest.mark.parametrize("meanwhile", ["another lock", "the server's end"])
def test_a_directory_that_comes_late_lives_as_long_as_its_lock(volume: Volume, meanwhile: str) -> None:
    early = []

    def directory(call: RoutineCall) -> RoutineResult:
        if meanwhile == "another lock":
            early.append(volume.lock(b"/d0p1")[1])
        answer = volume.directory(call)
        volume.endpoint.dead = meanwhile != "another lock"
        return answer

    locked = volume.directories.lock(volume.shell, b"/d0p1", PATH)
    number, late = drive(locked, ipc_request=directory, ipc_finish=volume.finish)[0]
    assert late.of.current is False
    volume.directories.unlock(volume.shell, number)
    assert [lock.of.current for lock in early] == [True] * len(early)


# Opening.


def test_a_file_is_opened_with_the_lowest_free_handle_and_a_page_that_says_what_it_is(volume: Volume) -> None:
    handle, file = volume.open(5 << 32 | 7, attributes=FileAttributes.ARCHIVE)
    assert (handle, volume.asked) == (1, [(Operation.OPEN, PATH + 6, 1)])
    page = FilePage.from_buffer(volume.guest.ram.view(file.frame, PAGE))
    assert (page.valid, page.size, page.attributes, page.sequence) == (1, 5 << 32 | 7, FileAttributes.ARCHIVE, 2)
    assert volume.open(1)[0] == 2
    volume.handles.close(volume.shell, 1)
    assert (volume.noted(), volume.open(1)[0]) == ([(Operation.CLOSE, 77)], 1)


def test_two_opens_of_one_file_share_an_object_and_the_server_forgets_the_second(volume: Volume) -> None:
    _, first = volume.open(100, identity=5, number=77)
    _, second = volume.open(100, identity=5, number=78)
    _, unknown = volume.open(100, identity=0, number=79)
    assert (first is second, first.opens, volume.noted()) == (True, 2, [(Operation.CLOSE, 78)])
    assert unknown is not first
    volume.handles.close_all(volume.shell)
    assert volume.noted() == [(Operation.CLOSE, 77), (Operation.CLOSE, 79)]
    assert (volume.handles.objects, volume.shell.files) == ({}, {})


@pytest.mark.parametrize(
    ("attributes", "scratch", "code"),
    [
        (FileAttributes.DIRECTORY, True, ErrorCode.IS_DIRECTORY),
        (FileAttributes.READ_ONLY, True, ErrorCode.READ_ONLY),
        (0, False, ErrorCode.NO_SCRATCH),
    ],
)
def test_a_file_that_cannot_be_opened_with_its_flags_is_closed_at_its_server(
    volume: Volume, attributes: int, scratch: bool, code: ErrorCode
) -> None:
    volume.scratch = scratch
    with refusal(code):
        volume.open(10, OpenFlags.WRITE, attributes=attributes)
    assert (volume.noted(), volume.handles.objects, volume.shell.files) == ([(Operation.CLOSE, 77)], {}, {})


def test_the_open_files_of_a_process_are_limited(volume: Volume) -> None:
    volume.shell.files = dict.fromkeys(range(1, FILES_OF_PROCESS + 1))
    with refusal(ErrorCode.NO_RESOURCES):
        volume.open(10)
    assert volume.asked == []
    with refusal(ErrorCode.BAD_HANDLE):
        volume.handles.close(volume.shell, FILES_OF_PROCESS + 1)


def test_a_dead_volumes_files_are_invalid_and_leave_every_window(volume: Volume) -> None:
    _, file = volume.open(4 * PAGE)
    opened = volume.shell.files[1]
    file.shift = 0
    there, coming = volume.put(file, 0, 1), volume.expect(file, PAGE, PAGE)
    volume.mapping.map(volume.shell, opened, file, there)
    volume.opening.endpoint_died(volume.endpoint, ErrorCode.UNPLUGGED)
    page = FilePage.from_buffer(volume.guest.ram.view(file.frame, PAGE))
    assert (page.valid, page.error, page.count) == (0, ErrorCode.UNPLUGGED, 0)
    assert (type(coming.error), volume.entry(opened, 0), file.spans) == (DiskError, 0, [])
    volume.opening.endpoint_died(volume.endpoint, ErrorCode.SERVER_DIED)
    assert file.error is ErrorCode.UNPLUGGED  # the first reason


def test_a_file_that_is_invalid_is_not_shared_with_a_later_open(volume: Volume) -> None:
    _, gone = volume.open(100, identity=5)
    gone.error = ErrorCode.UNPLUGGED
    _, again = volume.open(100, identity=5)
    assert again is not gone


def test_a_program_is_read_whole_across_spans_and_booked(volume: Volume) -> None:
    content = bytes(range(256)) * 33
    _, file = volume.open(len(content), identity=5)
    file.shift = 512
    for position, pages in ((0, 1), (PAGE - 512, 2)):
        span = volume.put(file, position, pages)
        span.length = min(span.length, PAGE - 512) if not position else span.length
        for index, frame in enumerate(span.frames):
            at = (span.first_page + index) * PAGE - 512
            volume.guest.ram.write(frame, (bytes(512) + content)[at + 512 : at + 512 + PAGE])
    read = drive(
        volume.opening.read_all(volume.endpoint, (PATH, 1), 1 << 20, 0), ipc_request=volume.file(1, identity=5)
    )[0]
    assert (read, volume.guest.ram.touched[Account.PROGRAM]) == (content, len(content))
    assert (volume.shares.loading.total(), file.opens) == (0, 1)
    with refusal(ErrorCode.NOT_EXECUTABLE):
        drive(volume.opening.read_all(volume.endpoint, (PATH, 1), 100, 0), ipc_request=volume.file(101))
    assert file.opens == 1


# Reading.


def read_file(volume: Volume, size: int, blocks: list[tuple[int, int]]) -> FileObject:
    """Open a file in the shell; the data at `blocks`, (position, pages), are in memory."""
    _, file = volume.open(size)
    file.shift = 0
    for position, pages in blocks:
        volume.put(file, position, pages)
    return file


def map_at(volume: Volume, position: int, wanted: int = 1) -> tuple[int, int, int]:
    return drive(volume.reading.map(volume.shell, 1, position, wanted))[0]


def test_mapped_data_lie_at_their_place_in_the_window_and_map_file_returns_the_sequence(
    volume: Volume,
) -> None:
    file = read_file(volume, 2 * PAGE, [(0, 2)])
    window = volume.shell.files[1].window
    address, size, sequence = map_at(volume, PAGE + 5)
    assert (address, size) == (window + PAGE + 5, PAGE - 5)
    assert sequence == FilePage.from_buffer(volume.guest.ram.view(file.frame, PAGE)).sequence
    assert map_at(volume, 2 * PAGE) == map_at(volume, 0, 0) == (0, 0, FILE_SEQUENCE_NONE)
    with refusal(ErrorCode.BAD_HANDLE):
        drive(volume.reading.map(volume.shell, 2, 0, 1))


def test_a_page_fault_in_a_window_maps_the_whole_span(volume: Volume) -> None:
    read_file(volume, 2 * PAGE + 1, [(0, 3)])
    opened = volume.shell.files[1]
    assert drive(volume.reading.fault(volume.shell, opened.window + PAGE))[0]
    assert [bool(volume.entry(opened, page) & 1) for page in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("page", [-2, 3, 4])
def test_a_fault_outside_the_pages_of_a_window_is_not_handled_by_files(volume: Volume, page: int) -> None:
    read_file(volume, 2 * PAGE + 1, [(0, 3)])
    assert not drive(volume.reading.fault(volume.shell, volume.shell.files[1].window + page * PAGE))[0]


def test_a_position_beyond_the_window_moves_it(volume: Volume) -> None:
    position = FILE_WINDOW_BYTES + 5 * PAGE
    read_file(volume, 2 * FILE_WINDOW_BYTES, [(position, 1)])
    volume.fields["slot_waiters"] = 1  # so nothing is read ahead
    address, size, _ = map_at(volume, position + 3)
    opened = volume.shell.files[1]
    assert (opened.position, address - opened.window, size) == (FILE_WINDOW_BYTES, 5 * PAGE + 3, PAGE - 3)


def test_a_sequential_reader_is_read_ahead_for_and_one_that_jumps_is_not(volume: Volume) -> None:
    posted: list[int] = []

    def touch(position: int) -> int:
        posted.clear()
        drive(
            volume.reading.map(volume.shell, 1, position, 1),
            ipc_post=lambda call: posted.append(call.eax),
        )
        return volume.shell.files[1].ahead

    file = read_file(volume, 64 << 20, [(0, 1), (PAGE, 1), (32 << 20, 1)])
    assert (touch(0), posted) == (2, [2 * PAGE])  # the second block is read ahead; the first is in memory
    assert (touch(32 << 20), posted) == (0, [])
    assert volume.files_state.counters.ahead == 1
    assert file.covering(2 * PAGE).ahead


def test_bytes_that_another_span_has_taken_over_while_data_were_read_ahead_are_found_in_that_one(
    volume: Volume,
) -> None:
    """The span before ended within a page, and the answer came before the call returned (`FilePages.begin`)."""
    file = read_file(volume, 64 << 20, [(0, 2)])
    posted: list[int] = []

    def answered(call: RoutineCall) -> None:
        posted.append(call.eax)
        if len(posted) == 1:
            before = file.covering(PAGE)
            before.length = PAGE
            volume.put(file, PAGE, 1)

    (address, size, _), *_ = drive(volume.reading.map(volume.shell, 1, PAGE + 5, 1), ipc_post=answered)
    assert (address - volume.shell.files[1].window, size) == (PAGE + 5, PAGE - 5)


def test_nothing_is_read_ahead_for_which_data_in_use_would_have_to_go(volume: Volume) -> None:
    read_file(volume, 64 << 20, [(0, 1)])
    cache = volume.cache
    while cache.high.available >= cache.most or cache.unlocked >= cache.most:
        cache.high.allocate()
    map_at(volume, 0)
    assert volume.shell.files[1].ahead, "it reads in order"
    assert volume.files_state.counters.ahead == 0


def test_the_most_idle_span_is_unmapped_when_spans_are_mapped_as_often_as_allowed(volume: Volume) -> None:
    file = read_file(volume, 4 * PAGE, [(0, 1), (2 * PAGE, 1)])
    volume.fields["slot_waiters"] = 1
    map_at(volume, 0)
    volume.files_state.mapped = MAPPED_BLOCKS
    map_at(volume, 2 * PAGE)
    assert [span.position for span in file.spans] == [2 * PAGE]
    volume.put(file, 0, 1)
    file.covering(2 * PAGE).kept = 1  # a reader is about to use it
    volume.files_state.mapped = MAPPED_BLOCKS
    with refusal(ErrorCode.NO_MEMORY):
        map_at(volume, 0)


def test_nothing_is_mapped_of_a_file_whose_volume_is_gone(volume: Volume) -> None:
    file = read_file(volume, PAGE, [(0, 1)])
    file.error = ErrorCode.UNPLUGGED
    for position in (0, PAGE):  # also at its end: that there is nothing more is not known
        with refusal(ErrorCode.UNPLUGGED):
            map_at(volume, position)
    with refusal(ErrorCode.UNPLUGGED):
        drive(volume.reading.fault(volume.shell, volume.shell.files[1].window))
