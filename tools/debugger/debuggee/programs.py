"""The files that programs were made of, with what a debugger reads: symbols, lines, types.

A process of ours is known by its symbols: that its name is `hello` says little.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from callgate.asm.user import PROGRAMS
from callgate.kernel.core.symbols import SymbolTable, table_of
from callgate.kernel.programs.images import debug_image, program_file

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process

KERNEL: Final = "kernel"
MOST_KEPT: Final = 64 << 20  # bytes of other people's programs, of which the last to start are kept


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


class StartedPrograms:
    """The files of other people's programs that processes were started from, as the kernel has read them."""

    def __init__(self) -> None:
        self.digests: dict[int, str] = {}  # by number of process
        self.images: dict[str, bytes] = {}  # by digest, the last to start at the end

    def loaded(self, process: Process, image: bytes) -> None:
        """A program has been loaded into a process."""
        digest = sha256(image).hexdigest()[:12]
        self.images[digest] = self.images.pop(digest, image)
        self.digests[process.number] = digest
        while sum(map(len, self.images.values())) > MOST_KEPT and len(self.images) > 1:
            del self.images[next(iter(self.images))]

    def name_of(self, process: Process) -> str | None:
        """Return what names a process's file: `DIGEST/NAME`, the name without what a path should not have.

        None if it is not known.
        """
        digest = self.digests.get(process.number)
        if digest not in self.images:
            return None
        return f"{digest}/{re.sub('[^A-Za-z0-9._+-]', '_', process.name).lstrip('.') or '_'}"

    def file(self, name: str) -> bytes | None:
        """Return the file that a name of `name_of` names; None if there is none."""
        return self.images.get(name.partition("/")[0])
