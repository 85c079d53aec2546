"""Call frames against those that GNU as writes, and what the analysis finds against what gcc says of its own code."""

import re
from pathlib import Path

import pytest
from callgate.asm.assembler import Program, assemble_text
from compiled_c import SOURCES, compiled, linked_file
from unwinding import ESP, NoFrame, Row, Tables

OFFSET_TABLE = 0x500000
OPTIONS = ("-O0", "-O2", "-Os", "-O1 -fno-omit-frame-pointer")
CASES = [(source, options) for source in SOURCES for options in OPTIONS]
#: gcc does not look into inline assembly, and does not say that it pushes.
DESCRIBED = [(source, options) for source, options in CASES if source.stem != "inline_asm"]
FRAME = re.compile(r"^\s*\.cfi_.*$", re.MULTILINE)
DIRECTIVES = """
        .cfi_sections .debug_frame
start:
        .cfi_startproc
        push    ebp
        .cfi_adjust_cfa_offset 4
        .cfi_rel_offset ebp, 0
        mov     ebp, esp
        .cfi_def_cfa_register ebp
        .cfi_remember_state
        push    ebx
        .cfi_offset ebx, -12
        .cfi_undefined eax, ecx
        .cfi_same_value edx
        .cfi_register esi, edi
        .cfi_val_offset esp, 8
        nop
        .cfi_restore ebx
        .cfi_escape 0x16, 7, 2, 0x77, 0x04
        pop     ebx
        .cfi_restore_state
        leave
        .cfi_def_cfa esp, 4
        .fill   70, 1, 0x90
        .cfi_def_cfa_offset 8
        .fill   300, 1, 0x90
        .cfi_def_cfa_offset 4096
        ret
        .cfi_endproc
trap:
        .cfi_startproc simple
        .cfi_signal_frame
        .cfi_return_column 8
        .cfi_def_cfa %esp, 20
        .cfi_offset %eip, -20
        .cfi_offset 41, -16
        .cfi_offset es, -24
        .cfi_offset esp, 8
        iretd
        .cfi_endproc
"""


def linked_tables(text: str, program: Program, folder: Path) -> Tables:
    """Return what GNU as writes for a source."""
    return Tables(linked_file(text, program, folder))


def rules(row: Row) -> tuple[tuple[int, int], dict[int, object]]:
    """Return a row's rules without its address."""
    return row.cfa, {number: rule for number, rule in row.rules.items() if rule != ("same", [])}


def test_every_directive_is_written_as_gnu_as_writes_it(tmp_path: Path) -> None:
    program = assemble_text(DIRECTIVES)
    ours, theirs = Tables(program.elf()), linked_tables(".intel_syntax noprefix\n" + DIRECTIVES, program, tmp_path)
    assert ours.starts == theirs.starts
    for line in program.lines:
        assert rules(ours.row(line.address)) == rules(theirs.row(line.address)), line.text
    for address in theirs.starts:
        mine, other = ours.entry(address), theirs.entry(address)
        assert mine["address_range"] == other["address_range"]
        for key in ("augmentation", "return_address_register", "code_alignment_factor", "data_alignment_factor"):
            assert mine.cie[key] == other.cie[key], key


@pytest.mark.thorough(one_in=37)
@pytest.mark.parametrize(("source", "options"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_the_directives_of_gcc_give_the_frames_of_gnu_as(source: Path, options: str, tmp_path: Path) -> None:
    text = ".cfi_sections .debug_frame\n" + compiled(source, options)
    program = assemble_text(text, name=source.name, sections={".got": OFFSET_TABLE})
    ours, theirs = Tables(program.elf()), linked_tables(text, program, tmp_path)
    covered = 0
    for line in program.lines:
        try:
            other = theirs.row(line.address)
        except NoFrame:
            continue
        covered += 1
        assert rules(ours.row(line.address)) == rules(other), f"{line.line}: {line.text}"
    assert covered > len(program.lines) // 2


@pytest.mark.thorough(one_in=37)
@pytest.mark.parametrize(("source", "options"), DESCRIBED, ids=lambda value: getattr(value, "stem", value))
def test_the_analysis_finds_the_frames_that_gcc_describes(source: Path, options: str) -> None:
    text = f"{compiled(source, options)}\n.text\nstart: hlt\n"
    told = assemble_text(text, name=source.name, sections={".got": OFFSET_TABLE})
    plain = assemble_text(FRAME.sub("", text), name=source.name, sections={".got": OFFSET_TABLE})
    ours, theirs = Tables(plain.elf()), Tables(told.elf())
    for line in plain.lines:
        if line.address == plain.entry:
            continue
        row, other = ours.row(line.address), theirs.row(line.address)
        depth = other.cfa
        assert row.cfa[0] != ESP or depth[0] != ESP or row.cfa == depth, f"{line.line}: {line.text}"
        for number, rule in other.rules.items():
            if rule[0] == "offset":
                assert row.rules.get(number) == rule, f"{line.line}: {line.text}, register {number}"
