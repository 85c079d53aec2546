"""The IPC path in memory: message page, slot record, endpoint block (design.md, "IPC")."""

from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from typing import Final

from callgate.kernel.abi.file import SPAN_PAGES
from callgate.kernel.abi.layout import Layout, offset_of, size_of
from callgate.kernel.abi.limits import BATCH_ENTRIES
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.selectors import SLOTS


class ReplyType(IntEnum):
    """What a reply may carry; set by the gate function that the server used, never by the content of the page.

    The numbers are those of the gate functions (`ServerCall.REPLY_…`).
    """

    NONE = 1
    REGISTERS = 2
    DATA = 3
    OBJECT = 4
    SECTORS = 5


class Message(Layout):
    """The message page: 48 bytes of header, then data or up to 506 physical addresses."""

    _fields_ = [
        ("operation", c_uint32),
        ("flags", c_uint16),
        ("reply", c_uint16),
        ("count", c_uint32),
        ("error", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
        ("esi", c_uint32),
        ("edi", c_uint32),
        ("eflags", c_uint32),
        ("handle", c_uint32),
        ("data", c_uint8 * 4048),
    ]
    _notes_ = {
        "operation": "Operation number, index of the server's table",
        "flags": "MessageFlags",
        "reply": "ReplyType, written by the kernel after the page has left the server",
        "count": "request: bytes of data; reply: bytes of data, or number of addresses",
        "error": "ErrorCode; 0 when the request succeeded",
        "eflags": "arithmetic flags that the client sees (CF set on error)",
        "handle": "slot index + generation * 256, which the server passes to the reply gate",
        "data": "request or reply data, or physical addresses of 8 bytes",
    }


assert size_of(Message) == PAGE_SIZE
assert offset_of(Message, "data") == 48

MESSAGE_DATA_SIZE: Final = 4048
MESSAGE_ADDRESSES: Final = MESSAGE_DATA_SIZE // 8


class BatchEntry(Layout):
    """One request of a batch: Message.data of Operation.BATCH, and the caller's memory, are an array of these."""

    _fields_ = [
        ("operation", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
        ("esi", c_uint32),
        ("edi", c_uint32),
        ("eflags", c_uint32),
    ]
    _notes_ = {
        "operation": "Operation that ring 3 may make by the IPC gate, not BATCH",
        "eax": "this register and the five after it: the request's, afterwards the reply's",
        "eflags": "afterwards: the reply's arithmetic flags (CF set on error)",
    }


BATCH_ENTRY_SHIFT: Final = 5  # log2(sizeof(BatchEntry))
assert size_of(BatchEntry) == 1 << BATCH_ENTRY_SHIFT
assert BATCH_ENTRIES * size_of(BatchEntry) <= MESSAGE_DATA_SIZE


class MessageFlags(IntFlag):
    """Flags of a message."""

    DATA = 1  # the request carries `count` bytes of data
    POSTED = 2  # no reply is awaited


class SlotRecord(Layout):
    """One of the 32 records of an endpoint; kernel only."""

    _fields_ = [
        ("physical", c_uint64),
        ("linear", c_uint32),
        ("selector", c_uint16),
        ("client", c_uint16),
    ]
    _notes_ = {
        "physical": "physical address of the message page",
        "linear": "linear address in the server, where the page is mapped while the request is served",
        "selector": "kernel data selector of the message page",
        "client": "selector of the client's thread control block; 0 when no thread waits any longer",
    }


assert size_of(SlotRecord) == 16


class SlotState(IntEnum):
    """Where a slot is on its way round (`Endpoint.state`)."""

    FREE = 0
    TAKEN = 1  # a client fills it
    POSTED = 2  # its index is in the ring
    SERVED = 3  # mapped in the server
    DONE = 4  # the client may reload


class EndpointFlags(IntFlag):
    """Flags of an endpoint."""

    DEAD = 1  # the server is gone or the disk is unplugged; requests fail


class Endpoint(Layout):
    """An endpoint, where a server takes requests: slot records, masks, ring; one kernel page with its own selector.

    A ring cell holds slot index + 32 * (lap mod 8), where lap = ticket / 32.  A consumer reads the cell
    first and then claims its ticket by compare-and-exchange on `head`, so a cell never has to be cleared
    and a slow consumer never loses an index (docs/design.md, "The ring").
    """

    _fields_ = [
        ("slots", SlotRecord * SLOTS),
        ("unused", c_uint32),
        ("free", c_uint32),
        ("head", c_uint32),
        ("tail", c_uint32),
        ("ring", c_uint8 * SLOTS),
        ("idle", c_uint32),
        ("slot_waiters", c_uint32),
        ("flags", c_uint32),
        ("window_table", c_uint32),
        ("window_base", c_uint32),
        ("selector", c_uint32),
        ("number", c_uint32),
        ("servers", c_uint16 * SLOTS),
        ("server_of", c_uint16 * SLOTS),
        ("handles", c_uint32 * SLOTS),
        ("state", c_uint8 * SLOTS),
        ("replies", c_uint32),
        ("blocking_waits", c_uint32),
        ("full_waits", c_uint32),
        ("bad_replies", c_uint32),
        ("aborted", c_uint32),
        ("tokens", c_uint32 * SLOTS),
        ("span_pages", c_uint32 * SPAN_PAGES),
        ("fast", c_uint32),
        ("space", c_uint32),
    ]
    _notes_ = {
        "slots": "the 32 slot records",
        "unused": "mask: slot never used, has no page yet",
        "free": "mask: slot has a page and is free",
        "head": "ticket of the next request to fetch",
        "tail": "ticket of the next request to post: the number of requests posted so far, modulo 2^32",
        "ring": "slot indexes of posted requests, with the lap in the upper three bits",
        "idle": "mask: server thread k sleeps (or is about to) and wants to be signalled",
        "slot_waiters": "number of threads that wait for a slot",
        "flags": "EndpointFlags",
        "window_table": "kernel linear address of the page-table entry of slot 0's page in the server",
        "window_base": "linear address of slot 0's page in the server",
        "selector": "selector of this block",
        "number": "index of the endpoint",
        "servers": "selectors of the server threads, indexed like `idle`",
        "server_of": "selector of the thread that was given the slot's request and has not answered it; 0 = none",
        "handles": "the handle that answers the slot's present request: slot index + generation * 256",
        "state": "SlotState",
        "replies": "replies taken from servers",
        "blocking_waits": "waits of clients for a reply, or data of a READ, but for those that took the direct switch",
        "full_waits": "waits of clients for a slot",
        "bad_replies": "replies refused by the kernel",
        "aborted": "requests given up: client or server died, disk unplugged",
        "tokens": "by slot: 0, or which request of policy's own the slot holds: no client takes its reply",
        "span_pages": "linear addresses of the pages of its array of SpanRecords, 0 = none yet; 128 records in each",
        "fast": "requests that took the direct switch; all others have been posted",
        "space": "page-directory-pointer table of the server's process",
    }


assert size_of(Endpoint) <= PAGE_SIZE

#: Fields that several CPUs change at once: machine code writes them by locked instructions only (rule 9).  All others
#: have one writer at a time: the owner of the slot, or policy.
ENDPOINT_SHARED: Final = (
    *("unused", "free", "head", "tail", "ring", "idle", "slot_waiters"),
    *("replies", "full_waits", "bad_replies", "aborted", "fast"),
)
TOKEN_RELEASES: Final = 0xFFFF_FFFF  # in `Endpoint.tokens`: the slot holds a deferred release, else a span's number
HANDLE_SLOT_MASK: Final = 0xFF
HANDLE_GENERATION_SHIFT: Final = 8
SLOT_RECORD_SHIFT: Final = 4  # log2(sizeof(SlotRecord))
RING_LAP_MASK: Final = 0xE0  # the lap's bits in a ring cell: bits 5 to 7 of the ticket
RING_CELL_UNPUBLISHED: Final = 0xE0  # lap 7, slot 0: what every cell holds before lap 0
