"""The descriptor tables that the CPU uses now, read from guest memory, for debuggers and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.thread import TaskState
from callgate.kernel.machine.cpu.descriptors import ACCESSED, CODE_DATA, Gate, Segment, decode_gate, decode_segment
from callgate.kernel.machine.memory.accounts import Account

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging

Descriptor = Segment | Gate
SYSTEM_SEGMENTS = frozenset({1, 2, 3, 9, 11})  # TSS and LDT types; the other system types are gates


def decode(raw: int) -> Descriptor:
    """Return the segment or gate that a descriptor describes (SDM vol. 3, 3.4.5 and 3.5)."""
    kind = raw >> 40 & 0x1F
    return decode_segment(raw) if kind & CODE_DATA or kind in SYSTEM_SEGMENTS else decode_gate(raw)


class DescriptorTables:
    """GDT, LDT, IDT and TSS of one CPU.  PageFault where a table is not mapped."""

    def __init__(self, cpu: Cpu, paging: Paging) -> None:
        self.cpu = cpu
        self.paging = paging

    def raw(self, selector: int) -> int:
        """Return the 64-bit entry that a selector names; IndexError beyond the table's limit."""
        base, limit = self.cpu.table("ldtr" if selector & 4 else "gdtr")
        return self._entry(base, limit, selector >> 3)

    def segment(self, selector: int) -> Segment:
        """Return the segment that a selector names."""
        return decode_segment(self.raw(selector))

    def put(self, selector: int, descriptor: Descriptor) -> None:
        """Write the entry that a selector names; segment registers keep what they hold until loaded."""
        base, limit = self.cpu.table("ldtr" if selector & 4 else "gdtr")
        self._put(base, limit, selector >> 3, descriptor)

    def mark_accessed(self, selector: int) -> None:
        """Set the accessed bit of a segment descriptor, as loading the selector does."""
        raw = self.raw(selector)
        if not raw & ACCESSED << 40:
            base, _ = self.cpu.table("ldtr" if selector & 4 else "gdtr")
            physical = self.paging.translate(base + (selector >> 3) * 8, user=False, write=False)
            self.paging.ram.put_u64(physical, raw | ACCESSED << 40, Account.MACHINE)

    def gate(self, vector: int) -> Gate:
        """Return an entry of the IDT."""
        base, limit = self.cpu.table("idtr")
        return decode_gate(self._entry(base, limit, vector))

    def gdt(self) -> Iterator[tuple[int, Descriptor]]:
        """Yield (selector, descriptor) of the entries in use."""
        return self._entries("gdtr", 0)

    def ldt(self) -> Iterator[tuple[int, Descriptor]]:
        """Yield (selector, descriptor) of the entries in use of the current LDT."""
        return self._entries("ldtr", 4)

    def idt(self) -> Iterator[tuple[int, Gate]]:
        """Yield (vector, gate) of the entries in use."""
        base, limit = self.cpu.table("idtr")
        for vector in range((limit + 1) // 8):
            raw = self._entry(base, limit, vector)
            if raw:
                yield vector, decode_gate(raw)

    def task_state(self) -> TaskState:
        """Return a copy of the TSS."""
        base, _ = self.cpu.table("tr")
        return TaskState.from_buffer_copy(self.paging.read_linear(base, size_of(TaskState)))

    def load(self, **selectors: int) -> None:
        """Load segment registers by name, CPL included: `load(cs=0x1b, ss=0x23)`.

        No privilege is checked: this is how a debugger or a test puts the CPU into ring 3 or back.
        """
        self.cpu.save()
        for name, selector in selectors.items():
            self.cpu.put_segment(name, selector, self.segment(selector))
        self.cpu.restore()

    def _entries(self, table: str, indicator: int) -> Iterator[tuple[int, Descriptor]]:
        base, limit = self.cpu.table(table)
        if table == "ldtr" and not base:
            return
        for index in range((limit + 1) // 8):
            raw = self._entry(base, limit, index)
            if raw:
                yield index * 8 + indicator, decode(raw)

    def _entry(self, base: int, limit: int, index: int) -> int:
        if index * 8 + 7 > limit:
            raise IndexError(f"entry {index} lies beyond the table's limit {limit:#x}")
        return int.from_bytes(self.paging.read_linear(base + index * 8, 8), "little")

    def _put(self, base: int, limit: int, index: int, descriptor: Descriptor) -> None:
        if index * 8 + 7 > limit:
            raise IndexError(f"entry {index} lies beyond the table's limit {limit:#x}")
        physical = self.paging.translate(base + index * 8, user=False, write=False)
        self.paging.ram.put_u64(physical, descriptor.encode(), Account.MACHINE)
