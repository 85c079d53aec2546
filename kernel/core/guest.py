"""The guest as policy sees it: low memory in words, the symbols of the kernel image, the clock, the TLB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.thread import KernelWords
from callgate.kernel.core.control_block import ControlBlock

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Machine
    from callgate.kernel.machine.memory.ram import Ram


class Guest:
    """One machine with the kernel image in it.  Every manager is given it; it knows none of them."""

    def __init__(self, machine: Machine, image: Program) -> None:
        self.machine = machine
        self.image = image
        low = machine.ram.low
        self.words = low.cast("I")
        self.quads = low.cast("Q")
        self.kernel_words = ControlBlock(self.words, KernelWords, self.physical("kernel_words") // 4)

    @property
    def ram(self) -> Ram:
        """The guest's memory by physical address."""
        return self.machine.ram

    @property
    def now(self) -> int:
        """Virtual time, in nanoseconds since the machine started."""
        return self.machine.clock.now

    def address(self, name: str) -> int:
        """Return the linear address of a symbol of the kernel image."""
        return self.image.address(name)

    def physical(self, name: str) -> int:
        """Return the physical address of a symbol of the kernel image, whose half is mapped one to one."""
        return self.image.address(name) - KERNEL_BASE

    def flush_tlb(self) -> None:
        """Flush all translations, after policy has removed a mapping."""
        self.machine.flush_tlb()
        self.machine.ledger.extra["tlb_invalidations"] += 1

    def count_table_writes(self, number: int) -> None:
        """Count entries of page tables that policy has written."""
        self.machine.ledger.extra["pte_writes"] += number

    def release(self) -> None:
        """Release the views of guest memory, so that it can be unmapped."""
        self.words.release()
        self.quads.release()
