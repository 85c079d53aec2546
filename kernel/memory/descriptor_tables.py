"""The GDT as policy fills it: a selector each for threads, endpoints and message pages; and the LDT of servers.

The encoding of descriptors is the machine's (`machine.cpu.descriptors`); `abi.selectors` and the managers decide which
entry is whose.
"""

from callgate.kernel.abi import selectors
from callgate.kernel.machine.cpu.descriptors import (
    TYPE_CALL_GATE,
    TYPE_CODE_READABLE,
    TYPE_DATA_WRITABLE,
    TYPE_LDT,
    TYPE_TSS,
    Gate,
    Segment,
)
from callgate.kernel.machine.memory.ram import Ram

FLAT = 0xFFFF_FFFF


class GlobalTable:
    """The GDT in guest memory."""

    def __init__(self, ram: Ram, physical: int) -> None:
        """Take the place of the table."""
        self.ram = ram
        self.physical = physical

    def put(self, selector: int, descriptor: int) -> None:
        """Write an entry."""
        self.ram.put_u64(self.physical + (selector & ~7), descriptor)

    def clear(self, selector: int) -> None:
        """Make an entry unusable."""
        self.put(selector, 0)

    def put_data(self, selector: int, base: int, limit: int) -> None:
        """Make an entry a writable data segment of ring 0."""
        self.put(selector, Segment(base, limit, TYPE_DATA_WRITABLE).encode())

    def put_no_endpoints(self, base: int, limit: int) -> None:
        """Lead the selectors of all endpoints to a block that stands for those that there are not."""
        for index in range(selectors.GDT_FIRST_ENDPOINT, selectors.GDT_FIRST_THREAD):
            self.put_data(index * 8, base, limit)

    def put_fixed(self, tss: int, tss_limit: int, system_gate: int, ipc_gate: int) -> None:
        """Write flat segments, TSS and the call gates that every process has."""
        self.put(selectors.SELECTOR_KERNEL_CODE, Segment(0, FLAT, TYPE_CODE_READABLE).encode())
        self.put(selectors.SELECTOR_KERNEL_DATA, Segment(0, FLAT, TYPE_DATA_WRITABLE).encode())
        self.put(selectors.SELECTOR_USER_CODE, Segment(0, FLAT, TYPE_CODE_READABLE, 3).encode())
        self.put(selectors.SELECTOR_USER_DATA, Segment(0, FLAT, TYPE_DATA_WRITABLE, 3).encode())
        self.put(selectors.SELECTOR_TSS, Segment(tss, tss_limit, TYPE_TSS, big=False).encode())
        self.put(selectors.SELECTOR_SYSTEM_GATE, call_gate(system_gate))
        self.put(selectors.SELECTOR_IPC_GATE, call_gate(ipc_gate))

    def put_server_table(self, linear: int, physical: int, server_gate: int) -> None:
        """Write the LDT that the threads of servers have: its only entry is the gate that serves them."""
        table = Segment(linear, selectors.LDT_ENTRIES * 8 - 1, TYPE_LDT, big=False)
        self.put(selectors.SELECTOR_SERVER_TABLE, table.encode())
        self.ram.put_u64(physical + (selectors.SELECTOR_SERVER_GATE & ~7), call_gate(server_gate))


def call_gate(offset: int) -> int:
    """Return a call gate of ring 3 to a routine of the kernel."""
    return Gate(selectors.SELECTOR_KERNEL_CODE, offset, TYPE_CALL_GATE, 3).encode()
