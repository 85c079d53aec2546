"""A register of the CPU that is changed by hand: what no instruction could put there is refused, with the reason.

A segment register is loaded as MOV, POP or a far JMP would load it at the present privilege level, descriptor and
checks included (Intel SDM vol. 2, MOV; vol. 3, 5.5 to 5.8), a control register as MOV CRn would (vol. 3, 2.5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.machine.cpu.cpu import EFLAGS_VM, GENERAL, SELECTORS
from callgate.kernel.machine.cpu.descriptors import ACCESSED, CODE_DATA, Segment, decode_segment
from callgate.kernel.machine.cpu.fpu import FLOATING, changed
from callgate.kernel.machine.cpu.live_fpu import from_cpu, to_cpu
from callgate.kernel.machine.cpu.paging import CR0_PG, CR4_PAE, MAXPHYADDR, PageFault
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.tables import DescriptorTables

Change = Callable[[], None]
WORD: Final = 0xFFFF_FFFF
CR0_PE, CR0_ET, CR0_NW, CR0_CD = 1, 1 << 4, 1 << 29, 1 << 30
CR4_KNOWN: Final = 0x15_07FF
"""VME to OSXMMEXCPT, FSGSBASE, OSXSAVE and SMEP: what the emulated CPU has and this machine models."""
DR7_ENABLES: Final = 0x20FF  # L0 to G3, and general detect
PDPTE_RESERVED: Final = 0x1E6 | (1 << 64) - (1 << MAXPHYADDR)  # SDM vol. 3, table 4-8
POINTERS: Final = 4  # page-directory pointers, 8 bytes each
RPL: Final = 3
NULL: Final = Segment(0, 0, 0, present=False, big=False)
PLAIN: Final = frozenset({*GENERAL, "eip", "cr2", "dr0", "dr1", "dr2", "dr3", "dr6"})
FLOATING_NAMES: Final = frozenset(FLOATING)
SETTABLE: Final = (*GENERAL, "eip", "eflags", *SELECTORS, "cr0", "cr2", "cr3", "cr4",
                   "dr0", "dr1", "dr2", "dr3", "dr6", "dr7", *FLOATING)  # fmt: skip
"""The registers that can be changed by hand."""


class Setting:
    """Changes of one CPU's registers."""

    def __init__(self, cpu: Cpu, tables: DescriptorTables, handle: Any) -> None:
        """`handle` is the engine's, raw."""
        self.cpu = cpu
        self.tables = tables
        self.handle = handle

    def change(self, name: str, value: int) -> Change:
        """Return what changes a register; nothing has been changed yet.

        AttributeError for a name that is none of SETTABLE, ValueError in words for what a CPU would refuse.
        """
        if name in FLOATING_NAMES:
            wanted = changed(from_cpu(self.handle), name, value)
            return lambda: to_cpu(self.handle, wanted)
        value &= WORD
        if name in SELECTORS:
            return self._segment(name, value)
        if name not in SETTABLE:
            raise AttributeError(f"the CPU has no register {name!r} that can be changed by hand")
        if name not in PLAIN:
            value = getattr(self, f"_{name}")(value)
        return lambda: setattr(self.cpu, name, value)

    def _eflags(self, value: int) -> int:
        if value & EFLAGS_VM:
            raise ValueError("eflags: the machine has no virtual-8086 mode: leave bit 17, VM, clear")
        return value

    def _cr0(self, value: int) -> int:
        if not value & CR0_PE:
            raise ValueError("cr0: the machine has no real mode: leave bit 0, PE, set")
        if value & CR0_NW and not value & CR0_CD:
            raise ValueError("cr0: NW without CD is #GP")
        if value & CR0_PG and not self.cpu.cr4 & CR4_PAE:
            raise ValueError("cr0: the machine has no paging without PAE: set bit 5 of cr4 before PG")
        if value & CR0_PG:
            self._pointers("cr0", self.cpu.cr3)
        return value | CR0_ET  # hardwired

    def _cr3(self, value: int) -> int:
        if self.cpu.cr0 & CR0_PG:
            self._pointers("cr3", value)
        return value

    def _cr4(self, value: int) -> int:
        if value & ~CR4_KNOWN:
            raise ValueError(f"cr4: bits {value & ~CR4_KNOWN:#x} are #GP")
        if self.cpu.cr0 & CR0_PG and not value & CR4_PAE:
            raise ValueError("cr4: the machine has no paging without PAE: leave bit 5 set")
        return value

    def _dr7(self, value: int) -> int:
        if value & DR7_ENABLES:
            raise ValueError("dr7: the machine has no breakpoints in debug registers: leave L0 to G3 and GD clear")
        return value

    def _pointers(self, name: str, cr3: int) -> None:
        """Check the four page-directory pointers, which a CPU loads together with CR3."""
        table = cr3 & 0xFFFF_FFE0
        try:
            data = self.tables.paging.ram.read(table, 8 * POINTERS, Account.MACHINE)
        except DmaError:
            raise ValueError(f"{name}: no RAM is at {table:#x}, where the page-directory pointers are to be") from None
        for index in range(POINTERS):
            pointer = int.from_bytes(data[8 * index : 8 * index + 8], "little")
            if pointer & 1 and pointer & PDPTE_RESERVED:
                raise ValueError(f"{name}: page-directory pointer {index} is {pointer:#x}, reserved bits are #GP")

    def _segment(self, name: str, selector: int) -> Change:
        if selector > 0xFFFF:
            raise ValueError(f"{name}: {selector:#x} is no selector: that has 16 bits")
        if not selector & ~RPL:
            if name in ("cs", "ss"):
                raise ValueError(f"{name}: a null selector is #GP")
            return lambda: self._load(name, selector, NULL)
        raw = self._descriptor(name, selector)
        segment, cpl = decode_segment(raw), self.cpu.cpl
        why = self._refusal(name, selector, segment, cpl)
        if why:
            raise ValueError(f"{name}: {selector:#x} names {why}")
        if not segment.present:
            fault = "#SS" if name == "ss" else "#NP"
            raise ValueError(f"{name}: {selector:#x} names a segment that is not present: {fault}")
        if name == "cs" and self.cpu.eip > segment.limit:
            raise ValueError(f"cs: {selector:#x} names a segment that ends before {self.cpu.eip:#x}, where EIP is: #GP")
        loaded = segment._replace(type=segment.type | ACCESSED)
        if name == "cs":
            selector = selector & ~RPL | cpl

        def change() -> None:
            self.tables.mark_accessed(selector)
            self._load(name, selector, loaded)

        return change

    def _descriptor(self, name: str, selector: int) -> int:
        if selector & 4 and not self.cpu.table("ldtr")[0]:
            raise ValueError(f"{name}: {selector:#x} is in the LDT, and there is none: #GP")
        try:
            return self.tables.raw(selector)
        except IndexError as error:
            raise ValueError(f"{name}: {selector:#x}: {error}: #GP") from None
        except PageFault:
            raise ValueError(f"{name}: {selector:#x}: the descriptor table is not mapped there: #PF") from None
        except DmaError:
            raise ValueError(f"{name}: {selector:#x}: no RAM is where the descriptor table is said to be") from None

    def _refusal(self, name: str, selector: int, segment: Segment, cpl: int) -> str:
        """Return what a segment is that this register may not be loaded with; nothing if it may."""
        rpl, dpl = selector & RPL, segment.dpl
        if not segment.type & CODE_DATA:
            return "a gate or a system segment: #GP"
        if name == "cs":
            if not segment.code:
                return "no code segment: #GP"
            allowed = dpl <= cpl if segment.conforming else rpl <= cpl and dpl == cpl
            return "" if allowed else f"code of ring {dpl}, which no jump from ring {cpl} comes to: #GP"
        if name == "ss":
            if not segment.writable_data:
                return "no data segment that can be written: #GP"
            return "" if rpl == dpl == cpl else f"a stack of ring {dpl} by RPL {rpl}, and the CPU is in ring {cpl}: #GP"
        if segment.code and not segment.type & 2:
            return "code that cannot be read: #GP"
        allowed = segment.conforming or max(rpl, cpl) <= dpl
        return "" if allowed else f"a segment of ring {dpl}, and the CPU is in ring {cpl}, RPL {rpl}: #GP"

    def _load(self, name: str, selector: int, segment: Segment) -> None:
        self.cpu.save()
        self.cpu.put_segment(name, selector, segment)
        self.cpu.restore()
