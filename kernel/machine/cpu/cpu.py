"""The CPU's registers by name, and the ones that have no name.

`cpu.eax`, `cpu.cr2`, `cpu.cs` read and write through Unicorn's own calls (0.4 µs); `frame` gives the saved
context, in which privilege and segment caches can be changed (`machine.engine.context`).
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from callgate.kernel.machine.cpu.descriptors import Segment
from callgate.kernel.machine.cpu.paging import CR0_PG, CR0_WP, CR4_PAE, CR4_SMEP, Mode
from callgate.kernel.machine.engine.context import (
    CLOSED,
    EFER_NXE,
    HF_ADDSEG,
    HF_CPL,
    HF_CS32,
    HF_INHIBIT_IRQ,
    HF_SS32,
    HF_TF,
    SEGMENT_SPAN,
    ContextLayout,
    RawContext,
    discover,
)
from callgate.kernel.machine.engine.counter_state import BY_FLAGS
from unicorn import Uc, UcError
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

EFLAGS_TF = 1 << 8
EFLAGS_IF = 1 << 9
EFLAGS_NT = 1 << 14
EFLAGS_RF = 1 << 16
EFLAGS_VM = 1 << 17

ARITHMETIC_FLAGS = 0x8D5  # CF PF AF ZF SF OF
LATE_FLAGS = ARITHMETIC_FLAGS | 1 << 10  # and DF
EFLAGS_FIXED = 2
CR0_EM, CR0_TS = 1 << 2, 1 << 3
CR4_OSFXSR, CR4_OSXMMEXCPT = 1 << 9, 1 << 10
TSS_FLAGS = 0x8900  # present, 32-bit TSS, not busy: as LTR leaves it in the cache
GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SELECTORS = ("cs", "ds", "es", "fs", "gs", "ss")
FLAG_NAMES = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT", 16: "RF"}


class NotModelled(NotImplementedError):
    """Ring 0 has put the CPU into a mode that this machine does not have; a run ends there with this as its report."""


class Gone:
    """Stands for the engine of a machine that is closed: passing it to the engine is an error."""

    @property
    def _as_parameter_(self) -> int:
        raise ValueError(CLOSED)


class MemoryManagementRegister(ctypes.Structure):
    """`uc_x86_mmr`."""

    _fields_ = [
        ("selector", ctypes.c_uint16),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class Register:
    """A register as an attribute of `Cpu`: 32 bits, by calls of the engine.  AttributeError once the CPU is closed."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self.identifier = getattr(x86, f"UC_X86_REG_{name.upper()}")

    def __get__(self, cpu: Cpu, _owner: type) -> int:
        if cpu.closed:
            raise AttributeError(CLOSED)
        cpu.value.value = 0
        uclib.uc_reg_read(cpu.handle, self.identifier, cpu.pointer)
        return cpu.value.value & 0xFFFF_FFFF

    def __set__(self, cpu: Cpu, value: int) -> None:
        if cpu.closed:
            raise AttributeError(CLOSED)
        cpu.value.value = value & 0xFFFF_FFFF
        status = uclib.uc_reg_write(cpu.handle, self.identifier, cpu.pointer)
        if status:
            raise UcError(status)


class InstructionPointer(Register):
    """EIP: a new value, the present one too, ends a HLT."""

    def __set__(self, cpu: Cpu, value: int) -> None:
        super().__set__(cpu, value)
        cpu.halted = None


class Cpu:
    """One 32-bit x86 CPU.  A name that is no register is an AttributeError, in an assignment too."""

    __slots__ = (
        *("uc", "handle", "value", "pointer", "layout"),
        *("context", "words", "peek", "base_of_cs", "shown", "last_mode", "halted", "closed", "stands"),
    )

    eax, ecx, edx, ebx = Register(), Register(), Register(), Register()
    esp, ebp, esi, edi = Register(), Register(), Register(), Register()
    eip, eflags = InstructionPointer(), Register()
    cs, ds, es, fs, gs, ss = Register(), Register(), Register(), Register(), Register(), Register()
    cr0, cr2, cr3, cr4 = Register(), Register(), Register(), Register()
    dr0, dr1, dr2, dr3, dr6, dr7 = Register(), Register(), Register(), Register(), Register(), Register()

    def __init__(self, uc: Uc) -> None:
        self.uc = uc
        self.handle: Any = uc._uch
        self.value = ctypes.c_uint64()
        self.pointer = ctypes.byref(self.value)
        self.layout: ContextLayout = discover()
        self.context = RawContext(uc)
        self.words = self.context.words  # of the context buffer, 32 bits each
        self.peek = RawContext(uc)  # a second buffer, so that a look does not disturb a change in the first
        self.base_of_cs = self.layout.segment("cs") + 8 >> 2  # a word of the buffer
        self.shown = self._shown()  # registers, EIP and selectors in the buffer
        self.last_mode: tuple[tuple[int, ...], Mode] = ((), Mode(False, 0, False, False))  # and what it was made of
        self.halted: tuple[int, int] | None = None  # by HLT: instructions retired, and EIP, then; None ends it
        self.closed = False
        self.stands: Callable[[], bool] = lambda: False  # whether it executes nothing: the machine is being looked at

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"the CPU has no register {name!r}")

    def registers(self) -> dict[str, int]:
        """Return general registers, EIP, EFLAGS and selectors by name."""
        self.peek.save()
        view, first = self.peek.view, self.layout.registers
        eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, es, cs, ss, ds, fs, gs = self.shown.unpack_from(view, first)
        return {
            "eax": eax, "ecx": ecx, "edx": edx, "ebx": ebx, "esp": esp, "ebp": ebp, "esi": esi, "edi": edi,
            "eip": eip, "eflags": self.eflags, "cs": cs, "ds": ds, "es": es, "fs": fs, "gs": gs, "ss": ss,
        }  # fmt: skip

    def describe(self) -> str:
        """Return the registers as a table."""
        cells = [f"{name:>6} {value:08x}" for name, value in self.registers().items() if name != "eflags"]
        rows = ["  ".join(cells[index : index + 4]) for index in range(0, len(cells), 4)]
        return "\n".join([*rows, f"eflags {self.describe_flags()}  CPL={self.cpl}"])

    def _shown(self) -> struct.Struct:
        layout = self.layout
        before_eip = layout.eip - layout.registers - 8 * len(GENERAL)
        before_segments = layout.segments - layout.eip - 4
        selector = f"H{SEGMENT_SPAN - 2}x"
        return struct.Struct(f"<{'I4x' * len(GENERAL)} {before_eip}x I {before_segments}x {selector * len(SELECTORS)}")

    def paging_mode(self) -> Mode:
        """Return how the CPU translates linear addresses now; NotModelled without PAE.

        Between two runs there is no such error: linear addresses are then taken for physical ones, to be looked at.
        """
        self.peek.save()
        return self._mode(self.peek)

    def context_mode(self) -> Mode:
        """Return how the state in the context buffer translates linear addresses."""
        return self._mode(self.context)

    def _mode(self, context: RawContext) -> Mode:
        if context.words[self.layout.eflags >> 2] & EFLAGS_VM and not self.stands():
            raise NotModelled("virtual-8086 mode is not modelled: ring 0 returned to an image with VM set")
        cr0, _, _, cr3, cr4 = struct.unpack_from("<5Q", context.view, self.layout.control)
        made_of, mode = self.last_mode
        efer = context.quads[self.layout.efer >> 3]
        if made_of == (cr0, cr3, cr4, efer):
            return mode
        if cr0 & CR0_PG and not cr4 & CR4_PAE:
            if self.stands():
                return Mode(paging=False, cr3=cr3, write_protect=bool(cr0 & CR0_WP), no_execute=False)
            raise NotModelled("only PAE paging is walked: set CR4.PAE before CR0.PG")
        mode = Mode(
            paging=bool(cr0 & CR0_PG),
            cr3=cr3,
            write_protect=bool(cr0 & CR0_WP),
            no_execute=bool(efer & EFER_NXE),
            smep=bool(cr4 & CR4_SMEP),
        )
        self.last_mode = ((cr0, cr3, cr4, efer), mode)
        return mode

    @property
    def efer(self) -> int:
        """The extended-feature register, MSR C0000080h."""
        self.peek.save()
        return self.peek.quads[self.layout.efer >> 3]

    @property
    def hflags(self) -> int:
        """What the engine derives from the state: CPL, and `HF_` bits of `machine.engine.context`."""
        self.peek.save()
        return self.peek.words[self.layout.hflags >> 2]

    @property
    def cpl(self) -> int:
        """The current privilege level, 0 to 3, as the engine keeps it."""
        return self.hflags & HF_CPL

    def segment_base(self, name: str) -> int:
        """Return the base of a segment register's descriptor cache."""
        self.peek.save()
        at = self.layout.segment(name) + 8
        return int.from_bytes(self.peek.view[at : at + 4], "little")

    def fetching(self) -> tuple[int, int, Mode]:
        """Return the base of CS, the current privilege level and the paging mode, by one read of the CPU."""
        self.peek.save()
        base = self.peek.words[self.base_of_cs]
        return base, self.peek.view[self.layout.hflags] & HF_CPL, self._mode(self.peek)

    def stack(self) -> tuple[int, int, int, int, Mode]:
        """Return the base of SS, ESP, the mask of offsets in it, CPL and the paging mode, by one read of the CPU."""
        self.peek.save()
        words, layout = self.peek.words, self.layout
        hflags = words[layout.hflags >> 2]
        esp = words[(layout.registers >> 2) + 2 * GENERAL.index("esp")]
        mask = 0xFFFF_FFFF if hflags & HF_SS32 else 0xFFFF
        return words[layout.segment("ss") + 8 >> 2], esp, mask, hflags & HF_CPL, self._mode(self.peek)

    def table(self, name: str) -> tuple[int, int]:
        """Return (base, limit) of "gdtr", "idtr", "ldtr" or "tr"."""
        register = MemoryManagementRegister()
        uclib.uc_reg_read(self.handle, getattr(x86, f"UC_X86_REG_{name.upper()}"), ctypes.byref(register))
        return register.base & 0xFFFF_FFFF, register.limit

    # The saved context.

    def save(self) -> None:
        """Take the CPU's state into the context buffer."""
        self.context.save()

    def restore(self) -> None:
        """Put the context buffer into the CPU."""
        self.context.restore()

    def get(self, offset: int) -> int:
        """Return a 32-bit word of the context buffer."""
        return self.words[offset >> 2]

    def put(self, offset: int, value: int) -> None:
        """Change a 32-bit word of the context buffer."""
        self.words[offset >> 2] = value & 0xFFFF_FFFF

    def get_general(self, name: str) -> int:
        """Return a general register of the context buffer."""
        return self.get(self.layout.registers + 8 * GENERAL.index(name))

    def put_general(self, name: str, value: int) -> None:
        """Change a general register of the context buffer."""
        self.put(self.layout.registers + 8 * GENERAL.index(name), value)

    def enter(self, general: Sequence[int], eflags: int, eip: int) -> None:
        """Set the general registers (in the order of their numbers), EFLAGS and EIP at once."""
        self.context.save()
        first = self.layout.registers >> 2
        self.words[first : first + 2 * len(general) : 2] = array("I", [value & 0xFFFF_FFFF for value in general])
        self.words[self.layout.eip >> 2] = eip & 0xFFFF_FFFF
        self.context.restore()
        self.eflags = eflags  # not by the buffer: QEMU keeps the arithmetic flags apart

    def eflags_of_context(self) -> int:
        """Return EFLAGS of the context buffer, the arithmetic flags (which QEMU computes late) as they are now.

        System flags come from the buffer, which may be older than the CPU: a refused instruction.
        """
        late = self.eflags
        return late & LATE_FLAGS | self.get(self.layout.eflags) & ~LATE_FLAGS | EFLAGS_FIXED

    def put_late_flags(self, eflags: int) -> None:
        """Set the arithmetic flags and DF of the context buffer, for the engine within a run and for one that begins.

        Within a run it keeps them apart from EFLAGS, and DF is left as it is kept there.
        """
        layout = self.layout
        self.put(layout.eflags, self.get(layout.eflags) & ~LATE_FLAGS | eflags & LATE_FLAGS)
        self.context.quads[layout.flags_source >> 3] = eflags & ARITHMETIC_FLAGS
        self.put(layout.flags_kind, BY_FLAGS)

    def saved_table(self, name: str) -> tuple[int, int]:
        """Return (base, limit) of "gdt", "idt", "ldt" or "tr" in the context buffer."""
        at = self.layout.segment(name) + 8
        return self.get(at), self.get(at + 8)

    def selector(self, name: str) -> int:
        """Return the selector of a segment register of the context buffer."""
        return self.get(self.layout.segment(name)) & 0xFFFF

    def put_segment(self, name: str, selector: int, segment: Segment) -> None:
        """Load a segment register of the context buffer, descriptor cache and derived flags included."""
        raw = segment.encode()
        flags = raw >> 32 & 0x00F0_FF00
        at = self.layout.segment(name)
        struct.pack_into("<I4xQII", self.context.view, at, selector, segment.base, segment.limit, flags)
        hflags = self.get(self.layout.hflags)
        if name == "cs":
            hflags = hflags & ~(HF_CS32 | HF_CPL) | (HF_CS32 if segment.big else 0) | selector & 3
        elif name == "ss":
            hflags = hflags & ~HF_SS32 | (HF_SS32 if segment.big else 0)
        get, segment_at = self.get, self.layout.segment
        based = get(segment_at("ds") + 8) or get(segment_at("es") + 8) or get(segment_at("ss") + 8)
        hflags = hflags & ~HF_ADDSEG | (HF_ADDSEG if based else 0)
        self.put(self.layout.hflags, hflags)

    def put_flags(self, clear: int) -> None:
        """Clear system flags of the context buffer: TF, IF, NT, RF, VM."""
        self.put(self.layout.eflags, self.get(self.layout.eflags) & ~clear)
        hflags = self.get(self.layout.hflags) & ~HF_INHIBIT_IRQ
        if clear & EFLAGS_TF:
            hflags &= ~HF_TF
        hflags &= ~(clear & (EFLAGS_RF | EFLAGS_VM))
        self.put(self.layout.hflags, hflags)

    def interruptible(self) -> bool:
        """Whether an interrupt would be taken now: IF set, not in the shadow of STI or MOV SS.

        Leaves the CPU's state in the context buffer.
        """
        self.context.save()
        if self.get(self.layout.hflags) & HF_INHIBIT_IRQ:
            return False
        return bool(self.get(self.layout.eflags) & EFLAGS_IF)

    def reset_task_register(self) -> None:
        """Make TR a present TSS of no size.

        Unicorn leaves a type in it that makes a change to an inner ring abort the whole process; with
        this one it is #TS, which can be delivered and reported.
        """
        self.save()
        struct.pack_into("<I4xQII", self.context.view, self.layout.segment("tr"), 0, 0, 0, TSS_FLAGS)
        self.restore()

    def free(self) -> None:
        """Give the context buffers back; from then on every register is an AttributeError."""
        self.closed = True
        self.handle = Gone()
        del self.uc
        self.context.free()
        self.peek.free()

    def describe_flags(self) -> str:
        """Return EFLAGS as names of the bits that are set."""
        eflags = self.eflags
        names = [name for bit, name in FLAG_NAMES.items() if eflags >> bit & 1]
        return f"{eflags:#010x} [ {' '.join(names)} ] IOPL={eflags >> 12 & 3}"

    def __repr__(self) -> str:
        values = " ".join(f"{name}={value:#x}" for name, value in self.registers().items())
        return f"<cpu ring {self.cpl} {values}>"
