"""Fetch faults at the right instruction.

The engine translates a block at a time.  Where code runs into a page that may not be executed, it reports
the page fault at the beginning of the block, before the instructions that stand in front of the page.  A
CPU executes those first.  So such a fault is not delivered: the block is executed again with EFLAGS.TF,
which makes every instruction a block of its own, until the fault comes back at the instruction that it
belongs to.  The same is done where the engine cannot translate a block (`machine.engine.untranslatable`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import PAGE_SHIFT
from callgate.kernel.machine.cpu.cpu import EFLAGS_TF
from callgate.kernel.machine.cpu.exceptions import NO_EXCEPTION
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging

PUSHF = 0x9C
LONGEST_BLOCK = 512  # instructions


class Stepping:
    """Executes the rest of a block one instruction at a time.  Works on the context buffer."""

    def __init__(self, cpu: Cpu, paging: Paging) -> None:
        self.cpu = cpu
        self.paging = paging
        self.active = False
        self.debug_status = 0
        self.pushes_flags = False
        self.page = 0
        self.left = 0

    def wanted(self, linear: int, address: int, *, executed: bool) -> bool:
        """Whether a page fault with EIP at `linear` and CR2 `address` may be that of a later fetch."""
        return (
            not executed
            and not self.active
            and linear >> PAGE_SHIFT != address >> PAGE_SHIFT
            and (not self.cpu.get(self.cpu.layout.eflags) & EFLAGS_TF)
        )

    def start(self, linear: int, address: int | None) -> None:
        """Continue with one instruction at a time, from `linear`; the fault is to come at `address`.

        `address` is None if the block holds an instruction that cannot be translated: each is then translated alone.
        """
        self.active = True
        self.page = -1 if address is None else address >> PAGE_SHIFT
        self.left = LONGEST_BLOCK
        self.debug_status = self.cpu.dr6
        self._go_on(linear)

    def trapped(self, linear: int) -> None:
        """One instruction is done; the next one stands at `linear`."""
        if self.pushes_flags:
            self._hide_trap_flag()
        self.left -= 1
        if linear >> PAGE_SHIFT == self.page or not self.left:
            # The page can be executed by now, or the untranslatable instruction has been passed over or changed.
            self.finish()
            self.cpu.put(self.cpu.layout.old_exception, NO_EXCEPTION)
            self.cpu.restore()
        else:
            self._go_on(linear)

    def finish(self) -> None:
        """Clear TF again, in the context buffer."""
        layout = self.cpu.layout
        self.active = False
        self.cpu.put(layout.eflags, self.cpu.get(layout.eflags) & ~EFLAGS_TF)
        self.cpu.dr6 = self.debug_status

    def _go_on(self, linear: int) -> None:
        layout = self.cpu.layout
        self.pushes_flags = False
        with suppress(PageFault, DmaError):  # code in a device has no PUSHF: it is ones
            self.pushes_flags = PUSHF in self.paging.read_linear(linear, 2)
        self.cpu.put(layout.eflags, self.cpu.get(layout.eflags) | EFLAGS_TF)
        self.cpu.put(layout.old_exception, NO_EXCEPTION)
        self.cpu.restore()

    def _hide_trap_flag(self) -> None:
        """Clear TF in the image that PUSHF has just pushed."""
        base = self.cpu.get(self.cpu.layout.segment("ss") + 8)
        at = base + self.cpu.get_general("esp") + 1
        with suppress(DmaError):  # a device has the image already
            byte = self.paging.read_linear(at, 1)[0]
            self.paging.write_linear(at, bytes([byte & ~(EFLAGS_TF >> 8)]))
