"""The cost of reading files: `callgate bench read`.

The guest is asm/user/bench/bench_read.asm; it runs to labels, between which the ledger and the clock are read.  The
images are made for each run, aligned as `callgate disk create` aligns them.
"""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile
from callgate.kernel.abi.disks.sectors import SECTOR_LINK_SHIFT, SectorList
from callgate.kernel.abi.memory import PAGE_SIZE, SECTORS_PER_PAGE
from callgate.kernel.common.stretches import stretches
from callgate.kernel.core.records import Process
from callgate.kernel.file_data.window_pages import address_of
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Machine
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.memory.page_tables import USER_READ
from callgate.kernel.programs.executable import parse_elf
from callgate.kernel.programs.images import program_image
from callgate.kernel.programs.kernel_labels import SORT_SECTORS
from callgate.kernel.system import System, SystemOptions
from callgate.tools.bench.measuring import BenchmarkError, element, per_operation, timing

BIG = 30 << 20
SHARED = 16 << 20
READERS = 8
RANDOM_READS = 2000
LISTED = 1000
ENTRIES = 506
FUEL = 3_000_000_000
#: A disk that takes time but is faster than the reader: 100 µs to the first byte, 1.28 GB/s.
SSD = Latency(command=100_000, sector=400)


class ReadBench:
    """A system with one disk and readers of it."""

    def __init__(self, image: Path, arguments: list[str], **options: Any) -> None:
        """Boot, and start a reader for each argument; none of them has run."""
        self.arguments = arguments
        self.processes: list[Process] = []
        self.program = program_image("bench_read")
        self.system = System(
            [ImageFile(image)], SystemOptions(shell=False, prepare=self._prepare, memory=128 << 20, **options)
        )
        self.machine: Machine = self.system.machine
        self.reach("start")

    def _prepare(self, kernel: Kernel) -> None:
        executable = parse_elf(self.program.elf(debug=False))
        for argument in self.arguments:
            self.processes.append(kernel.programs.start(executable, "reader", argument.encode(), 0))

    def reach(self, label: str) -> Counts:
        """Run to a label of the reader; return the counters there."""
        self.machine.step()
        stop = self.system.run(until=self.program.address(label), fuel=FUEL)
        if stop.reason != "until":
            codes = [process.exit_code for process in self.processes]
            raise BenchmarkError(f"the reader did not come to {label}: {stop}, exit codes {codes}")
        return self.machine.ledger.counts()

    def timed(self, begin: str, end: str) -> tuple[float, Counts]:
        """Run to one label, then time the run to another; return seconds and costs."""
        before = self.reach(begin)
        start = time.perf_counter()
        after = self.reach(end)
        return time.perf_counter() - start, after - before

    def evict(self) -> None:
        """Have nothing of any file in memory, as if other files had taken all of it since."""
        kernel = self.system.kernel
        kernel.letting_go.reclaim(enough=lambda: False)
        for key in kernel.cache.state.blocks.idle():
            kernel.cache.evict(key)

    @property
    def requests(self) -> int:
        """Requests for file data so far."""
        return self.system.kernel.state.files.counters.requests


@contextmanager
def bench(image: Path, *arguments: str, **options: Any) -> Iterator[ReadBench]:
    """Boot for one measurement."""
    made = ReadBench(image, list(arguments), **options)
    try:
        yield made
    finally:
        made.system.close()


def pattern(size: int) -> bytes:
    """Return arbitrary bytes, the same every time."""
    block = bytes(range(256)) * 16
    return b"".join(index.to_bytes(4, "little") + block[4:] for index in range(size // len(block)))


def make_images(folder: Path) -> tuple[Path, Path]:
    """Make the image with the big files, and the one with many small ones."""
    trees = folder / "big", folder / "many"
    for tree in trees:
        tree.mkdir()
    (trees[0] / "BIG.BIN").write_bytes(pattern(BIG))
    (trees[0] / "SHARED.BIN").write_bytes(pattern(SHARED))
    for index in range(LISTED):
        (trees[1] / f"file number {index:04}.txt").write_bytes(b"x" * index)
    images = folder / "big.img", folder / "many.img"
    create_image(images[0], trees[0], fs="fat16", size=96 << 20)
    create_image(images[1], trees[1], fs="fat16", size=32 << 20)
    return images


Sample = tuple[float, dict[str, Any]]


def repeated(name: str, operations: int, rounds: int, measure: Callable[[], Sample]) -> dict[str, Any]:
    """Return the element of a measurement made `rounds` times; BenchmarkError if the counts differ.

    `measure()` returns seconds, and counts of one operation with further figures.
    """
    samples = []
    result: dict[str, Any] = {}
    for index in range(rounds):
        spent, counts = measure()
        samples.append(spent)
        if index and counts != result:
            raise BenchmarkError(f"{name}: round {index + 1} does not count what the first one does")
        result = counts
    return {"name": name, "n": operations, **result, "wall_us": timing(samples, operations)}


def read_sequential(image: Path, rounds: int = 1) -> dict[str, Any]:
    """One pass over a 30 MiB file, nothing cached, on a disk that takes time."""

    def once() -> Sample:
        with bench(image, "s/d0/BIG.BIN", latency=SSD) as made:
            before = made.reach("pass_begin")
            posted = made.requests
            start = time.perf_counter()
            counts = made.reach("pass_end") - before
            spent = time.perf_counter() - start
            counters = made.system.kernel.state.files.counters
            result = counts.as_dict()
            result |= {"requests": made.requests - posted, "read_ahead": counters.ahead, "wasted": counters.wasted}
            result["system_calls"] = counts.sites.get("client_gates", 0)
            return spent, result

    return repeated("read-sequential-30m", 1, rounds, once)


def read_random(image: Path, rounds: int = 1) -> dict[str, Any]:
    """Dwords at random pages of a file that is in memory: instructions of seek and peek alone.

    Of a file that has been read from end to end, which is one area, and of one that is in memory in 180 pieces.
    """
    result = repeated("read-random-4k", RANDOM_READS, rounds, lambda: _peeks(image, "r", "random"))
    _, pieces = _peeks(image, "i", "islands")
    pieces["n"] = RANDOM_READS
    return result | {"in_pieces": {name: pieces[name] for name in ("n", "instructions_each", "system_calls", "areas")}}


def _peeks(image: Path, mode: str, label: str) -> Sample:
    """Count each of RANDOM_READS look-ups between two labels of the reader."""
    with bench(image, f"{mode}/d0/BIG.BIN") as made:
        made.reach(f"{label}_next")
        costs: list[int] = []
        marks: list[int] = []
        machine, program = made.machine, made.program

        def looked_up() -> None:
            costs.append(machine.clock.retired - marks[-1])
            if len(costs) == RANDOM_READS:
                machine.request_stop("measured")

        probes = [
            machine.probe(program.address(f"{label}_before"), lambda: marks.append(machine.clock.retired)),
            machine.probe(program.address(f"{label}_after"), looked_up),
        ]
        before = machine.ledger.counts()
        start = time.perf_counter()
        if machine.run(fuel=FUEL).reason != "measured":
            raise BenchmarkError(f"the reader looked up {len(costs)} times, not {RANDOM_READS}")
        spent = time.perf_counter() - start
        counts = machine.ledger.counts() - before
        for probe in probes:
            machine.unprobe(probe)
        result = per_operation(counts.as_dict(), len(costs))
        result |= {"instructions_each": {"mean": round(sum(costs) / len(costs), 1), "max": max(costs)}}
        result["system_calls"] = counts.sites.get("client_gates", 0)
        (file,) = made.system.kernel.files.objects.values()
        result["areas"] = len(file.areas())
        return spent, result


def sums(image: Path, rounds: int) -> list[dict[str, Any]]:
    """The same sum over a file that is not cached, one that is, one that was, and plain memory.

    The first pass after a boot also translates what it executes, and the host provides each page that it stores to. A
    file that is read again after all of its blocks have been evicted shows what reading itself takes.  For these two
    the least that it could take is measured as well (`_least`).
    """
    names = ("memory", "peek-cached", "peek-uncached", "peek-evicted", "peek-uncached-least", "peek-evicted-least")
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    for _ in range(rounds):
        with bench(image, "s/d0/BIG.BIN") as made:
            samples["peek-uncached"].append(_pass(made))
            samples["peek-cached"].append(_pass(made))
            samples["peek-uncached-least"].append(_least(made, BIG))
            samples["peek-evicted-least"].append(_least(made))
            made.evict()
            samples["peek-evicted"].append(_pass(made))
        with bench(image, "m/d0/BIG.BIN") as made:
            made.timed("memory_begin", "memory_end")
            samples["memory"].append(_pass(made, "memory"))
    results = [
        element(f"sum-{name}", 1, taken[-1][1], timing([spent for spent, _ in taken], 1))
        for name, taken in samples.items()
    ]
    for result in results[1:]:
        result["ratio_to_memory"] = round(results[0]["wall_us"]["median"] / result["wall_us"]["median"], 3)
    return results


def _pass(made: ReadBench, label: str = "pass") -> Sample:
    spent, cost = made.timed(f"{label}_begin", f"{label}_end")
    return spent, cost.as_dict()


def _least(made: ReadBench, fresh: int = 0) -> Sample:
    """A pass over a file that is mapped, with what no policy could do without when the file has to be read.

    That is to copy the file's blocks out of the image into their frames, or into `fresh` bytes of memory that the host
    has not provided yet; to write the entries of page tables, of as many pages at once as one request brings; and an
    entry of the CPU's TLB for each page.
    """
    before = made.reach("pass_begin")
    machine, mapping, (process,) = made.machine, made.system.kernel.mapping, made.processes
    (file,), (opened,) = made.system.kernel.files.objects.values(), process.files.values()
    memory = mmap.mmap(-1, fresh, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if fresh else None
    start = time.perf_counter()
    if memory is not None:
        memory.madvise(mmap.MADV_HUGEPAGE)
    at = 0
    for span in file.spans:
        (run,), size = span.blocks, len(span.frames) * PAGE_SIZE
        views = [
            machine.ram.view(span.frames[begin], (end - begin) * PAGE_SIZE)
            for begin, end in stretches(span.frames, PAGE_SIZE)
        ]
        views = views if memory is None else [memoryview(memory)[at : at + size]]
        made.system.media[0].read_into(run.first * SECTORS_PER_PAGE, views)
        linear = address_of(opened, span, 0)
        mapping.tables.map_run(process.pointers, linear, span.frames, USER_READ, process.tables)
        at += size
    machine.flush_tlb()
    after = made.reach("pass_end")
    return time.perf_counter() - start, (after - before).as_dict()


def list_directory(image: Path, rounds: int = 1) -> dict[str, Any]:
    """The second listing of 1,000 files, from locking to unlocking: its version is current, no server is asked."""

    def once() -> Sample:
        with bench(image, "d/d0") as made:
            made.reach("directory_read")
            before = made.reach("directory_begin")
            start = time.perf_counter()
            counts = made.reach("directory_begin") - before
            return time.perf_counter() - start, counts.as_dict()

    return repeated("list-1000", 1, rounds, once)


def sort_sorted(rounds: int) -> dict[str, Any]:
    """Sorting 506 entries that are already sorted."""
    from callgate.tools.asmtest.bare.cpu import BareCpu

    cpu = BareCpu()
    at = 0x20000
    cpu.load('        .include "sectors.asm"\n')
    page = SectorList(count=ENTRIES)
    page.entries[:] = [8 * index | index << SECTOR_LINK_SHIFT for index in range(ENTRIES)]
    samples = []
    for _ in range(rounds):
        cpu.write(at, bytes(page))
        start = time.perf_counter()
        sorting = cpu.call(SORT_SECTORS, ebx=at).ledger
        samples.append(time.perf_counter() - start)
    cpu.close()
    each = round(sorting.guest_instructions / ENTRIES, 3)
    counts = sorting.as_dict()
    return element("sort-506-sorted", 1, counts, timing(samples, 1)) | {
        "entries": ENTRIES,
        "instructions_each": {"mean": each, "max": each},
    }


def read_shared(image: Path, rounds: int = 1) -> dict[str, Any]:
    """Eight processes read the same 16 MiB file to its end."""

    def once() -> Sample:
        with bench(image, *["o/d0/SHARED.BIN"] * READERS) as made:
            before = made.machine.ledger.counts()
            start = time.perf_counter()
            made.system.run(fuel=FUEL)
            spent = time.perf_counter() - start
            codes = {process.exit_code for process in made.processes}
            if codes != {0}:
                raise BenchmarkError(f"readers ended with {codes}")
            return spent, (made.machine.ledger.counts() - before).as_dict()

    return repeated("read-8-processes", 1, rounds, once) | {"file_bytes": SHARED}


def bench_read(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench read`."""
    with tempfile.TemporaryDirectory() as folder:
        big, many = make_images(Path(folder))
        return [
            read_sequential(big, rounds),
            read_random(big, rounds),
            *sums(big, rounds),
            list_directory(many, rounds),
            sort_sorted(rounds),
            read_shared(big, rounds),
        ]
