"""What the page of `page.html` shows, as plain data: each step of each request, with what changed and what it cost.

Most of a scene is that of the step before, so a step holds only what differs (`apply` in page.js puts it together
again).  Numbers stay numbers; the page writes them in hexadecimal.
"""

from __future__ import annotations

from typing import Any, Final

from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import (
    PTE_ACCESSED,
    PTE_CACHE_DISABLE,
    PTE_DIRTY,
    PTE_GLOBAL,
    PTE_PRESENT,
    PTE_USER,
    PTE_WRITABLE,
)
from callgate.kernel.abi.message import MessageFlags, ReplyType
from callgate.kernel.machine.cpu.paging import ADDRESS, NX
from callgate.kernel.machine.observation.ledger import Counts
from callgate.tools.pictures.records import REGISTERS, Held, Request, RunRecord, Scene, Step
from callgate.tools.pictures.steps import DIRECT, TEXTS
from callgate.tools.pictures.svg import printable

Plain = dict[str, Any]
BITS: Final = (
    *((PTE_PRESENT, "P"), (PTE_WRITABLE, "W"), (PTE_USER, "U"), (PTE_CACHE_DISABLE, "CD"), (PTE_ACCESSED, "A")),
    *((PTE_DIRTY, "D"), (PTE_GLOBAL, "G"), (NX, "NX")),
)
NO_ENTRY: Final = "none: the page is not mapped"
DROPPED: Final = "none: INVLPG has been executed"
UNTOUCHED: Final = "none: the page has not been touched since it was mapped"
MAYBE: Final = "the server's accesses have loaded one"
FLUSHED: Final = "none: CR3 has been loaded since the server touched the page"


def page_data(recording: RunRecord) -> Plain:
    """Return all that the page shows."""
    return {
        "command": recording.command,
        "images": list(recording.images),
        "end": recording.end,
        "total": cost_of(recording.total),
        "registers": list(REGISTERS),
        "operations": {str(one.value): one.name for one in Operation},
        "texts": {kind: list(text) for kind, text in TEXTS.items()},
        "direct": {kind: list(text) for kind, text in DIRECT.items()},
        "threads": {str(one.number): [one.name, one.process, one.role] for one in recording.threads.values()},
        "requests": [_request(request) for request in recording.requests],
    }


def cost_of(counts: Counts) -> Plain:
    """Return what is not zero of a ledger's difference, by the keys of docs/ledger.md."""
    shown: Plain = {}
    for key, value in counts.as_dict().items():
        kept = {name: number for name, number in value.items() if number} if isinstance(value, dict) else value
        if kept:
            shown[key] = kept
    return shown


def _request(request: Request) -> Plain:
    steps: list[Plain] = []
    before: Plain = {}
    tlb = NO_ENTRY
    for step in request.steps:
        tlb = _translation(step, tlb)
        now = scene_of(step.scene) | {"tlb": tlb}
        changed = {key: value for key, value in now.items() if before.get(key, ...) != value}
        before = now
        shown = {"k": step.kind, "t": step.clock, "by": step.thread, "cost": cost_of(step.cost), "s": changed}
        steps.append(shown | ({"d": printable(step.detail)} if step.detail else {}))
    return {
        "n": request.number,
        "endpoint": printable(request.endpoint),
        "slot": request.slot,
        "operation": printable(request.operation),
        "client": request.client,
        "server": request.server,
        "posted": request.posted,
        "direct": request.direct,
        "ended": request.ended,
        "error": _name(ErrorCode, request.error) if request.error else "",
        "steps": steps,
        "cost": cost_of(request.cost),
    }


def scene_of(scene: Scene) -> Plain:
    """Return a scene, flat: one key for each thing that the page shows by itself."""
    message, slot, endpoint = scene.message, scene.slot, scene.endpoint
    reply = message.reply & ~SERVER_CALL_NO_WAIT
    return {
        "cpu": list(scene.cpu.registers),
        "eip": scene.cpu.eip,
        "place": printable(scene.cpu.place),
        "ring3": int(scene.cpu.ring == 3),
        "cr3": scene.cpu.cr3,
        "message": list(message.registers),
        "operation": message.operation,
        "flags": [message.flags, _flags(message.flags)],
        "reply": [message.reply, _name(ReplyType, reply) if reply else ""],
        "count": message.count,
        "error": [message.error, _name(ErrorCode, message.error) if message.error else ""],
        "eflags": message.eflags,
        "handle": message.handle,
        "data": printable(message.data),
        "state": slot.state,
        "record": [slot.physical, slot.linear, slot.selector],
        "waiting": [slot.client, printable(slot.client_name)],
        "server_of": [slot.server, printable(slot.server_name)],
        "live": slot.handle,
        "masks": [endpoint.unused, endpoint.free, endpoint.idle],
        "ring": list(endpoint.ring),
        "head": endpoint.head,
        "tail": endpoint.tail,
        "waiters": endpoint.slot_waiters,
        "dead": endpoint.flags,
        "pte": [f"{scene.page_entry:#018x}", entry_bits(scene.page_entry)],
        "linear": scene.page_linear,
        "server_cr3": scene.server_cr3,
        "client": _held(scene.client),
        "server": _held(scene.server),
    }


def entry_bits(entry: int) -> str:
    """Return a page-table entry in words."""
    if not entry & PTE_PRESENT:
        return "not present"
    return f"{entry & ADDRESS:#x} " + " ".join(name for bit, name in BITS if entry & bit)


def _held(held: Held | None) -> list[Any] | None:
    return None if held is None else [held.where, list(held.registers)]


def _translation(step: Step, before: str) -> str:
    """Return what the TLB may hold of the server's page; `before` is what it might hold at the step before.

    It cannot be read.  The server may have had an entry loaded as soon as it runs with the page mapped (SDM vol. 3,
    4.10.2.3: the accessed bit is set from the start); INVLPG and loads of CR3 drop it (4.10.4.1).
    """
    entry = step.scene.page_entry
    if entry & PTE_PRESENT and before not in (UNTOUCHED, MAYBE, FLUSHED):
        return UNTOUCHED
    if step.scene.cpu.cr3 != step.scene.server_cr3 and before in (MAYBE, FLUSHED):
        return FLUSHED
    if entry & PTE_PRESENT:
        return MAYBE
    return DROPPED if before == MAYBE and step.cost.tlb_invalidations else before


def _flags(flags: int) -> str:
    return " ".join(flag.name or "" for flag in MessageFlags if flags & flag)


def _name(names: Any, value: int) -> str:
    try:
        return str(names(value).name)
    except ValueError:
        return f"{value:#x}"
