"""The engine's translated code: which physical pages it came from, and when to drop it.

Unicorn notices guest stores to translated code, but no other stores: DMA, loaders, a restored snapshot. Code that
stores in these ways reports it, and translations of the pages are dropped, before the next instruction if one is being
executed.

A hook on every new translation block notes its pages and looks for the few instructions that the engine
gets wrong (`machine.filters.filters`).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.common.remembered import Remembered
from callgate.kernel.machine.cpu.paging import CR0_PG, Mode, PageFault
from callgate.kernel.machine.engine.counter import add_hook, address_of
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError
from unicorn import UC_HOOK_EDGE_GENERATED
from unicorn.unicorn_const import (
    UC_CTL_IO_WRITE,
    UC_CTL_TB_FLUSH,
    UC_CTL_TLB_FLUSH,
)
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.engine.control import Control


# Of the decoder, for all machines of this process (`machine.filters.known_code`).
answers = Remembered()
block_answers = Remembered()  # those about blocks that are counted at once, which few processes ask for


@cache
def decoder() -> Any:
    """Return a 32-bit decoder without operand details."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    return Cs(CS_ARCH_X86, CS_MODE_32)


def straight(code: bytes, room: int) -> tuple[int, int]:
    """Return the length of the instructions up to and including the first transfer of control, and of those decoded.

    The first is all of the code if something cannot be decoded: the engine knows more instructions than the decoder.
    Only instructions that begin within the first `room` bytes count.
    """
    size, decoded = answers.ask("straight", code, room, lambda: _straight(code, room))
    return size, decoded


def _straight(code: bytes, room: int) -> tuple[int, int]:
    end, before = 0, -1
    while before < end < room:
        end = after_zeros(code, end, room)
        if end >= room:
            return end, end
        before = end  # a few at a time: the decoder decodes all that it is given before it hands out the first
        for address, size, mnemonic, _ in decoder().disasm_lite(code[end : end + AT_ONCE * LONGEST], end, AT_ONCE):
            end = int(address + size)
            if end >= room or mnemonic.startswith(TRANSFERS):
                return end, end
    return len(code), end


def after_zeros(code: bytes, begin: int, end: int) -> int:
    """Return where instructions of two zero bytes (ADD [EAX], AL) that begin at `begin` are over, at most `end`.

    The rest of a program's last page is mostly zeros; decoding them took most of the time of short runs.
    """
    found = ZEROS.match(code, begin, end)
    return found.end() if found else begin


class Block(ctypes.Structure):
    """`uc_tb`."""

    _fields_ = [("pc", ctypes.c_uint64), ("icount", ctypes.c_uint16), ("size", ctypes.c_uint16)]


class Run(NamedTuple):
    """Code up to a transfer of control, and how many bytes of it the decoder knows."""

    code: bytes
    decoded: int


EDGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Block), ctypes.c_void_p, ctypes.c_void_p)
Scan = Callable[[int, bytes, int], None]
# The engine cuts a block after 512 instructions, after 4,000 of its own, or when its host code would exceed 64 KiB.
CUT = 64  # instructions; no block is cut after fewer, unless
CUT_EARLY = 8  # there are PUSHA, POPA or ENTER among them
LARGE = (b"\x60", b"\x61", b"\xc8")
RUNS = 256  # beginnings of slices whose code is remembered
LONGEST = 15  # bytes of an instruction
AT_ONCE = 8  # instructions
ZEROS = re.compile(rb"(?:\x00\x00)+")
TRANSFERS = ("j", "call", "ret", "loop", "ljmp", "lcall", "iret")  # mnemonics that end every block
WRITE = UC_CTL_IO_WRITE << 30
WORD = 0xFFFF_FFFF


class Translations:
    """The engine's caches of code and of page tables."""

    def __init__(self, cpu: Cpu, paging: Paging, control: Control, scan: Scan) -> None:
        """`scan(linear address, bytes, decoded)` sees all code that is translated.

        It is one block, or blocks up to a transfer of control.  After `decoded` bytes any byte may begin one.
        """
        self.cpu = cpu
        self.paging = paging
        self.control = control
        self.state = control.state
        self.scan = scan
        self.runs: dict[int, Run] = {}  # code that was found to follow linear addresses, up to a transfer
        self.low_pages = paging.ram.low_size >> PAGE_SHIFT
        self.pages: set[int] = set()  # physical page numbers that code was translated from
        self.stale: set[int] = set()
        self.all_stale = False
        self.flushed: Callable[[], None] = lambda: None  # told that all translations of code are gone
        self.filled = True  # there may be translations of addresses: the engine has run since they were forgotten
        self.news = 0  # changes whenever code is translated or forgotten
        self.edges = True  # whether the engine reports new blocks; else the clock calls `note_block`
        self._callback = EDGE(self._generated)
        add_hook(cpu.handle.value, UC_HOOK_EDGE_GENERATED, address_of(self._callback), 0, 1, 0)

    def _generated(self, _uc: int, block: ctypes._Pointer[Block], _previous: int, _data: int) -> None:
        self.news += 1
        if not self.edges:
            return
        try:
            made = block.contents
            self.note(made.pc, made.size, made.icount)
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.control.fail(error)

    def begin(self, eip: int) -> None:
        """The engine is about to begin at `eip`, an offset in CS: note the first block, which it never reports.

        Where it was stopped, the instruction belongs to a block that is known, and the code after that block up to a
        transfer of control is known as well (`note`). Elsewhere the code is read from memory.  The engine is not asked
        for the block: it would translate it outside of its own loop, and there it cannot empty a buffer that is full
        (docs/emulator-notes.md, "Translated code").
        """
        if eip == self.state.stop_address or not self.edges:
            return
        base, cpl, mode = self.cpu.fetching()
        linear = eip + base & 0xFFFF_FFFF
        try:
            physical = self.paging.translate(linear, user=cpl == 3, write=False, fetch=True, mode=mode)
        except PageFault:
            return
        known = self.runs.get(linear)
        if known is None or not self._still(known, linear, physical):
            known = self._run(linear, mode)
        self.scan(linear, known.code, known.decoded)

    def _still(self, known: Run, linear: int, physical: int) -> bool:
        """Whether code within one page is what it was found to be, and remember the page; False if it is not known."""
        size = len(known.code)
        if not 0 < size <= PAGE_SIZE - linear % PAGE_SIZE or physical + size > self.paging.ram.low_size:
            return False
        self.pages.add(physical >> PAGE_SHIFT)
        return bytes(self.paging.ram.low[physical : physical + size]) == known.code

    def note_block(self, linear: int, size: int, made_from: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
        """Note a block that is about to be executed for the first time; return its code, and its physical pages.

        `made_from` are the pages of which the engine says that it was made of them, none if it was not made of RAM.
        """
        self.news += 1
        if len(made_from) == 1 and linear % PAGE_SIZE + size <= PAGE_SIZE and made_from[0] < self.low_pages:
            begin = (made_from[0] << PAGE_SHIFT) + linear % PAGE_SIZE  # nearly always
            code = bytes(self.paging.ram.low[begin : begin + size])
            self.pages.add(made_from[0])
            self.scan(linear, code, size)
            return code, made_from
        mode = self.paging.mode()
        begin, code, pages = linear, b"", []
        while size > 0:
            room = min(size, PAGE_SIZE - begin % PAGE_SIZE)
            try:
                physical = self.paging.translate(begin & WORD, user=False, write=False, mode=mode)
                code += self.paging.ram.read(physical, room, Account.MACHINE)
            except (PageFault, DmaError):
                break
            pages.append(physical >> PAGE_SHIFT)
            begin, size = begin + room, size - room
        self.pages.update(pages)
        self.scan(linear, code, len(code))
        return code, tuple(pages)

    def note(self, linear: int, size: int, instructions: int, mode: Mode | None = None) -> None:
        """Note a block that is translated; `mode` saves asking for it.

        A block of many instructions may have been cut by the engine, which takes up to 512 and fewer if they make
        much host code.  Code that continues at one of its instructions is translated up to where it would have been
        cut, so all the code is noted that can be reached without a transfer of control.
        """
        mode = mode or self.paging.mode()
        code = self._fetch(linear, size, mode)
        if instructions < CUT_EARLY and linear % PAGE_SIZE + size < PAGE_SIZE:  # most blocks
            self.scan(linear, code, size)
            return
        cut = instructions >= CUT or (instructions >= CUT_EARLY and any(map(code.__contains__, LARGE)))
        if cut or (linear + size ^ linear) >= PAGE_SIZE:
            known = self.runs.get(linear + size)
            tail = self._run(linear + size, mode)
            if tail is not known:  # unchanged code was scanned before
                self.scan(linear + size, *tail)
        self.scan(linear, code, size)

    def _run(self, linear: int, mode: Mode) -> Run:
        """Return the code from `linear` to the first transfer of control, at most to the end of the fourth page.

        It continues into the next page because the engine does not report a block that is entered across the end of a
        page.
        """
        known = self.runs.get(linear)
        if known is not None and self._fetch(linear, len(known.code), mode) == known.code:
            return known
        for pages in (1, 2, 4):
            room = pages * PAGE_SIZE - linear % PAGE_SIZE
            code = self._fetch(linear, room + LONGEST, mode, note=False)
            size, decoded = straight(code, room)
            if size < room:
                break
        if len(self.runs) >= RUNS:
            self.runs.clear()
        known = self.runs[linear] = Run(self._fetch(linear, size, mode), decoded)  # and remember its pages
        return known

    def _fetch(self, linear: int, size: int, mode: Mode, *, note: bool = True) -> bytes:
        """Return code as far as it is mapped to RAM, and remember the pages that it came from."""
        if 0 < size <= PAGE_SIZE - linear % PAGE_SIZE:  # nearly always
            return self._fetch_piece(linear, size, mode, note=note) or b""
        code = b""
        while size > 0:
            room = min(size, PAGE_SIZE - linear % PAGE_SIZE)
            piece = self._fetch_piece(linear, room, mode, note=note)
            if piece is None:
                break
            code += piece
            linear, size = linear + room, size - room
        return code

    def _fetch_piece(self, linear: int, size: int, mode: Mode, *, note: bool) -> bytes | None:
        """Return code of one page, None if the page is not mapped to RAM."""
        try:
            physical = self.paging.translate(linear, user=False, write=False, mode=mode)
            code = self.paging.ram.read(physical, size, Account.MACHINE)
        except (PageFault, DmaError):
            return None
        if note:
            self.pages.add(physical >> PAGE_SHIFT)
        return code

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
        """Between two instructions: drop translations of code that was changed."""
        if self.all_stale:
            self.all_stale = False
            self.stale.clear()
            self.flush_code()
        elif self.stale:
            stale, self.stale = self.stale, set()
            self.forget(stale)

    def forget(self, pages: set[int]) -> None:
        """Forget code of physical pages; not while an instruction executes.

        The engine forgets by linear address.  So paging is turned off for a moment, which makes low
        physical addresses linear ones; for pages above 4 GiB all translations are dropped.
        """
        self.state.stop_address = NOWHERE
        self.news += 1
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

    def flush_code_soon(self) -> None:
        """Forget all translations of code before the next instruction: a hook was added that they do not call."""
        self.all_stale = True
        self.control.stop_soon()

    def flush_code(self) -> None:
        """Forget all translations of code; not while an instruction executes."""
        self.news += 1
        uclib.uc_ctl(self.cpu.handle, ctypes.c_int(UC_CTL_TB_FLUSH | WRITE))
        self.state.stop_address = NOWHERE
        self.pages.clear()
        self.runs.clear()
        self.flushed()

    def flush_tlb(self) -> None:
        """Forget all translations of addresses."""
        self.filled = self.control.running  # then there will be others at once
        uclib.uc_ctl(self.cpu.handle, ctypes.c_int(UC_CTL_TLB_FLUSH | WRITE))
