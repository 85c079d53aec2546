"""C compiled by gcc to assembly, and that assembled by GNU as and linked at the places of a program of ours."""

from io import BytesIO
from pathlib import Path

import host_programs
import pytest
from callgate.asm.assembler import Program
from elftools.elf.elffile import ELFFile

SOURCES = sorted((Path(__file__).parents[2] / "asm/gnu_as/c").glob("*.c"))


def compiled(source: Path, options: str) -> str:
    """Return the assembly that gcc writes; skip the test where it makes no 32-bit code."""
    trial = host_programs.attempt("gcc", "-m32", "-x", "c", "-S", "-o", "-", "-", data=b"int x;")
    if trial.returncode:
        pytest.skip("gcc makes no 32-bit code (Debian: gcc-multilib)")
    flags = ("-m32", "-S", "-masm=intel", "-ffreestanding", "-fno-merge-constants", "-o", "-")
    return host_programs.run("gcc", *flags, *options.split(), source)


def linked(text: str, program: Program, folder: Path) -> dict[str, bytes]:
    """Return the sections that GNU as and ld make, at the addresses of the program's."""
    elf = ELFFile(BytesIO(linked_file(text, program, folder)))
    return {section.name: section.data() for section in elf.iter_sections()}


def linked_file(text: str, program: Program, folder: Path) -> bytes:
    """Return the file that GNU as and ld make, with its sections at the addresses of the program's."""
    source, image, script, result = (folder / f"unit.{kind}" for kind in ("s", "o", "ld", "elf"))
    source.write_text(text)
    host_programs.run("as", "--32", "-msyntax=intel", "-o", image, source)
    table = program.symbols.get(".L.got")
    places = {section.name: section.address for section in program.sections}
    if table is not None:
        places[".got.plt"] = table.address
        places.pop(".got", None)
    inputs = {name: name + " COMMON" * (name == ".bss") for name in places}
    lines = [f"{name} {address:#x} : {{ *({inputs[name]}) }}" for name, address in places.items()]
    lines.append(".debug_frame 0 : { *(.debug_frame) }")
    script.write_text("SECTIONS {\n" + "\n".join(lines) + "\n/DISCARD/ : { *(.eh_frame .comment .note*) }\n}\n")
    entry = hex(program.entry)
    host_programs.run(
        "ld", "-m", "elf_i386", "--build-id=none", "-e", entry, "-T", script, "--no-relax", "-o", result, image
    )
    return result.read_bytes()
