"""Watchpoints: a run ends after an access to a linear range of an address space.

Accesses of the CPU are seen by memory hooks of the engine, which see physical addresses: the range is translated when
the watchpoint is added, and again after each host call, since policy edits page tables.  What policy (a host call) or a
device (DMA) writes there passes by the CPU; it is found by comparing the bytes, and reported as what it is.

Hooks make every load and store of every program slower, so there are some only while there is a watchpoint.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.cpu.exceptions import name_of
from callgate.kernel.machine.engine.counter import address_of
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.outside import SetUp, Write
from callgate.tools.debugger.target.target import BY_TEST, BY_USER
from unicorn import UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
from unicorn.unicorn_const import UC_MEM_WRITE
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine import Machine
    from callgate.kernel.machine.devices.ports import HostFunction
    from callgate.kernel.machine.memory.outside import Outside
    from callgate.tools.debugger.debuggee.memory import Memory
    from callgate.tools.debugger.debuggee.world import World

ACCESS = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
)
REACH: Final = 15  # bytes before the range at which an access may begin that touches it (16 bytes: SSE)
HIT: Final = "debugger watchpoint"  # reason of the machine's stop; its detail is the Access


class Kind(StrEnum):
    """Which accesses end a run."""

    WRITE = "write"
    READ = "read"
    ACCESS = "access"


HOOKS: Final = {
    Kind.WRITE: UC_HOOK_MEM_WRITE,
    Kind.READ: UC_HOOK_MEM_READ,
    Kind.ACCESS: UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE,
}


@dataclass(frozen=True, slots=True)
class Access:
    """An access: `by` is "cpu", or in words what else has written; `eip` the instruction.

    `before` and `after` are the bytes of the whole watchpoint, if it has `told` or `condition`.
    """

    watchpoint: Watchpoint
    address: int
    size: int
    write: bool
    by: str
    eip: int
    before: bytes = b""
    after: bytes = b""


@dataclass(eq=False, slots=True)
class Watchpoint:
    """One watchpoint: `length` bytes from a linear address of the process of a number; 0 in the kernel's half."""

    kind: Kind
    address: int
    length: int
    process: int
    pieces: list[tuple[int, int, int]] = field(default_factory=list)  # (linear, physical, bytes) that are hooked
    hooks: list[int] = field(default_factory=list)
    bytes: bytes = b""  # as they were last seen
    hits: int = 0
    fixed: bool = False  # it watches the physical memory that `pieces` name, whatever is mapped where
    told: Callable[[Access], None] | None = None  # called instead of ending the run, before the instruction has ended
    condition: Callable[[Access], bool] | None = None  # whether an access ends the run

    def __repr__(self) -> str:
        return f"<{self.kind} watchpoint of {self.length} bytes at {self.address:#010x}, hit {self.hits} times>"


class Watchpoints:
    """The watchpoints of one target under a debugger."""

    def __init__(self, machine: Machine, world: World, memory: Memory) -> None:
        self.machine = machine
        self.world = world
        self.memory = memory
        self.known: list[Watchpoint] = []
        self.alive: list[object] = []  # the engine may call a hook that it was told to forget: code that it translated
        self.plain: dict[int, HostFunction] = {}  # host calls as they were, by port, while they are followed
        self.dma_watch: Callable[[int, int], None] | None = None
        self.answered_by = ""  # what answers host calls
        self.renewed: list[Callable[[], None]] = []  # called when what is watched may be elsewhere, or more
        self.renewing = False
        self.asleep = False  # what runs has been run, and nothing is looked for

    def add(self, kind: Kind, address: int, length: int, process: Process | None = None) -> Watchpoint:
        """Watch `length` bytes (1 and more) from a linear address; where memory is not shared it needs a process."""
        shared = self.world.shared(address)
        if process is None and not shared:
            raise ValueError(f"{address:#x} is an address of ring 3: name the process")
        if length < 1:
            raise ValueError("a watchpoint has at least one byte")
        return self._add(Watchpoint(kind, address, length, process.number if process and not shared else 0))

    def add_physical(
        self, kind: Kind, pieces: list[tuple[int, int, int]], told: Callable[[Access], None]
    ) -> Watchpoint:
        """Call `told` with each access to physical memory: (linear address to be shown, physical one, bytes) a piece.

        An access of the CPU that begins in another page is not seen.
        """
        return self._add(fixed_point(kind, pieces, told=told))

    def add_fixed(self, pieces: list[tuple[int, int, int]], condition: Callable[[Access], bool]) -> Watchpoint:
        """End a run after a write to physical memory for which a condition holds; `pieces` as in `add_physical`."""
        return self._add(fixed_point(Kind.WRITE, pieces, condition=condition))

    def _add(self, point: Watchpoint) -> Watchpoint:
        if not self.known:
            self._follow()
        self.known.append(point)
        if point.fixed:
            for linear, physical, size in point.pieces:
                reach = min(REACH, physical % PAGE_SIZE)
                point.hooks.append(self._hook(point, linear - reach, physical - reach, size + reach))
            self.machine.translations.flush_code_soon()
        self.renew()
        return point

    def remove(self, point: Watchpoint) -> None:
        """Remove a watchpoint, if it is still there."""
        if point not in self.known:
            return
        self.known.remove(point)
        self._unhook(point)
        if not self.known:
            self._leave()
        self.machine.translations.flush_code()  # code that was translated calls hooks

    def clear(self) -> None:
        """Remove all of them."""
        for point in list(self.known):
            self.remove(point)

    def renew(self) -> None:
        """Translate the ranges again, and take their present bytes as seen: before a run."""
        for point in self.known:
            self._place(point)
            point.bytes = self._bytes(point)
        self._tell_renewed()

    def _tell_renewed(self) -> None:
        """Let others add what is to be watched now; nothing that they add lets them add more."""
        if not self.renewing:
            self.renewing = True
            try:
                for told in list(self.renewed):
                    told()
            finally:
                self.renewing = False

    def _place(self, point: Watchpoint) -> None:
        """Hook the physical memory that a range lies in now."""
        if point.fixed:
            return
        process = self._process(point)
        first = max(point.address - REACH, 0)
        pieces = list(self._mapped(process, first, point.address + point.length - first)) if process else []
        if pieces == point.pieces:
            return
        self._unhook(point)
        point.pieces = pieces
        for linear, physical, size in pieces:
            point.hooks.append(self._hook(point, linear, physical, size))
        self.machine.translations.flush_code_soon()  # code that was translated before calls no hook

    def _mapped(self, process: Process, linear: int, length: int) -> list[tuple[int, int, int]]:
        """Return the pieces of a range that are mapped; there may be gaps."""
        pieces: list[tuple[int, int, int]] = []
        end = linear + length
        while linear < end:
            size = min(end - linear, PAGE_SIZE - linear % PAGE_SIZE)
            pieces.extend(self.memory.pieces(process, linear, size))
            linear += size
        return pieces

    def _hook(self, point: Watchpoint, linear: int, physical: int, size: int) -> int:
        def accessed(_uc: int, kind: int, address: int, width: int, value: int, _data: int) -> None:
            try:
                self._accessed(point, linear + address - physical, width, value if kind == UC_MEM_WRITE else None)
            except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
                self.machine.control.fail(error)

        callback = ACCESS(accessed)
        self.alive.append(callback)
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self.machine.handle,
            ctypes.byref(handle),
            ctypes.c_int(HOOKS[point.kind]),
            ctypes.c_void_p(address_of(callback)),
            None,
            ctypes.c_uint64(physical),
            ctypes.c_uint64(physical + size - 1),
        )
        if status:
            raise RuntimeError(f"uc_hook_add for a watchpoint failed with {status}")
        self.machine.state.watched += 1
        return int(handle.value)

    def _unhook(self, point: Watchpoint) -> None:
        for hook in point.hooks:
            uclib.uc_hook_del(self.machine.handle, ctypes.c_size_t(hook))
            self.machine.state.watched -= 1
        point.hooks, point.pieces = [], []

    def _accessed(self, point: Watchpoint, linear: int, width: int, value: int | None) -> None:
        """Report an access of the CPU; `value` is what it writes, None for a read."""
        if self.asleep:
            return
        if point not in self.known or linear + width <= point.address or linear >= point.address + point.length:
            return
        before = after = b""
        if point.told is not None or point.condition is not None:
            before = after = self._bytes(point)
            if value is not None:
                after = patched(before, linear - point.address, value.to_bytes(8, "little", signed=True)[:width])
                point.bytes = after  # what a device writes next is compared with it
        self._report(point, max(linear, point.address), width, "cpu", value is not None, before, after)

    def _report(
        self, point: Watchpoint, address: int, width: int, by: str, write: bool, before: bytes, after: bytes
    ) -> None:
        eip = int(self.machine.state.last_address) & 0xFFFF_FFFF
        access = Access(point, address, width, write, by, eip, before, after)
        if self.asleep or (point.condition is not None and not point.condition(access)):
            return
        point.hits += 1
        if point.told is not None:
            point.told(access)
        else:
            self.machine.request_stop(HIT, access)

    # What does not pass through the CPU.

    def _bytes(self, point: Watchpoint) -> bytes:
        if point.fixed:
            ram = self.machine.ram
            return b"".join(ram.read(physical, size, Account.OBSERVER) for _, physical, size in point.pieces)
        process = self._process(point)
        return self.memory.read(process, point.address, point.length) if process else b""

    def _process(self, point: Watchpoint) -> Process | None:
        """Return the record of a watchpoint's process, another one after a restore; None if there is none now."""
        return self.world.process(point.process)

    def _compare(self, by: str, *, ending: bool = True) -> None:
        """Report ranges whose bytes have changed though the CPU has not written them; translate them again.

        With `ending` false no run ends by it: only those that are told are.
        """
        for point in self.known:
            now = self._bytes(point)
            if now != point.bytes and point.kind is not Kind.READ and (ending or point.told is not None):
                changed = next(
                    (i for i, pair in enumerate(zip(now, point.bytes, strict=False)) if pair[0] != pair[1]), 0
                )
                self._report(point, point.address + changed, 1, by, True, point.bytes, now)
            point.bytes = now
            self._place(point)
        self._tell_renewed()

    def _follow(self) -> None:
        """Look after each host call, and at each transfer of a device."""
        self.answered_by = self.world.answering(self._answered)
        self.plain = {port: entry[0] for port, entry in self.machine.host_calls.functions.items()}
        for port, (function, name, names) in list(self.machine.host_calls.functions.items()):
            self.machine.host_calls.functions[port] = (self._followed(function, name, names), name, names)
        self.dma_watch, self.machine.dma_watch = self.machine.dma_watch, self._transferred
        self.machine.traps.delivery.observer = self._pushing

    def _followed(self, function: HostFunction, name: str, names: object) -> HostFunction:
        def call(value: int) -> None:
            for point in self.known:
                point.bytes = self._bytes(point)  # what the CPU has written since
            function(value)
            which = names.get(value, name) if isinstance(names, dict) else name
            self._compare(f"{self.answered_by}, in the host call {which}")

        return call

    def _answered(self, name: str, do: Callable[[], None]) -> None:
        """Let the effects of a test's function come again, and report them."""
        for point in self.known:
            point.bytes = self._bytes(point)
        do()
        self._compare(f"the test's function for {name}")

    @contextmanager
    def outside(self, what: Outside) -> Iterator[None]:
        """Report what comes from outside within the block: of a test's set-up all, of a change by hand what is told."""
        for point in self.known:
            point.bytes = self._bytes(point)  # what the CPU has written since
        yield
        if isinstance(what, SetUp):
            self._compare(BY_TEST, ending=self.machine.breakpoints.enabled)  # not on the way to another moment
        elif isinstance(what, Write):
            self._compare(BY_USER, ending=False)

    def _transferred(self, physical: int, length: int) -> None:
        if self.dma_watch is not None:
            self.dma_watch(physical, length)
        for point in self.known:
            for linear, base, size in point.pieces:
                low, high = max(base, physical), min(base + size, physical + length)
                address = linear + low - base
                end = linear + high - base
                if low < high and end > point.address and point.kind is not Kind.READ:
                    first, now = max(address, point.address), self._bytes(point)
                    self._report(point, first, min(high - low, point.length), "DMA", True, point.bytes, now)
            point.bytes = self._bytes(point)

    def _pushing(self, vector: int, pushes: list[tuple[int, bytes]]) -> None:
        """Report the frame of an exception or interrupt, which the CPU is about to push."""
        length = sum(len(data) for _, data in pushes)
        done = 0
        for physical, data in pushes:
            # A frame across two pages comes by bytes, its highest dword first.
            offset = 0 if len(pushes) == 1 else length - 4 - done // 4 * 4 + done % 4
            done += len(data)
            for point in self.known:
                if point.kind is not Kind.READ:
                    self._pushed(point, vector, physical, data, (length, offset))

    def _pushed(self, point: Watchpoint, vector: int, physical: int, data: bytes, frame: tuple[int, int]) -> None:
        length, offset = frame
        for linear, base, size in point.pieces:
            address = linear + physical - base
            low, high = max(address, point.address), min(address + len(data), point.address + point.length)
            if not base - len(data) < physical < base + size or low >= high:
                continue
            field = frame_fields(length)[offset + low - address >> 2]
            by = f"the CPU, which pushes {field} as it delivers {name_of(vector)} (vector {vector})"
            before = self._bytes(point)
            point.bytes = patched(before, address - point.address, data)
            self._report(point, low, high - low, by, True, before, point.bytes)

    def _leave(self) -> None:
        for port, function in self.plain.items():
            _, name, names = self.machine.host_calls.functions[port]
            self.machine.host_calls.functions[port] = (function, name, names)
        self.plain = {}
        self.world.answering(None)
        self.machine.dma_watch, self.dma_watch = self.dma_watch, None
        self.machine.traps.delivery.observer = None


def fixed_point(
    kind: Kind,
    pieces: list[tuple[int, int, int]],
    told: Callable[[Access], None] | None = None,
    condition: Callable[[Access], bool] | None = None,
) -> Watchpoint:
    """Return a watchpoint of physical memory."""
    linear, end = pieces[0][0], pieces[-1][0] + pieces[-1][2]
    return Watchpoint(kind, linear, end - linear, 0, pieces, fixed=True, told=told, condition=condition)


def frame_fields(length: int) -> tuple[str, ...]:
    """Return what the dwords of an interrupt's frame are, from the lowest address (SDM vol. 3, 6.12.1)."""
    fields = ("EIP", "CS", "EFLAGS", "ESP", "SS")
    return ("the error code", *fields) if length // 4 in (4, 6) else fields


def patched(data: bytes, at: int, written: bytes) -> bytes:
    """Return bytes after a write to them that begins at an index, which may lie before them, or reach beyond them."""
    if at < 0:
        at, written = 0, written[-at:]
    return (data[:at] + written + data[at + len(written) :])[: len(data)]
