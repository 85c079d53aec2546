"""An assembled unit that can be written to files and read back from them.

The writers are imported when one is asked for: a boot takes its programs out of the cache and writes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from callgate.asm.assembler.output.unit import Unit

if TYPE_CHECKING:
    from callgate.asm.assembler.output.debug.dwarf import Debugging


class Program(Unit):
    """What `assemble` returns: a unit, as an ELF file, a flat binary, a listing."""

    def elf(self, *, debug: bool | Debugging = True, labels: bool = False, whole: bool = True) -> bytes:
        """Return the unit as an ELF32 executable.

        `debug` may say which types debuggers are to know, and how sources are named; `whole` files can be read back.
        Without `debug` there are no symbols, lines and notes, and so nothing that depends on where the
        sources lie; `labels` leaves the names of labels in, so that a fault can be reported by name.
        """
        from callgate.asm.assembler.output.elf import write_elf

        return write_elf(self, debug=debug, labels=labels, whole=whole)

    @classmethod
    def from_elf(cls, image: bytes) -> Self:
        """Return the program that `elf` wrote; ValueError if the image is not one of ours."""
        from callgate.asm.assembler.output.elf_reader import read_program

        return read_program(cls, image)

    def listing(self) -> str:
        """Return addresses, bytes and source lines."""
        from callgate.asm.assembler.output.listing import listing

        return listing(self)

    def symbol_file(self) -> str:
        """Return `address type name` lines, as nm prints them."""
        from callgate.asm.assembler.output.listing import symbol_file

        return symbol_file(self)
