"""Accesses of plain blocks to high memory and to memory without code, in host code of ours.

The engine looks an address up in its TLB within the block's own code, and calls a routine of its own for what is not
there or has a mark.  Marked are high memory, which is a device that counts (`machine.engine.counter`), and every page
of memory for stores, since code may have been translated from it.  That routine takes some 45 ns.  So in plain blocks
its calls are led to host code that does the two usual things itself, in a tenth of that: it moves and counts bytes of
high memory, and stores into pages from which no code was translated.  All else it leaves to the engine's routine.

Such a page then loses its mark, so that further stores into it take the engine's fast way, in all blocks.  When code is
translated from it, which is known before that executes, it is marked again.

It relies on the form of such calls and of the TLB, which is looked at once in a process.  Where that is otherwise, or
the host code would be out of reach of a call, blocks stay as the engine has made them.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.blocks.access_code import CODE_AT, LOAD_CODE, SIZES, STEP, STORE_CODE, AccessState
from callgate.kernel.machine.blocks.file_loads import STUB, STUBS, WORD, FileLoads
from callgate.kernel.machine.blocks.known_checks import check, exit_word, leave_out
from callgate.kernel.machine.blocks.known_tables import calls, mark_again, originals, tables_are_known
from callgate.kernel.machine.engine.counter import NO_COUNTER
from callgate.kernel.machine.engine.counter_state import count_for

if TYPE_CHECKING:
    from callgate.kernel.machine.blocks.translated import Translated
    from callgate.kernel.machine.engine.counter_state import CounterState
    from callgate.kernel.machine.memory.ram import Region

REACH: Final = 1 << 31
LIKELY: Final = (1 << 24, 1 << 30, 5 << 28)  # how far from a block there may be room
EXECUTABLE: Final = 7
PRIVATE_ANONYMOUS: Final = 0x22
NEVER_NEGATIVE: Final = ctypes.c_int32(0)
STUBS_AT: Final = CODE_AT + PAGE_SIZE
ROOM: Final = STUBS_AT + STUBS * (STUB + WORD)  # bytes for the state, the routines, and stubs with their words
R11: Final = b"\x49\xbb"  # MOV R11, and 8 bytes

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
FAILED: Final = ctypes.c_void_p(-1).value


def page_near(address: int) -> int:
    """Return `ROOM` bytes of new memory that may be executed; 0 without any.

    It lies within the reach of a call from `address` if possible.
    """
    for away in (None, *(-away for away in LIKELY), *LIKELY):
        hint = None if away is None else max(0, address + away & -PAGE_SIZE)
        page = _libc.mmap(hint, ROOM, EXECUTABLE, PRIVATE_ANONYMOUS, -1, 0)
        if page in (None, FAILED):
            return 0
        if abs(page - address) < REACH - (1 << 28):
            return int(page)
        if away != LIKELY[-1]:
            _libc.munmap(page, ROOM)
    return int(page)


def _give_back(page: int, counter: CounterState) -> None:
    counter.counts_at = ctypes.addressof(NO_COUNTER)
    _libc.munmap(page, ROOM)


class Engine(NamedTuple):
    """Addresses of an engine, and of its own record of its CPU."""

    uc: int
    cpu: int


class Accesses:
    """The host code of one machine, made when the first block wants it."""

    def __init__(
        self, counter: CounterState, engine: Engine, regions: list[Region], fail: Callable[[BaseException], None]
    ) -> None:
        """Take the state of the clock, the engine, and the machine's memory; exceptions go to `fail`."""
        self.counter = counter
        self.engine = engine
        self.low, *self.high = regions
        self.fail = fail
        self.code_pages = bytearray(self.low.size >> PAGE_SHIFT)
        self.page = 0  # its address; 0: none yet
        self.checked = False  # it makes the engine's checks
        self.useless = False
        self.file_loads: FileLoads | None = None
        self.held = (ctypes.c_char * len(self.code_pages)).from_buffer(self.code_pages)

    def translated(self, block: Translated) -> None:
        """Code was translated from the pages of a block."""
        for page in block.pages:
            if page < len(self.code_pages) and not self.code_pages[page]:
                self.code_pages[page] = 1
                if self.page:
                    mark_again(self.engine.cpu, self.low.address + (page << PAGE_SHIFT))

    def forget(self) -> None:
        """All translations are gone."""
        self.code_pages[:] = bytes(len(self.code_pages))
        if self.file_loads is not None:
            self.file_loads.forget()

    def lead(self, block: Translated) -> None:
        """Lead the calls of a block for loads and stores to the host code here."""
        if self.useless:
            return
        host, all_led = ctypes.string_at(block.code, block.length), True
        for call in calls(host, block.code):
            if not self._ready(block.code):
                return
            routine = self.page + CODE_AT + (call.stores * len(SIZES) + call.width) * STEP
            relative = routine - block.code - call.end
            if call.slot is not None:
                ctypes.c_uint64.from_address(block.code + call.slot).value = routine
            elif abs(relative) < REACH:
                ctypes.c_int32.from_address(block.code + call.at).value = relative
            else:
                all_led = False
        if self.page and all_led and self.checked:
            leave_out(block, host, self.engine.uc)

    def _ready(self, near: int) -> bool:
        """Whether there is host code; it is made now if there is none yet."""
        if not self.page:
            self.page = page_near(near) if tables_are_known() else 0
            if not self.page:
                self.useless = True
                return False
            unmapping = weakref.finalize(self, _give_back, self.page, self.counter)
            unmapping.atexit = False  # the engine may go later
            self._fill(self.page)
        return True

    def _fill(self, page: int) -> None:
        state = AccessState.from_address(page)
        for high in self.high:
            state.window_base, state.window_size, state.window_host = high.base, high.size, high.address
        state.memory, state.memory_size = self.low.address, self.low.size
        state.exit_at, state.check = exit_word(*self.engine), check()
        state.uc = self.engine.uc
        self.checked = bool(state.exit_at)
        if not self.checked:
            state.exit_at = ctypes.addressof(NEVER_NEGATIVE)
        state.code_pages, state.clock = ctypes.addressof(self.held), ctypes.addressof(self.counter)
        self.file_loads = FileLoads(state, page + STUBS_AT, self.fail)
        self.counter.counts_at = page + AccessState.counter.offset
        count_for(self.counter, self.counter.user_kind)
        for address, (stores, index) in originals().items():
            (state.stores if stores else state.loads)[index] = address
            code = R11 + struct.pack("<Q", page) + (STORE_CODE if stores else LOAD_CODE)[index]
            ctypes.memmove(page + CODE_AT + (stores * len(SIZES) + index) * STEP, code, len(code))
