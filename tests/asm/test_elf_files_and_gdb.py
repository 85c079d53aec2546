"""ELF files: what pyelftools reads in them, what gdb makes of them, and the way back."""

import io
import struct
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.asm.assembler import Program, assemble, assemble_text

SOURCE = """\
; a unit with two sections of code
        .macro twice register
        inc     \\register
        inc     \\register
        .endm
LIMIT = 10
        .section .boot
begin:
        nop
        jmp     start
        .text
start:
        mov     eax, [value]
.again:
        twice   eax
        .event  loop.round count=eax limit=LIMIT
        .ledger rounds
        cmp     eax, LIMIT
        jb      .again
        ret
helper:
        ret
        .data
value:  .long   3
        .bss
buffer: .space  64
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    source = tmp_path / "unit.asm"
    source.write_text(SOURCE)
    return assemble(source, origin=0xC0100000, load=0x100000)


def test_a_program_is_read_back_whole_from_its_elf_file(program: Program) -> None:
    assert Program.from_elf(program.elf()) == program


def test_an_elf_file_without_debug_information_holds_no_path(program: Program, tmp_path: Path) -> None:
    image = program.elf(debug=False)
    assert str(tmp_path).encode() not in image
    with pytest.raises(ValueError, match="not written by this assembler"):
        Program.from_elf(image)


@pytest.mark.parametrize("image", [b"", b"\x7fELF", b"\x7fELF\1\1\1" + bytes(9), b"\x7fELF\1\1\1" + b"\xff" * 60])
def test_a_file_that_the_assembler_did_not_write_is_a_value_error(image: bytes) -> None:
    with pytest.raises(ValueError, match="ELF"):
        Program.from_elf(image)


@pytest.mark.thorough(only=True)
def test_a_damaged_elf_file_is_a_value_error_or_reads_as_before(program: Program) -> None:
    image = program.elf()
    for cut in range(0, len(image), 97):
        with pytest.raises(ValueError, match=r"ELF|damaged"):
            Program.from_elf(image[:cut])
    for position in range(0, len(image), 61):
        changed = bytearray(image)
        changed[position] ^= 0xFF
        try:
            Program.from_elf(bytes(changed))
        except ValueError:
            continue


def elf_file(image: bytes) -> Any:
    elffile = pytest.importorskip("elftools.elf.elffile", reason="pyelftools is not installed")
    return elffile.ELFFile(io.BytesIO(image))


def test_elf_segments_carry_permissions_and_load_addresses(program: Program) -> None:
    elf = elf_file(program.elf())
    assert (elf["e_machine"], elf["e_type"], elf["e_entry"]) == ("EM_386", "ET_EXEC", program.address("start"))
    shape = [(s["p_vaddr"], s["p_paddr"], s["p_flags"], s["p_filesz"], s["p_memsz"]) for s in elf.iter_segments()]
    boot, text, data, bss = program.sections
    assert shape == [
        (boot.address, 0x100000, 5, boot.size, boot.size),
        (text.address, 0x101000, 5, text.size, text.size),
        (data.address, 0x102000, 6, 4, 4),
        (bss.address, 0x103000, 6, 0, 64),
    ]
    for segment in elf.iter_segments():
        assert segment["p_offset"] % 4096 == segment["p_vaddr"] % 4096


def test_elf_symbols_have_types_and_sizes(program: Program) -> None:
    symbols = elf_file(program.elf()).get_section_by_name(".symtab")
    shape = {
        s.name: (s["st_info"]["type"], s["st_info"]["bind"], s["st_size"]) for s in symbols.iter_symbols() if s.name
    }
    size = program.address("helper") - program.address("start")
    assert shape["start"] == ("STT_FUNC", "STB_GLOBAL", size)
    assert shape["start.again"] == ("STT_NOTYPE", "STB_LOCAL", 0)
    assert shape["buffer"] == ("STT_OBJECT", "STB_GLOBAL", 64)
    assert shape["LIMIT"] == ("STT_NOTYPE", "STB_LOCAL", 0)
    locals_ = [s["st_info"]["bind"] == "STB_LOCAL" for s in symbols.iter_symbols()]
    assert locals_ == sorted(locals_, reverse=True)
    assert symbols["sh_info"] == sum(locals_)


def test_the_line_table_names_every_instruction(program: Program) -> None:
    dwarf = elf_file(program.elf()).get_dwarf_info()
    rows = {}
    for unit in dwarf.iter_CUs():
        table = dwarf.line_program_for_CU(unit)
        for entry in table.get_entries():
            if entry.state is not None and not entry.state.end_sequence:
                name = table["file_entry"][entry.state.file - 1].name.decode()
                rows[entry.state.address] = (name, entry.state.line)
    assert rows == {line.address: (line.file, line.line) for line in program.lines}


def test_the_elf_file_is_laid_out_as_its_headers_say(program: Program) -> None:
    image = program.elf()
    offset, size, count = struct.unpack_from("<I", image, 32)[0], *struct.unpack_from("<HH", image, 46)
    assert offset + size * count == len(image)


def gdb(image: Path, *commands: str) -> str:
    arguments = [word for command in commands for word in ("-ex", command)]
    result = host_programs.attempt("gdb", "-nx", "-batch", *arguments, image)
    return (result.stdout + result.stderr).decode()


def test_gdb_lists_the_source_and_finds_lines_and_symbols(program: Program, tmp_path: Path) -> None:
    image = tmp_path / "unit.elf"
    image.write_bytes(program.elf())
    again = program.address("start.again")
    out = gdb(
        image, "list start", "break unit.asm:18", "break helper", "info line begin", f"info symbol {again + 1:#x}",
        f"info line *{again:#x}", "info source", "ptype value",
    )  # fmt: skip
    assert "mov     eax, [value]" in out
    compare = next(line for line in program.lines if line.line == 18)
    assert f"Breakpoint 1 at {compare.address:#x}: file {tmp_path}/unit.asm, line 18." in out
    assert f"Breakpoint 2 at {program.address('helper'):#x}: file {tmp_path}/unit.asm, line 22." in out
    assert f'Line 9 of "{tmp_path}/unit.asm" starts at address {program.address("begin"):#x} <begin>' in out
    assert f"start + {again + 1 - program.address('start')} in section .text" in out
    assert f'Line 15 of "{tmp_path}/unit.asm" starts at address {again:#x}' in out


def test_gdb_disassembles_what_was_written(program: Program, tmp_path: Path) -> None:
    image = tmp_path / "unit.elf"
    image.write_bytes(program.elf())
    out = gdb(image, "set disassembly-flavor intel", "disassemble /s start")
    assert "19\t        jb      .again" in out
    assert "jb     " in out
    assert "cmp    eax,0xa" in out


def test_a_unit_without_code_can_be_written_as_elf() -> None:
    program = assemble_text(".data\nx: .long 1\n")
    assert Program.from_elf(program.elf()) == program
    empty = assemble_text("")
    assert Program.from_elf(empty.elf()) == empty


def test_lines_of_included_files_of_repetitions_and_of_macros_are_where_a_person_wrote_them(tmp_path: Path) -> None:
    (tmp_path / "part.inc").write_text("; a comment\nhelper: nop\n.inner: ret\n")
    main = tmp_path / "main.asm"
    main.write_text(
        "        .macro both\n        inc eax\n        dec eax\n        .endm\n"
        'start: both\n        .include "part.inc"\n        .rept 2\n        nop\n        .endr\n'
        "        .irp reg, ecx, edx\n        both\n        push \\reg\n        .endr\n        jmp helper.inner\n"
    )
    image = tmp_path / "unit.elf"
    program = assemble(main)
    image.write_bytes(program.elf())
    found = [(Path(line.file).name, line.line) for line in program.lines]
    body = [("main.asm", 11), ("main.asm", 11), ("main.asm", 12)]
    assert found == [
        *[("main.asm", 5)] * 2, ("part.inc", 2), ("part.inc", 3), *[("main.asm", 8)] * 2, *body, *body, ("main.asm", 14)
    ]  # fmt: skip
    inner = program.address("helper.inner")
    out = gdb(image, f"info line *{inner:#x}", "list part.inc:2,3", "info line main.asm:8")
    assert f'Line 3 of "{tmp_path}/part.inc" starts at address {inner:#x}' in out
    assert "2\thelper: nop" in out
