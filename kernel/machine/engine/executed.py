"""Which instructions were executed, and which way conditional jumps went: the data of a coverage report.

A hook of its own, added only on request.  Code is watched through a `Sheet`, a byte for each address of one
image and, at its conditional jumps, the target; `Executed` finds the sheet of an address by 4 MiB and by page, so that
another program at the same addresses is shown by changing one pointer.  A jump's direction is known when the next
instruction comes: at the target or after the jump. An exception or an interrupt in between is ignored.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from functools import cache
from typing import Final

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.engine.counter import CODE_HOOK, add_hook, address_of, native_available
from callgate.kernel.machine.engine.counter_state import CounterState
from unicorn import UC_HOOK_CODE

RAN, TAKEN, PASSED = 1, 2, 4  # bits of a byte: executed, jumped, continued after the jump
REGION_SHIFT: Final = 22
REGIONS: Final = 1 << 32 - REGION_SHIFT
PAGES: Final = 1 << REGION_SHIFT - PAGE_SHIFT
Region = ctypes.c_uint64 * PAGES


class Page(ctypes.Structure):
    """The record of one page of code."""

    _fields_ = [("flags", ctypes.c_uint8 * PAGE_SIZE), ("targets", ctypes.c_uint32 * PAGE_SIZE)]


class WatchState(ctypes.Structure):
    """What the hook reads and writes: the jump executed last, where it may lead, and the tables."""

    _fields_ = [
        ("pending", ctypes.c_uint64),  # address of its byte, 0 if there is none
        ("target", ctypes.c_uint64),
        ("following", ctypes.c_uint64),
        ("regions", ctypes.c_uint64),
        ("counter", ctypes.c_uint64),
    ]


# hook(rdi=uc, rsi=address, edx=size, rcx=state).  While the counter stops the engine, the instruction is not executed.
WATCH_TEMPLATE: Final = """
    mov rax, [rcx+{pending}]
    test rax, rax
    jnz settle
look:
    mov r8, [rcx+{counter}]
    cmp byte ptr [r8+{stopped}], 0
    jne done
    mov eax, esi
    shr eax, 22
    mov r8, [rcx+{regions}]
    mov r8, [r8+rax*8]
    test r8, r8
    jz done
    mov eax, esi
    shr eax, 12
    and eax, 1023
    mov r8, [r8+rax*8]
    test r8, r8
    jz done
    mov eax, esi
    and eax, 4095
    or byte ptr [r8+rax], 1
    mov r9d, [r8+rax*4+4096]
    test r9d, r9d
    jz done
    add rax, r8
    mov [rcx+{pending}], rax
    mov [rcx+{target}], r9
    add edx, esi
    mov [rcx+{following}], rdx
done:
    ret
settle:
    mov qword ptr [rcx+{pending}], 0
    mov r9d, esi
    cmp r9, [rcx+{target}]
    je taken
    cmp r9, [rcx+{following}]
    jne look
    or byte ptr [rax], 4
    jmp look
taken:
    or byte ptr [rax], 2
    jmp look
"""


def source_of(template: str) -> str:
    """Return the assembly source of the hook with offsets in place of names."""
    offsets = {name: getattr(WatchState, name).offset for name, *_ in WatchState._fields_}
    return template.format(stopped=CounterState.stopped.offset, **offsets)


# What GNU as and Keystone make of the source above; a test assembles it again.
WATCH_CODE: Final = bytes.fromhex(
    "488b014885c0755a4c8b41204180787000754e89f0c1e8164c8b41184d8b04c04d85c0743c89f0c1e80c25ff0300004d"
    "8b04c04d85c0742989f025ff0f000041800c0001458b8c80001000004585c974104c01c04889014c89490801f2488951"
    "10c348c701000000004189f14c3b4908740b4c3b49107590800804eb8b800802eb86"
)


@cache
def executable_page() -> tuple[mmap.mmap, int]:
    """Return a page with the hook, and its address; OSError where the host forbids it."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page[: len(WATCH_CODE)] = WATCH_CODE
    return page, ctypes.addressof(ctypes.c_char.from_buffer(page))


class Sheet:
    """What was executed of one image, wherever and however often it is loaded."""

    def __init__(self, jumps: Mapping[int, int], ranges: list[range]) -> None:
        """`ranges` are the linear addresses of code, `jumps` the targets of conditional jumps by address."""
        self.pages: dict[int, Page] = {}
        self.regions: dict[int, ctypes.Array[ctypes.c_uint64]] = {}
        for run in ranges:
            for number in range(run.start >> PAGE_SHIFT, (run.stop - 1 >> PAGE_SHIFT) + 1):
                self._page(number)
        for address, target in jumps.items():
            self._page(address >> PAGE_SHIFT).targets[address % PAGE_SIZE] = target

    def _page(self, number: int) -> Page:
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = Page()
            at = number >> REGION_SHIFT - PAGE_SHIFT
            region = self.regions.setdefault(at, Region())
            region[number % PAGES] = ctypes.addressof(page)
        return page

    def flags(self, address: int) -> int:
        """Return RAN, TAKEN and PASSED of the instruction at a linear address."""
        page = self.pages.get(address >> PAGE_SHIFT)
        return int(page.flags[address % PAGE_SIZE]) if page is not None else 0


class Executed:
    """The hook of one machine."""

    def __init__(self, uc: int, counter: CounterState, *, native: bool) -> None:
        """Watch the engine with raw handle `uc`, before it has executed anything."""
        self.regions = (ctypes.c_uint64 * REGIONS)()
        self.counter = counter
        self.state = WatchState(regions=ctypes.addressof(self.regions), counter=ctypes.addressof(counter))
        self.shown: dict[int, Sheet] = {}  # by region
        self.callback = None if native else CODE_HOOK(self._watch)
        hook = executable_page()[1] if self.callback is None else address_of(self.callback)
        counter.watched += 1
        add_hook(uc, UC_HOOK_CODE, hook, ctypes.addressof(self.state), 1, 0)

    def show(self, sheet: Sheet) -> None:
        """Watch an image from now on, in place of the images watched in its regions."""
        for number, region in sheet.regions.items():
            self.regions[number] = ctypes.addressof(region)
            self.shown[number] = sheet

    def hide(self, sheet: Sheet) -> None:
        """Watch an image no longer."""
        for number in sheet.regions:
            if self.shown.get(number) is sheet:
                self.regions[number] = 0
                del self.shown[number]

    def _watch(self, _uc: int, address: int, size: int, _data: int) -> None:
        """Follow `WATCH_TEMPLATE`."""
        state = self.state
        if state.pending:
            byte, state.pending = state.pending, 0
            bit = TAKEN if address == state.target else PASSED if address == state.following else 0
            ctypes.c_uint8.from_address(byte).value |= bit
        sheet = self.shown.get(address >> REGION_SHIFT)
        page = sheet.pages.get(address >> PAGE_SHIFT) if sheet is not None and not self.counter.stopped else None
        if page is None:
            return
        at = address % PAGE_SIZE
        page.flags[at] |= RAN
        if page.targets[at]:
            state.pending = ctypes.addressof(page) + at
            state.target, state.following = page.targets[at], address + size


def watch(uc: int, counter: CounterState, *, native: bool) -> Executed:
    """Return a hook in host code if `native` and possible, else in Python."""
    return Executed(uc, counter, native=native and native_available())
