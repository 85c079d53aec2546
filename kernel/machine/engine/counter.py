"""The exact clock: every retired instruction is counted, at next to no cost, by a hook in host code.

Unicorn calls a code hook before each instruction.  Ours is a dozen instructions of x86-64 in an
executable page: it stops the engine before the instruction that would pass the limit, else counts it,
by the gigabyte it lies in (the fourth is the kernel's, ring 0), counts changes between the kernel's
gigabyte and the others, and keeps its address, so that port and memory hooks know EIP at no cost.

A string instruction with REP is called for, and counts, once an iteration.  An attempt that faults is
called for as well; `Traps` uncounts it, since it has not retired.  So is one that the engine breaks off
because the store hits code that it has translated, to translate again and repeat it: two calls in a row for the same
address are examined (`machine.engine.repeats`), unless the instruction is known to follow itself.

Memory above 4 GiB, where the blocks of disks lie, is given to the engine as a device whose loads and stores are host
code too (`LOAD_TEMPLATE`, `STORE_TEMPLATE`): they move the bytes and count them by the running code.  A memory hook
would count as well, but with one in place the engine takes every load of every program the slow way; this way only
those loads are slower that touch such memory.  The count is of bytes that cross the bus, and the engine makes two
aligned loads of one that is not aligned, so that one counts twice.

Where host code cannot be made (another processor, no executable memory), `PythonCounter` does the same
in Python, some twenty times slower; a test compares the two.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from callgate.kernel.abi.memory import PAGE_SHIFT
from callgate.kernel.machine.engine.counter_code import COUNT_CODE, LOAD_CODE, STORE_CODE
from callgate.kernel.machine.engine.counter_state import EFLAGS_IF, FILE_BYTES, FLAGS, NEVER, NOWHERE, CounterState
from callgate.kernel.machine.engine.repeats import REPEAT_SLOTS, Repeats
from callgate.kernel.machine.engine.sites import (
    ALIGNED,
    ALWAYS,
    COMPUTES,
    DISCARDED,
    DISCARDS,
    FLOATING,
    GATHERS,
    GATHERS_X87,
    LAST_TURN,
    LENGTHS,
    SITE_SLOTS,
    STACK,
    TURN,
    UNMASKED,
    Cell,
    Sites,
)
from callgate.kernel.machine.memory.ram import Region
from unicorn import UC_HOOK_CODE, UC_PROT_ALL
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

ZERO: Final = ctypes.c_uint64(0)
NO_COUNT: Final = ctypes.c_size_t(0)
NO_COUNTER: Final = ctypes.c_uint64()  # stands for the word of host code that reads none
UNKNOWN_FLAGS: Final = FLAGS()  # stands for the engine's own where they are not known
KERNEL_QUADRANT: Final = 3
LOAD_AT: Final = 1024  # where the second routine lies in the page
STORE_AT: Final = 1280
LOOKS: Final = {
    "always": ALWAYS,
    "special": FLOATING | TURN,
    "turn": TURN,
    "gathers": GATHERS,
    "discards": DISCARDS,
    "gathers_x87": GATHERS_X87,
    "aligned": ALIGNED,
    "unmasked": UNMASKED,
    "computes": COMPUTES,
    "lengths": LENGTHS,
    "last_turn": LAST_TURN,
    "stack_used": STACK,
    "discarded": DISCARDED,
}


def source_of(template: str) -> str:
    """Return the assembly source of a hook with offsets in place of names."""
    offsets = {name: getattr(CounterState, name).offset for name, *_ in CounterState._fields_}
    offsets |= {f"cell_{name}": getattr(Cell, name).offset for name, *_ in Cell._fields_}
    registers = {"eflags_id": x86.UC_X86_REG_EFLAGS, "edx_id": x86.UC_X86_REG_EDX}
    numbers = {"repeat_mask": REPEAT_SLOTS - 1, "page_shift": PAGE_SHIFT}
    return template.format(**registers, **LOOKS, **numbers, **offsets)


def native_available() -> bool:
    """Whether host code can be made: x86-64 Linux with its calling convention."""
    return sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64")


class ExecutablePage:
    """The hooks in memory that may be executed; OSError where the host forbids it."""

    def __init__(self) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=protection)
        self.page[0 : len(COUNT_CODE)] = COUNT_CODE
        self.page[LOAD_AT : LOAD_AT + len(LOAD_CODE)] = LOAD_CODE
        self.page[STORE_AT : STORE_AT + len(STORE_CODE)] = STORE_CODE
        self.count = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        self.load = self.count + LOAD_AT
        self.store = self.count + STORE_AT


@cache
def executable_page() -> ExecutablePage:
    """Return the one page of host code of this process."""
    return ExecutablePage()


def add_hook(uc: int, kind: int, function: int, data: int, begin: int, end: int) -> int:
    """Register a hook by address; `begin` > `end` means everywhere.  Return the engine's handle of it."""
    handle = ctypes.c_size_t()
    status = uclib.uc_hook_add(
        ctypes.c_void_p(uc),
        ctypes.byref(handle),
        ctypes.c_int(kind),
        ctypes.c_void_p(function),
        ctypes.c_void_p(data),
        ctypes.c_uint64(begin),
        ctypes.c_uint64(end),
    )
    if status:
        raise RuntimeError(f"uc_hook_add of kind {kind:#x} failed with {status}")
    return int(handle.value)


def start(handle: Any, eip: int) -> int:
    """Run an engine from an offset in CS until it stops; return its status."""
    return int(uclib.uc_emu_start(handle, ctypes.c_uint64(eip), ZERO, ZERO, NO_COUNT))


def map_device(uc: int, region: Region, load: int, store: int, data: int) -> None:
    """Have loads and stores of a region's addresses answered by functions in host code."""
    base, size = ctypes.c_uint64(region.base), ctypes.c_size_t(region.size)
    engine, pointer = ctypes.c_void_p(uc), ctypes.c_void_p
    status = uclib.uc_mmio_map(engine, base, size, pointer(load), pointer(data), pointer(store), pointer(data))
    status = status or uclib.uc_mem_protect(engine, base, size, ctypes.c_uint32(UC_PROT_ALL))
    if status:
        raise RuntimeError(f"{region.name} memory, {region.size} bytes, cannot be mapped: error {status}")


def address_of(function: object) -> int:
    """Return the address of a ctypes function."""
    address = ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]  # any function object
    assert address is not None
    return address


def new_state() -> CounterState:
    """Return a state that never stops, at the start of ring 0."""
    state = CounterState(limit=NEVER, hard_limit=NEVER, in_kernel=1, last_address=NOWHERE, stored_at=NOWHERE)
    state.stop = address_of(uclib.uc_emu_stop)
    state.reg_read = address_of(uclib.uc_reg_read)
    state.late_flags = state.resume_flag = ctypes.addressof(UNKNOWN_FLAGS)
    state.counts_at = ctypes.addressof(NO_COUNTER)
    return state


class ByInstruction:
    """What the run loop asks of a clock, for one that is always exact."""

    patience = 0  # instructions still to be executed one by one before the clock goes by blocks
    cpu: Any

    def connect(self, cpu: Any, translations: Any) -> None:
        """Take the CPU and the caches of translations of the machine, which are made after the clock."""
        del translations
        self.cpu = cpu

    def execute(self, handle: Any) -> int:
        """Run the engine from EIP until it stops; return its status."""
        return start(handle, self.cpu.eip)

    def restored(self) -> None:
        """The machine has gone back to a snapshot."""

    def left(self, linear: int | None, *, attempted: bool = True) -> None:
        """The block that executes has ended: after its last instruction (None), or at a linear address."""

    def refuses(self) -> bool:
        """Whether a device is not to be asked now, since the instruction will be executed again."""
        return False

    def broken_off(self) -> bool:
        """Whether an exception is of no account, since the instruction will be executed again."""
        return False


class NativeCounter(ByInstruction):
    """The hook in host code."""

    native = True

    def __init__(self, uc: int, fail: Callable[[BaseException], None]) -> None:
        """Count on the engine with raw handle `uc`; exceptions of site functions go to `fail`."""
        self.uc = uc
        self.page = executable_page()
        self.state = new_state()
        self.sites = Sites(self.state, fail)
        self.repeats = Repeats(self.state, fail)
        self.hook = add_hook(uc, UC_HOOK_CODE, self.page.count, ctypes.addressof(self.state), 1, 0)

    def serve(self, region: Region) -> None:
        """Give the engine a region of RAM, and count the bytes that the CPU loads and stores there, by ring."""
        self.state.high_memory, self.state.high_marks = region.address, region.marks_at
        self.state.high_marked = region.marks_at + len(region.marks) - 1
        map_device(self.uc, region, self.page.load, self.page.store, ctypes.addressof(self.state))


CODE_HOOK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p)
LOAD = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_void_p)
STORE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p)


class PythonCounter(ByInstruction):
    """The same hooks as Python callbacks."""

    native = False

    def __init__(self, uc: int, fail: Callable[[BaseException], None]) -> None:
        """Count on the engine with raw handle `uc`; exceptions of site functions go to `fail`."""
        self.uc = uc
        self.state = new_state()
        self.sites = Sites(self.state, fail)
        self.repeats = Repeats(self.state, fail)
        self.eflags = ctypes.c_uint64()
        self.callbacks: list[object] = []
        callback = CODE_HOOK(self._count)
        self.callbacks.append(callback)
        add_hook(self.uc, UC_HOOK_CODE, address_of(callback), 0, 1, 0)

    def _count(self, uc: int, address: int, _size: int, _data: int) -> None:
        """Follow `COUNT_TEMPLATE`, label by label."""
        state = self.state
        if address == state.last_address and not self.repeats.known(address):
            self.repeats.judge(address)
        if state.count >= state.limit and (
            not state.armed or state.count >= state.hard_limit or self._interruptible(uc)
        ):
            self._stop(uc, address)
            return
        fresh = state.count != state.site_done or address != state.site_address
        if fresh and self.sites.map[address & SITE_SLOTS - 1]:
            if self.sites.holds(address):
                state.site_done = state.count
                state.site_address = address
                self.sites.serve(address)
            if state.count >= state.limit and not state.armed:
                self._stop(uc, address)
                return
        resume = ctypes.c_uint8.from_address(state.resume_flag)
        if resume.value & 1:
            resume.value &= ~1
        flags = FLAGS.from_address(state.late_flags)
        state.flags_source, state.flags_kind = flags[0], flags[2]
        state.count += 1
        state.last_address = address
        quadrant = (address & 0xFFFF_FFFF) >> 30
        state.quadrants[quadrant] += 1
        kernel = int(quadrant == KERNEL_QUADRANT)
        if kernel != state.in_kernel:
            state.in_kernel = kernel
            state.ring_changes += 1

    def _interruptible(self, uc: int) -> bool:
        uclib.uc_reg_read(ctypes.c_void_p(uc), x86.UC_X86_REG_EFLAGS, ctypes.byref(self.eflags))
        return bool(self.eflags.value & EFLAGS_IF)

    def _stop(self, uc: int, address: int) -> None:
        self.state.stopped = 1
        self.state.stop_address = address
        uclib.uc_emu_stop(ctypes.c_void_p(uc))

    def serve(self, region: Region) -> None:
        """Follow `LOAD_TEMPLATE` and `STORE_TEMPLATE`."""
        state = self.state
        view = region.view

        def count(size: int) -> None:
            name = FILE_BYTES[0 if state.in_kernel else state.user_kind]
            setattr(state, name, getattr(state, name) + size)

        def load(_uc: int, offset: int, size: int, _data: int) -> int:
            count(size)
            return int.from_bytes(view[offset : offset + size], "little")

        def store(_uc: int, offset: int, size: int, value: int, _data: int) -> None:
            count(size)
            region.mark(offset, size)
            if state.stored_at != state.count:
                state.stored_at, state.stored = state.count, 0
            state.stored += size
            view[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

        callbacks = LOAD(load), STORE(store)
        self.callbacks.extend(callbacks)
        map_device(self.uc, region, address_of(callbacks[0]), address_of(callbacks[1]), 0)
