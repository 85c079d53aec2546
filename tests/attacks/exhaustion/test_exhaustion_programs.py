"""Executables made to cost too much: headers, memory, symbols, programs being read."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from callgate.asm.assembler.output.elf_format import HEADER, IDENT, PROGRAM_HEADER, SYMBOL
from callgate.kernel.abi import limits
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE, USER_PROGRAM
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.symbols import symbol_at
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.programs.images import program_image
from work_counter import lines_executed

Arenas = Callable[..., Any]

# Programs.


def elf(headers: list[tuple[int, ...]], data: bytes = b"") -> bytes:
    """Return an executable with these program headers."""
    head = HEADER.pack(IDENT, 2, 3, 1, USER_PROGRAM, HEADER.size, 0, 0, HEADER.size, 32, len(headers), 0, 0, 0)
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

    assert lines_executed(refused) < 5000


def test_a_program_that_wants_more_memory_than_its_family_may_have_is_refused_before_it_has_any(arena: Arenas) -> None:
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
        done = lines_executed(
            lambda bomb=bomb, last=USER_PROGRAM + count, found=found: found.append(symbol_at(bomb, last))
        )
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
    at = HEADER.size
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (0, 1, 6, USER_PROGRAM, 0, 1 << 20, 0, 0, 0, 0),
        (0, 2, 0, 0, at, len(symbols), 3, 0, 4, 16),
        (0, 3, 0, 0, at + len(symbols), len(text), 0, 0, 1, 0),
    ]
    table = b"".join(struct.pack("<10I", *section) for section in sections)
    head = HEADER.pack(IDENT, 2, 3, 1, USER_PROGRAM, 0, at + len(symbols) + len(text), 0, at, 32, 0, 40, 4, 0)
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


def test_the_total_size_of_programs_that_are_being_read_is_bounded(arena: Arenas) -> None:
    made = arena()
    made.run()
    shares = made.kernel.shares
    number = next(process.number for process in made.kernel.state.tasks.processes.values() if process.number)
    shares.loading[0] = limits.PROGRAMS_LOADING_BYTES - limits.PROGRAMS_LOADING_RESERVED
    with pytest.raises(PolicyError) as caught:
        shares.check_loading(number, 1)
    assert caught.value.code is ErrorCode.NO_MEMORY
    shares.check_loading(0, limits.PROGRAMS_LOADING_RESERVED)
