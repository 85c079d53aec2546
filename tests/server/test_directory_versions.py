"""Directory versions: shared while current, alive while locked, freed when neither."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import (
    HostedServer,
    ListedFile,
    Pages,
    Reply,
    Request,
    build_pages,
    operation,
    read_pages,
)
from callgate.server.errors import ReplyError
from callgate.server.fat.server import FatServer
from callgate.server.testing import Rehearsal
from callgate.server.versions import LOCK_LIMIT, DirectoryVersions


class ListingServer(HostedServer):
    """Directory EBX has EBX entries, and does not last if ESI is 1; CLOSE retires it."""

    name = "listing"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.directories = DirectoryVersions(self.memory, cached_pages=4)
        self.built = 0

    @operation(Operation.LOCK_DIRECTORY)
    async def lock(self, request: Request) -> Reply:
        count = request.registers.ebx

        def build(version: int) -> Pages:
            self.built += 1
            files = [ListedFile(f"file {i} " + "x" * 200, 0x20, i) for i in range(count)]
            return Pages(build_pages(files, version), count)

        return await self.directories.lock(count, build, lasting=request.registers.esi != 1)

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock(self, request: Request) -> Reply:
        await self.directories.unlock(request.registers.edx)
        return await self.null(request)

    @operation(Operation.CLOSE)
    async def retire(self, request: Request) -> Reply:
        await self.directories.retire(request.registers.ebx)
        return await self.null(request)


@pytest.fixture
def rehearsal() -> Rehearsal:
    return Rehearsal(ListingServer, bytes(512))


def lock(rehearsal: Rehearsal, count: int) -> Any:
    answer = rehearsal.request(Operation.LOCK_DIRECTORY, ebx=count)
    assert answer.error is ErrorCode.OK
    return answer


def unlock(rehearsal: Rehearsal, answer: Any) -> None:
    assert rehearsal.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx).error is ErrorCode.OK


def test_two_locks_share_one_version_and_have_numbers_of_their_own(rehearsal: Rehearsal) -> None:
    one, two = lock(rehearsal, 40), lock(rehearsal, 40)
    assert one.memory == two.memory
    assert one.registers.ebx == two.registers.ebx
    assert one.registers.edx != two.registers.edx
    assert [file.size for file in read_pages(one.memory)] == list(range(40))
    assert (one.registers.ecx, one.registers.edi) == (len(one.memory) // 4096, 40) == (3, 40)
    assert isinstance(rehearsal.server, ListingServer)
    assert rehearsal.server.built == 1


def test_an_unlocked_version_stays_for_the_next_client(rehearsal: Rehearsal) -> None:
    one = lock(rehearsal, 3)
    unlock(rehearsal, one)
    assert lock(rehearsal, 3).registers.ebx == one.registers.ebx


def test_a_retired_version_lives_until_its_last_lock_is_released(rehearsal: Rehearsal) -> None:
    old, again = lock(rehearsal, 3), lock(rehearsal, 3)
    rehearsal.request(Operation.CLOSE, ebx=3)
    new = lock(rehearsal, 3)
    assert new.registers.ebx > old.registers.ebx
    assert rehearsal.allocated() == 2 * 4096
    unlock(rehearsal, old)
    assert rehearsal.allocated() == 2 * 4096
    unlock(rehearsal, again)
    assert rehearsal.allocated() == 4096


def changes_told(rehearsal: Rehearsal) -> list[int]:
    return [call.ebx for call in rehearsal.calls if call.eax == ServerCall.DIRECTORY_CHANGED]


def test_the_kernel_is_told_of_each_directory_that_changes_and_of_the_version_that_it_may_keep(
    rehearsal: Rehearsal,
) -> None:
    held = lock(rehearsal, 3)
    unlock(rehearsal, lock(rehearsal, 4))
    for directory in (3, 4, 5):
        rehearsal.request(Operation.CLOSE, ebx=directory)
    assert changes_told(rehearsal) == [held.registers.ebx, 0, 0], "names may have come into the others"


def test_a_version_that_does_not_last_serves_one_lock_and_has_no_number(rehearsal: Rehearsal) -> None:
    partial = rehearsal.request(Operation.LOCK_DIRECTORY, ebx=3, esi=1)
    assert (partial.registers.ebx, partial.registers.edi) == (0, 3)
    whole = lock(rehearsal, 3)
    assert whole.registers.ebx
    assert rehearsal.request(Operation.LOCK_DIRECTORY, ebx=3, esi=1).registers.ebx == whole.registers.ebx
    assert rehearsal.allocated() == 2 * 4096
    unlock(rehearsal, partial)
    assert rehearsal.allocated() == 4096


def test_a_retired_version_without_locks_dies_at_once(rehearsal: Rehearsal) -> None:
    unlock(rehearsal, lock(rehearsal, 3))
    rehearsal.request(Operation.CLOSE, ebx=3)
    assert rehearsal.allocated() == 0


def test_a_directory_lock_can_be_released_only_once(rehearsal: Rehearsal) -> None:
    one = lock(rehearsal, 3)
    lock(rehearsal, 3)
    unlock(rehearsal, one)
    for number in (one.registers.edx, 0, 99):
        answer = rehearsal.request(Operation.UNLOCK_DIRECTORY, edx=number)
        assert answer.error is ErrorCode.BAD_HANDLE


def test_the_least_recently_used_unlocked_directories_are_dropped_first(rehearsal: Rehearsal) -> None:
    kept = lock(rehearsal, 100)  # 6 pages, locked: does not count
    for count in (1, 2, 3, 4):
        unlock(rehearsal, lock(rehearsal, count))
    unlock(rehearsal, lock(rehearsal, 1))  # used again
    unlock(rehearsal, lock(rehearsal, 5))
    assert rehearsal.allocated() == len(kept.memory) + 4 * 4096
    assert isinstance(rehearsal.server, ListingServer)
    built = rehearsal.server.built
    lock(rehearsal, 1)
    assert rehearsal.server.built == built
    lock(rehearsal, 2)
    assert rehearsal.server.built == built + 1


def test_cached_directories_are_dropped_when_memory_runs_out() -> None:
    rehearsal = Rehearsal(ListingServer, bytes(512), memory_limit=4 * 4096)
    for count in (1, 2, 3, 4):
        unlock(rehearsal, lock(rehearsal, count))
    assert len(lock(rehearsal, 40).memory) == 3 * 4096
    answer = rehearsal.request(Operation.LOCK_DIRECTORY, ebx=60)
    assert answer.error is ErrorCode.NO_MEMORY


def test_the_number_of_directory_locks_is_bounded(rehearsal: Rehearsal) -> None:
    for _ in range(LOCK_LIMIT):
        lock(rehearsal, 1)
    assert rehearsal.request(Operation.LOCK_DIRECTORY, ebx=1).error is ErrorCode.NO_RESOURCES


class TestSeveralThreads:
    """Handlers interleave where they await, and only there."""

    def begin(
        self, rehearsal: Rehearsal, operation: int, **registers: int
    ) -> tuple[int, Coroutine[Any, Any, ServerCall]]:
        address = rehearsal.post(operation, **registers)
        return address, rehearsal.server.serve(address)

    def test_threads_that_build_the_same_directory_at_once_end_with_one_version(self, rehearsal: Rehearsal) -> None:
        one, first = self.begin(rehearsal, Operation.LOCK_DIRECTORY, ebx=3)
        two, second = self.begin(rehearsal, Operation.LOCK_DIRECTORY, ebx=3)
        calls = [first.send(None), second.send(None)]
        assert [call.eax for call in calls] == [SystemCall.ALLOCATE] * 2
        with pytest.raises(StopIteration) as stop:
            first.send(rehearsal.answer(calls[0]))
        answers = [rehearsal.take(one, stop.value.value)]
        freeing = second.send(rehearsal.answer(calls[1]))
        assert freeing.eax == SystemCall.FREE
        with pytest.raises(StopIteration) as stop:
            second.send(rehearsal.answer(freeing))
        answers.append(rehearsal.take(two, stop.value.value))
        assert answers[0].registers.ebx == answers[1].registers.ebx
        assert rehearsal.allocated() == 4096

    def test_threads_that_walk_the_same_chain_at_once_both_have_the_right_sectors(
        self, fat_image: Callable[..., Any], client: Any
    ) -> None:
        image = fat_image(8000, "-F", "16", "-s", "1")
        image.put("BIG.BIN", bytes(range(256)) * 8000)
        served = client(image.view())
        rehearsal = served.rehearsal
        number = served.request(Operation.OPEN, "BIG.BIN").registers.eax
        running = [
            self.begin(rehearsal, Operation.READ, ebx=number, eax=position, ecx=4096)
            for position in (2_000_000, 1_500_000, 100)
        ]
        results: dict[int, Any] = dict.fromkeys(range(3))
        answers: dict[int, Any] = {}
        while len(answers) < 3:
            for i, (address, coroutine) in enumerate(running):
                if i in answers:
                    continue
                try:
                    results[i] = rehearsal.answer(coroutine.send(results[i]))
                except StopIteration as stop:
                    answers[i] = rehearsal.take(address, stop.value)
        for answer in answers.values():
            data = b"".join(rehearsal.read_sectors(*piece) for piece in answer.sectors)
            start = answer.registers.ecx
            assert data[: answer.registers.eax] == image.files["BIG.BIN"][start : start + answer.registers.eax]


class TestPages:
    def test_directory_pages_hold_no_record_across_a_boundary(self) -> None:
        files = [ListedFile("n" * (1 + i * 37 % 1020), i, i, i, i) for i in range(300)]
        pages = build_pages(files, 7)
        assert list(read_pages(pages)) == files
        for page in range(0, len(pages), 4096):
            used = int.from_bytes(pages[page + 4 : page + 8], "little")
            assert 16 <= used <= 4096
            assert int.from_bytes(pages[page + 8 : page + 12], "little") == 7
            assert not any(pages[page + used : page + 4096])

    @pytest.mark.parametrize("name", ["", "é" * 511])
    def test_directory_pages_refuse_names_that_do_not_fit(self, name: str) -> None:
        with pytest.raises(ReplyError):
            build_pages([ListedFile(name, 0)], 1)


def test_a_fat_server_can_be_duplicated_with_files_open_and_directories_locked(
    fat_image: Callable[..., Any], client: Any
) -> None:
    image = fat_image(1440)
    image.put("FILE.TXT", b"contents" * 1000)
    served = client(image.view())
    number = served.request(Operation.OPEN, "FILE.TXT").registers.eax
    locked = served.request(Operation.LOCK_DIRECTORY, "/")
    before = served.read_extract(number, 0, 100)
    copy = served.server.duplicate(served.rehearsal.memory)
    assert isinstance(copy, FatServer)
    assert served.request(Operation.CLOSE, eax=number).error is ErrorCode.OK
    served.rehearsal.server = copy
    assert served.read_extract(number, 0, 100) == before
    assert served.request(Operation.UNLOCK_DIRECTORY, edx=locked.registers.edx).error is ErrorCode.OK
