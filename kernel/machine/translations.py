"""What the engine keeps translated: which physical pages it came from, and when to forget it.

Unicorn notices guest stores to translated code, but not stores by anybody else: DMA, loaders, a restored
snapshot.  Whoever does that says so, and what was translated from the pages is dropped, before the next
instruction if one is being executed.

A hook on every new translation block notes its pages and looks for the few instructions that the engine
gets wrong (`machine.filters`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.accounts import Account
from callgate.kernel.machine.bus import DmaError
from callgate.kernel.machine.counter import NOWHERE, add_hook, address_of
from callgate.kernel.machine.paging import CR0_PG, Mode, PageFault
from unicorn import UC_HOOK_EDGE_GENERATED
from unicorn.unicorn_const import (
    UC_CTL_IO_READ,
    UC_CTL_IO_WRITE,
    UC_CTL_TB_FLUSH,
    UC_CTL_TB_REQUEST_CACHE,
    UC_CTL_TLB_FLUSH,
)
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.machine.control import Control
    from callgate.kernel.machine.cpu import Cpu
    from callgate.kernel.machine.paging import Paging


class Block(ctypes.Structure):
    """`uc_tb`."""

    _fields_ = [("pc", ctypes.c_uint64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16)]


EDGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Block), ctypes.c_void_p, ctypes.c_void_p)
Scan = Callable[[int, bytes], None]
LONG = 500  # bytes; the engine cuts blocks after 512 instructions
REQUEST_BLOCK = ctypes.c_int(UC_CTL_TB_REQUEST_CACHE | 2 << 26 | UC_CTL_IO_READ << 30 | UC_CTL_IO_WRITE << 30)
WRITE = UC_CTL_IO_WRITE << 30


class Translations:
    """The engine's caches of code and of page tables."""

    def __init__(self, cpu: Cpu, paging: Paging, control: Control, scan: Scan) -> None:
        """`scan(linear address, bytes)` sees the code of every block that is translated."""
        self.cpu = cpu
        self.paging = paging
        self.control = control
        self.state = control.state
        self.long_blocks = False
        self.scan = scan
        self.pages: set[int] = set()  # physical page numbers that code was translated from
        self.stale: set[int] = set()
        self.first = Block()
        self.first_pointer = ctypes.byref(self.first)
        self.linear = ctypes.c_uint64()
        self._callback = EDGE(self._generated)
        add_hook(cpu.handle.value, UC_HOOK_EDGE_GENERATED, address_of(self._callback), 0, 1, 0)

    def _generated(self, _uc: int, block: ctypes._Pointer[Block], _previous: int, _data: int) -> None:
        try:
            self.note(int(block[0].pc), int(block[0].size))
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.control.fail(error)

    def begin(self, eip: int) -> None:
        """The engine is about to begin at `eip`, an offset in CS: note the first block, which it never reports.

        Where it was stopped, the instruction belongs to a block that is known, and the rest of that block is
        all that a new one can hold, unless blocks are so long that the engine cuts them.  The engine is
        asked for a block only where the CPU may fetch, for a failed look would change CR2, and only in RAM, for a
        look at a device's registers may change those.
        """
        if eip == self.state.stop_address and not self.long_blocks:
            return
        base, cpl, mode = self.cpu.fetching()
        linear = eip + base & 0xFFFF_FFFF
        try:
            physical = self.paging.translate(linear, user=cpl == 3, write=False, fetch=True, mode=mode)
            self.paging.ram.view(physical, 1, Account.MACHINE)
        except (PageFault, DmaError):
            return
        self.linear.value = linear
        if uclib.uc_ctl(self.cpu.handle, REQUEST_BLOCK, self.linear, self.first_pointer):
            return
        start, size = self.first.pc, self.first.size
        if start == linear and linear % PAGE_SIZE + size <= PAGE_SIZE and size <= LONG:
            self.pages.add(physical >> PAGE_SHIFT)
            self.scan(linear, self.paging.ram.read(physical, size, Account.MACHINE))
        else:
            self.note(start, size, mode)

    def note(self, linear: int, size: int, mode: Mode | None = None) -> None:
        """Take notice of code that is translated; `mode` saves asking for it."""
        self.long_blocks = self.long_blocks or size > LONG
        mode = mode or self.paging.mode()
        code = b""
        while size > 0:
            piece = min(size, PAGE_SIZE - linear % PAGE_SIZE)
            try:
                physical = self.paging.translate(linear, user=False, write=False, mode=mode)
                code += self.paging.ram.read(physical, piece, Account.MACHINE)
            except (PageFault, DmaError):
                break
            self.pages.add(physical >> PAGE_SHIFT)
            linear, size = linear + piece, size - piece
        self.scan(linear - len(code), code)

    def changed(self, physical: int, length: int) -> None:
        """Forget translations of code in a physical range, because its bytes have been changed."""
        first, last = physical >> PAGE_SHIFT, physical + max(length, 1) - 1 >> PAGE_SHIFT
        if last - first > len(self.pages):
            touched = {page for page in self.pages if first <= page <= last}
        else:
            touched = self.pages.intersection(range(first, last + 1))
        if touched:
            self.stale |= touched
            self.control.stop_soon()

    def settle(self) -> None:
        """Between two instructions: forget what was changed."""
        if self.stale:
            stale, self.stale = self.stale, set()
            self.forget(stale)

    def forget(self, pages: set[int]) -> None:
        """Forget code of physical pages; not while an instruction executes.

        The engine forgets by linear address.  So paging is turned off for a moment, which makes low
        physical addresses linear ones; for pages above 4 GiB everything goes.
        """
        self.state.stop_address = NOWHERE
        if any(page >> 32 - PAGE_SHIFT for page in pages):
            self.flush_code()
            return
        cpu = self.cpu
        cpu.save()
        kept = bytes(cpu.context.view)
        cpu.put(cpu.layout.control, cpu.get(cpu.layout.control) & ~CR0_PG)
        cpu.restore()
        self.flush_tlb()
        for page in sorted(pages):
            cpu.uc.ctl_remove_cache(page << PAGE_SHIFT, page + 1 << PAGE_SHIFT)
        cpu.context.view[:] = kept
        cpu.restore()
        self.flush_tlb()
        self.pages -= pages

    def flush_code(self) -> None:
        """Forget all translations of code; not while an instruction executes."""
        uclib.uc_ctl(self.cpu.handle, ctypes.c_int(UC_CTL_TB_FLUSH | WRITE))
        self.state.stop_address = NOWHERE
        self.pages.clear()

    def flush_tlb(self) -> None:
        """Forget all translations of addresses."""
        uclib.uc_ctl(self.cpu.handle, ctypes.c_int(UC_CTL_TLB_FLUSH | WRITE))
