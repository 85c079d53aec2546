"""A span in flight as a debugger sees it: out of guest memory, by the layouts alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.disks.sectors import SectorList
from callgate.kernel.abi.file import SpanRecord, SpanState
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.abi.thread import KernelWords

Sessions = Callable[..., Any]
PAGES = 20
SLOW = Latency(command=50_000)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    (folder / "A.BIN").write_bytes(bytes(128 << 10))  # lies where mounting has read, in front of the file
    (folder / "FILE.BIN").write_bytes(bytes(PAGES * PAGE_SIZE))
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


class Debugger:
    """Reads physical memory and the addresses of the kernel image's symbols, and asks no policy."""

    def __init__(self, made: Any) -> None:
        self.read = made.system.machine.ram.read
        self.gdt = made.kernel.image.address("gdt") - KERNEL_BASE
        self.words = made.kernel.image.address("kernel_words") - KERNEL_BASE

    def endpoint(self, number: int) -> Any:
        """Return an endpoint's block, whose address its descriptor says (Intel SDM vol. 3, 3.4.5)."""
        descriptor = int.from_bytes(self.read(self.gdt + (GDT_FIRST_ENDPOINT + number) * 8, 8), "little")
        base = descriptor >> 16 & 0xFF_FFFF | descriptor >> 56 << 24
        return Endpoint.from_buffer_copy(self.read(base - KERNEL_BASE, size_of(Endpoint)))

    def records(self, number: int) -> list[tuple[int, Any]]:
        """Return the records in use of an endpoint's array, with their linear addresses."""
        found = []
        for page in filter(None, self.endpoint(number).span_pages):
            for at in range(page, page + PAGE_SIZE, size_of(SpanRecord)):
                record = SpanRecord.from_buffer_copy(self.read(at - KERNEL_BASE, size_of(SpanRecord)))
                if record.state != SpanState.FREE:
                    found.append((at, record))
        return found

    def list_that_waits(self) -> Any:
        """Return the first list that waits for the disk."""
        words = KernelWords.from_buffer_copy(self.read(self.words, size_of(KernelWords)))
        return SectorList.from_buffer_copy(self.read(words.sector_lists - KERNEL_BASE, size_of(SectorList)))


def test_a_span_in_flight_is_seen_in_guest_memory_from_its_post_to_its_data(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")], latency=SLOW)
    made.reach("reader", "start")
    number = next(p.number for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")
    seen = Debugger(made)
    assert seen.records(number) == []

    # Posted: the token of the slot is the record's.
    made.run(until="ipc.post")
    while not seen.records(number):
        made.system.machine.step()
        made.run(until="ipc.post")
    ((_, record),) = seen.records(number)
    assert (record.state, record.position, record.count) == (SpanState.WAITING, 0, PAGES * PAGE_SIZE)
    assert [token for token in seen.endpoint(number).tokens if token] == [record.token]

    # Answered: the list that waits for the disk counts down in the record.
    made.run(until="ipc.replied")
    ((address, record),) = seen.records(number)
    assert (record.state, record.remaining) == (SpanState.WAITING, PAGES)
    assert (seen.list_that_waits().record, seen.list_that_waits().count) == (address, PAGES)
    assert not any(seen.endpoint(number).tokens)

    # Arrived.
    made.run(until="file.ready")
    ((_, record),) = seen.records(number)
    assert (record.state, record.remaining) == (SpanState.WAITING, 0)
    assert made.system.machine.cpu.eax == record.token
    made.run(until="gate.system")
    ((_, record),) = seen.records(number)
    assert (record.state, record.count) == (SpanState.READY, PAGES * PAGE_SIZE)
    assert made.run().reason == "halt"
    assert (made.codes, seen.records(number), list(seen.endpoint(number).span_pages)) == ([0], [], [0] * 16)
    assert made.unaccounted() == []


def test_a_snapshot_brings_the_records_of_spans_back(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")], latency=SLOW)
    made.reach("reader", "start")
    made.run(until="file.ready")
    made.run(until="gate.system")  # nothing is under way
    kept = made.system.snapshot()

    def span() -> Any:
        (file,) = made.kernel.files.objects.values()
        (found,) = file.spans
        return found

    said = span().handle, span().state, span().position, span().length
    assert said == (0, SpanState.READY, 0, PAGES * PAGE_SIZE)
    for _ in range(2):
        assert made.run().reason == "halt"
        assert made.kernel.files.objects == {}
        made.system.restore(kept)
        assert (span().handle, span().state, span().position, span().length) == said
        assert made.kernel.check() == []
