"""IRETD with VM in its image above ring 0.

A CPU ignores VM there, the engine would enter virtual-8086 mode.

In that mode IOPL decides about CLI, ports and INT n, and the image brings IOPL along: it would be a way out of ring 3.
So the bit is hidden: the run loop clears it in memory, lets the engine execute the instruction, with all its checks
and faults, and puts the byte back before anything else can see it (Intel SDM vol. 2, IRET, protected mode).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from callgate.kernel.machine.cpu.cpu import EFLAGS_VM
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.engine.control import Control

VM_BYTE: Final = 10  # where the byte of the image that holds VM lies above ESP: EIP, CS, and two bytes of EFLAGS
VM_BIT: Final = EFLAGS_VM >> 16
RING_3: Final = 3
WORD: Final = 0xFFFF_FFFF


class Returns:
    """Hides VM from the engine for the length of one IRETD."""

    def __init__(self, cpu: Cpu, paging: Paging, control: Control) -> None:
        self.cpu = cpu
        self.paging = paging
        self.control = control
        self.changed: Callable[[int, int], None] = lambda _physical, _length: None  # drops translated code
        self.wanted: int | None = None  # linear address of the IRETD that is to be executed in this way
        self.hidden: tuple[int, int] | None = None  # physical address and byte

    def judge(self, address: int) -> bool:
        """Called before an IRETD at a linear address: have it executed by the run loop if VM is in its image.

        False if the image lies where no RAM is: all of it is ones, nothing can be hidden, and it is to be refused.
        """
        try:
            found = self._find()
        except DmaError:
            return False
        if found is not None:
            self.wanted = address
            self.control.stop_soon()
        return True

    def due(self) -> bool:
        """Whether the instruction at EIP is the one that was judged: an interrupt may have come first."""
        address, self.wanted = self.wanted, None
        return address == (self.cpu.eip + self.cpu.segment_base("cs") & WORD)

    def hide(self) -> None:
        """Clear VM in the image, if it is still there."""
        self.hidden = self._find()
        if self.hidden is not None:
            physical, byte = self.hidden
            self.paging.ram.write(physical, bytes([byte & ~VM_BIT]))

    def show(self) -> None:
        """Put the byte back, and forget code that was translated while it was away."""
        if self.hidden is not None:
            (physical, byte), self.hidden = self.hidden, None
            self.paging.ram.write(physical, bytes([byte]))
            self.changed(physical, 1)

    def _find(self) -> tuple[int, int] | None:
        """Return where VM is set in the image; None if it is clear, in ring 0, and where reading faults.

        DmaError if no RAM is there.
        """
        base, esp, mask, cpl, mode = self.cpu.stack()
        if not cpl:
            return None
        with suppress(PageFault):
            linear = base + (esp + VM_BYTE & mask) & WORD
            physical = self.paging.translate(linear, user=cpl == RING_3, write=False, mode=mode)
            byte = self.paging.ram.read(physical, 1)[0]
            return (physical, byte) if byte & VM_BIT else None
        return None
