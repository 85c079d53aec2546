"""Files that are no programs, or whose segments lie where no program may: the shell is refused them, and goes on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler.output.elf import HEADER, IDENT, PROGRAM_HEADER
from callgate.asm.assembler.output.elf_format import SECTION_HEADER, SHT_SYMTAB
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE, USER_HEAP, USER_PROGRAM, USER_STACK_TOP
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.programs import images
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE

Arenas = Callable[..., Any]

CODE = b"\xeb\xfe"  # jmp $, which a program that was started would execute until the fuel is used up
READ, WRITE, EXECUTE = 4, 2, 1
HLT = 0xF4  # which ring 3 must not execute


def elf(*segments: tuple[int, int, int, int, int], entry: int = USER_PROGRAM, **changes: Any) -> bytes:
    """Return an executable with segments (offset in the file, address, bytes in the file, in memory, flags)."""
    values = {"kind": 2, "machine": 3, "headers_at": HEADER.size, "header_bytes": PROGRAM_HEADER.size} | changes
    count = values.get("count", len(segments))
    head = HEADER.pack(
        values.get("ident", IDENT), values["kind"], values["machine"], 1, entry, values["headers_at"], 0, 0,
        HEADER.size, values["header_bytes"], count, 0, 0, 0,
    )  # fmt: skip
    headers = b"".join(
        PROGRAM_HEADER.pack(1, offset, address, address, in_file, in_memory, flags, PAGE_SIZE)
        for offset, address, in_file, in_memory, flags in segments
    )
    return (head + headers).ljust(PAGE_SIZE, b"\0") + CODE.ljust(PAGE_SIZE, b"\x90")


TEXT = (PAGE_SIZE, USER_PROGRAM, 2, 2, READ | EXECUTE)


def with_segment(address: int, in_file: int = PAGE_SIZE, in_memory: int = PAGE_SIZE, offset: int = PAGE_SIZE) -> bytes:
    """Return a program with a second segment, which can be written."""
    return elf(TEXT, (offset, address, in_file, in_memory, READ | WRITE))


HOSTILE = {
    "no header": b"\x7fELF",
    "another magic number": b"MZ" + elf(TEXT)[2:],
    "headers after the end of the file": elf(TEXT, headers_at=2 * PAGE_SIZE - 8),
    "headers of 8 bytes": elf(TEXT, header_bytes=8, headers_at=2 * PAGE_SIZE - 8),
    "a segment in the kernel's memory": with_segment(KERNEL_BASE),
    "a segment in the last page of all": with_segment(0xFFFF_F000),
    "a segment that runs past 4 GiB": with_segment(0xFFFF_F000, in_memory=2 * PAGE_SIZE),
    "a segment that begins below the kernel's memory and ends in it": with_segment(
        KERNEL_BASE - PAGE_SIZE, in_memory=2 * PAGE_SIZE
    ),
    "a segment in the stack": with_segment(USER_STACK_TOP - PAGE_SIZE),
    "a segment in the heap": with_segment(USER_HEAP),
    "a segment in the first page": with_segment(0),
    "a segment that is longer in the file than in memory": with_segment(USER_PROGRAM + PAGE_SIZE, in_memory=16),
    "a segment after the end of the file": with_segment(USER_PROGRAM + PAGE_SIZE, offset=1 << 20),
}


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("file", HOSTILE)
def test_a_file_that_is_no_sound_program_is_refused_and_harms_no_other(
    arena: Arenas, tmp_path: Path, file: str
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "BAD").write_bytes(HOSTILE[file])
    (tree / "GOOD.TXT").write_text("as it was\n")
    create_image(tmp_path / "bad.img", tree, fs="fat16", size=8 << 20)
    made = arena(tmp_path / "bad.img", commands="BAD; cat GOOD.TXT")
    made.run()
    made.assert_unharmed()
    assert made.output == b"BAD: not an executable of this system\nas it was\n", made.log


def test_a_program_whose_symbol_table_ends_with_half_a_symbol_is_ended_by_its_fault_as_any_other(
    arena: Arenas,
) -> None:
    made = arena()
    made.run()
    file = bytearray(images.program_file("hello"))
    *_, at, _, _, _, _, size, count, _ = HEADER.unpack_from(file)
    places = range(at, at + count * size, size)
    table = next(place for place in places if SECTION_HEADER.unpack_from(file, place)[1] == SHT_SYMTAB)
    header = list(SECTION_HEADER.unpack_from(file, table))
    header[5] -= 7  # bytes
    SECTION_HEADER.pack_into(file, table, *header)
    processes = made.kernel.processes
    process = processes.create("half")
    entry = processes.load(process, parse_elf(bytes(file)), b"")
    made.kernel.guest.ram.view(process.pages[entry & -PAGE_SIZE] + entry % PAGE_SIZE, 1)[0] = HLT
    processes.start(process, entry)
    made.system.machine.pic.lower_line(IRQ)  # the CPU may be halted
    made.system.machine.pic.raise_line(IRQ)
    assert made.run().reason == "halt"
    assert process.exit_code == FAULT_EXIT_CODE, made.log
    made.assert_unharmed()
