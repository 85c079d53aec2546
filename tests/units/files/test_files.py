"""Directories, open files and reading through windows, on a plain guest with file data in plain memory."""

import pytest
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.file import FilePage, OpenFlags
from callgate.kernel.abi.limits import DIRECTORIES_KEPT, DIRECTORIES_OF_PROCESS, FILES_OF_PROCESS
from callgate.kernel.abi.message import ReplyType, SlotState
from callgate.kernel.core.coroutines import RoutineCall, RoutineResult
from callgate.kernel.core.errors import DiskError
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


def test_a_directory_of_several_pages_is_given_back_at_once_and_one_of_a_single_page_with_others(
    volume: Volume,
) -> None:
    releases = volume.directories.releases
    for name, pages in ((b"/d0p1/A", 1), (b"/d0p1/B", 2)):
        number, lock = volume.lock(name)
        version = lock.of
        version.current = False
        del volume.directories.state.versions[volume.endpoint.number, name[6:]]
        version.frames = version.frames * pages
        volume.directories.unlock(volume.shell, number)
        assert (releases.state.put_off == [volume.endpoint]) == (pages == 1)


@pytest.mark.parametrize("put_off", [True, False])
def test_a_server_without_memory_is_told_first_what_was_put_off_and_then_asked_again(
    volume: Volume, *, put_off: bool
) -> None:
    releases = volume.directories.releases
    if put_off:
        releases.add_unlock(volume.endpoint, 5)
    asked: list[int] = []

    def short(call: RoutineCall) -> RoutineResult:
        asked.append(call.esi)
        if len(asked) > 1:
            return volume.directory(call)
        volume.take(state=SlotState.DONE)
        return returned(call, failed=True, eax=ErrorCode.NO_MEMORY)

    locked = volume.directories.lock(volume.shell, b"/d0p1", PATH)
    if put_off:
        drive(locked, ipc_request=short, ipc_finish=volume.finish)
        assert releases.state.put_off == []
    else:
        with refusal(ErrorCode.NO_MEMORY):
            drive(locked, ipc_request=short, ipc_finish=volume.finish)
    assert len(asked) == 1 + put_off


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
    assert (dict(volume.shares.loading), file.opens) == ({}, 1), "nothing is kept of a family that reads no program"
    with refusal(ErrorCode.NOT_EXECUTABLE):
        drive(volume.opening.read_all(volume.endpoint, (PATH, 1), 100, 0), ipc_request=volume.file(101))
    assert file.opens == 1
