"""The speed of a program that works on memory: the shell's sort of 10,000 names, in guest instructions a second.

The routine lies where the shell has it, in flat memory without paging, and has the names in an order that looks like
chance.  The figure beside it is that of the engine without a hook.
"""

from __future__ import annotations

import ctypes
import struct
import time
from statistics import median
from typing import Any

from callgate.kernel.abi.directory import DirectoryEntry, ListedFile, build_pages, read_pages
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine import Machine
from callgate.kernel.programs.images import program_image
from callgate.tools.bench.measuring import BenchmarkError, timing

NAMES = 10_000
SCATTER = 7919  # a prime: each number comes once
PROGRAM, ENTRIES, ARRAY, STACK, END = 0x40_0000, 0x100_0000, 0x200_0000, 0x2F0_0000, 0x300_0000
RETURN = 0x1000  # where a HLT lies
FIRST_ENTRY = 16  # bytes of a directory page before its entries
LENGTH, NAME_LENGTH = offset_of(DirectoryEntry, "length"), offset_of(DirectoryEntry, "name_length")


def names() -> bytes:
    """Return directory pages with the names."""
    numbers = (SCATTER * number % NAMES for number in range(NAMES))
    return build_pages((ListedFile(f"file number {number:05}.txt", 0) for number in numbers), 1)


def addresses(pages: bytes) -> list[int]:
    """Return the address of each entry, in the order of the pages."""
    found = []
    for page in range(0, len(pages), PAGE_SIZE):
        at = page + FIRST_ENTRY
        while at + FIRST_ENTRY < page + PAGE_SIZE and (length := struct.unpack_from("<H", pages, at + LENGTH)[0]):
            found.append(ENTRIES + at)
            at += length
    return found


def contents(pages: bytes) -> list[tuple[int, bytes]]:
    """Return what lies where before the sort: program, names, array, the return address."""
    array = addresses(pages)
    parts = [(section.address, bytes(section.data)) for section in program_image("shell").sections]
    parts += [(ENTRIES, pages), (ARRAY, struct.pack(f"<{NAMES}I", *array)), (STACK, struct.pack("<I", RETURN))]
    return [*parts, (RETURN, b"\xf4")]


def exact(kind: str, pages: bytes) -> tuple[float, int]:
    """Return the seconds of the sort under the machine's clock, and its instructions; check that it has sorted."""
    with Machine(memory=END, high_memory=0, counter=kind) as machine:
        for at, data in contents(pages):
            machine.ram.write(at, data)
        cpu = machine.cpu
        cpu.eip, cpu.esp, cpu.esi, cpu.ecx = program_image("shell").address("sort_entries"), STACK, ARRAY, NAMES
        begin = time.perf_counter()
        stop = machine.run()
        spent = time.perf_counter() - begin
        if stop.reason != "halt" or in_order(machine.ram.read(ARRAY, 4 * NAMES), pages) != sorted(names_of(pages)):
            raise BenchmarkError(f"the names are not in order after {stop}")
        return spent, stop.retired


def names_of(pages: bytes) -> list[str]:
    """Return the names in the order of the pages."""
    return [file.name for file in read_pages(pages)]


def in_order(array: bytes, pages: bytes) -> list[str]:
    """Return the names in the order of an array of addresses."""
    by_address = dict(zip(addresses(pages), names_of(pages), strict=True))
    return [by_address[address] for address in struct.unpack(f"<{NAMES}I", array)]


def by_engine(pages: bytes) -> float:
    """Return the seconds of the sort in the engine without a hook."""
    from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
    from unicorn.unicorn_py3.unicorn import uclib
    from unicorn.x86_const import UC_X86_REG_ECX, UC_X86_REG_ESI, UC_X86_REG_ESP

    uc = Uc(UC_ARCH_X86, UC_MODE_32)
    uc.mem_map(0, END)
    for at, data in contents(pages):
        uc.mem_write(at, data)
    for register, value in (UC_X86_REG_ESP, STACK), (UC_X86_REG_ESI, ARRAY), (UC_X86_REG_ECX, NAMES):
        uc.reg_write(register, value)
    routine = ctypes.c_uint64(program_image("shell").address("sort_entries"))
    begin = time.perf_counter()
    uclib.uc_emu_start(uc._uch, routine, ctypes.c_uint64(RETURN), ctypes.c_uint64(0), ctypes.c_size_t(0))
    return time.perf_counter() - begin


def bench_sorting(kind: str, rounds: int) -> dict[str, Any]:
    """Return the element of one kind of clock: seconds of a sort of 10,000 names."""
    pages = names()
    samples = [(*exact(kind, pages), by_engine(pages)) for _ in range(rounds)]
    (instructions,) = {retired for _, retired, _ in samples}
    ours, theirs = [spent for spent, _, _ in samples], [spent for _, _, spent in samples]
    return {
        "name": f"sort-{kind}",
        "n": rounds,
        "guest_instructions": instructions,
        "instructions_per_second": round(instructions / median(ours)),
        "wall_us": timing(ours, 1),
        "engine_wall_us": timing(theirs, 1),
        "ratio_to_engine": round(median(limit / mine for mine, limit in zip(ours, theirs, strict=True)), 3),
    }
