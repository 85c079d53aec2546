"""Selectors and descriptors (Intel SDM vol. 3, 3.4.2, 3.4.5, 3.5 and 6.11)."""

from __future__ import annotations

from typing import Final

from callgate.kernel.abi import selectors
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from callgate.kernel.machine.cpu.tables import decode
from callgate.tools.explaining.answers import Answer, Bit, Part, of_bits

SELECTOR: Final = [
    Bit(0, 2, "RPL", "requested privilege level"),
    Bit(2, 1, "TI", "in the LDT; clear: in the GDT"),
    Bit(3, 13, "index", "of the descriptor"),
]
SYSTEM_TYPES: Final = {
    1: "16-bit TSS",
    2: "LDT",
    3: "16-bit TSS, busy",
    4: "16-bit call gate",
    5: "task gate",
    6: "16-bit interrupt gate",
    7: "16-bit trap gate",
    9: "TSS",
    11: "TSS, busy",
    12: "call gate",
    14: "interrupt gate",
    15: "trap gate",
}
RANGES: Final = (
    (selectors.GDT_FIRST_THREAD, selectors.MAX_THREADS, "control block of the thread with place"),
    (selectors.GDT_FIRST_ENDPOINT, selectors.MAX_ENDPOINTS, "block of endpoint"),
)
NOT_USED: Final = "not used"
FIXED: Final = {
    selectors.SELECTOR_KERNEL_CODE: "kernel code, flat",
    selectors.SELECTOR_KERNEL_DATA: "kernel data, flat",
    selectors.SELECTOR_USER_CODE: "code of ring 3",
    selectors.SELECTOR_USER_DATA: "data of ring 3",
    selectors.SELECTOR_TSS: "task-state segment",
    selectors.SELECTOR_SERVER_TABLE: "the LDT of servers, whose only entry is the server gate",
    selectors.SELECTOR_SYSTEM_GATE: "the system gate: a call gate that every program may call",
    selectors.SELECTOR_IPC_GATE: "the IPC gate: a call gate that every program may call",
}


def selector(value: int | None) -> Answer:
    """Explain a selector, and what this kernel keeps under it."""
    answer = of_bits("selector", value, 16, SELECTOR)
    if value is None:
        return answer
    rpl, local, index = value & 3, bool(value & 4), value >> 3
    answer.summary = f"entry {index} of the {'LDT' if local else 'GDT'}, RPL {rpl}"
    answer.notes = [f"here: {owner(index, local=local)}"]
    if not local and not index:
        answer.summary = f"null selector, RPL {rpl}"
    return answer


def known(value: int) -> bool:
    """Whether a number is a selector, with RPL 0 or 3, of something that this kernel keeps."""
    index, local, rpl = value >> 3, bool(value & 4), value & 3
    if rpl not in (0, 3) or not index or index >= selectors.GDT_ENTRIES:
        return False
    return index == selectors.SELECTOR_SERVER_GATE >> 3 if local else owner(index, local=False) != NOT_USED


def owner(index: int, *, local: bool) -> str:
    """Return what this kernel keeps in an entry of the GDT or of an LDT."""
    if local:
        gate = selectors.SELECTOR_SERVER_GATE >> 3
        return (
            "the server gate, in processes of servers only"
            if index == gate
            else "nothing; only the server gate is in an LDT"
        )
    if not index:
        return "nothing: a segment register may hold it, and an access through it is #GP(0)"
    for value, what in FIXED.items():
        if value >> 3 == index:
            return what
    for first, count, what in RANGES:
        if first <= index < first + count:
            return f"{what} {index - first}"
    if selectors.GDT_FIRST_MESSAGE <= index < selectors.GDT_FIRST_MESSAGE + selectors.MAX_MESSAGES:
        endpoint, slot = divmod(index - selectors.GDT_FIRST_MESSAGE, selectors.SLOTS)
        return f"message page of slot {slot} of endpoint {endpoint}"
    return (
        f"beyond the GDT, which has {selectors.GDT_ENTRIES} entries: #GP"
        if index >= selectors.GDT_ENTRIES
        else NOT_USED
    )


def descriptor(value: int | None) -> Answer:
    """Explain a descriptor of eight bytes, written as one number."""
    if value is None:
        return Answer("descriptor", "", "eight bytes as one number, such as 00cffa000000ffff")
    answer = Answer("descriptor", f"{value:#018x}")
    found = decode(value)
    kind = value >> 40 & 0x1F
    if not value:
        answer.summary = "null descriptor"
        return answer
    if isinstance(found, Gate):
        _gate(answer, found, kind)
    else:
        _segment(answer, found, value, kind)
    answer.parts.append(Part("bits 46:45", "DPL", str(found.dpl), "the ring that may use it"))
    answer.parts.append(
        Part("bit 47", "P", str(int(found.present)), "present" if found.present else "loading it is #NP")
    )
    return answer


def _gate(answer: Answer, gate: Gate, kind: int) -> None:
    name = SYSTEM_TYPES.get(kind, f"reserved type {kind:#x}")
    answer.summary = f"{name}, target {gate.selector:#06x}:{gate.offset:#010x}, DPL {gate.dpl}"
    answer.parts += [
        Part(
            "bits 31:16",
            "selector",
            f"{gate.selector:#06x}",
            f"{owner(gate.selector >> 3, local=bool(gate.selector & 4))}",
        ),
        Part("bits 63:48, 15:0", "offset", f"{gate.offset:#010x}", "where it leads"),
        Part("bits 44:40", "type", f"{kind:#x}", name),
    ]
    if kind == 12:
        answer.parts.append(Part("bits 36:32", "parameters", str(gate.parameters), "dwords copied to the new stack"))


def _segment(answer: Answer, segment: Segment, value: int, kind: int) -> None:
    name = _type(segment, kind)
    answer.summary = f"{name}, base {segment.base:#010x}, limit {segment.limit:#010x}, DPL {segment.dpl}"
    scale = "in units of 4 KiB" if value >> 55 & 1 else "in bytes"
    answer.parts += [
        Part("bits 63:56, 39:16", "base", f"{segment.base:#010x}", ""),
        Part(
            "bits 51:48, 15:0",
            "limit",
            f"{value >> 32 & 0xF0000 | value & 0xFFFF:#07x}",
            f"{scale}: {segment.limit:#010x}",
        ),
        Part("bits 44:40", "type", f"{kind:#x}", name),
        Part("bit 52", "AVL", str(value >> 52 & 1), "the system's own"),
        Part("bit 53", "L", str(value >> 53 & 1), "code of 64 bits; reserved here"),
        Part(
            "bit 54",
            "D/B",
            str(value >> 54 & 1),
            "32 bits are the default" if value >> 54 & 1 else "16 bits are the default",
        ),
        Part("bit 55", "G", str(value >> 55 & 1), f"the limit is {scale}"),
    ]


def _type(segment: Segment, kind: int) -> str:
    if not kind & 16:
        return SYSTEM_TYPES.get(kind, f"reserved type {kind:#x}")
    accessed = ", accessed" if kind & 1 else ""
    if segment.code:
        return (
            f"code, {'execute and read' if kind & 2 else 'execute only'}{', conforming' if kind & 4 else ''}{accessed}"
        )
    return f"data, {'read and write' if kind & 2 else 'read only'}{', expand-down' if kind & 4 else ''}{accessed}"
