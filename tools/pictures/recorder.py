"""The one collector: it turns the events of a system into a `RunRecord`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.calls import HostCall, Operation, ServerCall, SystemCall
from callgate.kernel.abi.memory import PAGE_SIZE, USER_MESSAGES
from callgate.kernel.abi.message import MessageFlags, SlotState
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT, SLOTS
from callgate.kernel.machine.observation.ledger import Counts
from callgate.tools.pictures.records import (
    Call,
    DiskCommand,
    Request,
    RunRecord,
    Sample,
    Step,
    Switch,
    ThreadRecord,
)
from callgate.tools.pictures.scenes import Scenes
from callgate.tools.session.trace import Trace, Value

if TYPE_CHECKING:
    from callgate.kernel.core.records import EndpointState, Thread
    from callgate.kernel.machine.engine.sites import Cell
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System

Slot = tuple[int, int]  # number of the endpoint, index
BY_MESSAGE: Final = ("ipc.load", "ipc.save")  # events that name the message page, in ring 3
FIRST: Final = ("take", "fill")
LAST: Final = "release"


class Recorder:
    """Listens to a system from the moment it is made; `recording` grows."""

    def __init__(self, system: System, recording: RunRecord) -> None:
        self.system = system
        self.recording = recording
        self.names = Trace(system, "text")
        self.scenes = Scenes(system)
        self.ledger = system.machine.ledger
        self.open: dict[Slot, Request] = {}
        self.before: dict[Slot, Counts] = {}  # the ledger at the last step of a request
        self.loaded: dict[int, Slot] = {}  # thread -> the request whose registers it has loaded last
        self.running: dict[tuple[str, int], DiskCommand] = {}
        self.values: dict[str, int] = {}  # the last samples
        self.at_sites = _counted_at(self.ledger.cells)
        self.handlers: dict[str, Callable[[Event, dict[str, Value]], None]] = {
            "gate.host": self._host_call,
            "gate.system": self._system_call,
            "thread.switch": self._switch,
            "disk.command": self._disk_begins,
            "disk.complete": self._disk_ends,
            "disk.error": self._disk_ends,
            "interrupt": self._interrupt,
            "exception": self._interrupt,
        }
        system.trace(self._listen)

    def finish(self) -> RunRecord:
        """Return the recording with the totals of the run up to now."""
        self.recording.end = self.system.machine.clock.now
        self.recording.total = self.ledger.counts()
        for number in {request.client for request in self.recording.requests}:
            self._thread(number)
        return self.recording

    def _listen(self, event: Event) -> None:
        number = event.fields.get("thread")
        if isinstance(number, int):
            self._thread(number)
        area, _, name = event.kind.partition(".")
        if area == "ipc":
            self._step(event, name)
            self._sample_slots(event)
        handler = self.handlers.get(event.kind)
        if handler is not None:
            handler(event, self.names.fields(event))
        if area in ("ipc", "disk", "file"):
            self._sample_cache(event)

    # Threads.

    def _thread(self, number: int) -> None:
        if not number or number in self.recording.threads:
            return
        thread = self._find(number)
        if thread is not None:
            process = thread.process
            role = "kernel" if not process.number else "server" if process.endpoint >= 0 else "client"
            record = ThreadRecord(number, thread.name, process.number, process.name, role)
            self.recording.threads[number] = record

    def _find(self, number: int) -> Thread | None:
        threads = self.system.kernel.state.tasks.threads.values()
        return next((thread for thread in threads if thread.number == number), None)

    # Requests.

    def _step(self, event: Event, kind: str) -> None:
        thread = _number(event, "thread")
        slot = self._slot_of(event, thread)
        endpoint = self._endpoint(slot)
        if slot is None or endpoint is None or kind == "bad_reply":
            return
        counts = self._counts()
        request = self.open.get(slot)
        if request is None and kind not in FIRST:
            return  # a server's code may name any slot
        if request is None:
            request = self._begin(slot, endpoint, thread)
            self.before[slot] = counts
        detail = self._learn(request, kind, event, thread)
        client, server = self._find(request.client), self._find(request.server)
        scene = self.scenes.read(kind, endpoint, slot[1], client, server)
        if kind == "fill":
            request.posted = bool(scene.message.flags & MessageFlags.POSTED)
        elif kind == "post":
            request.direct = scene.slot.state != SlotState.POSTED.name
        request.steps.append(Step(kind, event.clock, thread, counts - self.before[slot], scene, detail))
        self.before[slot] = counts
        if kind == LAST:
            request.ended = True
            del self.open[slot]

    def _begin(self, slot: Slot, endpoint: EndpointState, thread: int) -> Request:
        number = len(self.recording.requests) + 1
        request = Request(number, endpoint.name, slot[0], slot[1], thread)
        self.recording.requests.append(request)
        self.open[slot] = request
        return request

    def _learn(self, request: Request, kind: str, event: Event, thread: int) -> str:
        """Note what an event says of its request; return what is to be shown beside the step's name."""
        if kind == "fill":
            request.operation = _operation(_number(event, "operation"))
        elif kind == "fetch":
            request.server = thread
        elif kind == "load":
            self.loaded[thread] = (request.endpoint_number, request.slot)
        elif kind == "reply":
            return _named(self.names.fields(event)["type"])
        return ""

    def _slot_of(self, event: Event, thread: int) -> Slot | None:
        """Return the slot of an event: by GS and its index, by the message page, or by what the thread has loaded."""
        if event.kind == "ipc.call":
            return self.loaded.get(thread)
        if event.kind in BY_MESSAGE:
            process = self.system.kernel.scheduler.current.process
            index = (_number(event, "message") - USER_MESSAGES) // PAGE_SIZE
            return (process.endpoint, index) if 0 <= index < SLOTS else None
        selector = self.system.machine.cpu.gs
        return selector // 8 - GDT_FIRST_ENDPOINT, _number(event, "slot")

    def _endpoint(self, slot: Slot | None) -> EndpointState | None:
        return self.system.kernel.state.endpoints.by_number.get(slot[0]) if slot is not None else None

    def _counts(self) -> Counts:
        """Return the ledger without what the next instruction counts: cells at an address come before its events."""
        counts = self.ledger.counts()
        for name, amount in self.at_sites.get(self.system.machine.cpu.eip, {}).items():
            counts.sites[name] -= amount
        return counts

    # What happens between the steps.

    def _host_call(self, event: Event, fields: dict[str, Value]) -> None:
        name = _call_name(_number(event, "call"), _number(event, "value"))
        argument = _shown(fields["value"])
        call = Call(event.clock, _number(event, "thread"), name, "" if name.endswith(f".{argument}") else argument)
        self.recording.host_calls.append(call)

    def _system_call(self, event: Event, fields: dict[str, Value]) -> None:
        call = Call(event.clock, _number(event, "thread"), _shown(fields["call"]))
        self.recording.system_calls.append(call)

    def _switch(self, event: Event, fields: dict[str, Value]) -> None:
        self.recording.switches.append(Switch(event.clock, _number(event, "thread")))

    def _interrupt(self, event: Event, fields: dict[str, Value]) -> None:
        if "thread" not in event.fields:  # delivery, and not the kernel's work on it
            current = self.system.kernel.scheduler.running
            thread = current.number if current else 0
            self.recording.interrupts.append(Call(event.clock, thread, _shown(fields["vector"])))

    # Disks.

    def _disk_begins(self, event: Event, fields: dict[str, Value]) -> None:
        key = _place(event)
        command = DiskCommand(*key, code=_shown(fields["code"]), lba=_number(event, "lba"), begun=event.clock)
        self.running[key] = command
        self.recording.commands.append(command)

    def _disk_ends(self, event: Event, fields: dict[str, Value]) -> None:
        command = self.running.pop(_place(event), None)
        if command is not None:
            command.ended = event.clock
            command.error = str(event.fields.get("reason", ""))

    # Counters.

    def _sample_slots(self, event: Event) -> None:
        for endpoint in self.system.kernel.state.endpoints.by_number.values():
            block = self.system.kernel.slots.block(endpoint)
            busy = SLOTS - (block["free"] | block["unused"]).bit_count()
            self._sample(event.clock, f"busy slots of {endpoint.name}", busy)

    def _sample_cache(self, event: Event) -> None:
        state = self.system.kernel.state
        pending = sum(run.count for run in state.disk_requests.running.values() if run.status is None)
        self._sample(event.clock, "cached blocks", len(state.cache.blocks))
        self._sample(event.clock, "pending blocks", pending)

    def _sample(self, clock: int, name: str, value: int) -> None:
        if self.values.get(name) != value:
            self.values[name] = value
            self.recording.samples.append(Sample(clock, name, value))


def _counted_at(cells: dict[str, list[Cell]]) -> dict[int, Counter[str]]:
    """Return what is counted at each address that has a counting cell."""
    found: dict[int, Counter[str]] = {}
    for name, places in cells.items():
        for cell in places:
            found.setdefault(cell.address, Counter())[name] += cell.amount
    return found


def _number(event: Event, key: str) -> int:
    value = event.fields.get(key, 0)
    return value if isinstance(value, int) else 0


def _place(event: Event) -> tuple[str, int]:
    """Return the disk of a controller's event, and the command slot."""
    if "port" in event.fields:
        return f"port {_number(event, 'port')}", _number(event, "slot")
    return f"channel {_number(event, 'channel')}.{_number(event, 'device')}", 0


def _operation(number: int) -> str:
    try:
        return Operation(number).name
    except ValueError:
        return f"{number:#x}"


def _call_name(call: int, value: int) -> str:
    """Return the name of a host call as the ledger has it: "schedule", "system.open"."""
    try:
        name = HostCall(call).name.lower()
        kind = {HostCall.SYSTEM: SystemCall, HostCall.SERVER: ServerCall}.get(HostCall(call))
        return name if kind is None else f"{name}.{kind(value).name.lower()}"
    except ValueError:
        return f"{call:#x}"


def _named(value: Value) -> str:
    return value[1] if isinstance(value, tuple) else str(value)


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return f"{value[0]}:{value[1]}"
    return value if isinstance(value, str) else f"{value:#x}"
