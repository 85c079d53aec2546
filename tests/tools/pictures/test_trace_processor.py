"""The Perfetto trace in Perfetto's own trace processor: it has no complaint, and its tables are the recorded run."""

from collections.abc import Iterator

import pytest
from browser import Page
from callgate.tools.pictures import perfetto
from trace_processor import TraceProcessor, processor

from tests.tools.pictures.conftest import Seen

pytestmark = pytest.mark.thorough(only=True)
COMPLAINTS = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"


@pytest.fixture(scope="module")
def loaded(browser: Page, seen: Seen) -> Iterator[TraceProcessor]:
    browser.session = ""
    with processor(browser, perfetto.draw(seen.recording)) as loaded:
        yield loaded


def test_perfetto_counts_no_error_and_no_loss_in_the_trace(loaded: TraceProcessor) -> None:
    assert loaded.query(COMPLAINTS) == []
    assert loaded.query("select count(*) from slice where dur < 0 or name is null") == [(0,)]


def test_perfetto_finds_the_slice_of_a_damaged_trace_that_does_not_end(browser: Page, seen: Seen) -> None:
    end, unknown = (bytes((0x48, kind)) for kind in (perfetto.END, 99))  # TrackEvent.type
    browser.session = ""
    with processor(browser, perfetto.draw(seen.recording).replace(end, unknown, 1)) as damaged:
        assert damaged.query("select count(*) from slice where dur < 0") == [(1,)]


def test_perfetto_finds_the_threads_and_processes_of_the_run(loaded: TraceProcessor, seen: Seen) -> None:
    found = loaded.query(
        "select tid, thread.name, pid - 1, process.name from thread join process using (upid)"
        " where tid > 0 and thread.name is not null"  # without the main thread that each has
    )
    assert set(found) == {
        (one.number, one.name, one.process, one.process_name) for one in seen.recording.threads.values()
    }


def test_perfetto_finds_each_request_on_the_track_of_its_slot_with_its_time(loaded: TraceProcessor, seen: Seen) -> None:
    found = loaded.query(
        "select ts, dur, slice.name, track.name, parent.name from slice join track on track.id = slice.track_id"
        " join track parent on parent.id = track.parent_id where slice.depth = 0 and slice.name glob '#*' order by ts"
    )
    expected = [
        (
            *(one.first, one.last - one.first, f"#{one.number} {one.operation}"),
            *(f"slot {one.slot}", f"endpoint {one.endpoint}"),
        )
        for one in seen.recording.requests
    ]
    assert found == sorted(expected)


def test_perfetto_draws_the_arrows_from_client_to_server_and_back(loaded: TraceProcessor, seen: Seen) -> None:
    found = loaded.query(
        "select outgoing.tid, incoming.tid from flow"
        " join slice a on a.id = slice_out join thread_track ta on ta.id = a.track_id"
        " join thread outgoing on outgoing.utid = ta.utid"
        " join slice b on b.id = slice_in join thread_track tb on tb.id = b.track_id"
        " join thread incoming on incoming.utid = tb.utid order by a.ts"
    )
    expected = []
    for one in seen.recording.requests:
        expected += [(one.client, one.server), *([] if one.posted else [(one.server, one.client)])]
    assert sorted(found) == sorted(expected)


def test_perfetto_finds_the_disk_commands_and_the_counters_of_the_run(loaded: TraceProcessor, seen: Seen) -> None:
    commands = loaded.query(
        "select ts, ts + dur from slice join track on track.id = slice.track_id where track.name glob 'command slot *'"
    )
    assert sorted(commands) == sorted((one.begun, one.ended) for one in seen.recording.commands)
    samples = loaded.query("select ts, track.name, value from counter join counter_track track on track.id = track_id")
    assert sorted(samples) == sorted((one.clock, one.name, one.value) for one in seen.recording.samples)
