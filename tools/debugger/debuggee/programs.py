"""The files that programs were made of, with what a debugger reads: symbols, lines, types.

A process of ours is known by its symbols: that its name is `hello` says little.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from callgate.asm.user import PROGRAMS
from callgate.kernel.core.symbols import SymbolTable, table_of
from callgate.kernel.programs.images import debug_image, program_file

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process

KERNEL: Final = "kernel"


@cache
def debug_file(program: str) -> bytes:
    """Return the ELF file of a program of ours with debug information; `kernel` is the kernel.  KeyError for others."""
    return debug_image(program)


@cache
def _table(program: str) -> SymbolTable | None:
    return table_of(program_file(program))


def program_of(process: Process) -> str | None:
    """Return the name of the program of ours that a process runs, None for another one."""
    if process.number == 0:
        return KERNEL
    if process.program in PROGRAMS:
        return process.program
    name = process.name
    return name if name in PROGRAMS and process.symbols is not None and process.symbols == _table(name) else None
