"""A recording against the event stream, the ledger of `--stats`, page tables, and a client with known registers."""

from collections import Counter
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import SlotState
from callgate.kernel.machine.observation.ledger import Counts
from callgate.tools.bench.ipc import Bench, null_request
from callgate.tools.pictures.recorder import Recorder
from callgate.tools.pictures.records import Request, RunRecord


def test_the_steps_of_all_requests_are_the_events_of_the_ipc_path(seen: Any) -> None:
    steps = sorted(
        (step.clock, f"ipc.{step.kind}", step.thread) for request in seen.recording.requests for step in request.steps
    )
    events = [(event.clock, event.kind, event.fields["thread"]) for event in seen.events if event.kind[:4] == "ipc."]
    assert steps == sorted(events)
    assert len(steps) > 90


def test_the_costs_of_steps_add_up_to_those_of_operations_in_the_statistics(seen: Any) -> None:
    totals: dict[str, Counts] = {}
    for request in seen.recording.requests:
        totals[request.operation] = totals.get(request.operation, Counts()) + request.cost
    assert {name: one.as_dict() for name, one in totals.items()} == {
        name: {key: value for key, value in one.items() if key != "n"}
        for name, one in seen.statistics["operations"].items()
    }
    assert Counter(request.operation for request in seen.recording.requests) == {
        name: one["n"] for name, one in seen.statistics["operations"].items()
    }


def test_the_totals_of_a_recording_are_those_of_the_statistics(seen: Any) -> None:
    totals = seen.recording.total.as_dict()
    assert totals == {key: seen.statistics[key] for key in totals}
    assert Counter(call.name for call in seen.recording.host_calls) == totals["host_calls"]


def test_the_entry_of_a_page_table_is_what_a_walk_of_the_server_finds(seen: Any) -> None:
    shown = sorted(
        (step.clock, f"ipc.{step.kind}", step.scene.page_entry & 0xF_FFFF_F000 if step.scene.page_entry & 1 else None)
        for request in seen.recording.requests
        for step in request.steps
        if step.kind in ("map", "unmap")
    )
    assert [(kind, physical) for _, kind, physical in shown] == seen.walks
    assert {kind for kind, _ in seen.walks} == {"ipc.map", "ipc.unmap"}


def test_a_slot_goes_round_its_states_while_masks_and_ring_follow(recording: RunRecord) -> None:
    for request in recording.requests:
        scenes = {step.kind: step.scene for step in request.steps}
        bit = 1 << request.slot
        assert not scenes["fill"].endpoint.free & bit
        tail = scenes["post"].endpoint.tail
        if request.direct:
            assert scenes["post"].slot.state == SlotState.TAKEN.name
            assert tail == scenes["fill"].endpoint.tail == scenes["fetch"].endpoint.head, "nothing enters the ring"
            assert scenes["fetch"].slot.state == SlotState.SERVED.name
        else:
            assert scenes["post"].slot.state == SlotState.POSTED.name
            assert (tail - scenes["fill"].endpoint.tail) & 0xFFFF_FFFF == 1
            cell = scenes["post"].endpoint.ring[(tail - 1) % 32]
            assert cell == request.slot + 32 * ((tail - 1) // 32 % 8)
            assert scenes["fetch"].endpoint.head == tail, "requests are fetched in the order of their tickets"
        assert scenes["map"].slot.linear == scenes["map"].page_linear
        assert scenes["unmap"].page_entry & 1 == 0
        if not request.posted:
            assert scenes["wake"].slot.state == SlotState.DONE.name
            assert scenes["release"].endpoint.free & bit
    assert {request.direct for request in recording.requests} == {False, True}


def test_requests_of_policys_own_are_told_from_those_that_a_thread_takes_the_reply_of(recording: RunRecord) -> None:
    kinds = [(request.posted, {step.kind for step in request.steps}) for request in recording.requests]
    assert all(posted is ("replied" in steps) is ("reload" not in steps) for posted, steps in kinds)
    assert {posted for posted, _ in kinds} == {True, False}


def test_the_registers_that_policy_asks_with_are_those_in_the_page_until_the_reply_is_loaded(
    recording: RunRecord,
) -> None:
    for request in recording.requests:
        scenes = {step.kind: step.scene for step in request.steps}
        asked = scenes["fill"].message.registers
        for kind in ("fill", "post") if request.posted else ("fill", "post", "fetch", "load", "wake", "reload"):
            held = scenes[kind].client
            assert held is not None
            assert (held.where, held.registers) == ("on the kernel stack, for policy", asked)


def test_the_data_of_a_request_are_shown_until_it_is_answered(recording: RunRecord) -> None:
    opened = next(request for request in recording.requests if request.operation == "OPEN")
    shown = {step.kind: step.scene.message.data for step in opened.steps}
    assert shown["fill"] == shown["load"] == "README.TXT"
    assert shown["unmap"] == shown["release"] == ""


def test_disk_commands_begin_and_end_with_the_events_of_the_controller(seen: Any) -> None:
    def clocks(kind: str) -> list[int]:
        return sorted(event.clock for event in seen.events if event.kind == kind)

    assert sorted(command.begun for command in seen.recording.commands) == clocks("disk.command")
    assert sorted(command.ended for command in seen.recording.commands) == clocks("disk.complete")


def test_operations_in_a_recording_have_the_names_of_the_numbers_in_the_events(seen: Any) -> None:
    fills = [Operation(event.fields["operation"]).name for event in seen.events if event.kind == "ipc.fill"]
    assert sorted(fills) == sorted(request.operation for request in seen.recording.requests)


def null_requests(count: int) -> list[Request]:
    """Record requests of the benchmark's client, which asks with the numbers 1 to 6 and is given them back."""
    bench = Bench(clients=1)
    recorder = Recorder(bench.system, RunRecord((), ""))
    for _ in range(count):
        bench.system.run(until="ipc.release")
    requests = recorder.finish().requests
    bench.close()
    return requests


def test_registers_of_a_client_of_ring_3_pass_through_page_and_server_and_return() -> None:
    request = null_requests(2)[1]
    scenes = {step.kind: step.scene for step in request.steps}
    known = (1, 2, 3, 4, 5, 6)
    assert [step.kind for step in request.steps] == (
        "take fill post fetch map load call save reply unmap wake reload release".split()
    )
    assert {scene.client.registers for scene in scenes.values() if scene.client} == {known}
    assert scenes["take"].message.registers == known  # of the request before
    assert scenes["fill"].message.registers == scenes["unmap"].message.registers == known
    server = scenes["call"].server
    assert server is not None
    assert (server.where, server.registers) == ("in the CPU", known)
    assert scenes["call"].cpu.registers == known
    assert scenes["call"].cpu.ring == 3
    assert scenes["call"].page_entry & ~0x60 == scenes["call"].slot.physical | 7 | 1 << 63
    assert scenes["load"].page_linear % PAGE_SIZE == 0
    assert scenes["call"].cpu.cr3 == scenes["call"].server_cr3 != scenes["fill"].cpu.cr3


def test_the_steps_of_a_null_request_cost_what_the_benchmark_counts_but_the_way_in_and_out() -> None:
    request = null_requests(2)[1]
    whole = null_request()
    cost = request.cost.as_dict()
    outside = {"guest_instructions", "client_gates", "ring_changes"}
    assert {key: value for key, value in cost.items() if key not in outside} == {
        key: value for key, value in whole.items() if key not in outside
    }
    assert cost["guest_instructions"]["total"] < whole["guest_instructions"]["total"]
    assert request.steps[2].cost.requests == 1, "the request is counted by the step that posts it"


def test_a_recording_does_not_change_the_run(seen: Any, boot_counts: Counts) -> None:
    assert seen.recording.total.as_dict() == boot_counts.as_dict()


def test_requests_that_no_thread_finishes_stay_open() -> None:
    bench = Bench(clients=1)
    recorder = Recorder(bench.system, RunRecord((), ""))
    bench.system.run(until="ipc.map")
    request = recorder.finish().requests[-1]
    bench.close()
    assert (request.ended, request.steps[-1].kind) == (False, "map")


def test_one_request_alone_is_what_happened_from_the_system_call_that_asked_until_its_slot_was_released(
    recording: RunRecord,
) -> None:
    called = 0
    for request in recording.requests:
        alone = recording.only(request.number)
        assert (alone.requests, alone.end, alone.total) == ([request], request.last, request.cost)
        others = [one for one in recording.requests if one.client == request.client and one.first < request.first]
        calls = [call for call in alone.system_calls if call.thread == request.client and call.clock < request.first]
        called += len(calls)
        assert alone.begin == (calls[0].clock if calls else request.first)
        assert all(one.first < alone.begin for one in others)
        within = {call for call in recording.host_calls if request.first <= call.clock <= request.last}
        assert within <= set(alone.host_calls)
        covered = [span for span in alone.running() if span[1] < span[2]]
        assert covered == [
            (thread, max(start, alone.begin), min(end, alone.end))
            for thread, start, end in recording.running()
            if max(start, alone.begin) < min(end, alone.end)
        ]
    assert called > 1
    for number in (0, len(recording.requests) + 1):
        with pytest.raises(IndexError):
            recording.only(number)
