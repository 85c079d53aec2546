"""A run as a trace for ui.perfetto.dev: TracePackets with tracks, slices, flows and counters.

Numbers of fields are those of protos/perfetto/trace in Perfetto's sources.  Each process and thread has its track; so
have the CPU, each slot of an endpoint and each command slot of a disk.  Flow arrows go from the client's request to the
server and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from callgate.kernel.machine.observation.ledger import describe
from callgate.tools.pictures import protobuf
from callgate.tools.pictures.page_data import cost_of
from callgate.tools.pictures.records import STEPS, Request, RunRecord, ThreadRecord
from callgate.tools.pictures.steps import text_of
from callgate.tools.pictures.svg import printable

# Trace.packet; TracePacket.
PACKET: Final = 1
TIMESTAMP, SEQUENCE, EVENT, FLAGS, DESCRIPTOR = 8, 10, 11, 13, 60
STATE_CLEARED: Final = 1  # of sequence_flags
# TrackDescriptor, ProcessDescriptor, ThreadDescriptor, CounterDescriptor.
UUID, NAME, PROCESS, THREAD, PARENT, COUNTER = 1, 2, 3, 4, 5, 8
PROCESS_PID, PROCESS_NAME, THREAD_PID, THREAD_TID, THREAD_NAME = 1, 6, 1, 2, 5
# TrackEvent, DebugAnnotation.
ANNOTATION, TYPE, TRACK, EVENT_NAME, VALUE, FLOW, LAST_FLOW = 4, 9, 11, 23, 30, 47, 48
BEGIN, END, INSTANT, SAMPLE = 1, 2, 3, 4
ANNOTATION_TEXT, ANNOTATION_NAME = 6, 10
TITLE: Final = "callgate trace"
MARK: Final = TITLE.encode()


@dataclass(slots=True)
class Slice:
    """Something that lasts on a track, with what lies within it."""

    begin: int
    end: int
    name: str
    flow: int = 0
    last: bool = False  # of its flow
    notes: Mapping[str, str] = field(default_factory=dict)
    inner: list[Slice] = field(default_factory=list)


class Tracks:
    """Writes tracks and what is on them; a uuid for each, in the order in which they are made."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.made = 0

    def track(self, name: str, parent: int = 0, extra: bytes = b"") -> int:
        """Describe a track, and return its uuid."""
        self.made += 1
        inner = protobuf.field(UUID, self.made) + protobuf.field(NAME, printable(name)) + extra
        if parent:
            inner += protobuf.field(PARENT, parent)
        flags = protobuf.field(FLAGS, STATE_CLEARED) if self.made == 1 else b""
        self._packet(flags + protobuf.field(DESCRIPTOR, inner))
        return self.made

    def slices(self, name: str, track: int, slices: Iterable[Slice]) -> None:
        """Write slices; those that overlap an earlier one, and are not within it, go to tracks below this one."""
        lanes: list[tuple[int, int]] = []  # (end of the last slice, track)
        for one in sorted(slices, key=lambda one: one.begin):
            lane = next((index for index, (end, _) in enumerate(lanes) if end <= one.begin), None)
            if lane is None:
                lane = len(lanes)
                lanes.append((0, self.track(f"{name}, at the same time", track) if lane else track))
            lanes[lane] = (one.end, lanes[lane][1])
            self._slice(lanes[lane][1], one)

    def instants(self, track: int, instants: Iterable[tuple[int, str, Mapping[str, str]]]) -> None:
        """Write moments: time, name, notes."""
        for clock, name, notes in instants:
            self._event(clock, INSTANT, track, _named(name, notes))

    def samples(self, track: int, samples: Iterable[tuple[int, int]]) -> None:
        """Write values of a counter: time, value."""
        for clock, value in samples:
            self._event(clock, SAMPLE, track, protobuf.field(VALUE, value))

    def _slice(self, track: int, one: Slice) -> None:
        flow = protobuf.fixed64(LAST_FLOW if one.last else FLOW, one.flow) if one.flow else b""
        self._event(one.begin, BEGIN, track, _named(one.name, one.notes) + flow)
        for inner in one.inner:
            self._slice(track, inner)
        self._event(one.end, END, track, b"")

    def _event(self, clock: int, kind: int, track: int, rest: bytes) -> None:
        event = protobuf.field(TYPE, kind) + protobuf.field(TRACK, track) + rest
        self._packet(protobuf.field(TIMESTAMP, clock) + protobuf.field(EVENT, event))

    def _packet(self, inner: bytes) -> None:
        self.packets.append(protobuf.field(PACKET, inner + protobuf.field(SEQUENCE, 1)))


def draw(recording: RunRecord) -> bytes:
    """Return the trace."""
    tracks = Tracks()
    tracks.track(f"{TITLE} -c {recording.command}")
    cpu = tracks.track("CPU: the thread that runs")
    tracks.slices("CPU", cpu, _running(recording))
    _processes(tracks, recording)
    _slots(tracks, recording)
    _disks(tracks, recording)
    _counters(tracks, recording)
    return b"".join(tracks.packets)


def _named(name: str, notes: Mapping[str, str]) -> bytes:
    event = protobuf.field(EVENT_NAME, printable(name))
    for key, value in notes.items():
        note = protobuf.field(ANNOTATION_NAME, key) + protobuf.field(ANNOTATION_TEXT, printable(value))
        event += protobuf.field(ANNOTATION, note)
    return event


def _running(recording: RunRecord) -> Iterator[Slice]:
    for number, begin, end in recording.running():
        thread = recording.threads.get(number)
        yield Slice(begin, end, thread.name if thread else "?")


def _processes(tracks: Tracks, recording: RunRecord) -> None:
    """Write a track for each process, with one for each of its threads."""
    processes: dict[int, list[ThreadRecord]] = {}
    for thread in recording.threads.values():
        processes.setdefault(thread.process, []).append(thread)
    for number, threads in sorted(processes.items()):
        # Perfetto takes process 0 for the idle one of Linux.
        pid, name = number + 1, printable(threads[0].process_name)
        extra = protobuf.field(PROCESS_PID, pid) + protobuf.field(PROCESS_NAME, name)
        parent = tracks.track(name, 0, protobuf.field(PROCESS, extra))
        for thread in sorted(threads, key=lambda thread: thread.number):
            extra = protobuf.field(THREAD_PID, pid) + protobuf.field(THREAD_TID, thread.number)
            extra += protobuf.field(THREAD_NAME, printable(thread.name))
            track = tracks.track(thread.name, parent, protobuf.field(THREAD, extra))
            tracks.slices(thread.name, track, _of_thread(recording, thread.number))
            tracks.instants(track, _instants(recording, thread.number))


def _of_thread(recording: RunRecord, number: int) -> Iterator[Slice]:
    """Yield what a thread does for requests: ask, wait, take the results; or serve."""
    for request in recording.requests:
        title = f"{request.operation} {request.endpoint}"
        if request.client == number:
            yield from _asking(request, title, recording.end)
        if request.server == number and (fetched := request.at("fetch")) is not None:
            answered = request.at("replied") or request.at("convert") or request.at("unmap")
            end = answered.clock if answered else recording.end
            yield Slice(fetched.clock, end, f"serve {title}", request.number, last=request.posted)


def _asking(request: Request, title: str, end: int) -> Iterator[Slice]:
    posted = request.at("post")
    yield Slice(request.first, posted.clock if posted else end, f"ask {title}", request.number, notes=_notes(request))
    if posted is None or request.posted:
        return
    awake = request.at("wake") or request.at("abandon")
    yield Slice(posted.clock, awake.clock if awake else end, f"wait for {title}")
    if awake is not None:
        last = request.last if request.ended else awake.clock
        yield Slice(awake.clock, last, f"take the reply of {title}", request.number, last=True)


def _notes(request: Request) -> dict[str, str]:
    return {
        "request": f"{request.number}",
        "slot": f"{request.slot} of {request.endpoint}",
        "error": f"{request.error}",
        "cost": describe(cost_of(request.cost)),
    }


def _instants(recording: RunRecord, number: int) -> Iterator[tuple[int, str, Mapping[str, str]]]:
    kinds = (
        ("host call", recording.host_calls),
        ("system call", recording.system_calls),
        ("delivered", recording.interrupts),
    )
    for kind, calls in kinds:
        for call in calls:
            if call.thread == number:
                yield call.clock, f"{kind} {call.name}", {"argument": call.argument} if call.argument else {}


def _slots(tracks: Tracks, recording: RunRecord) -> None:
    """Write a track for each slot that was used; a request lasts as long as it has the slot."""
    used: dict[str, dict[int, list[Request]]] = {}
    for request in recording.requests:
        used.setdefault(request.endpoint, {}).setdefault(request.slot, []).append(request)
    for endpoint, slots in used.items():
        parent = tracks.track(f"endpoint {endpoint}")
        for slot, requests in sorted(slots.items()):
            tracks.slices(f"slot {slot}", tracks.track(f"slot {slot}", parent), map(_of_slot, requests))


def _of_slot(request: Request) -> Slice:
    names = {kind: text_of(kind, request.direct).name for kind in STEPS}
    phases = [
        Slice(one.clock, other.clock, names[other.kind], notes={"cost": describe(cost_of(other.cost))})
        for one, other in zip(request.steps, request.steps[1:], strict=False)
    ]
    title = f"#{request.number} {request.operation}"
    return Slice(request.first, request.last, title, notes=_notes(request), inner=phases)


def _disks(tracks: Tracks, recording: RunRecord) -> None:
    parents: dict[str, int] = {}
    places = sorted({(command.disk, command.slot) for command in recording.commands})
    for disk, slot in places:
        parent = parents.setdefault(disk, 0) or tracks.track(f"disk {disk}")
        parents[disk] = parent
        commands = [command for command in recording.commands if (command.disk, command.slot) == (disk, slot)]
        slices = [
            Slice(
                *(one.begun, recording.end if one.ended is None else one.ended, f"{one.code} {one.lba:#x}"),
                notes={"sector": f"{one.lba}", "error": one.error or "none"},
            )
            for one in commands
        ]
        tracks.slices(f"command slot {slot}", tracks.track(f"command slot {slot}", parent), slices)


def _counters(tracks: Tracks, recording: RunRecord) -> None:
    for name in sorted({sample.name for sample in recording.samples}):
        track = tracks.track(name, 0, protobuf.field(COUNTER, b""))
        tracks.samples(track, ((one.clock, one.value) for one in recording.samples if one.name == name))
