"""The owner of each page of physical memory, and what each address space maps: one reading of a system.

Owners come from the kernel's records.  Address spaces are walked from their page-directory pointers, as a CPU does
(Intel SDM vol. 3, 4.4); the records are not asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.memory import KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.core.control_block import word
from callgate.kernel.machine.cpu.paging import ADDRESS, NX
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.servers.lifecycle import HOSTED_BLOCKS
from callgate.kernel.storage.disks import place_of

if TYPE_CHECKING:
    from callgate.kernel.core.records import Pin, Process, Window
    from callgate.kernel.memory.frames import FramePool
    from callgate.kernel.system import System

PATH_PAGE: Final = word(ThreadControlBlock, "path_page")
FREE: Final = "free"
BELOW: Final = "below 1 MiB, not used"
UNDER_WAY: Final = "held by policy that is under way"
Claim = tuple[int, str]  # a frame and its owner
ENTRIES: Final = 512


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive physical pages with one owner."""

    first: int  # physical address
    pages: int
    owner: str


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive linear pages with the same rights; `pieces` are runs of consecutive physical pages."""

    linear: int
    pages: int
    rights: str  # such as "rw- ring 3"
    what: str
    pieces: tuple[tuple[int, int], ...]  # (physical address, pages)


@dataclass(frozen=True, slots=True)
class Space:
    """An address space: the half of ring 3 of a process, or the kernel's."""

    name: str
    pointers: int  # physical address of the page-directory-pointer table
    ranges: tuple[Range, ...]


@dataclass(slots=True)
class Survey:
    """Physical memory and address spaces at one moment."""

    low: int  # bytes
    high: int
    clock: int
    runs: list[Run] = field(default_factory=list)
    spaces: list[Space] = field(default_factory=list)

    def owners(self, *, high: bool) -> list[tuple[str, int]]:
        """Return how many pages each owner has of low or high memory, most first, what is free last."""
        pages: dict[str, int] = {}
        for run in self.runs:
            if (run.first >= layout.HIGH_MEMORY) == high:
                pages[run.owner] = pages.get(run.owner, 0) + run.pages
        return sorted(pages.items(), key=lambda entry: (entry[0] == FREE, -entry[1], entry[0]))


def survey(system: System) -> Survey:
    """Read a system that stands between two instructions."""
    options = system.options
    found = Survey(options.memory, options.high_memory, system.machine.clock.now)
    state = system.kernel.state
    found.runs = [
        *_runs(0, options.memory, _low(system)),
        *_runs(layout.HIGH_MEMORY, layout.HIGH_MEMORY + options.high_memory, _high(system)),
    ]
    for process in state.tasks.processes.values():
        if process.number:
            name = f"process {process.number} {process.name}"
            found.spaces.append(Space(name, process.pointers, _ranges(system, process.pointers, 0, 3, process)))
    kernel = next(iter(state.tasks.processes.values()))
    found.spaces.append(
        Space("kernel, in every process", kernel.pointers, _ranges(system, kernel.pointers, 3, 4, None))
    )
    return found


def _runs(first: int, end: int, owners: dict[int, str]) -> Iterator[Run]:
    start, owner = first, owners.get(first, FREE)
    for frame in range(first, end, PAGE_SIZE):
        now = owners.get(frame, FREE)
        if now != owner:
            yield Run(start, (frame - start) // PAGE_SIZE, owner)
            start, owner = frame, now
    yield Run(start, (end - start) // PAGE_SIZE, owner)


# Owners.


def _high(system: System) -> dict[int, str]:
    state = system.kernel.state
    owners = _held(state.high)
    for (disk, _), block in state.cache.blocks.items():
        owners[block.frame] = f"blocks of disk d{place_of(disk)}"
    for file in state.files.objects.values():
        endpoint = state.endpoints.by_number.get(file.endpoint)
        name = endpoint.name if endpoint else "?"
        for span in file.spans:
            owners.update(
                (frame, f"blocks of open file {file.number} of {name}") for frame in span.frames if frame in owners
            )
    return owners


def _held(pool: FramePool) -> dict[int, str]:
    return dict.fromkeys(pool.holders, UNDER_WAY)


def _low(system: System) -> dict[int, str]:
    """Return the owner of each page of low memory that is not free; of several, the first that claims it."""
    owners = dict.fromkeys(range(0, layout.KERNEL_LOAD, PAGE_SIZE), BELOW)
    owners[layout.BOOT_INFORMATION] = "boot information"
    for section in system.kernel.image.sections:
        first = section.load & -PAGE_SIZE
        for frame in range(first, section.load + section.size, PAGE_SIZE):
            owners[frame] = f"kernel image {section.name}"
    held = _held(system.kernel.state.low)
    for frame, owner in _claims(system):
        if held.get(frame) == UNDER_WAY:
            held[frame] = owner
    return owners | held


def _claims(system: System) -> Iterator[Claim]:
    kernel, state = system.kernel, system.kernel.state
    yield from _of(_tables(system, state.space.directory), "page tables of the kernel")
    yield from _of(_boot_tables(system), "page tables of the boot loader")
    for process in state.tasks.processes.values():
        name = f"{process.number} {process.name}" if process.number else "the kernel"
        yield from _of(process.tables, f"page tables of {name}")
    for frames in state.tasks.stack_frames.values():
        yield from _of(frames, "kernel stacks and thread control blocks")
    for thread in (*state.tasks.threads.values(), *state.tasks.dead_threads):
        yield kernel.guest.words[thread.tcb + PATH_PAGE] - KERNEL_BASE, "pages for paths"
    for endpoint in state.endpoints.by_number.values():
        yield endpoint.block, "endpoint blocks"
        yield from _of(endpoint.frames.values(), f"message pages of {endpoint.name}")
        yield from _of(endpoint.span_pages, "records of spans")
    yield from _of_processes(system)
    yield from _of_files(system)


def _of(frames: Iterable[int], owner: str) -> Iterator[Claim]:
    return ((frame, owner) for frame in frames)


def _of_processes(system: System) -> Iterator[Claim]:
    for process in system.kernel.state.tasks.processes.values():
        name = f"{process.number} {process.name}"
        for linear, frame in process.pages.items():
            yield frame, f"{region(linear)} of {name}"
        for window in process.windows.values():
            yield from _of(window.private, f"{_window(window)} of {name}")
    for process in system.kernel.state.tasks.processes.values():
        for window in process.windows.values():
            yield from _of(_pinned(window.pins), f"{_window(window)} of {process.number} {process.name}")


def _of_files(system: System) -> Iterator[Claim]:
    state = system.kernel.state
    requests = (*state.disk_requests.running, *state.disk_requests.free)
    yield from _of(((address - KERNEL_BASE) & -PAGE_SIZE for address in requests), "disk requests")
    if state.space.zeros:
        yield state.space.zeros, "page of zeros"
    for file in state.files.objects.values():
        yield file.frame, "pages of file objects"
    spans = [span for file in state.files.objects.values() for span in file.spans]
    for span in (*spans, *(span for _, span in state.files.waiting.values())):
        yield from _of(span.private, "pages of files put together by copying")
        yield from _of(_pinned(span.pins), "pages of files that a server provides")
        if span.list_frame:
            yield span.list_frame, "sector lists"
    for version in state.directories.versions.values():
        yield from _of(_pinned(version.pins), "directories that a server provides")
    for endpoint in state.endpoints.by_number.values():
        for pins in endpoint.pins.values():
            yield from _of(_pinned(pins), "pages of replies that are not taken yet")


def _pinned(pins: Iterable[Pin]) -> Iterator[int]:
    return (first for kind, first, _ in pins if kind == "frame")


def _window(window: Window) -> str:
    return {"heap": "memory", "file": "file data", "directory": "directory", "blocks": "locked blocks"}[
        window.kind.value
    ]


def region(linear: int) -> str:
    """Return what lies at an address of ring 3."""
    if linear < HOSTED_BLOCKS:
        return "program"
    if linear < layout.USER_HEAP:
        return "HostedBlocks"
    if linear < layout.USER_FILES:
        return "memory"
    if linear < layout.USER_MESSAGES:
        return "file data and directories"
    if linear < layout.USER_METADATA:
        return "message pages"
    if linear < layout.USER_METADATA_END:
        return "locked blocks"
    return "arguments" if layout.USER_ARGUMENTS <= linear < layout.USER_ARGUMENTS + LARGE_PAGE_SIZE // 4 else "stack"


# Address spaces.


def _entries(system: System, table: int, count: int = ENTRIES) -> list[int]:
    data = system.machine.ram.view(table, count * 8, Account.MACHINE).cast("Q")
    entries = data.tolist()
    data.release()
    return entries


def _tables(system: System, directory: int) -> list[int]:
    """Return the frames of a directory and its tables."""
    tables = [entry & ADDRESS for entry in _entries(system, directory) if entry & 1 and not entry & layout.PTE_LARGE]
    return [directory, *tables]


def _boot_tables(system: System) -> list[int]:
    from callgate.kernel.abi.boot import BootInformation
    from callgate.kernel.abi.layout import size_of

    data = system.machine.ram.read(layout.BOOT_INFORMATION, size_of(BootInformation), Account.MACHINE)
    pointers = BootInformation.from_buffer_copy(data).page_directory_pointers
    return [pointers, *(entry & ADDRESS for entry in _entries(system, pointers, 3))]


def _pages(system: System, pointers: int, first: int, end: int) -> Iterator[tuple[int, int, int, str]]:
    """Yield (linear, physical, bytes, rights) of every page that is mapped, in order."""
    for top in range(first, end):
        entry = _entries(system, pointers, 4)[top]
        if not entry & 1:
            continue
        for index, middle in enumerate(_entries(system, entry & ADDRESS)):
            linear = top << 30 | index * LARGE_PAGE_SIZE
            if middle & 1 and middle & layout.PTE_LARGE:
                yield linear, middle & ADDRESS & -LARGE_PAGE_SIZE, LARGE_PAGE_SIZE, rights(middle, middle)
            elif middle & 1:
                for low, last in enumerate(_entries(system, middle & ADDRESS)):
                    if last & 1:
                        yield linear + low * PAGE_SIZE, last & ADDRESS, PAGE_SIZE, rights(middle, last)


def rights(middle: int, last: int) -> str:
    """Return the rights that a directory's entry and a table's give together (SDM vol. 3, 4.6)."""
    both = middle & last
    write = "w" if both & layout.PTE_WRITABLE else "-"
    execute = "-" if (middle | last) & NX else "x"
    return f"r{write}{execute} ring {3 if both & layout.PTE_USER else 0}"


def _ranges(system: System, pointers: int, first: int, end: int, process: Process | None) -> tuple[Range, ...]:
    found: list[tuple[int, int, str, str, list[tuple[int, int]]]] = []
    for linear, physical, size, allowed in _pages(system, pointers, first, end):
        what = _what(system, linear, process)
        count = size // PAGE_SIZE
        if found and (found[-1][0] + found[-1][1] * PAGE_SIZE, *found[-1][2:4]) == (linear, allowed, what):
            start, pages, _, _, pieces = found[-1]
            found[-1] = (start, pages + count, allowed, what, pieces)
        else:
            pieces = []
            found.append((linear, count, allowed, what, pieces))
        if pieces and pieces[-1][0] + pieces[-1][1] * PAGE_SIZE == physical:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + count)
        else:
            pieces.append((physical, count))
    return tuple(Range(start, pages, allowed, what, tuple(pieces)) for start, pages, allowed, what, pieces in found)


def _what(system: System, linear: int, process: Process | None) -> str:
    if process is not None:
        return region(linear)
    section = system.kernel.image.section_at(linear)
    if section is not None:
        return f"kernel image {section.name}"
    if linear < layout.KERNEL_MMIO:
        return "direct map of low memory"
    if linear < layout.KERNEL_STACKS:
        return "device registers"
    return "kernel stacks" if linear < layout.KERNEL_WINDOW else "window for high pages"
