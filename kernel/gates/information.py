"""Information for programs about threads, servers and the run's counters, in the layouts of the ABI."""

from __future__ import annotations

from ctypes import c_uint8
from typing import TYPE_CHECKING

from callgate.kernel.abi.calls import HOST_CALL_FIRST, SERVER_CALL_FIRST, HostCall, WaitReason
from callgate.kernel.abi.thread import IpcInformation, LedgerInformation, ProcessInformation, ThreadState
from callgate.kernel.core.control_block import ControlBlock, field_text
from callgate.kernel.core.records import EndpointState, Thread
from callgate.kernel.gates.host_calls import CALL_NAMES

if TYPE_CHECKING:
    from callgate.kernel.machine.observation.ledger import Counts

LEDGER_FIELDS = (
    "guest_instructions",
    "cr3_loads",
    "pte_writes",
    "tlb_invalidations",
    "ring_changes",
    "blocking_waits",
    "requests",
    "fast_requests",
    "fast_replies",
    "batched_requests",
    "fast_handoffs",
    "metadata_bytes",
    "program_bytes",
    "server_bytes",
    "inflated_bytes",
)
IPC_FIELDS = (
    "number",
    "unused",
    "free",
    "head",
    "tail",
    "idle",
    "slot_waiters",
    "flags",
    "replies",
    "blocking_waits",
    "full_waits",
    "bad_replies",
    "aborted",
    "fast",
)


def thread_information(thread: Thread, state: ThreadState, reason: WaitReason, retired: int) -> ProcessInformation:
    """Return a thread's entry for PROCESS_INFORMATION: what it does, what it waits for, instructions retired."""
    return ProcessInformation(
        thread.process.number,
        thread.number,
        state,
        reason,
        thread.priority,
        thread.selector,
        retired,
        len(thread.process.pages),
        field_text(thread.name.encode(), 28),
    )


def ipc_information(endpoint: EndpointState, fields: ControlBlock, states: memoryview) -> IpcInformation:
    """Return a server's entry for IPC_INFORMATION, from its block's `fields` and the `states` of its 32 slots."""
    information = IpcInformation(threads=len(endpoint.servers), name=field_text(endpoint.name.encode(), 32))
    for name in IPC_FIELDS:
        setattr(information, name, fields[name])
    information.requests = fields["tail"] + fields["fast"] & 0xFFFF_FFFF
    information.blocking_waits = fields["blocking_waits"] + fields["fast"] & 0xFFFF_FFFF
    information.state = (c_uint8 * 32)(*states)
    return information


def ledger_information(counts: Counts) -> LedgerInformation:
    """Return the run's counters for LEDGER."""
    totals = {name: getattr(counts, name) for name in LEDGER_FIELDS}
    information = LedgerInformation(
        **totals,
        ring0_instructions=counts.ring0,
        ring3_instructions=counts.ring3,
        host_calls=counts.host_call_count,
        exceptions=sum(counts.exceptions.values()),
        interrupts=sum(counts.interrupts.values()),
        dma_bytes=sum(counts.dma_bytes.values()),
        cpu_file_bytes=sum(counts.cpu_file_bytes.values()),
    )
    for call in HostCall:
        information.host_call[call - HOST_CALL_FIRST] = counts.host_calls.get(call.name.lower(), 0)
    for number, name in CALL_NAMES[HostCall.SYSTEM].items():
        information.system_call[number] = counts.host_calls.get(name, 0)
    for number, name in CALL_NAMES[HostCall.SERVER].items():
        if number >= SERVER_CALL_FIRST:
            information.server_call[number - SERVER_CALL_FIRST] = counts.host_calls.get(name, 0)
    return information
