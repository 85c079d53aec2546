"""SSE and x87 as on a CPU, where the engine leaves something out: exceptions, alignment, #XM.

The engine's record of exceptions is gathered into MXCSR and the x87 status word before each instruction that loads or
stores those words, by host code (`machine.engine.counter_code`); `gather` does it in Python.  Host code also finds
operands that are not aligned, and whether MXCSR has an exception unmasked: only then is Python asked.

#XM and the result of PCMPISTRI are known only after the engine has executed the instruction. So the machine stops
before the next one (`Later`), and restores the state before it or corrects the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.fpu import MXCSR_INITIAL
from callgate.kernel.common.record import as_dict, record
from callgate.kernel.machine.cpu.cpu import CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT
from callgate.kernel.machine.cpu.environment import Environment
from callgate.kernel.machine.cpu.exceptions import GP, MF, UD, XM
from callgate.kernel.machine.engine.float_layout import discover_floats
from callgate.kernel.machine.engine.sites import (
    ALIGNED,
    ALWAYS,
    COMPUTES,
    DISCARDED,
    DISCARDS,
    FLOATING,
    GATHERS,
    GATHERS_X87,
    LAST_TURN,
    LENGTHS,
    STACK,
    UNMASKED,
    Cell,
)
from callgate.kernel.machine.filters.register_stack import Correction, RegisterStack
from callgate.kernel.machine.filters.simd import (
    ALIGNMENT,
    AREAS,
    GENERAL,
    STRINGS,
    Form,
    looks,
    memory_operand,
    opcode_of,
)
from callgate.kernel.machine.filters.strings import Comparison, Strings

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.cpu.traps import Traps
    from callgate.kernel.machine.engine.counter_state import CounterState

EXCEPTIONS: Final = 0x3D  # IE, ZE, OE, UE, PE; the engine does not note denormal operands (DE)
BEFORE_RESULT: Final = 0x07  # IE, DE and ZE: found in the operands
FLUSHED: Final = 0x80  # noted where a tiny result has become zero (MXCSR.FZ)
PRECISION, UNDERFLOW_PRECISION = 0x20, 0x30
ALL_MASKED: Final = 0x1F80
MASK_SHIFT: Final = 7
SUMMARY: Final = 0x8080  # ES and B of the x87 status word
RF_BYTE: Final = 2  # of EFLAGS, whose bit 0 is RF
EAX, ECX, EDX = 0, 1, 2  # numbers of registers
X87_EXCEPTIONS: Final = 0x3F


@record(frozen=True)
class Later:
    """An instruction that is being executed, and the CPU's state before it."""

    count: int  # of instructions before it
    eip: int
    context: bytes
    string: Comparison | None  # if it is PCMPISTRI or one of its kin
    quiet: int  # exceptions that it does not raise
    correction: Correction | None  # of the x87 register stack


class Floating:
    """The floating-point state of one machine."""

    def __init__(
        self,
        cpu: Cpu,
        state: CounterState,
        paging: Paging,
        traps: Traps,
        effective: Callable[[Any, Any], int],
        decode: Callable[[int], Any],
    ) -> None:
        """`effective` gives the linear address of an operand, `decode` the watched instruction at one, or None."""
        self.cpu = cpu
        self.state = state
        self.traps = traps
        self.effective = effective
        self.decode = decode
        self.layout = discover_floats()
        self.environment = Environment(cpu, traps.translator.engine)
        self.strings = Strings(cpu, paging, effective)
        self.stack = RegisterStack(cpu, self.environment, self.layout, paging, effective)
        self.later: Later | None = None
        self.environment.put(self.layout.mxcsr, MXCSR_INITIAL)  # after reset, when the engine has 0
        if self.environment.known:
            state.late_flags = self.environment.address(cpu.layout.flags_source)
            state.resume_flag = self.environment.address(cpu.layout.eflags) + RF_BYTE
            state.cr0 = self.environment.address(cpu.layout.control)
            for name, offset in as_dict(self.layout).items():
                setattr(state, name, self.environment.address(offset))

    # Sites.

    def cell(self, address: int, form: Form) -> Cell:
        """Return a cell by which host code checks the instruction at a linear address."""
        look = form.look
        if look & FLOATING and not self.environment.known:
            look = ALWAYS
        cell = Cell(address=address, call=look)
        if look & STACK:
            cell.scale, cell.displacement = form.scale, form.displacement
        if look & LENGTHS:
            cell.base, cell.index = self._register(EAX), self._register(EDX)
        if look & LAST_TURN:
            cell.base = self._register(ECX)
        if look & ALIGNED:
            cell.base, cell.index = (self._register(number) for number in (form.base, form.scaled))
            cell.segment = self.environment.address(self.cpu.layout.segment(form.segment) + 8)
            cell.scale, cell.displacement = form.scale, form.displacement
        return cell

    def _register(self, number: int) -> int:
        """Return the address of a general register; for -1 of R8, which 32-bit code cannot change: it is zero."""
        return self.environment.address(self.cpu.layout.registers + 8 * (number if number >= 0 else len(GENERAL)))

    def judge(self, instruction: Any, address: int) -> int | None:
        """Check the next instruction; return the vector of the fault that it must raise, None if it may execute."""
        look = looks(instruction)
        if look & (GATHERS | GATHERS_X87 | COMPUTES):
            self.gather()
            self.environment.put(self.layout.sse_flags, DISCARDED if look & DISCARDS else 0, 1)
        if look & STACK:
            return self._judge_x87(instruction, address)
        if not look & (ALIGNED | UNMASKED | ALWAYS | LENGTHS) or not self._allowed(instruction):
            return None  # it is #NM or #UD, which comes first
        if look & ALIGNED and self.effective(instruction, memory_operand(instruction)) % ALIGNMENT:
            return GP
        unmasked = self.environment.get(self.layout.mxcsr) & ALL_MASKED != ALL_MASKED
        if look & (ALWAYS | LENGTHS) or (look & UNMASKED and unmasked):
            if look & UNMASKED:
                self.environment.put(self.layout.sse_flags, 0, 1)
            self._wait_for(instruction, address, PRECISION if look & DISCARDS else 0)
        return None

    def _judge_x87(self, instruction: Any, address: int) -> int | None:
        if self.cpu.cr0 & (CR0_EM | CR0_TS):
            return None  # it is #NM
        if self.stack.pending():
            return MF
        correction = self.stack.judge(instruction)
        if correction is not None:
            self._wait_for(instruction, address, 0, correction)
        return None

    def _allowed(self, instruction: Any) -> bool:
        """Whether CR0 and CR4 let an instruction of SSE execute."""
        if self.cpu.cr0 & (CR0_EM | CR0_TS):
            return False
        return instruction.mnemonic in AREAS or bool(self.cpu.cr4 & CR4_OSFXSR)

    # Exceptions.

    def gather(self) -> None:
        """Carry the engine's exceptions over into MXCSR and the x87 status word.

        Those of an instruction that raises none stay where they are, marked (DISCARDED).
        """
        layout = self.layout
        noted, x87 = self.environment.get(layout.sse_flags, 1), self.environment.get(layout.x87_flags, 1)
        if noted and not noted & DISCARDED:
            self.environment.put(layout.sse_flags, 0, 1)
            self.environment.put(layout.mxcsr, self.environment.get(layout.mxcsr) | exceptions(noted))
        if x87:
            self.environment.put(layout.x87_flags, 0, 1)
            status, control = self.environment.get(layout.x87_status, 2), self.environment.get(layout.x87_status + 2, 2)
            status |= x87 & EXCEPTIONS
            if status & ~control & X87_EXCEPTIONS:
                status |= SUMMARY
            self.environment.put(layout.x87_status, status, 2)

    # After an instruction.

    def _wait_for(self, instruction: Any, address: int, quiet: int, correction: Correction | None = None) -> None:
        """Stop before the instruction that follows."""
        cpu, state = self.cpu, self.state
        cpu.save()
        eip = address - cpu.segment_base("cs") & 0xFFFF_FFFF
        kind, opcode = opcode_of(bytes(instruction.bytes))
        string = self.strings.before(instruction) if kind == 0x3A and opcode in STRINGS else None
        self.later = Later(state.count, eip, bytes(cpu.context.view), string, quiet, correction)
        if string is not None:
            self.strings.shorten(string)
        if correction is not None:
            self.stack.begin(correction)
        if state.armed:
            state.hard_limit = min(state.hard_limit, state.count + 1)
        elif state.limit:  # zero: a stop before the instruction is wanted; `resume` comes after it
            state.limit = min(state.limit, state.count + 1)

    def resume(self) -> None:
        """Before a slice begins: its first instruction may have been checked already, and is not reported again."""
        self.later = None
        if self.state.site_done == self.state.count:
            address = int(self.state.site_address)
            instruction = self.decode(address)
            if instruction is not None and looks(instruction) & (UNMASKED | ALWAYS | LENGTHS | STACK):
                self.judge(instruction, address)

    def settle(self) -> None:
        """Between two instructions, or in the hook of an exception: finish the one that has just been executed."""
        later, self.later = self.later, None
        if later is None:
            return
        if later.string is not None:
            self.strings.give_back(later.string)
        if later.count == self.state.count or self.cpu.eip == later.eip:  # it has yet to begin, or it has faulted
            if later.correction is not None:
                self.stack.undo(later.correction)
        elif later.string is not None:
            self.strings.correct(later.string)
        elif later.correction is not None:
            self.stack.correct(later.correction)
        else:
            self._raise(later)

    def _raise(self, later: Later) -> None:
        """Restore the state before the instruction if it has raised an exception that is not masked."""
        noted = exceptions(self.environment.get(self.layout.sse_flags, 1)) & ~later.quiet
        self.environment.put(self.layout.sse_flags, noted, 1)
        at = self.layout.mxcsr
        before = int.from_bytes(later.context[at : at + 4], "little")
        unmasked = ~before >> MASK_SHIFT
        if not noted & unmasked:
            return
        if noted & unmasked & BEFORE_RESULT:  # no result was computed
            noted &= BEFORE_RESULT
        context = bytearray(later.context)
        context[at : at + 4] = (before | noted).to_bytes(4, "little")
        vector = XM if self.cpu.cr4 & CR4_OSXMMEXCPT else UD
        self.traps.refuse_after(vector, bytes(context), later.eip)


def exceptions(noted: int) -> int:
    """Return flags of MXCSR for the engine's exceptions."""
    return 0 if noted & DISCARDED else noted & EXCEPTIONS | (UNDERFLOW_PRECISION if noted & FLUSHED else 0)
