"""Records of threads, processes and endpoints: plain data that several managers share.

Nothing here refers to the machine, to a coroutine or to a function.  Physical addresses are bytes; `tcb` is the index
of a control block's first 32-bit word in low memory.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import field
from enum import StrEnum
from itertools import repeat
from typing import NamedTuple

from callgate.kernel.common.record import record
from callgate.kernel.common.table import Table
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.core.symbols import SymbolTable

Pin = tuple[str, int, int]  # one thing that a reply or a window holds: ("frame", frame, 0) or ("block", disk, block)

RELEASES = 0  # among threads that wait for a slot: the queue of deferred releases

PRIORITY_IDLE = 0
PRIORITY_USER = 8
PRIORITY_SERVER = 8  # as clients: under load requests pile up in the ring and one switch serves many
PRIORITY_KERNEL = 16


@record
class Thread:
    """A thread: its control block in guest memory, and data for policy alone."""

    number: int
    selector: int
    tcb: int
    stack: int
    process: Process
    priority: int
    name: str
    killed: bool = False
    server_index: int = -1
    hosted_block: int = 0
    instructions: int = 0  # retired by it until it ended
    wakes_at: int | None = None  # SLEEP: clock at which the call ends
    deadline: int | None = None  # clock at which it no longer waits for the server that it has asked
    #: The page of a file that it was allowed to write to last: span, process, address of the FilePage, index.
    allowed: tuple[int, int, int, int] | None = None

    def __repr__(self) -> str:
        return f"<thread {self.number} {self.name!r} selector {self.selector:#06x}>"


class WindowKind(StrEnum):
    """The kinds of windows: memory of the process, data of a file, a directory, blocks of a server's disk."""

    HEAP = "heap"
    FILE = "file"
    DIRECTORY = "directory"
    BLOCKS = "blocks"


@record(eq=True)
class Window:
    """A range of user pages that the kernel mapped: memory given, file data, a directory, disk blocks."""

    address: int
    pages: int
    kind: WindowKind
    owner: int = 0
    private: list[int] = field(default_factory=list)  # frames to free with the window
    pins: list[tuple[str, int, int]] = field(default_factory=list)  # the pins that hold its other frames


@record
class Process:
    """An address space with its threads, handles and windows."""

    number: int
    name: str
    pointers: int  # page-directory-pointer table
    parent: int = 0
    family: int = 0  # number of the process that the shell or the kernel started, and from which this one descends
    program: str = ""  # name of its image, if it is one of ours
    symbols: SymbolTable | None = None  # for fault reports
    shown: int = 0  # frames of low memory that its windows hold: directories, edges of blocks
    tables: list[int] = field(default_factory=list)  # frames of page tables, the pointers' one included
    pages: dict[int, int] = field(default_factory=dict)  # private pages: linear -> frame
    threads: list[Thread] = field(default_factory=list)
    windows: dict[int, Window] = field(default_factory=dict)  # by address
    files: dict[int, OpenFile] = field(default_factory=dict)  # by handle
    locks: dict[int, DirectoryLock] = field(default_factory=dict)  # by the lock's number
    exit_code: int | None = None
    fault: str = ""
    endpoint: int = -1  # servers: the endpoint they serve
    dying: bool = False
    directory: bytes = b""  # where its relative paths begin; without one it has none
    waiter: int = 0  # selector of the thread that waits for the end
    file_handler: tuple[int, int, int] = (0, 0, 0)  # where code in [begin, end) resumes after a failed access to a file

    def __repr__(self) -> str:
        return f"<process {self.number} {self.name!r}, {len(self.threads)} threads>"


@record(eq=True)
class ReleaseQueue:
    """Resources of a server no longer used, of which it has not been told yet: (operation, number), oldest first."""

    entries: deque[tuple[int, int]] = field(default_factory=deque)
    busy: bool = False  # the oldest ones wait for a slot, have one, or are with the server: one message at a time
    slot: int = -1  # the one that it has been given and that has not been posted yet
    posted: list[tuple[int, int]] = field(default_factory=list)  # those that are with the server, in one message
    one_by_one: bool = False  # the server has said that it knows no batches
    waiters: list[int] = field(default_factory=list)  # selectors of threads that wait until all have been sent
    behind: list[int] = field(default_factory=list)  # selectors of threads that wait until half of the limit is left


@record
class EndpointState:
    """Policy's record of an endpoint, where a server takes requests, beside its block in guest memory."""

    number: int
    block: int  # physical address of the Endpoint page
    process: Process | None
    disk: int  # -1: none
    start: int  # first sector on the disk
    sectors: int
    name: str  # d0p1, rom
    mounting: bool = False  # its server does not serve yet; it is not listed
    hidden: bool = False  # no top-level directory (a server that only tests and benchmarks talk to)
    file_system: str = ""
    entry: int = 0  # where its first thread starts
    waiters: deque[int] = field(default_factory=deque)  # selectors of threads that wait for a slot, or RELEASES
    frames: Table[int, int] = field(default_factory=Table)  # slot -> frame of its message page
    pins: Table[int, tuple[Pin, ...]] = field(default_factory=Table)  # slot -> the pins that its reply holds
    releases: ReleaseQueue = field(default_factory=ReleaseQueue)
    closes_at_open: bool = False  # its server has said that it closes a file with the next OPEN (OPEN_CLOSES)
    held: int = 0  # open files, locks and spans that the server holds for us, given back or not
    span_pages: list[int] = field(default_factory=list)  # frames of its array of SpanRecords
    free_spans: list[int] = field(default_factory=list)  # handles of records that are free, a heap
    servers: list[int] = field(default_factory=list)  # selectors of the server threads
    locked_blocks: int = 0  # by LOCK_BLOCKS
    #: (operation, path) at which its server has found nothing, least recently asked for first (`Names`)
    absent: OrderedDict[tuple[int, bytes], None] = field(default_factory=OrderedDict)
    name_changes: int = 0  # how often its server has said that a directory has changed
    dead: bool = False
    swept: bool = False  # dead, and no thread of its server is left
    error: ErrorCode = ErrorCode.OK  # the error of its requests once it is dead
    reason: str = ""


@record(eq=True)
class OpenFile:
    """A file that one process has open: its window, and how the process reads it."""

    object: int
    window: int  # address
    page: int  # address of the FilePage in the process
    writable: bool = False  # whole pages are mapped writable
    position: int = 0  # of the file, at the beginning of the window; a multiple of 4096
    expected: int = 0  # where a sequential reader continues
    ahead: int = 1  # spans to have posted before they are needed


@record
class Version:
    """A version of a directory as its server gave it."""

    number: int  # ours, never used for another one
    server: EndpointState
    path: bytes  # as it was asked for
    server_lock: int
    version: int
    entries: int
    frames: tuple[int, ...]
    pins: tuple[Pin, ...]
    current: bool = True


@record(eq=True)
class DirectoryLock:
    """A locked directory of one process; `of` is None for the root directory."""

    of: Version | None
    window: int
    pages: int
    entries: int
    version: int


@record
class Tasks:
    """Threads and processes, and the pools of their numbers, selectors and stacks."""

    threads: Table[int, Thread] = field(default_factory=Table)  # by selector
    processes: Table[int, Process] = field(default_factory=Table)  # by number
    dead_threads: list[Thread] = field(default_factory=list)  # switched away from for good
    finished: list[int] = field(default_factory=list)  # processes without threads, not waited for yet
    shell: int = -1  # process number
    lists: Table[int, int] = field(default_factory=Table)  # by family: spans on their way, a frame for each
    exit_code: int | None = None  # the shell's, when it has ended
    next_thread: int = 1
    next_thread_slot: int = 0
    next_process: int = 0
    free_thread_slots: list[int] = field(default_factory=list)
    stack_frames: Table[int, tuple[int, ...]] = field(default_factory=Table)  # by thread slot, kept for ever


@record
class Endpoints:
    """The endpoints that servers serve."""

    by_number: Table[int, EndpointState] = field(default_factory=Table)


class BlockRun(NamedTuple):
    """Blocks of a disk that follow each other: the disk's key, the first, how many."""

    disk: int
    first: int
    length: int

    @property
    def keys(self) -> list[tuple[int, int]]:
        """The keys of the blocks in the cache."""
        return list(zip(repeat(self.disk), range(self.first, self.first + self.length)))  # noqa: B905 - it has no end


class SectorPiece(NamedTuple):
    """Sectors of one block: first one on the disk (None: a hole), first one within the page, how many.

    Or those of several whole blocks that follow each other on the disk.
    """

    lba: int | None
    first: int
    sectors: int
