"""A program that takes all it can has its share and then an error, and others go on: a test for each row of limits.

The table stands in docs/reference.md and is made from kernel/abi/limits.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.selectors import MAX_PROCESSES, MAX_THREADS
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.storage.disk_requests import Run
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from callgate.server import gate
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate, free, lock_blocks
from callgate.server.hosted import operation
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request

HELD, FAULT = 0, 139
FUEL = 400_000_000
SECTORS = 2048
IMAGE = synthetic.disk(SECTORS)
Arenas = Callable[..., Any]

# Programs that start themselves, and the shell that has to live beside them.


BOMBS = {"processes": (0, 0), "threads": (1, 0), "memory": (0, 1)}


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("kind", BOMBS)
def test_the_shell_starts_programs_beside_two_bombs_whose_first_process_has_ended(
    bomb: Callable[..., Path], kind: str
) -> None:
    threads, heap = BOMBS[kind]
    printed: list[bytes] = []
    options = SystemOptions(
        commands="/d0/BOMB; /d0/BOMB; hello one; cat /d0/TEXT.TXT; /rom/hello two",
        output=printed.append,
        memory=16 << 20,
    )
    with System([ImageFile(bomb(THREADS=threads, HEAP=heap))], options) as system:
        assert system.run(fuel=FUEL).reason == "exit", printed
        text = b"".join(printed).decode()
        assert "arguments: one" in text
        assert "arguments: two" in text
        assert "still here" in text
        state = system.kernel.state
        families = {process.family for process in state.tasks.processes.values()}
        for family in families - {state.tasks.shell}:
            members = [process for process in state.tasks.processes.values() if process.family == family]
            assert len(members) <= limits.PROCESSES_OF_FAMILY
            assert sum(len(member.threads) for member in members) <= limits.THREADS_OF_FAMILY
        assert len(state.tasks.processes) <= MAX_PROCESSES - limits.PROCESSES_RESERVED
        assert len(state.tasks.threads) <= MAX_THREADS - limits.THREADS_RESERVED
        assert system.kernel.memory.low.available >= limits.FRAMES_RESERVED_FILES


def test_a_program_that_the_shell_starts_beside_two_bombs_has_its_first_thread_and_no_second_one(
    bomb: Callable[..., Path],
) -> None:
    """With an argument the bomb's first process starts threads itself, which the last ones are not for."""
    options = SystemOptions(commands="/d0/BOMB; /d0/BOMB; /d0/BOMB x", output=lambda _: None, memory=16 << 20)
    with System([ImageFile(bomb(THREADS=1, HEAP=0))], options) as system:
        system.run(fuel=FUEL)
        tasks = system.kernel.state.tasks
        (late,) = (process for process in tasks.processes.values() if process.parent == tasks.shell and process.threads)
        assert len(late.threads) == 1
        assert len(tasks.threads) <= MAX_THREADS - limits.THREADS_RESERVED + 1


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_has_no_more_than_its_familys_share_however_often_it_starts_itself(
    bomb: Callable[..., Path], kind: str
) -> None:
    threads, heap = BOMBS[kind]
    options = SystemOptions(commands="/d0/BOMB; hello", memory=16 << 20)
    with System([ImageFile(bomb(THREADS=threads, HEAP=heap))], options) as system:
        assert system.run(fuel=FUEL).reason == "exit"
        kernel = system.kernel
        bombs = [process for process in kernel.state.tasks.processes.values() if process.name == "BOMB"]
        assert 1 <= len(bombs) <= limits.PROCESSES_OF_FAMILY
        assert sum(len(process.threads) for process in bombs) <= limits.THREADS_OF_FAMILY
        assert (
            kernel.memory.low.available >= kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART - 400
        )  # beside the system's own


def test_start_process_leaves_the_frames_that_allocate_leaves(bomb: Callable[..., Path]) -> None:
    least = []
    options = SystemOptions(commands="/d0/BOMB; /d0/BOMB; /d0/BOMB", memory=16 << 20)
    with System([ImageFile(bomb(THREADS=0, HEAP=1))], options) as system:
        kernel = system.kernel
        create = kernel.processes.start

        def watched(*arguments: Any, **more: Any) -> Any:
            thread = create(*arguments, **more)
            if not kernel.shares.favoured(thread.process):
                least.append(kernel.memory.low.available)
            return thread

        kernel.processes.start = watched  # type: ignore[method-assign]
        assert system.run(fuel=FUEL).reason == "exit"
        left = kernel.memory.low.available
        assert limits.FRAMES_RESERVED_PROGRAMS - 8 <= left < 2 * limits.FRAMES_RESERVED_PROGRAMS
    assert len(least) >= 3
    assert min(least) >= limits.FRAMES_RESERVED_PROGRAMS - 4  # tables of the kernel's for stacks


# The limits of one process.

TAKERS = ("threads", "pieces", "files", "directories", "heap")


@pytest.mark.parametrize("what", TAKERS)
def test_a_process_reaches_exactly_its_limit_and_then_has_the_error_that_the_table_names(
    arena: Arenas, what: str
) -> None:
    made = arena()
    made.victim()
    made.attacker("taker", TAKERS.index(what))
    assert made.run(FUEL).reason == "halt"
    assert made.results == [HELD], made.log
    made.assert_unharmed()


def test_a_hoarder_has_half_of_memory_and_others_start_and_allocate(arena: Arenas) -> None:
    made = arena(memory=16 << 20)
    made.attacker("taker", 5)
    made.victim()
    made.run(4_000_000)
    assert made.results == [None]
    (hoarder,) = made.attackers
    half = made.kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART
    assert half - 4 <= len(hoarder.pages) + len(hoarder.tables) + 4 <= half
    made.assert_unharmed()


def test_the_largest_piece_of_memory_can_be_allocated_and_freed(arena: Arenas) -> None:
    made = arena(memory=160 << 20)
    made.attacker("taker", 7)
    made.victim()
    assert made.run(FUEL).reason == "halt"
    assert made.results == [HELD], made.log
    made.assert_unharmed()


class FullDirectories(synthetic.Synthetic):
    """Gives 506 pages for any directory, and takes new memory for the next one."""

    last: ClassVar[int] = 0

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        if FullDirectories.last:
            await free(FullDirectories.last)
        FullDirectories.last = address = await allocate(506 * PAGE_SIZE)
        return Object(address, 506 * PAGE_SIZE, RegisterValues(ebx=address, ecx=506, edi=1, edx=address))

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        return Registers(request.registers)


def test_directories_that_a_server_no_longer_has_count_for_the_process_that_has_them_locked(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [FullDirectories])
    FullDirectories.last = 0
    made = arena(MemoryMedium(IMAGE), memory=16 << 20)
    made.attacker("taker", 6)
    made.victim()
    made.run(4_000_000)
    assert made.results == [None], made.log
    (attacker,) = made.attackers
    assert attacker.shown >= 506
    assert attacker.shown <= made.kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART
    assert [victim.exit_code for victim in made.victims] == [HELD]


def test_unlocked_directories_are_kept_up_to_a_bounded_number_of_pages(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [FullDirectories])
    FullDirectories.last = 0
    made = arena(MemoryMedium(IMAGE), memory=64 << 20)
    made.attacker("taker", 6)
    made.run(4_000_000)
    (attacker,) = made.attackers
    assert len(attacker.locks) > limits.DIRECTORY_PAGES_KEPT // 506
    made.kernel.processes.kill(attacker, 9)
    attention(made)
    made.run(4_000_000)
    state = made.kernel.directories.state
    idle = [*filter(state.is_idle, state.versions.values())]
    assert 506 <= sum(len(version.frames) for version in idle) <= limits.DIRECTORY_PAGES_KEPT


# Servers and the disk cache.


class Locker(synthetic.Synthetic):
    """Locks blocks until it is refused; `piece` sectors at a time."""

    piece: ClassVar[int] = 8
    locked: ClassVar[dict[str, int]] = {}
    refused: ClassVar[dict[str, ErrorCode]] = {}

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "locker" if first.startswith(b"locker") else None

    async def start(self) -> None:
        name, at = self.geometry.name, 0
        self.locked[name] = 0
        while name not in self.refused:
            try:
                await lock_blocks(at, self.piece)
            except FileSystemError as error:
                self.refused[name] = error.code
                return
            self.locked[name] += self.piece // 8
            at += self.piece


@pytest.mark.parametrize("lockers", [1, 4])
def test_servers_that_lock_all_they_can_leave_blocks_for_other_servers_and_readers(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, lockers: int
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locker, synthetic.Synthetic])
    Locker.piece, Locker.locked, Locker.refused = 256, {}, {}
    synthetic.Synthetic.files = {"f": synthetic.Layout(1024 * 512, [(8, 1024)])}
    disk = b"locker" + bytes((24 << 20) - 6)
    made = arena(*[MemoryMedium(disk) for _ in range(lockers)], MemoryMedium(IMAGE), high_memory=16 << 20)
    made.wanted.append(lambda: made.victims.append(reader(made, f"/d{lockers}/f")))
    assert made.run(FUEL).reason == "halt"
    blocks = (16 << 20) // PAGE_SIZE
    assert set(Locker.refused.values()) == {ErrorCode.NO_RESOURCES}
    own, shared = blocks // limits.SERVER_BLOCKS_OWN, blocks // limits.SERVER_BLOCKS_SHARED
    most = blocks // limits.SERVER_BLOCKS_PART
    assert max(Locker.locked.values()) == most if lockers == 1 else max(Locker.locked.values()) <= most
    assert min(Locker.locked.values()) >= own
    assert sum(max(0, locked - own) for locked in Locker.locked.values()) <= shared
    assert [victim.exit_code for victim in made.victims] == [HELD], made.log


@pytest.mark.thorough(only=True)
def test_a_server_has_a_bounded_number_of_pieces_locked(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locker])
    Locker.piece, Locker.locked, Locker.refused = 8, {}, {}
    made = arena(MemoryMedium(b"locker" + bytes((16 << 20) - 6)), high_memory=64 << 20)
    made.victim()
    assert made.run(FUEL).reason == "halt"
    assert Locker.refused == {"d0": ErrorCode.NO_RESOURCES}
    assert Locker.locked == {"d0": limits.BLOCK_WINDOWS_OF_SERVER}
    assert [victim.exit_code for victim in made.victims] == [HELD]


def test_a_server_that_ends_gives_its_share_back(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locker])
    Locker.piece, Locker.locked, Locker.refused = 256, {}, {}
    made = arena(MemoryMedium(b"locker" + bytes((24 << 20) - 6)), high_memory=16 << 20)
    made.run(FUEL)
    (endpoint,) = (p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")
    assert endpoint.locked_blocks == Locker.locked["d0"] > 0
    made.kernel.servers.kill(endpoint.process, "killed by the test")
    attention(made)
    made.run(FUEL)
    assert endpoint.locked_blocks == 0
    assert leaks(made.kernel) == []


# File data.


@pytest.mark.thorough(only=True)
def test_a_file_of_holes_has_a_bounded_number_of_spans(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    made, steps = hole_bomb(arena, monkeypatch, rounds=1000)
    assert made.results == [0], made.log
    assert max(count for count, _ in steps) == limits.SPANS_OF_FILE
    made.assert_unharmed()


def hole_bomb(arena: Arenas, monkeypatch: pytest.MonkeyPatch, rounds: int) -> tuple[Any, list[tuple[int, int]]]:
    """Read a byte at many places of a file of holes; return the spans at each reply, and their total."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"f": synthetic.Layout(1 << 40, [(None, 1 << 31)], most=16)}
    made = arena(MemoryMedium(IMAGE))
    made.victim()
    made.attacker("holes", ROUNDS=rounds, FAILING=0)
    steps: list[tuple[int, int]] = []
    replied = made.kernel.answers.replied

    def watched(endpoint: Any, slot: int, message: memoryview) -> Any:
        files = made.kernel.files.objects.values()
        steps.append((max(len(file.spans) for file in files), made.kernel.state.files.blocks))
        assert steps[-1][1] == sum(len(file.spans) for file in files)
        return replied(endpoint, slot, message)

    made.kernel.answers.replied = watched
    assert made.run(FUEL).reason == "halt"
    return made, steps


def test_all_files_together_have_a_bounded_number_of_spans(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callgate.kernel.file_data.fetching.SPANS", 100)
    made, steps = hole_bomb(arena, monkeypatch, rounds=150)
    assert made.results == [0], made.log
    assert max(total for _, total in steps) == 100
    made.assert_unharmed()


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("pieces", [60, 400])
def test_a_disk_has_a_bounded_number_of_requests_and_another_disk_can_be_read_meanwhile(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """The file lies in single blocks apart from each other, so that each is a request."""
    monkeypatch.setattr("callgate.kernel.storage.disk_requests.REQUESTS_OF_DISK", 20)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    scattered = [(16 + 16 * number, 8) for number in range(pieces)]
    synthetic.Synthetic.files = {
        "f": synthetic.Layout(pieces * PAGE_SIZE, scattered),
        "g": synthetic.Layout(16 * PAGE_SIZE, [(8, 128)]),
    }
    slow = Latency(command=1_000_000, reorder=True)
    made = arena(MemoryMedium(synthetic.disk(16 * pieces + 32)), MemoryMedium(IMAGE), latency=slow)
    made.wanted.append(lambda: made.attackers.append(reader(made, "/d0/f")))
    made.wanted.append(lambda: made.victims.append(reader(made, "/d1/g")))
    most: dict[int, int] = {}
    ends: list[int | None] = []
    fill_request = made.kernel.disk_requests._fill

    def watched(address: int, run: Run, frames: list[int]) -> None:
        fill_request(address, run, frames)
        disk = run.keys[0][0]
        most[disk] = max(most.get(disk, 0), made.kernel.disk_requests.state.in_flight[disk])
        ends.append(made.victims[0].exit_code if made.victims else None)

    made.kernel.disk_requests._fill = watched
    assert made.run(FUEL).reason == "halt"
    assert max(most.values()) == 20
    assert not made.kernel.disk_requests.state.in_flight
    assert made.results == [HELD], made.log
    if pieces > 100:
        assert HELD in ends  # the other disk's reader was through before the last request of this one
    made.assert_unharmed()


def test_one_call_of_lock_blocks_locks_a_bounded_number_of_blocks(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locker])
    Locker.piece, Locker.locked, Locker.refused = limits.LOCK_BLOCKS_BYTES // 512 + 1, {}, {}
    monkeypatch.setattr(gate, "LOCK_BLOCKS_SECTORS", 1 << 30)
    made = arena(MemoryMedium(b"locker" + bytes((16 << 20) - 6)))
    made.run(FUEL)
    assert Locker.refused == {"d0": ErrorCode.BAD_ARGUMENT}
    assert Locker.locked == {"d0": 0}


# Common to several.


def reader(made: Any, path: str) -> Any:
    """Start a program that reads a file from end to end and ends with HELD."""
    return made.start("whole_reader", path.encode() + b"\0")


def attention(made: Any) -> None:
    """Have killed threads notice it."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
