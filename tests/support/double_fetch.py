"""A detector of double fetches: the kernel must not read twice, for one request, data that ring 3 can change.

It logs every read that the kernel makes, by machine code (a memory hook on all of RAM) and by Python (`Ram.view`
and the overlays of kernel words), of a page that some process has mapped to be written at that moment.  Two reads of
the same byte within one stay of a thread in the kernel are a double fetch: the second may find data that the first did
not check.  Reads by hosted handlers are ring 3's own, and are left out.
"""

from __future__ import annotations

import ctypes
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from callgate.kernel.abi.memory import PAGE_SIZE, PTE_PRESENT, PTE_USER, PTE_WRITABLE
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine.engine.counter import add_hook, address_of
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.memory.page_tables import ADDRESS
from callgate.kernel.system import System
from unicorn import UC_HOOK_MEM_READ

MEMORY_HOOK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64, ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
)
WRITABLE = PTE_PRESENT | PTE_USER | PTE_WRITABLE
ENTRIES = PAGE_SIZE // 8
DIRECTORIES = 3  # of ring 3, of the four that an address space has
GATES = ("system_gate", "ipc_gate", "server_gate")
MACHINE = "callgate.kernel.machine"
MEMORY = {"callgate.kernel.machine.memory.ram", "callgate.kernel.machine.cpu.paging"}
SERVERS = "callgate.server"  # hosted handlers: their reads are ring 3's own
CARRIERS = {"UserMemory", "Ram", "ControlBlock"}  # functions that read for their callers
# Python that takes a view in order to write.
WRITERS = {("Ram", "write"), ("UserMemory", "write"), ("Processes", "_load_segment"), ("PageTables", "clear")}


@dataclass(frozen=True, slots=True)
class Read:
    """One read of memory that ring 3 could write to: the reader, the bytes, and the thread that was in the kernel."""

    place: str
    physical: int
    size: int
    thread: int


@dataclass(slots=True)
class Stay:
    """The reads since a thread entered the kernel, by byte."""

    first: dict[int, Read] = field(default_factory=dict)


class Detector:
    """Watches a system from now on; `reads` are the reads of the kernel, `findings` those of the same byte twice."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel: Kernel = system.kernel
        self.machine = system.machine
        self.reads: list[Read] = []
        self.findings: dict[tuple[str, str], list[tuple[Read, Read]]] = defaultdict(list)
        self.stays: dict[int, Stay] = defaultdict(Stay)
        self.aliases: set[int] = set()
        self.known_at: object = None
        self._watch_machine_code()
        self._watch_python()
        self._watch_entries()

    # Whether a page can be written to.

    def writable(self, frame: int) -> bool:
        """Whether some process has the frame at this physical address mapped to be written."""
        changes = self.machine.ledger.pte_writes
        if changes != self.known_at:
            self.known_at = changes
            self.aliases = set(self._writable_frames())
        return frame in self.aliases

    def _writable_frames(self) -> Iterator[int]:
        quads = self.plain_quads
        for process in self.kernel.state.tasks.processes.values():
            for index in range(DIRECTORIES):
                directory = int(quads[(process.pointers >> 3) + index])
                if directory & PTE_PRESENT:
                    yield from self._of_directory(directory & ADDRESS)

    def _of_directory(self, directory: int) -> Iterator[int]:
        for entry in self.plain_quads[directory >> 3 : (directory >> 3) + ENTRIES].tolist():
            if entry & WRITABLE == WRITABLE:
                at = (entry & ADDRESS) >> 3
                for page in self.plain_quads[at : at + ENTRIES].tolist():
                    if page & WRITABLE == WRITABLE:
                        yield page & ADDRESS

    # What has been read.

    def note(self, place: str | Callable[[], str], physical: int, size: int) -> None:
        """The kernel reads `size` bytes at `physical`."""
        for begin in range(physical, physical + size, PAGE_SIZE):
            page = begin - begin % PAGE_SIZE
            if not self.writable(page):
                continue
            end = min(physical + size, page + PAGE_SIZE)
            name = place if isinstance(place, str) else place()
            self._log(Read(name, max(physical, page), end - max(physical, page), self._thread()))

    def _log(self, read: Read) -> None:
        self.reads.append(read)
        first = self.stays[read.thread].first
        before = next((first[at] for at in range(read.physical, read.physical + read.size) if at in first), None)
        if before is not None:
            self.findings[before.place, read.place].append((before, read))
        for at in range(read.physical, read.physical + read.size):
            first.setdefault(at, read)

    def _thread(self) -> int:
        return int(self.kernel.scheduler.current.number)

    # Where reads come from.

    def _watch_machine_code(self) -> None:
        state, image = self.machine.state, self.kernel.image

        def read(_uc: int, _kind: int, physical: int, size: int, _value: int, _data: int) -> None:
            if state.in_kernel and not state.stopped:
                self.note(lambda: image.symbol_at(state.last_address).partition("+")[0], physical, size)

        state.watched += 1
        self.hook = MEMORY_HOOK(read)  # kept as long as the engine may call it
        for region in self.machine.ram.regions:
            end = region.base + region.size - 1
            add_hook(self.machine.handle.value, UC_HOOK_MEM_READ, address_of(self.hook), 0, region.base, end)

    def _watch_python(self) -> None:
        ram, view = self.machine.ram, self.machine.ram.view

        def watched(physical: int, length: int, account: Account | None = None) -> memoryview:
            self._note_python(sys._getframe(1), physical, length)
            return view(physical, length, account)

        ram.view = watched  # type: ignore[method-assign]
        self.plain_quads = self.kernel.guest.quads
        for owner, name, shift in ((self.kernel.guest, "words", 2), (self.kernel.guest, "quads", 3)):
            setattr(owner, name, WatchedWords(self, getattr(owner, name), shift))

    def _note_python(self, frame: FrameType, physical: int, size: int) -> None:
        callers = list(chain(frame))
        if not callers or module_of(callers[0]).startswith("callgate.disk") or name_of(callers[0]) in WRITERS:
            return
        if any(module_of(caller).startswith(SERVERS) for caller in callers):
            return
        asked = next((caller for caller in callers if name_of(caller)[0] not in CARRIERS), callers[0])
        self.note(".".join(name_of(asked)), physical, size)

    def _watch_entries(self) -> None:
        for gate in GATES:
            self.machine.probe(self.kernel.guest.address(gate), self._enter)

    def _enter(self) -> None:
        self.stays[self._thread()] = Stay()


class WatchedWords:
    """Low memory as words: an element that is read is logged."""

    def __init__(self, detector: Detector, words: memoryview, shift: int) -> None:
        self.detector = detector
        self.words = words
        self.shift = shift

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, int):
            self.detector._note_python(sys._getframe(1), index << self.shift, 1 << self.shift)
        return self.words[index]

    def __setitem__(self, index: int | slice, value: Any) -> None:
        self.words[index] = value

    def release(self) -> None:
        self.words.release()


def name_of(frame: FrameType) -> tuple[str, str]:
    """Return class and name of the function that runs in a frame, or that a function of its own runs for."""
    qualified = frame.f_code.co_qualname.partition(".<locals>")[0].split(".")
    return (qualified[-2] if len(qualified) > 1 else frame.f_globals["__name__"]), qualified[-1]


def module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def chain(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the policy that asked for memory and its callers, down to where the machine called Python."""
    while frame is not None and module_of(frame) in MEMORY:
        frame = frame.f_back
    while frame is not None and not module_of(frame).startswith(MACHINE):
        yield frame
        frame = frame.f_back
