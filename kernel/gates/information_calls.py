"""System calls that return information about volumes, threads, servers, the run's counters and the clock."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from callgate.kernel.abi.calls import SystemCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.abi.thread import ThreadState
from callgate.kernel.abi.volume import VOLUME_BRIEFLY, VOLUME_UNASKED
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.errors import CallerError
from callgate.kernel.core.records import Tasks, Thread
from callgate.kernel.files.paths import listed
from callgate.kernel.gates.caller import Caller
from callgate.kernel.gates.information import ipc_information, ledger_information, thread_information
from callgate.kernel.gates.system_calls import Handler
from callgate.kernel.gates.volume_information import BRIEFLY, PATIENCE, VolumeQueries
from callgate.kernel.ipc.slots import Slots


class InformationCalls:
    """VOLUME_INFORMATION to CLOCK."""

    def __init__(self, caller: Caller, tasks: Tasks, slots: Slots, volume_queries: VolumeQueries) -> None:
        self.caller = caller
        self.guest = caller.guest
        self.tasks = tasks
        self.slots = slots
        self.scheduler = slots.scheduler
        self.endpoints = slots.state
        self.volume_queries = volume_queries

    @property
    def table(self) -> dict[int, Handler]:
        """The handlers of these calls by number."""
        return {
            SystemCall.VOLUME_INFORMATION: self.volume_information,
            SystemCall.PROCESS_INFORMATION: self.process_information,
            SystemCall.IPC_INFORMATION: self.ipc_information,
            SystemCall.LEDGER: self.ledger,
            SystemCall.CLOCK: self.clock,
        }

    async def volume_information(self, thread: Thread, frame: ControlBlock) -> None:
        """VOLUME_INFORMATION: describe the EBX-th volume at EDI; NOT_FOUND after the last one."""
        volumes = listed(self.endpoints)
        index = frame["ebx"] & ~(VOLUME_UNASKED | VOLUME_BRIEFLY)
        if index >= len(volumes):
            raise CallerError(ErrorCode.NOT_FOUND)
        if frame["ebx"] & VOLUME_UNASKED:
            information = self.volume_queries.known(volumes[index])
        else:
            patience = BRIEFLY if frame["ebx"] & VOLUME_BRIEFLY else PATIENCE
            information = await self.volume_queries.describe(volumes[index], patience)
        later = self.caller.give(thread.process, frame["edi"], information)
        if later is not None:
            await later

    def process_information(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """PROCESS_INFORMATION: describe the EBX-th thread at EDI; NOT_FOUND after the last one."""
        threads = sorted(self.tasks.threads.values(), key=lambda item: item.number)
        if frame["ebx"] >= len(threads):
            raise CallerError(ErrorCode.NOT_FOUND)
        item = threads[frame["ebx"]]
        scheduler, retired = self.scheduler, self.guest.machine.ledger.turns.retired(item.selector)
        state = scheduler.state_of(item)
        if state is ThreadState.RUNNING and item is not thread:
            state = ThreadState.READY  # the idle thread, while another one runs
        information = thread_information(item, state, scheduler.reason_of(item), retired)
        return self.caller.give(thread.process, frame["edi"], information)

    def ipc_information(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """IPC_INFORMATION: describe the EBX-th server's slots, masks, ring and counters at EDI; NOT_FOUND."""
        endpoints = list(self.endpoints.by_number.values())
        if frame["ebx"] >= len(endpoints):
            raise CallerError(ErrorCode.NOT_FOUND)
        endpoint = endpoints[frame["ebx"]]
        fields = self.slots.block(endpoint)
        states = self.guest.ram.view(endpoint.block + offset_of(Endpoint, "state"), 32)
        information = ipc_information(endpoint, fields, states)
        return self.caller.give(thread.process, frame["edi"], information)

    def ledger(self, thread: Thread, frame: ControlBlock) -> Coroutine[Any, Any, None] | None:
        """LEDGER: copy the run's counters to EDI."""
        return self.caller.give(thread.process, frame["edi"], ledger_information(self.guest.machine.ledger.counts()))

    def clock(self, _thread: Thread, frame: ControlBlock) -> None:
        """CLOCK: return the number of retired instructions in EDX:EAX."""
        retired = self.guest.machine.clock.retired
        frame["eax"], frame["edx"] = retired & 0xFFFF_FFFF, retired >> 32
