"""The machine code that a boot needs: the kernel image and the programs of /rom, assembled once and cached."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callgate.asm.assembler import Program
from callgate.asm.assembler.cache import assemble_cached, debug_elf_cached, elf_cached
from callgate.asm.user import PROGRAMS, ROM_PROGRAMS
from callgate.kernel.abi import enumerations, memory
from callgate.kernel.abi.layout import layouts
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_LOAD, USER_PROGRAM
from callgate.kernel.programs.executable import Executable, parse_elf

if TYPE_CHECKING:
    from callgate.asm.assembler.output.debug.debug_types import Types

__all__ = [
    "EVENT_PROGRAMS",
    "ROM_PROGRAMS",
    "abi_types",
    "debug_image",
    "kernel_image",
    "program_executable",
    "program_file",
    "program_image",
]

EVENT_PROGRAMS = ("hosted", "null_server", "rom", "shell")
"""Programs whose sources have events, which a system shows as its kernel's."""


def source(package: str, name: str) -> Path:
    """Return the path of an assembly source that comes with callgate."""
    return Path(str(files(package) / name))


@cache
def kernel_image() -> Program:
    """Return the kernel, linked at KERNEL_BASE + KERNEL_LOAD."""
    path, options = _kernel()
    return assemble_cached(path, **options)


def _kernel() -> tuple[Path, dict[str, Any]]:
    """Return the source of the kernel, and how it is assembled."""
    where = {"origin": KERNEL_BASE + KERNEL_LOAD, "load": KERNEL_LOAD}
    return source("callgate.asm.kernel", "kernel.asm"), {**where, "entry": "start"}


#: Programs that are linked elsewhere, so that a probe on one of their addresses hits no other program.
ORIGINS = {"bench_client": 0x0080_0000, "bench_gate": 0x0090_0000, "bench_read": 0x00A0_0000}


@cache
def program_image(name: str) -> Program:
    """Return one of the user programs."""
    path, options = _program(name)
    return assemble_cached(path, **options)


@cache
def program_file(name: str) -> bytes:
    """Return the ELF file of a user program: without debug information, but with its labels, which faults name."""
    path, options = _program(name)
    return elf_cached(path, **options)


def _program(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the source of a user program, and how it is assembled."""
    return source("callgate.asm.user", PROGRAMS[name]), {"origin": ORIGINS.get(name, USER_PROGRAM), "entry": "start"}


def abi_types() -> Types:
    """Return the structures and enumerations of the ABI, for debuggers."""
    from callgate.asm.assembler.output.debug.debug_types import Types

    declared = enumerations()  # imports every module that declares a structure, too
    members = {
        name: {member: int(value) for member, value in kind.__members__.items()} for name, kind in declared.items()
    }
    return Types(layouts(), members | {"PageTableEntry": page_table_bits()})


def page_table_bits() -> dict[str, int]:
    """Return the bits of a page-table entry's lower half, from the constants of the ABI."""
    bits = {name: value for name, value in vars(memory).items() if name.startswith("PTE_")}
    others = ("PTE_ACCESSED_BIT", "PTE_NX_HIGH")  # a bit's number, and a bit of the upper half
    return {name[4:]: value for name, value in bits.items() if name not in others}


@cache
def debug_image(name: str, directory: str | None = None) -> bytes:
    """Return the ELF file of the kernel (`kernel`) or of a user program, with all that debuggers can use.

    Sections lie at their linear addresses.  Sources are named as they lie in the package, from its folder on, and
    `directory` is said to be that folder: where it really is if None.  With another one the bytes are the same on
    every computer, and gdb wants `set substitute-path DIRECTORY` and the folder.  KeyError if there is no such program.
    """
    from callgate.asm.assembler.output.debug.dwarf import Debugging

    root = str(Path(str(files("callgate.asm"))).parent)
    debugging = Debugging(abi_types(), root, root if directory is None else directory)
    path, options = _kernel() if name == "kernel" else _program(name)
    return debug_elf_cached(path, debugging, abi_digest(), **options)


@cache
def abi_digest() -> str:
    """Return a digest of the sources of the ABI, of which its types are made."""
    state = sha256()
    for source_file in sorted(Path(str(files("callgate.kernel.abi"))).rglob("*.py")):
        state.update(source_file.read_bytes())
    return state.hexdigest()


@cache
def program_executable(name: str) -> Executable:
    """Return a user program as the loader wants it."""
    return parse_elf(program_file(name))
