"""Names in fault reports: those of the program's own ELF file, by any linker; none for a damaged file."""

import random
from pathlib import Path

import host_programs
from callgate.asm.assembler import assemble_text
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.memory import USER_PROGRAM
from callgate.kernel.core.symbols import symbol_at
from callgate.kernel.system import System, SystemOptions

MUTANTS = 500

SOURCE = """
start:  call    broken
broken: nop
.here:  mov     eax, [0]
        .data
value:  .long   1
"""


def test_a_fault_is_reported_with_the_symbol_of_the_programs_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "BAD").write_bytes(assemble_text(SOURCE, origin=USER_PROGRAM, align=4096).elf())
    create_image(tmp_path / "disk.img", folder, fs="fat16", size=8 << 20)
    log: list[str] = []
    system = System([ImageFile(tmp_path / "disk.img")], SystemOptions(commands="/d0/BAD", log=log.append))
    system.run(fuel=50_000_000)
    system.close()
    (report,) = (line for line in log if "ended by #PF page fault: read of 0x00000000" in line)
    title, registers, *code = report.splitlines()
    assert title.endswith(" <broken.here>")
    assert " esp=bfff" in registers
    assert "<broken.here>" in code[0]


def test_symbols_of_a_program_are_those_that_nm_lists(tmp_path: Path) -> None:
    source = tmp_path / "program.s"
    source.write_text(".globl _start\n_start: nop\nsecond: nop\nnop\n.bss\nroom: .space 64\n")
    host_programs.run("as", "--32", "-o", "p.o", "program.s", folder=tmp_path)
    host_programs.run("ld", "-m", "elf_i386", "-o", "p", "p.o", folder=tmp_path)
    image = (tmp_path / "p").read_bytes()
    listed = host_programs.run("nm", "p", folder=tmp_path)
    wanted = {name: int(value, 16) for value, kind, name in map(str.split, listed.splitlines()) if kind in "Ttb"}
    assert len(wanted) == 3
    assert {name: symbol_at(image, address) for name, address in wanted.items()} == {name: name for name in wanted}
    assert symbol_at(image, wanted["second"] + 1) == "second+0x1"
    assert symbol_at(image, wanted["_start"] - 1) == ""


def test_a_damaged_program_has_symbols_or_none_but_never_raises_an_exception() -> None:
    image = assemble_text(SOURCE, origin=USER_PROGRAM, align=4096).elf()
    choice = random.Random(1)
    for _ in range(MUTANTS):
        damaged = bytearray(image)
        for _ in range(choice.choice((1, 4, 64))):
            damaged[choice.randrange(len(damaged))] = choice.randrange(256)
        found = symbol_at(bytes(damaged[: choice.choice((len(image), choice.randrange(len(image))))]), USER_PROGRAM + 5)
        assert len(found) < 300
    assert symbol_at(b"", 0) == ""
    assert symbol_at(image, USER_PROGRAM + 5) == "broken"
