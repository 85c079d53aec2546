"""PCMPISTRI, PCMPISTRM, PCMPESTRI and PCMPESTRM (Intel SDM vol. 2, 4.1 and the pages of the instructions).

With "equal ordered" they look for where in the second operand the first one begins.  It may begin so near the end that
the rest of it would lie after the block: that counts as found.  The engine misses these places.

PCMPESTRI and PCMPESTRM take the magnitude of EAX and EDX.  That of the smallest number there is has no sign for the
engine to drop: it reads to the end of the host's memory, and the process ends. So for this one instruction the engine
is given another length that is too long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callgate.kernel.machine.cpu.fpu import XMM_BYTES
from callgate.kernel.machine.cpu.live_fpu import read, write
from callgate.kernel.machine.filters.simd import EQUAL_ORDERED, MEMORY_OPERAND
from unicorn import x86_const as x86

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging

WORDS, NEGATE, ONLY_VALID, LAST, AS_ELEMENTS = 0x01, 0x10, 0x20, 0x40, 0x40  # bits of the immediate byte
CF, ZF, SF, OF = 0x001, 0x040, 0x080, 0x800
ARITHMETIC_FLAGS: Final = 0x8D5
LARGEST, SMALLEST = 0x7FFF_FFFF, 0x8000_0000


class Comparison(NamedTuple):
    """One of these instructions, and its operands."""

    mnemonic: str
    control: int  # its immediate byte
    needle: int
    block: int  # the second operand, or its linear address
    in_memory: bool
    lengths: tuple[int, int] | None  # EAX and EDX for the explicit forms


class Result(NamedTuple):
    """The result of a comparison."""

    place: int  # for ECX
    mask: int  # for XMM0
    flags: int


class Strings:
    """These instructions on one CPU."""

    def __init__(self, cpu: Cpu, paging: Paging, effective: Callable[[Any, Any], int]) -> None:
        self.cpu = cpu
        self.paging = paging
        self.effective = effective

    def before(self, instruction: Any) -> Comparison:
        """Return the operands of an instruction that is about to execute."""
        needle, block, control = instruction.operands
        explicit = "estr" in instruction.mnemonic
        in_memory = block.type == MEMORY_OPERAND
        return Comparison(
            instruction.mnemonic,
            control.imm & 0xFF,
            self._register(instruction, needle),
            self.effective(instruction, block) if in_memory else self._register(instruction, block),
            in_memory,
            (self.cpu.eax, self.cpu.edx) if explicit else None,
        )

    def shorten(self, comparison: Comparison) -> None:
        """Give the engine lengths that it survives."""
        if comparison.lengths is not None and SMALLEST in comparison.lengths:
            self.cpu.eax, self.cpu.edx = (LARGEST if it == SMALLEST else it for it in comparison.lengths)

    def give_back(self, comparison: Comparison) -> None:
        """Undo `shorten`."""
        if comparison.lengths is not None and SMALLEST in comparison.lengths:
            self.cpu.eax, self.cpu.edx = comparison.lengths

    def _register(self, instruction: Any, operand: Any) -> int:
        return read(self.cpu.handle, x86.UC_X86_REG_XMM0 + int(instruction.reg_name(operand.reg)[3:]), XMM_BYTES)

    def correct(self, comparison: Comparison) -> None:
        """Put the right result where the engine may have put another."""
        if comparison.control & EQUAL_ORDERED != EQUAL_ORDERED:
            return
        block = comparison.block
        if comparison.in_memory:
            block = int.from_bytes(self.paging.read_linear(block, XMM_BYTES), "little")
        result = compare(comparison.control, comparison.needle, block, comparison.lengths)
        if comparison.mnemonic.endswith("i"):
            self.cpu.ecx = result.place
        else:
            write(self.cpu.handle, x86.UC_X86_REG_XMM0, result.mask, XMM_BYTES)
        self.cpu.eflags = self.cpu.eflags & ~ARITHMETIC_FLAGS | result.flags


def compare(control: int, needle: int, block: int, lengths: tuple[int, int] | None) -> Result:
    """Return what a comparison with "equal ordered" gives; `lengths` are EAX and EDX for the explicit forms."""
    size = 2 if control & WORDS else 1
    elements = XMM_BYTES // size
    first, second = elements_of(needle, size), elements_of(block, size)
    if lengths is None:
        wanted, valid = (found.index(0) if 0 in found else elements for found in (first, second))
    else:
        wanted, valid = (min(magnitude(length), elements) for length in lengths)
    found = 0
    for place in range(elements):
        # Elements after the block count as equal, invalid ones in it as different from all that are searched for.
        pairs = range(min(wanted, elements - place))
        if all(place + at < valid and first[at] == second[place + at] for at in pairs):
            found |= 1 << place
    if control & NEGATE:
        found ^= (1 << (valid if control & ONLY_VALID else elements)) - 1
    flags = (CF if found else 0) | (ZF if valid < elements else 0) | (SF if wanted < elements else 0)
    flags |= OF if found & 1 else 0
    if not found:
        index = elements
    else:
        index = found.bit_length() - 1 if control & LAST else (found & -found).bit_length() - 1
    ones = (1 << 8 * size) - 1
    wide = sum(ones << 8 * size * place for place in range(elements) if found >> place & 1)
    return Result(index, wide if control & AS_ELEMENTS else found, flags)


def elements_of(value: int, size: int) -> list[int]:
    """Return the elements of `size` bytes of a register."""
    ones = (1 << 8 * size) - 1
    return [value >> shift & ones for shift in range(0, 8 * XMM_BYTES, 8 * size)]


def magnitude(length: int) -> int:
    """Return the absolute value of a signed 32-bit number."""
    return length if length <= LARGEST else (1 << 32) - length
