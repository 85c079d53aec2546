"""Whoever takes all there is gets his share and an error, and the others go on: one test a row of the table of limits.

The table stands in docs/reference.md and is made from kernel/abi/limits.py.
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.asm.assembler import assemble
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, USER_PROGRAM
from callgate.kernel.abi.selectors import MAX_PROCESSES, MAX_THREADS
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.symbols import SYMBOL, symbol_at
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.programs.executable import ELF_HEADER, ELF_IDENT, PROGRAM_HEADER, parse_elf
from callgate.kernel.programs.images import program_image, source
from callgate.kernel.servers import volumes
from callgate.kernel.storage.disk_requests import Run
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leftovers import leftovers
from callgate.server import gate
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate, free, lock_blocks
from callgate.server.hosted import operation
from callgate.server.message import Object, Registers, RegisterValues, Reply, Request
from work_counter import work

HELD, FAULT = 0, 139
PROGRAMS = Path(__file__).parents[1] / "programs"
FUEL = 400_000_000
SECTORS = 2048
IMAGE = synthetic.disk(SECTORS)
Arenas = Callable[..., Any]

# Programs that start themselves, and the shell that has to live beside them.


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return an image whose BOMB is made with `THREADS` and `HEAP`, and which has a text beside it."""

    def make(**defines: int) -> Path:
        folder = tmp_path_factory.mktemp("bomb")
        tree = folder / "tree"
        tree.mkdir()
        include = [PROGRAMS, source("callgate.asm.include", "")]
        program = assemble(PROGRAMS / "bomb.asm", include_dirs=include, defines=defines)
        (tree / "BOMB").write_bytes(program.elf(debug=False))
        (tree / "TEXT.TXT").write_bytes(b"still here\n")
        create_image(folder / "disk.img", tree, fs="fat16", size=8 << 20)
        return folder / "disk.img"

    return make


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


# What one process may have.

TAKERS = ("threads", "pieces", "files", "directories", "heap")


@pytest.mark.parametrize("what", TAKERS)
def test_a_process_gets_exactly_its_limit_and_then_the_error_of_the_table(arena: Arenas, what: str) -> None:
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


def test_the_largest_piece_of_memory_is_given_and_taken_back(arena: Arenas) -> None:
    made = arena(memory=160 << 20)
    made.attacker("taker", 7)
    made.victim()
    assert made.run(FUEL).reason == "halt"
    assert made.results == [HELD], made.log
    made.assert_unharmed()


class Lavish(synthetic.Synthetic):
    """Gives 506 pages for any directory, and takes new memory for the next one."""

    last: ClassVar[int] = 0

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        if Lavish.last:
            await free(Lavish.last)
        Lavish.last = address = await allocate(506 * PAGE_SIZE)
        return Object(address, 506 * PAGE_SIZE, RegisterValues(ebx=address, ecx=506, edi=1, edx=address))

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        return Registers(request.registers)


def test_directories_that_a_server_no_longer_has_count_for_who_has_them_locked(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Lavish])
    Lavish.last = 0
    made = arena(MemoryMedium(IMAGE), memory=16 << 20)
    made.attacker("taker", 6)
    made.victim()
    made.run(4_000_000)
    assert made.results == [None], made.log
    (attacker,) = made.attackers
    assert attacker.shown >= 506
    assert attacker.shown <= made.kernel.memory.low.total // limits.FRAMES_OF_FAMILY_PART
    assert [victim.exit_code for victim in made.victims] == [HELD]


def test_directories_that_nobody_has_locked_are_kept_up_to_so_many_pages(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Lavish])
    Lavish.last = 0
    made = arena(MemoryMedium(IMAGE), memory=64 << 20)
    made.attacker("taker", 6)
    made.run(4_000_000)
    (attacker,) = made.attackers
    assert len(attacker.locks) > limits.DIRECTORY_PAGES_KEPT // 506
    made.kernel.processes.kill(attacker, 9)
    attention(made)
    made.run(4_000_000)
    idle = [version for version in made.kernel.directories.state.versions.values() if not version.users]
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
def test_a_server_has_at_most_so_many_pieces_locked(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
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
    (partition,) = (p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")
    assert partition.locked_blocks == Locker.locked["d0"] > 0
    made.kernel.servers.kill(partition.process, "killed by the test")
    attention(made)
    made.run(FUEL)
    assert partition.locked_blocks == 0
    assert leftovers(made.kernel) == []


# File data.


@pytest.mark.thorough(only=True)
def test_a_file_of_holes_has_a_bounded_number_of_request_blocks(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    made, steps = hole_bomb(arena, monkeypatch, rounds=1000)
    assert made.results == [0], made.log
    assert max(count for count, _ in steps) == limits.REQUEST_BLOCKS_OF_FILE
    made.assert_unharmed()


def hole_bomb(arena: Arenas, monkeypatch: pytest.MonkeyPatch, rounds: int) -> tuple[Any, list[tuple[int, int]]]:
    """Read a byte at many places of a file of holes; return the request blocks at each reply, and their total."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"f": synthetic.Layout(1 << 40, [(None, 1 << 31)], most=16)}
    made = arena(MemoryMedium(IMAGE))
    made.victim()
    made.attacker("holes", ROUNDS=rounds, FAILING=0)
    steps: list[tuple[int, int]] = []
    replied = made.kernel.answers.replied

    def watched(partition: Any, slot: int, message: memoryview) -> Any:
        files = made.kernel.files.objects.values()
        steps.append((max(len(file.fills) for file in files), made.kernel.state.files.blocks))
        assert steps[-1][1] == sum(len(file.fills) for file in files)
        return replied(partition, slot, message)

    made.kernel.answers.replied = watched
    assert made.run(FUEL).reason == "halt"
    return made, steps


def test_all_files_together_have_a_bounded_number_of_request_blocks(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callgate.kernel.file_data.fetching.REQUEST_BLOCKS", 100)
    made, steps = hole_bomb(arena, monkeypatch, rounds=300)
    assert made.results == [0], made.log
    assert max(total for _, total in steps) == 100
    made.assert_unharmed()


@pytest.mark.thorough(only=True)
@pytest.mark.parametrize("pieces", [60, 400])
def test_a_disk_has_a_bounded_number_of_requests_and_another_one_is_read_meanwhile(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    """The file lies in single blocks that are no neighbours, so that each is a request."""
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


def test_one_lock_blocks_has_a_bound(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Locker])
    Locker.piece, Locker.locked, Locker.refused = limits.LOCK_BLOCKS_BYTES // 512 + 1, {}, {}
    monkeypatch.setattr(gate, "LOCK_BLOCKS_LIMIT", 1 << 30)
    made = arena(MemoryMedium(b"locker" + bytes((16 << 20) - 6)))
    made.run(FUEL)
    assert Locker.refused == {"d0": ErrorCode.BAD_ARGUMENT}
    assert Locker.locked == {"d0": 0}


# The log.


class Liar(synthetic.Synthetic):
    """Answers READ with sectors that are not its own."""

    async def serve(self, message: int) -> ServerCall:
        kind = await super().serve(message)
        if kind == ServerCall.REPLY_SECTORS:
            self.memory.write(message + 8, struct.pack("<I", 1))
            self.memory.write(message + 48, struct.pack("<Q", 1 << 40))
        return kind


def test_a_source_floods_the_log_with_its_first_lines_and_the_rest_is_counted(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Liar])
    synthetic.Synthetic.files = {"f": synthetic.Layout(1 << 30, [(8, 1 << 21)])}
    logs = []
    for _ in range(2):
        made = arena(MemoryMedium(IMAGE))
        made.attacker("holes", ROUNDS=500, FAILING=1)
        made.victim()
        assert made.run(FUEL).reason == "halt"
        written = [line for line in made.log if "refused" in line]
        assert limits.LOG_BURST <= len(written) <= limits.LOG_BURST + limits.LOG_LINES_PER_SECOND
        made.kernel.log.finish()
        left_out = sum(int(found[1]) for line in made.log if (found := re.match(r"/d0: (\d+) more lines? left", line)))
        assert len(written) + left_out == 500
        assert [victim.exit_code for victim in made.victims] == [HELD]
        logs.append(made.log)
    assert logs[0] == logs[1]


def test_a_line_of_control_characters_is_no_longer_than_any_other_although_each_is_written_as_four(
    arena: Arenas,
) -> None:
    made = arena()
    made.kernel.log("\x07" * limits.LOG_LINE_CHARACTERS)
    assert made.log[-1] == ("\\x07" * limits.LOG_LINE_CHARACTERS)[: limits.LOG_LINE_CHARACTERS]


def test_a_source_says_something_again_after_a_while_and_first_how_much_was_left_out(arena: Arenas) -> None:
    made = arena()
    made.run()
    kernel = made.kernel
    loud = kernel.state.endpoints.by_number[0]
    del made.log[:]
    for number in range(100):
        kernel.log(f"line {number}", loud)
    assert made.log == [f"line {number}" for number in range(limits.LOG_BURST)]
    kernel.log("the kernel has something to say")
    assert made.log[-1] == "the kernel has something to say"
    made.system.machine.clock.idle += 2_000_000_000
    kernel.log("again", loud)
    assert made.log[-2:] == [f"/rom: {100 - limits.LOG_BURST} more lines left out", "again"]
    kernel.log("x" * 5000, loud)
    assert len(made.log[-1]) == limits.LOG_LINE_CHARACTERS


# Programs.


def elf(headers: list[tuple[int, ...]], data: bytes = b"") -> bytes:
    """Return an executable with these program headers."""
    ident = ELF_IDENT.ljust(16, b"\0")
    head = ELF_HEADER.pack(
        ident, 2, 3, 1, USER_PROGRAM, ELF_HEADER.size, 0, 0, ELF_HEADER.size, 32, len(headers), 0, 0, 0
    )
    return head + b"".join(PROGRAM_HEADER.pack(*header) for header in headers) + data


def load(address: int, size: int, memory: int) -> tuple[int, ...]:
    return (1, 0, address, address, size, memory, 5, PAGE_SIZE)


MANY = [load(USER_PROGRAM + PAGE_SIZE * index, 0, 1) for index in range(60_000)]
LARGE = 12 << 20
ELF_BOMBS = {
    "many headers": elf(MANY[:30_000]),
    "many headers over the whole file": elf([load(USER_PROGRAM, 1 << 20, 1 << 20)] * 30_000, bytes(1 << 20)),
    "one segment of gigabytes": elf([load(USER_PROGRAM, 0, 0xF000_0000)]),
    "segments of too much together": elf([load(USER_PROGRAM + LARGE * index, 0, LARGE) for index in range(4)]),
    "segments that share a page": elf([load(USER_PROGRAM, 0, 100), load(USER_PROGRAM + 200, 0, 100)]),
    "a segment that ends in the next one's page": elf(
        [load(USER_PROGRAM, 0, PAGE_SIZE + 1), load(USER_PROGRAM + PAGE_SIZE + 16, 0, 1)]
    ),
}


@pytest.mark.parametrize("kind", ELF_BOMBS)
def test_an_executable_that_asks_for_too_much_is_refused_with_bounded_work(kind: str) -> None:
    def refused() -> None:
        with pytest.raises(PolicyError) as caught:
            parse_elf(ELF_BOMBS[kind])
        assert caught.value.code is ErrorCode.NOT_EXECUTABLE

    assert work(refused) < 5000


def test_a_program_that_wants_more_memory_than_its_family_may_have_is_refused_before_it_gets_any(arena: Arenas) -> None:
    made = arena(memory=16 << 20)
    made.victim()
    made.run()
    kernel = made.kernel
    parent = next(process.number for process in kernel.state.tasks.processes.values() if process.number)
    before, least = kernel.memory.low.available, []
    give = kernel.processes.give_page

    def watched(*arguments: Any) -> int:
        least.append(kernel.memory.low.available)
        return give(*arguments)

    kernel.processes.give_page = watched
    with pytest.raises(PolicyError) as caught:
        kernel.programs.start(parse_elf(elf([load(USER_PROGRAM, 4, LARGE)])), "large", b"", parent)
    assert caught.value.code is ErrorCode.NO_MEMORY
    assert not least
    assert kernel.memory.low.available == before
    made.assert_unharmed()


def test_symbols_with_endless_names_are_found_with_bounded_work() -> None:
    image = program_image("shell").elf(debug=False, labels=True)
    honest = symbol_at(image, USER_PROGRAM)
    assert honest
    for names, count in (
        (limits.SYMBOL_NAMES_BYTES, limits.SYMBOLS),
        (limits.SYMBOL_NAMES_BYTES + 1, 16),
        (64, 100_000),
    ):
        bomb = symbol_bomb(names, count)
        found: list[str] = []
        done = work(lambda bomb=bomb, last=USER_PROGRAM + count, found=found: found.append(symbol_at(bomb, last)))
        assert done < 12 * limits.SYMBOLS
        fits = names <= limits.SYMBOL_NAMES_BYTES and count <= limits.SYMBOLS
        assert bool(found[0]) == fits
        assert len(found[0]) <= limits.SYMBOL_NAME_BYTES + 12


def symbol_bomb(names: int, count: int) -> bytes:
    """Return a file with `count` symbols whose names are all the rest of a table of `names` letters."""
    symbols = b"".join(
        SYMBOL.pack(index % max(1, names - 300), USER_PROGRAM + index, 0, 0, 0, 1) for index in range(count)
    )
    text = b"n" * (names - 1) + b"\0"
    at = ELF_HEADER.size
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 1, 6, USER_PROGRAM, 0, 1 << 20, 0, 0, 0, 0),
        (0, 2, 0, 0, at, len(symbols), 3, 0, 4, 16),
        (0, 3, 0, 0, at + len(symbols), len(text), 0, 0, 1, 0),
    ]
    table = b"".join(struct.pack("<10I", *section) for section in sections)
    head = ELF_HEADER.pack(
        ELF_IDENT.ljust(16, b"\0"), 2, 3, 1, USER_PROGRAM, 0, at + len(symbols) + len(text), 0, at, 32, 0, 40, 4, 0
    )
    return head + symbols + text + table


def test_processes_of_the_same_program_share_one_table_of_symbols_and_keep_no_file(arena: Arenas) -> None:
    made = arena()
    image = program_image("shell").elf(debug=False, labels=True)
    made.wanted += [lambda: made.attackers.append(start(made, image)) for _ in range(3)]
    made.wanted.append(lambda: made.attackers.append(start(made, symbol_bomb(256, 16), code=image)))
    made.run(2_000_000)
    first, second, third, other = (process.symbols for process in made.attackers)
    assert first is second is third
    assert other is not first
    kept = sum(len(table.symbols) + len(table.names) for table in (first, other))
    assert kept < len(image) + 1000
    assert not any(isinstance(value, bytes) and len(value) > 1000 for value in fields_of(made.attackers[0]))


def fields_of(process: Any) -> list[object]:
    return [getattr(process, name) for name in type(process).__slots__]


def start(made: Any, image: bytes, *, code: bytes = b"") -> Any:
    program = parse_elf(code or image)
    if code:
        program = type(program)(program.entry, program.segments, image)
    return made.kernel.programs.start(program, "many", b"", 0)


def test_programs_that_are_being_read_have_a_bound_together(arena: Arenas) -> None:
    made = arena()
    made.run()
    shares = made.kernel.shares
    number = next(process.number for process in made.kernel.state.tasks.processes.values() if process.number)
    shares.loading[0] = limits.PROGRAMS_LOADING_BYTES - limits.PROGRAMS_LOADING_RESERVED
    with pytest.raises(PolicyError) as caught:
        shares.check_loading(number, 1)
    assert caught.value.code is ErrorCode.NO_MEMORY
    shares.check_loading(0, limits.PROGRAMS_LOADING_RESERVED)


# Common to several.


def reader(made: Any, path: str) -> Any:
    """Start a program that reads a file from end to end and ends with HELD."""
    return made.start("whole_reader", path.encode() + b"\0")


def attention(made: Any) -> None:
    """Have whoever has been killed notice it."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
