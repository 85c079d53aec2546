"""The output of gcc for C, assembled here and by GNU as: the same bytes.

gcc writes the syntax of Intel for 32-bit code; GNU as and ld make a program of it whose sections lie where ours do.
What may differ is the filling before an alignment: both are NOPs of the same length.
"""

from pathlib import Path

import pytest
from callgate.asm.assembler import assemble_text
from callgate.asm.assembler.encoding.verify import decoder
from compiled_c import SOURCES, compiled, linked

OFFSET_TABLE = 0x500000
OPTIONS = ("-O0", "-O2", "-O2 -fno-pic -fcf-protection", "-Os -march=pentium4 -mfpmath=sse")
#: Assembled as well; ld rewrites its loads from the table of addresses, so the bytes are not compared.
SHARED = "-O2 -g -fPIC"
CASES = [(source, options) for source in SOURCES for options in OPTIONS]


def is_padding(code: bytes) -> bool:
    """Whether code does nothing: NOPs, or what GNU as takes for them."""
    return all(
        found.mnemonic == "nop" or found.op_str.startswith(("esi, [esi", "esi, cs:[esi"))
        for found in decoder().disasm(code, 0)
    )


@pytest.mark.thorough(one_in=11)
@pytest.mark.parametrize(("source", "options"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_c_is_assembled_to_the_bytes_of_gnu_as(source: Path, options: str, tmp_path: Path) -> None:
    text = compiled(source, options)
    program = assemble_text(text, name=source.name, sections={".got": OFFSET_TABLE})
    theirs = linked(text, program, tmp_path)
    for section in program.sections:
        if section.name == ".got":
            continue
        other = theirs[section.name]
        assert len(other) == section.size, section.name
        if not section.executable:
            assert other == section.data.ljust(section.size, b"\0"), section.name
            continue
        end = 0
        for line in (line for line in program.lines if program.section_at(line.address) is section):
            start = line.address - section.address
            assert is_padding(other[end:start]), f"{section.name}+{end:#x}"
            end = start + line.size
            assert other[start:end] == section.data[start:end], f"{source.name} {line.line}: {line.text}"


@pytest.mark.thorough(one_in=7)
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_c_for_shared_libraries_with_debugging_information_is_assembled(source: Path) -> None:
    program = assemble_text(compiled(source, SHARED), name=source.name)
    assert {section.name for section in program.sections} >= {".text"}
    assert not any(section.name.startswith((".debug", ".note", ".comment")) for section in program.sections)


def test_there_are_twenty_files_of_c() -> None:
    assert len(SOURCES) == 20
