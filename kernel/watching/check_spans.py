"""Invariants of spans, for `Kernel.check`: their records in guest memory agree with policy's own records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from callgate.kernel.abi.disks.sectors import SECTOR_ARRIVED_BIT, SECTOR_LINK_SHIFT, SectorList
from callgate.kernel.abi.file import SPANS_OF_PAGE, SpanRecord, SpanState
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.limits import SPANS
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.core.records import EndpointState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.watching.check_facts import Facts

ARRIVED = 1 << SECTOR_LINK_SHIFT + SECTOR_ARRIVED_BIT


def records_of(facts: Facts, endpoint: EndpointState) -> dict[int, SpanRecord]:
    """Return the records in an endpoint's array by handle, read by their layout from guest memory; no free ones."""
    ram = facts.kernel.machine.ram
    pages = Endpoint.from_buffer_copy(ram.read(endpoint.block, size_of(Endpoint))).span_pages
    data = b"".join(ram.read(page - KERNEL_BASE, PAGE_SIZE) for page in pages if page)
    size = size_of(SpanRecord)
    found = (SpanRecord.from_buffer_copy(data, at) for at in range(0, len(data), size))
    return {handle: record for handle, record in enumerate(found) if record.state != SpanState.FREE}


def span_records_are_those_of_the_spans(facts: Facts) -> Iterator[str]:
    """An endpoint's array has one record for each span of its files; all other handles are free."""
    for endpoint in facts.state.endpoints.by_number.values():
        spans = spans_of(facts, endpoint)
        records = records_of(facts, endpoint)
        named = Counter(span.handle for span in spans)
        for handle in sorted(records.keys() ^ named.keys()):
            yield f"{endpoint.name}: record {handle} and the spans do not agree about who has it"
        yield from (f"{endpoint.name}: record {handle} is that of {n} spans" for handle, n in named.items() if n > 1)
        if sorted([*named, *endpoint.free_spans]) != list(range(len(endpoint.span_pages) * SPANS_OF_PAGE)):
            yield f"{endpoint.name}: handles are neither free nor in use, or both"
        if len(named) > SPANS:
            yield f"{endpoint.name}: {len(named)} spans"
        for span in spans:
            record = records.get(span.handle)
            if record is not None and (record.token, record.position) != (span.number, span.position):
                yield f"{endpoint.name}: record {span.handle} is not that of {span!r}"


def spans_of_a_file_do_not_overlap(facts: Facts) -> Iterator[str]:
    """The records of a file's spans are in the order of their positions, and each span ends before the next begins."""
    for file in facts.kernel.files.objects.values():
        for before, after in zip(file.spans, file.spans[1:], strict=False):
            if before.end > after.position:
                yield f"file {file.number}: {before!r} reaches into {after!r}"


def what_spans_wait_for_equals_a_recount(facts: Facts) -> Iterator[str]:
    """Policy finds a waiting span by the token in its record, and `remaining` counts its entries that are to arrive.

    Machine code marks an entry before it counts it: `remaining` may be one more between the two (`sectors_arrived`).
    """
    for number, (_, span) in facts.kernel.state.files.waiting.items():
        if span.number != number:
            yield f"span {number} waits, and has the token {span.number}"
        if span.list_frame:
            page = SectorList.from_buffer_copy(facts.kernel.machine.ram.read(span.list_frame, PAGE_SIZE))
            left = sum(not entry & ARRIVED for entry in page.entries[: page.count])
            if page.record != span.address:
                yield f"span {number}: its list counts down at {page.record:#x}, its record lies at {span.address:#x}"
            elif span.remaining - left not in {0, 1}:
                yield f"span {number}: {span.remaining} entries are to arrive, counted {left}"


def spans_of(facts: Facts, endpoint: EndpointState) -> list[Span]:
    """Return the spans of an endpoint's files."""
    files = facts.kernel.files.objects.values()
    return [span for file in files if file.endpoint == endpoint.number for span in file.spans]
