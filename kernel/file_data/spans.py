"""Spans, and their records in guest memory.

A span is the run of a file's bytes that one READ asks for, in flight or in memory.  A `SpanRecord` holds the facts that
a debugger needs: state, position, bytes, entries that have not arrived yet, token.  Policy reads and writes them
there; frames, pins and waiting threads are kept in Python.  An endpoint has an array of records, in pages of 128 that
`Endpoint.span_pages` lists, and the index of a record is the span's handle.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from callgate.kernel.abi.file import SPAN_PAGES, SPANS_OF_PAGE, SpanRecord, SpanState
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.common.record import record
from callgate.kernel.core.control_block import word
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import BlockRun, EndpointState, Pin
from callgate.kernel.tasks.shares import Shares

STATES = tuple(SpanState)
READY = int(SpanState.READY)  # a plain number: an enumeration's member costs a comparison of its own
STATE, TOKEN = word(SpanRecord, "state"), word(SpanRecord, "token")
POSITION = offset_of(SpanRecord, "position") // 4
COUNT, REMAINING = word(SpanRecord, "count"), word(SpanRecord, "remaining")
WORDS = size_of(SpanRecord) // 4
PAGES = offset_of(Endpoint, "span_pages") // 4
NO_HANDLE = -1


@record(eq=True)
class Part:
    """Bytes of a page of the file: from `source` (a physical address, 0 for zeros) to `offset` within the page."""

    source: int
    offset: int
    size: int

    def __init__(self, source: int, offset: int, size: int) -> None:
        self.source, self.offset, self.size = source, offset, size


class Span:
    """`length` bytes of the file from `position`.

    `frames` are the pages of the file from page `first_page` on, once it is READY; `private` those of them that
    are copies made by the kernel.
    """

    __slots__ = (
        *("words", "base", "handle", "error", "again", "first_page", "frames", "whole", "private", "pins"),
        "blocks",
        *("parts", "begun", "waiters", "users", "server_request", "list_frame", "ahead", "stuck", "kept", "idle"),
        "family",
    )
    base: int  # of the record, in words
    handle: int
    error: PolicyError | None  # the reason why it has FAILED
    again: bool  # FAILED, but asking once more may help
    first_page: int
    frames: list[int]
    whole: list[bool]  # by page: whether it is a block of the cache that holds nothing else
    private: list[int]
    pins: list[Pin]  # frames of its server
    blocks: list[BlockRun]  # of the cache, which it has locked
    parts: list[int | list[Part]]  # by page, until it is READY; an int is the frame
    begun: Part | None  # beginning of the first page, from a reply that ended within it
    waiters: list[int]  # selectors of threads
    #: By (process number, address of the window): the pages that are mapped writable, with the block of each.
    users: dict[tuple[int, int], dict[int, tuple[int, int]]]
    server_request: int  # number of the data that the server holds for it, 0 for none
    list_frame: int  # its SectorList while the disk is at work
    ahead: bool  # read ahead, and not mapped for a reader yet
    stuck: bool  # ends within a page, and the server does not give the rest of it
    kept: int  # readers that wait for the rest of its last page
    idle: int  # scans in a row that found no page accessed
    family: int

    def __init__(
        self,
        number: int,
        position: int,
        length: int,
        state: SpanState = SpanState.WAITING,
        *,
        family: int = 0,
        first_page: int = 0,
        server_request: int = 0,
    ) -> None:
        """Make a span whose record lies in memory of its own until `SpanRecords.insert`.

        `position` and `length` are bytes of the file; `family` is that of the process that has requested it.
        """
        self.words = memoryview(bytearray(size_of(SpanRecord))).cast("I")
        self.base = 0
        self.handle = NO_HANDLE
        self.number, self.position, self.length, self.state = number, position, length, state
        self.error = None
        self.again = False
        self.first_page = first_page
        self.frames = []
        self.whole = []
        self.private = []
        self.pins = []
        self.blocks = []
        self.parts = []
        self.begun = None
        self.waiters = []
        self.users = {}
        self.server_request = server_request
        self.list_frame = 0
        self.ahead = False
        self.stuck = False
        self.kept = 0
        self.idle = 0
        self.family = family

    def __repr__(self) -> str:
        return f"<span {self.number}: {self.length} bytes from {self.position}, {self.state.name}>"

    @property
    def number(self) -> int:
        """The token of its READ, never used for another span."""
        return self.words[self.base + TOKEN]

    @number.setter
    def number(self, value: int) -> None:
        self.words[self.base + TOKEN] = value

    @property
    def state(self) -> SpanState:
        """WAITING, READY or FAILED."""
        return STATES[self.words[self.base + STATE]]

    @state.setter
    def state(self, value: SpanState) -> None:
        self.words[self.base + STATE] = value

    @property
    def position(self) -> int:
        """The position in the file of its first byte."""
        at = self.base + POSITION
        return self.words[at] | self.words[at + 1] << 32

    @position.setter
    def position(self, value: int) -> None:
        at = self.base + POSITION
        self.words[at], self.words[at + 1] = value & 0xFFFF_FFFF, value >> 32

    @property
    def length(self) -> int:
        """Bytes: the number requested, and once it is READY, the number in memory."""
        return self.words[self.base + COUNT]

    @length.setter
    def length(self, value: int) -> None:
        self.words[self.base + COUNT] = max(value, 0)

    @property
    def remaining(self) -> int:
        """How many entries of its SectorList have not arrived; machine code counts them down."""
        return self.words[self.base + REMAINING]

    @property
    def end(self) -> int:
        """The position in the file of the byte after the last one."""
        return self.position + self.length

    @property
    def there(self) -> tuple[int, int] | None:
        """Position and length if it is READY, None if not; one look at the record, for those who go through many."""
        words, base = self.words, self.base
        if words[base + STATE] != READY:
            return None
        return words[base + POSITION] | words[base + POSITION + 1] << 32, words[base + COUNT]

    @property
    def address(self) -> int:
        """The linear address of its record, which lies in guest memory."""
        assert self.handle != NO_HANDLE
        return KERNEL_BASE + self.base * 4

    @property
    def holds_low(self) -> bool:
        """Whether it holds frames of low memory: copies, or a server's own pages."""
        return bool(self.private) or bool(self.pins)

    @property
    def idling(self) -> bool:
        """Whether it is READY and no thread waits for it or keeps it: it can be released."""
        return not self.waiters and not self.kept and self.state is SpanState.READY


class SpanRecords:
    """The arrays of records of all endpoints."""

    def __init__(self, guest: Guest, shares: Shares) -> None:
        self.guest = guest
        self.shares = shares

    def reserve(self, endpoint: EndpointState) -> None:
        """Have an endpoint's array hold at least one free record; NO_MEMORY.

        The array can grow to as many records as there may be spans (`SPANS`).
        """
        if endpoint.free_spans:
            return
        frame = self.shares.frame_for_files()
        self.shares.memory.tables.clear(frame)
        page = len(endpoint.span_pages)
        assert page < SPAN_PAGES
        endpoint.span_pages.append(frame)
        self.guest.words[endpoint.block // 4 + PAGES + page] = KERNEL_BASE + frame
        endpoint.free_spans = list(range(page * SPANS_OF_PAGE, (page + 1) * SPANS_OF_PAGE))

    def insert(self, endpoint: EndpointState, span: Span) -> None:
        """Give a span the first free record; `reserve` was called before, so there is one."""
        span.handle = heappop(endpoint.free_spans)
        page, index = divmod(span.handle, SPANS_OF_PAGE)
        base = endpoint.span_pages[page] // 4 + index * WORDS
        self.guest.words[base : base + WORDS] = span.words[span.base : span.base + WORDS]
        span.words, span.base = self.guest.words, base

    def release(self, endpoint: EndpointState, span: Span) -> None:
        """Free the record of a span, whose values move to memory of its own; do nothing if it has none.

        A request that cannot be posted fails a span that its server's death has dropped before.
        """
        if span.handle == NO_HANDLE:
            return
        own = memoryview(bytearray(WORDS * 4)).cast("I")
        own[:] = span.words[span.base : span.base + WORDS]
        self.guest.words[span.base : span.base + WORDS] = memoryview(bytes(WORDS * 4)).cast("I")
        heappush(endpoint.free_spans, span.handle)
        span.words, span.base, span.handle = own, 0, NO_HANDLE

    def trim(self, endpoint: EndpointState) -> None:
        """Release the pages of an endpoint's array if no span has a record in it."""
        if len(endpoint.free_spans) < len(endpoint.span_pages) * SPANS_OF_PAGE:
            return
        for page, frame in enumerate(endpoint.span_pages):
            self.guest.words[endpoint.block // 4 + PAGES + page] = 0
            self.shares.memory.low.release(frame)
        endpoint.span_pages, endpoint.free_spans = [], []

    def bind(self, spans: Iterable[Span]) -> None:
        """Connect spans that a snapshot has restored with their records in guest memory."""
        for span in spans:
            span.words = self.guest.words
