"""Invariants of page frames and page tables, for `Kernel.check`.

All hold between any two instructions.  The recount of holders is exact when no policy is under way; while some is, a
coroutine may hold frames that no record names yet, and only too few holders are an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.thread import KERNEL_STACK_SIZE, TCB_SIZE, ThreadControlBlock
from callgate.kernel.core.control_block import word
from callgate.kernel.core.records import Pin, Process, Thread
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.watching.check_facts import Facts, Page

if TYPE_CHECKING:
    from callgate.kernel.core.records import Version

PATH_PAGE = word(ThreadControlBlock, "path_page")


def frames_are_free_or_held(facts: Facts) -> Iterator[str]:
    """No frame is both free and held, free twice, or neither: every frame ever given out is in one place."""
    for pool in (facts.state.low, facts.state.high):
        free = set(pool.free)
        if len(free) != len(pool.free):
            twice = next(frame for frame, count in Counter(pool.free).items() if count > 1)
            yield f"frame {twice:#x} is free twice"
        for frame in sorted(free & pool.holders.keys()):
            yield f"frame {frame:#x} is free and held"
        if (lost := (pool.next - pool.start) // PAGE_SIZE - len(free | pool.holders.keys())) != 0:
            yield f"{lost} frames of the pool at {pool.start:#x} are neither free nor held"


def holders_are_those_on_record(facts: Facts) -> Iterator[str]:
    """A frame is held as often as records name it: by processes, servers, threads, files, directories, the cache."""
    yield from _compare(facts, facts.state.low, Counter(_low_claims(facts)))
    blocks = facts.kernel.cache.state.blocks.values()
    yield from _compare(facts, facts.state.high, Counter(block.frame for block in blocks))


def _compare(facts: Facts, pool: FramePool, claims: Counter[int]) -> Iterator[str]:
    if pool.holders == claims:
        return
    for frame in sorted(pool.holders.keys() | claims.keys()):
        held, named = pool.holders.get(frame, 0), claims[frame]
        if held < named or (held > named and facts.quiescent):
            yield f"frame {frame:#x} is held {held} times, on record {named} times"


def user_pages_are_held_and_of_ring_3(facts: Facts) -> Iterator[str]:
    """A frame mapped for ring 3 is held, and is not a page table, kernel stack, endpoint block, LDT or path page."""
    private = _kernel_frames(facts)
    low, high = facts.state.low.holders, facts.state.high.holders
    for space in (*facts.spaces, facts.kernel_space):
        for page in space.for_ring_3:
            if page.linear >= KERNEL_BASE:
                yield f"{space.name}: {page.linear:#010x}, of kernel space, is mapped for ring 3"
            if page.frame not in (high if page.frame >= HIGH_MEMORY else low):
                yield f"{space.name}: {page.linear:#010x} maps frame {page.frame:#x}, which is not held"
            if page.frame in private:
                yield f"{space.name}: {page.linear:#010x} maps frame {page.frame:#x}, {private[page.frame]}"


def low_frames_have_one_writer(facts: Facts) -> Iterator[str]:
    """No low frame is mapped writable for ring 3 in two processes, nor twice in one."""
    writer: dict[int, str] = {}
    for space in facts.spaces:
        for page in space.for_ring_3:
            if page.writable and page.frame < HIGH_MEMORY:
                if page.frame in writer:
                    yield f"frame {page.frame:#x} is writable in {writer[page.frame]} and in {space.name}"
                writer[page.frame] = space.name


def writable_high_pages_are_changed_or_claimed(facts: Facts) -> Iterator[str]:
    """A page of high memory that ring 3 may write to is a whole block in a window opened to be written.

    Its block has been changed, or the window has claimed it.  No process has private pages in high memory.
    """
    changed = {block.frame for block in facts.kernel.cache.state.blocks.values() if block.changed}
    for process, space in zip(facts.state.tasks.processes.values(), facts.spaces, strict=True):
        for page in space.for_ring_3:
            if not (page.writable and page.frame >= HIGH_MEMORY):
                continue
            claimed = _claim(facts, process, page)
            if claimed is None or not (claimed or page.frame in changed):
                yield f"{space.name}: {page.linear:#010x} maps frame {page.frame:#x} writable, which is not allowed"


def _claim(facts: Facts, process: Process, page: Page) -> bool | None:
    """Whether the window that shows a page has claimed it; None if no window may show it so."""
    for opened in process.files.values():
        file = facts.kernel.files.objects[opened.object]
        number = (page.linear - opened.window + opened.position) // PAGE_SIZE
        for span in file.spans if opened.writable and page.linear >= opened.window else ():
            index = number - span.first_page
            claims = span.users.get((process.number, opened.page))
            if claims is not None and 0 <= index < len(span.frames) and span.frames[index] == page.frame:
                return index in claims if span.whole[index] else None
    return None


def no_page_is_writable_and_executable(facts: Facts) -> Iterator[str]:
    """No page of any space is writable and executable, nor a frame writable for ring 3 here and executable there."""
    writable: dict[int, str] = {}
    executable: dict[int, str] = {}
    for space in (*facts.spaces, facts.kernel_space):
        for page in space.pages:
            if page.writable and page.executable:
                yield f"{space.name}: {page.linear:#010x} is writable and executable"
            elif page.user and page.writable:
                writable[page.frame] = space.name
            elif page.user and page.executable:
                executable[page.frame] = space.name
    for frame in sorted(writable.keys() & executable.keys()):
        yield f"frame {frame:#x} is writable in {writable[frame]} and executable in {executable[frame]}"


# What records name.


def _low_claims(facts: Facts) -> list[int]:
    """Return every frame of low memory once for each time that a record, or a table in memory, names it."""
    state = facts.state
    found = [state.space.zeros] if state.space.zeros else []
    found += facts.kernel_space.tables
    found += facts.boot_tables
    for frames in state.tasks.stack_frames.values():
        found += frames
    found += [path_page(facts, thread) for thread in _threads(facts)]
    for process in state.tasks.processes.values():
        found += process.tables
        found += process.pages.values()
        for window in process.windows.values():
            found += window.private
            found += _pinned(window.pins)
    for endpoint in state.endpoints.by_number.values():
        found.append(endpoint.block)
        found += endpoint.frames.values()
        found += endpoint.span_pages
        for pins in endpoint.pins.values():
            found += _pinned(pins)
    return found + _file_claims(facts)


def _file_claims(facts: Facts) -> list[int]:
    kernel = facts.kernel
    requests = kernel.disk_requests.state
    found = list({(address - KERNEL_BASE) & -PAGE_SIZE for address in (*requests.running, *requests.free)})
    found += [file.frame for file in kernel.files.objects.values()]
    for span in facts.spans:
        found += span.private
        found += _pinned(span.pins)
        if span.list_frame:
            found.append(span.list_frame)
    for version in _versions(facts):
        found += _pinned(version.pins)
    return found


def _versions(facts: Facts) -> list[Version]:
    """Return every directory version: those that are current, and those that are locked."""
    versions = list(facts.kernel.directories.state.versions.values())
    for process in facts.state.tasks.processes.values():
        versions += [lock.of for lock in process.locks.values() if lock.of is not None]
    return list({id(version): version for version in versions}.values())


def _pinned(pins: Iterable[Pin]) -> list[int]:
    return [first for kind, first, _ in pins if kind == "frame"]


def _threads(facts: Facts) -> list[Thread]:
    """Return the threads that live, and those whose stacks have not been given back yet."""
    return [*facts.state.tasks.threads.values(), *facts.state.tasks.dead_threads]


def path_page(facts: Facts, thread: Thread) -> int:
    """Return the frame of a thread's page for paths, as its control block says."""
    return int(facts.words[thread.tcb + PATH_PAGE]) - KERNEL_BASE


def _kernel_frames(facts: Facts) -> dict[int, str]:
    """Return the frames that are the kernel's alone, with what they are."""
    found = dict.fromkeys(facts.boot_tables, "a page table")
    for space in (*facts.spaces, facts.kernel_space):
        found.update(dict.fromkeys(space.tables, "a page table"))
    for thread in _threads(facts):
        found[path_page(facts, thread)] = "a page for paths"
        for linear in range(thread.stack + TCB_SIZE - KERNEL_STACK_SIZE, thread.stack, PAGE_SIZE):
            found[facts.stack_pages[linear]] = "a kernel stack"
    for endpoint in facts.state.endpoints.by_number.values():
        found[endpoint.block] = "an endpoint block"
        found.update(dict.fromkeys(endpoint.span_pages, "an array of SpanRecords"))
    for process in facts.state.tasks.processes.values():
        found.update((frame, "a table of its process") for frame in process.tables if frame not in found)
    return found
