"""Faults of the x87 register stack, and FBSTP of a number without BCD form, as on a CPU (`machine.filters.x87`).

Where a register that is used is empty, or one that is loaded is in use, the engine executes the instruction all the
same; afterwards its result is made the indefinite.  With IE unmasked a CPU leaves everything as it was: here the flags
and the pending exception are right, and the result is the masked one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callgate.kernel.machine.cpu.fpu import REGISTERS, STACK_BYTES
from callgate.kernel.machine.cpu.live_fpu import read, write
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.filters.simd import PREFIXES, demand, memory_operand
from callgate.kernel.machine.filters.x87 import BCD_INDEFINITE, EXCHANGED, FBSTP, INDEFINITE, REGISTER_FORM, fits_bcd
from callgate.kernel.machine.memory.accounts import Account
from unicorn import x86_const as x86

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.environment import Environment
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.engine.float_layout import FloatLayout
    from callgate.kernel.machine.filters.x87 import Demand

INVALID, STACK_FAULT, OVERFLOWED, EXCEPTIONS, SUMMARY = 0x01, 0x40, 0x200, 0x3F, 0x8080  # bits of the status word
ALL: Final = 0xFF
GATHER_BYTES: Final = 0x0102040810204080  # times eight bytes of 0 or 1: their bits side by side from bit 56 on
ROUNDING_SHIFT: Final = 10


class Correction(NamedTuple):
    """The corrections after an instruction has been executed; bit i stands for R_i."""

    status: int  # the status word before it
    pushed: bool = False  # ST(0) is to be the indefinite
    overflowed: bool = False
    underflowed: bool = False
    missing: int = 0  # are used, and empty
    results: int = 0  # are to be the indefinite
    emptied: int = 0  # were empty, and are again
    bcd: int | None = None  # linear address of the BCD indefinite


class RegisterStack:
    """The register stack of one CPU."""

    def __init__(
        self,
        cpu: Cpu,
        environment: Environment,
        layout: FloatLayout,
        paging: Paging,
        effective: Callable[[Any, Any], int],
    ) -> None:
        self.cpu = cpu
        self.environment = environment
        self.layout = layout
        self.paging = paging
        self.effective = effective
        self.changed: Callable[[int, int], None] = lambda _physical, _length: None  # told of a store

    def pending(self) -> bool:
        """Whether an exception that is not masked waits for the next instruction that waits."""
        return bool(self.environment.get(self.layout.x87_status, 2) & SUMMARY)

    def judge(self, instruction: Any) -> Correction | None:
        """Check an instruction that is about to execute; return the corrections to make afterwards."""
        asked = demand(instruction)
        empty, status = self._empty(), self.environment.get(self.layout.x87_status, 2)
        if asked.used | asked.loaded:
            status &= ~OVERFLOWED
            self.environment.put(self.layout.x87_status, status, 2)
        for index in range(REGISTERS):
            if empty & asked.copied & 1 << index:
                self._tag(index, 0)
        found: Correction | None = None
        if empty & asked.used:
            found = self._underflow(empty & asked.used, asked, status)
        elif ~empty & asked.loaded:
            results = turned(asked.results, self.environment.get(self.layout.x87_top))
            found = Correction(status, pushed=True, overflowed=True, results=results)
        if is_fbstp(bytes(instruction.bytes)) and not self._fits():
            at = self.effective(instruction, memory_operand(instruction))
            found = (found or Correction(status))._replace(bcd=at)
        return found

    def _underflow(self, missing: int, asked: Demand, status: int) -> Correction:
        """Return the corrections for empty registers that are used, bits for ST(0) to ST(7)."""
        top = self.environment.get(self.layout.x87_top)
        found = Correction(status, underflowed=True, missing=turned(missing, top))
        if asked.results == EXCHANGED:
            return found
        results, emptied = (turned(bits, top) for bits in (asked.results, missing & ~asked.results))
        return found._replace(pushed=bool(asked.loaded), results=results, emptied=emptied)

    def begin(self, correction: Correction) -> None:
        """Have the engine compute with the indefinite in place of empty registers."""
        top = self.environment.get(self.layout.x87_top)
        for index in range(REGISTERS):
            if correction.missing >> (index + top & 7) & 1:
                write(self.cpu.handle, x86.UC_X86_REG_ST0 + index, INDEFINITE, STACK_BYTES)
                self._tag(index, 0)

    def undo(self, correction: Correction) -> None:
        """Undo `begin`: the instruction has not been executed."""
        for register in range(REGISTERS):
            if correction.missing >> register & 1:
                self.environment.put(self.layout.x87_tags + register, 1, 1)

    def correct(self, correction: Correction) -> None:
        """Correct the result of an instruction that has been executed."""
        top = self.environment.get(self.layout.x87_top)
        for index in range(REGISTERS):
            bit = 1 << (index + top & 7)
            if correction.emptied & bit and not (correction.pushed and not index):
                self._tag(index, 1)
            if correction.results & bit or (correction.pushed and not index):
                write(self.cpu.handle, x86.UC_X86_REG_ST0 + index, INDEFINITE, STACK_BYTES)
        if correction.bcd is not None:
            self._store(correction.bcd)
        bits = INVALID | (STACK_FAULT if correction.underflowed or correction.overflowed else 0)
        self._flag(correction, bits | (OVERFLOWED if correction.overflowed else 0))

    def _flag(self, correction: Correction, bits: int) -> None:
        """Set flags to what they were before the instruction, and some more; leave the others alone."""
        at, environment = self.layout.x87_status, self.environment
        environment.put(self.layout.x87_flags, 0, 1)
        exceptions = EXCEPTIONS | STACK_FAULT | OVERFLOWED | SUMMARY
        status, control = environment.get(at, 2), environment.get(at + 2, 2)
        status = status & ~exceptions | correction.status & exceptions | bits
        if status & ~control & EXCEPTIONS:
            status |= SUMMARY
        environment.put(at, status, 2)

    def _empty(self) -> int:
        """Return bits for ST(0) to ST(7): the register is empty."""
        bits = self.environment.get(self.layout.x87_tags, REGISTERS) * GATHER_BYTES >> 56 & ALL
        return turned(bits, REGISTERS - self.environment.get(self.layout.x87_top))

    def _tag(self, index: int, empty: int) -> None:
        """Say whether ST(index) is empty."""
        top = self.environment.get(self.layout.x87_top)
        self.environment.put(self.layout.x87_tags + (index + top & 7), empty, 1)

    def _fits(self) -> bool:
        control = self.environment.get(self.layout.x87_status + 2, 2)
        return fits_bcd(read(self.cpu.handle, x86.UC_X86_REG_ST0, STACK_BYTES), control >> ROUNDING_SHIFT & 3)

    def _store(self, linear: int) -> None:
        """Store the BCD indefinite where the engine has just stored something else."""
        for index, byte in enumerate(BCD_INDEFINITE):
            try:
                physical = self.paging.translate(linear + index, user=False, write=False)
            except PageFault:  # pragma: no cover - the engine has just stored there
                return
            self.paging.ram.write(physical, bytes([byte]), Account.MACHINE)
            self.changed(physical, 1)


def turned(bits: int, top: int) -> int:
    """Return bits for R0 to R7 from bits for ST(0) to ST(7)."""
    return (bits << top | bits >> REGISTERS - top) & ALL


def is_fbstp(code: bytes) -> bool:
    """Whether the first instruction of `code` is FBSTP."""
    opcode, modrm = code.lstrip(PREFIXES)[:2]
    return modrm < REGISTER_FORM and (opcode << 8 | modrm & 0x38) == FBSTP
