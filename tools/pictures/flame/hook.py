"""A code hook that calls Python only where the routine may change: at other instructions it is some host code.

Python says of each address, once, which routine it belongs to and whether its instruction calls or returns.  As long as
instructions of the same routine follow each other, and none of them calls or returns, nothing needs to be noted: what
they retire is the difference of two readings of the clock.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import cache
from typing import Final

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.engine.counter import CODE_HOOK, add_hook, address_of, native_available
from callgate.kernel.machine.engine.counter_state import CounterState
from unicorn import UC_HOOK_CODE

REGION_SHIFT: Final = 22
REGIONS: Final = 1 << 32 - REGION_SHIFT
PAGES: Final = 1 << REGION_SHIFT - PAGE_SHIFT
NEVER: Final = 0xFFFF_FFFC  # no routine has this number
KINDS: Final = 3  # the bits of an entry that say what an instruction does; the others are its routine
Page = ctypes.c_uint32 * PAGE_SIZE
Region = ctypes.c_uint64 * PAGES


class HookState(ctypes.Structure):
    """What the hook reads and writes.

    `routine` is that of the instruction before, as entries have it, or NEVER if that one called or returned; `kind` is
    what it did.
    """

    _fields_ = [
        ("routine", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("regions", ctypes.c_uint64),
        ("counter", ctypes.c_uint64),
        ("callback", ctypes.c_uint64),
    ]


# hook(rdi=uc, rsi=address, edx=size, rcx=state), as Unicorn calls it; Python is called with the same arguments.
TEMPLATE: Final = """
    mov r8, [rcx+{counter}]
    cmp byte ptr [r8+{stopped}], 0
    jne done
    mov eax, esi
    shr eax, 22
    mov r8, [rcx+{regions}]
    mov r8, [r8+rax*8]
    test r8, r8
    jz python
    mov eax, esi
    shr eax, 12
    and eax, 1023
    mov r8, [r8+rax*8]
    test r8, r8
    jz python
    mov eax, esi
    and eax, 4095
    mov eax, [r8+rax*4]
    test eax, eax
    jz python
    mov r9d, eax
    and r9d, -4
    cmp r9d, [rcx+{routine}]
    jne python
    and eax, 3
    mov [rcx+{kind}], eax
    jz done
    mov dword ptr [rcx+{routine}], -4
done:
    ret
python:
    jmp qword ptr [rcx+{callback}]
"""


@cache
def host_code() -> mmap.mmap:
    """Return an executable page with the hook; OSError where the host forbids it."""
    from keystone import KS_ARCH_X86, KS_MODE_64, Ks

    offsets = {name: getattr(HookState, name).offset for name, *_ in HookState._fields_}
    source = TEMPLATE.format(stopped=CounterState.stopped.offset, **offsets)
    code, _ = Ks(KS_ARCH_X86, KS_MODE_64).asm(source, as_bytes=True)
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page[: len(code)] = code
    return page


class Places:
    """The entries of one address space: (routine, kind) of each address that was executed."""

    def __init__(self) -> None:
        self.regions = (ctypes.c_uint64 * REGIONS)()
        self.parts: dict[int, ctypes.Array[ctypes.c_uint64]] = {}
        self.pages: dict[int, ctypes.Array[ctypes.c_uint32]] = {}

    def __getitem__(self, address: int) -> int:
        page = self.pages.get(address >> PAGE_SHIFT)
        return int(page[address % PAGE_SIZE]) if page is not None else 0

    def __setitem__(self, address: int, entry: int) -> None:
        number = address >> PAGE_SHIFT
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = Page()
            part = self.parts.setdefault(number // PAGES, Region())
            part[number % PAGES] = ctypes.addressof(page)
            self.regions[number // PAGES] = ctypes.addressof(part)
        page[address % PAGE_SIZE] = entry


class Hook:
    """The hook of one engine that has executed nothing yet; `native` is whether it is host code."""

    def __init__(self, uc: int, counter: CounterState, look: Callable[[int], None], *, native: bool = True) -> None:
        """Call `look(address)` before each instruction at which the routine may change."""
        self.counter = counter
        self.look = look
        self.native = native and native_available()
        self.callback = CODE_HOOK(self._called)
        self.state = HookState(NEVER, 0, 0, ctypes.addressof(counter), address_of(self.callback))
        function = self.state.callback
        if self.native:
            function = ctypes.addressof(ctypes.c_char.from_buffer(host_code()))
        counter.watched += 1
        add_hook(uc, UC_HOOK_CODE, function, ctypes.addressof(self.state), 1, 0)

    def _called(self, _uc: int, address: int, _size: int, _data: int) -> None:
        if not self.counter.stopped:  # else the instruction comes again when the engine goes on
            self.look(address)

    def show(self, places: Places) -> None:
        """Look addresses up in another address space from now on."""
        self.state.regions = ctypes.addressof(places.regions)
        self.state.routine = NEVER

    def note(self, entry: int) -> None:
        """Note the instruction that is about to execute."""
        kind = entry & KINDS
        self.state.kind = kind
        self.state.routine = NEVER if kind else entry & ~KINDS
