"""Invariants of the GDT and the LDT of servers, for `Kernel.check`: Intel SDM vol. 3, 3.4.5, 3.5 and 6.8.3.

All hold between any two instructions.  Descriptors are put together here once more, not by `machine.cpu.descriptors`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from callgate.kernel.abi import selectors
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.thread import TCB_SIZE, TaskState, ThreadControlBlock
from callgate.kernel.programs import kernel_labels
from callgate.kernel.watching.check_facts import WORD, Facts

ACCESSED = 1 << 40  # type bit 0 of code and data: the CPU sets it
CODE_OR_DATA = 1 << 44
BUSY = 1 << 41  # type bit 1 of a TSS
RING_3 = 3 << 45  # DPL
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA = 0x9A, 0x92, 0xFA, 0xF2  # access bytes
TASK_STATE, LDT, CALL_GATE = 0x89, 0x82, 0xEC
SIZE_32 = 4  # flag D/B
FLAT = 0xFFFF_FFFF
FOR_RING_3 = {
    selector >> 3
    for selector in (
        selectors.SELECTOR_USER_CODE,
        selectors.SELECTOR_USER_DATA,
        selectors.SELECTOR_SYSTEM_GATE,
        selectors.SELECTOR_IPC_GATE,
    )
}
TCB_SELECTOR = offset_of(ThreadControlBlock, "selector")
TCB_LDT = offset_of(ThreadControlBlock, "ldt")


def only_four_entries_are_for_ring_3(facts: Facts) -> Iterator[str]:
    """DPL is 3 in four entries of the GDT: flat code, flat data, the system gate, the IPC gate."""
    for index, descriptor in facts.descriptors.items():
        if descriptor & RING_3 == RING_3 and index not in FOR_RING_3:
            yield f"GDT entry {index:#x} has DPL 3"


def descriptors_match_their_owners(facts: Facts) -> Iterator[str]:
    """Each entry of the GDT has an owner and says what that is, base, limit and type; every other one is empty.

    Entries of endpoints that there are not lead to a block that stands for them.

    Message pages of a volume that has died keep theirs until the number's next volume uses the slot: a thread
    that was interrupted on its way out may have one in ES, and would fault at its return.
    """
    expected = _fixed(tuple(map(facts.kernel.guest.address, FIXED))) | dict(_owned(facts))
    for index in sorted(expected.keys() | facts.descriptors.keys()):
        descriptor = facts.gdt[index]
        if index not in expected and index >= selectors.GDT_FIRST_MESSAGE and _is_page(descriptor):
            continue
        value, owner = expected.get(index, (0, "no one"))
        if value != descriptor and _settled(descriptor) != value:
            yield f"GDT entry {index:#x} of {owner} is {descriptor:#018x}, not {value:#018x}"


def selectors_lead_to_control_blocks(facts: Facts) -> Iterator[str]:
    """A thread's selector leads through the page tables to the control block on record, which names that selector."""
    for thread in facts.state.tasks.threads.values():
        page = facts.stack_pages.get(thread.stack & -PAGE_SIZE, 0)
        at = page + thread.stack % PAGE_SIZE
        if at != thread.tcb * WORD or facts.words[(at + TCB_SELECTOR) // WORD] != thread.selector:
            yield f"thread {thread.number}: selector {thread.selector:#x} leads to {at:#x}, not to its control block"


def the_server_gate_is_for_servers_only(facts: Facts) -> Iterator[str]:
    """The LDT is empty but for the server gate, and the threads of server processes are the only ones that have it."""
    table = facts.kernel.guest.physical(kernel_labels.SERVER_TABLE) >> 3
    gate = _gate(facts.kernel.guest.address(kernel_labels.SERVER_GATE))
    for index, entry in enumerate(facts.quads[table : table + selectors.LDT_ENTRIES].tolist()):
        if entry != (gate if index == selectors.SELECTOR_SERVER_GATE >> 3 else 0):
            yield f"LDT entry {index} is {entry:#018x}"
    for thread in facts.state.tasks.threads.values():
        ldt = facts.words[thread.tcb + TCB_LDT // WORD]
        if ldt != (selectors.SELECTOR_SERVER_TABLE if thread.process.endpoint >= 0 else 0):
            yield f"thread {thread.number} ({thread.name}) of process {thread.process.number} has the LDT {ldt:#x}"


# What the entries must be.


FIXED = (
    *(kernel_labels.TASK_STATE, kernel_labels.SYSTEM_GATE, kernel_labels.IPC_GATE),
    *(kernel_labels.SERVER_TABLE, kernel_labels.NO_ENDPOINT, kernel_labels.NO_ENDPOINT_END),
)


@lru_cache(maxsize=8)
def _fixed(addresses: tuple[int, ...]) -> dict[int, tuple[int, str]]:
    """Return what the entries must be that have no owner, given the addresses of `FIXED`."""
    task_state, system_gate, ipc_gate, server_table, none, none_end = addresses
    flat = {
        selectors.SELECTOR_KERNEL_CODE: (KERNEL_CODE, "kernel code"),
        selectors.SELECTOR_KERNEL_DATA: (KERNEL_DATA, "kernel data"),
        selectors.SELECTOR_USER_CODE: (USER_CODE, "user code"),
        selectors.SELECTOR_USER_DATA: (USER_DATA, "user data"),
    }
    found = {selector >> 3: (_segment(0, FLAT, access, SIZE_32), name) for selector, (access, name) in flat.items()}
    found[selectors.SELECTOR_TSS >> 3] = _segment(task_state, size_of(TaskState) - 1, TASK_STATE, 0), "the TSS"
    found[selectors.SELECTOR_SYSTEM_GATE >> 3] = _gate(system_gate), "the system gate"
    found[selectors.SELECTOR_IPC_GATE >> 3] = _gate(ipc_gate), "the IPC gate"
    table = _segment(server_table, selectors.LDT_ENTRIES * 8 - 1, LDT, 0)
    found[selectors.SELECTOR_SERVER_TABLE >> 3] = table, "the LDT of servers"
    entry = _data(none, none_end - 1 - none)
    for index in range(selectors.GDT_FIRST_ENDPOINT, selectors.GDT_FIRST_THREAD):
        found[index] = entry, "the endpoints that there are not"
    return found


def _owned(facts: Facts) -> Iterator[tuple[int, tuple[int, str]]]:
    state = facts.state
    for thread in (*state.tasks.threads.values(), *state.tasks.dead_threads):
        yield thread.selector >> 3, (_data(thread.stack, TCB_SIZE - 1), f"thread {thread.number}")
    for endpoint in state.endpoints.by_number.values():
        name = f"the endpoint block of {endpoint.name}"
        yield selectors.GDT_FIRST_ENDPOINT + endpoint.number, (_page(endpoint.block), name)
        first = selectors.GDT_FIRST_MESSAGE + endpoint.number * selectors.SLOTS
        for slot, frame in endpoint.frames.items():
            yield first + slot, (_page(frame), f"message page {slot} of {endpoint.name}")


def _page(frame: int) -> int:
    return _data(KERNEL_BASE + frame, PAGE_SIZE - 1)


def _is_page(descriptor: int) -> bool:
    return _settled(descriptor) == _page(_base(descriptor) - KERNEL_BASE)


def _data(base: int, limit: int) -> int:
    return _segment(base, limit, KERNEL_DATA, SIZE_32)


def _segment(base: int, limit: int, access: int, flags: int) -> int:
    if limit >> 20:
        limit, flags = limit >> 12, flags | 8  # G: in pages
    low = (base & 0xFF_FFFF) << 16 | limit & 0xFFFF
    return base >> 24 << 56 | flags << 52 | limit >> 16 << 48 | access << 40 | low


def _gate(offset: int) -> int:
    return offset >> 16 << 48 | CALL_GATE << 40 | selectors.SELECTOR_KERNEL_CODE << 16 | offset & 0xFFFF


def _base(descriptor: int) -> int:
    return descriptor >> 16 & 0xFF_FFFF | descriptor >> 56 << 24


def _settled(descriptor: int) -> int:
    """Return a descriptor without what the CPU writes into it."""
    if descriptor & CODE_OR_DATA:
        return descriptor & ~ACCESSED
    return descriptor & ~BUSY if descriptor >> 40 & 0xFF == TASK_STATE | 2 else descriptor
