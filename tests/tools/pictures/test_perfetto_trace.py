"""The Perfetto trace, read with Perfetto's own message types."""

from collections import defaultdict
from typing import Any

import pytest
from callgate.tools.pictures import perfetto, protobuf
from callgate.tools.pictures.records import RunRecord

trace_types = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="needs perfetto of PyPI")
EVENTS = trace_types.TrackEvent


@pytest.fixture
def trace(recording: RunRecord) -> Any:
    parsed = trace_types.Trace()
    parsed.ParseFromString(perfetto.draw(recording))
    return parsed


def tracks(trace: Any) -> dict[int, Any]:
    return {
        packet.track_descriptor.uuid: packet.track_descriptor
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }


def slices(trace: Any) -> list[tuple[int, int, int, Any]]:
    """Return (track, begin, end, event) of every slice; each end closes the innermost one of its track."""
    found, stacks = [], defaultdict(list)
    packets = [packet for packet in trace.packet if packet.HasField("track_event")]
    for packet in sorted(packets, key=lambda packet: packet.timestamp):  # stable, as the trace processor sorts
        event = packet.track_event
        stack = stacks[event.track_uuid]
        if event.type == EVENTS.TYPE_SLICE_BEGIN:
            stack.append((packet.timestamp, event))
        elif event.type == EVENTS.TYPE_SLICE_END:
            begun, opened = stack.pop()
            found.append((event.track_uuid, begun, packet.timestamp, opened))
    assert not any(stacks.values()), "a slice that does not end"
    return found


def test_no_field_is_unknown_to_perfetto_and_every_packet_has_one_sequence(trace: Any) -> None:
    unknown_fields = pytest.importorskip("google.protobuf.unknown_fields")

    def unknown(message: Any) -> int:
        inner = [value for field, value in message.ListFields() if field.type == field.TYPE_MESSAGE]
        parts = [one for value in inner for one in (value if hasattr(value, "__len__") else [value])]
        return len(unknown_fields.UnknownFieldSet(message)) + sum(map(unknown, parts))

    assert unknown(trace) == 0
    assert {packet.trusted_packet_sequence_id for packet in trace.packet} == {1}
    assert [packet.sequence_flags for packet in trace.packet if packet.sequence_flags] == [1]


def test_every_event_is_on_a_track_that_was_described_before(trace: Any) -> None:
    known = set()
    for packet in trace.packet:
        if packet.HasField("track_descriptor"):
            parent = packet.track_descriptor.parent_uuid
            assert not parent or parent in known
            known.add(packet.track_descriptor.uuid)
        else:
            assert packet.track_event.track_uuid in known


def test_processes_and_threads_are_those_of_the_run(recording: RunRecord, trace: Any) -> None:
    found = {
        (track.thread.tid, track.thread.thread_name, track.thread.pid - 1)
        for track in tracks(trace).values()
        if track.HasField("thread")
    }
    assert found == {(one.number, one.name, one.process) for one in recording.threads.values()}
    processes = {
        (one.process.pid - 1, one.process.process_name) for one in tracks(trace).values() if one.HasField("process")
    }
    assert processes == {(one.process, one.process_name) for one in recording.threads.values()}


def test_each_request_is_a_slice_of_its_slot_with_its_steps_within(recording: RunRecord, trace: Any) -> None:
    known, found = tracks(trace), slices(trace)
    for request in recording.requests:
        mine = [one for one in found if one[3].name == f"#{request.number} {request.operation}"]
        assert [(begin, end) for _, begin, end, _ in mine] == [(request.first, request.last)]
        track = known[mine[0][0]]
        assert track.name == f"slot {request.slot}"
        assert known[track.parent_uuid].name == f"endpoint {request.endpoint}"
        inner = [
            (begin, end)
            for uuid, begin, end, event in found
            if uuid == mine[0][0] and request.first <= begin and end <= request.last and event is not mine[0][3]
        ]
        pairs = zip(request.steps, request.steps[1:], strict=False)
        assert sorted(inner) == sorted((one.clock, other.clock) for one, other in pairs)


def test_flows_lead_from_client_to_server_and_back(recording: RunRecord, trace: Any) -> None:
    known = tracks(trace)
    flows = defaultdict(list)
    for uuid, begin, _, event in slices(trace):
        for number in (*event.flow_ids, *event.terminating_flow_ids):
            flows[number].append((begin, known[uuid].thread.tid, list(event.terminating_flow_ids) == [number]))
    assert set(flows) == {request.number for request in recording.requests}
    for request in recording.requests:
        ends = sorted(flows[request.number])
        way = [request.client, request.server] if request.posted else [request.client, request.server, request.client]
        assert [thread for _, thread, _ in ends] == way
        assert [last for _, _, last in ends] == [False] * (len(way) - 1) + [True]


def test_slices_of_the_cpu_follow_each_other_without_a_gap(recording: RunRecord, trace: Any) -> None:
    known = tracks(trace)
    runs = sorted((begin, end) for uuid, begin, end, _ in slices(trace) if known[uuid].name.startswith("CPU"))
    assert [end for _, end in runs[:-1]] == [begin for begin, _ in runs[1:]]
    assert runs[-1][1] == recording.end


def test_disk_commands_and_counters_are_those_of_the_run(recording: RunRecord, trace: Any) -> None:
    known = tracks(trace)
    commands = sorted(
        (begin, end) for uuid, begin, end, _ in slices(trace) if known[uuid].name.startswith("command slot")
    )
    assert commands == sorted((command.begun, command.ended) for command in recording.commands)
    samples = [
        (packet.timestamp, known[packet.track_event.track_uuid].name, packet.track_event.counter_value)
        for packet in trace.packet
        if packet.track_event.type == EVENTS.TYPE_COUNTER
    ]
    assert all(
        known[one.track_event.track_uuid].HasField("counter") for one in trace.packet if one.track_event.type == 4
    )
    assert sorted(samples) == sorted((one.clock, one.name, one.value) for one in recording.samples)
    assert {"cached blocks", "pending blocks", "busy slots of d0p1"} <= {name for _, name, _ in samples}
    assert samples[-1][1] != "busy slots of d0p1" or samples[-1][2] == 0


def test_slices_that_overlap_are_put_on_tracks_of_their_own() -> None:
    made = perfetto.Tracks()
    track = made.track("t")
    made.slices("t", track, [perfetto.Slice(0, 10, "a"), perfetto.Slice(5, 15, "b"), perfetto.Slice(10, 12, "c")])
    parsed = trace_types.Trace()
    parsed.ParseFromString(b"".join(made.packets))
    assert [(uuid, begin, end, event.name) for uuid, begin, end, event in slices(parsed)] == [
        *((1, 0, 10, "a"), (1, 10, 12, "c"), (2, 5, 15, "b")),
    ]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**64 - 1])
def test_a_number_of_any_size_is_read_back(value: int) -> None:
    message = trace_types.TracePacket()
    message.ParseFromString(protobuf.field(8, value))
    assert message.timestamp == value


@pytest.mark.parametrize("value", [-1, 2**64])
def test_a_number_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="not a number of 64 bits"):
        protobuf.varint(value)
