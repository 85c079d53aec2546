"""The costs of a request, in exact counts.

A count that has changed is a change of the cost: write the new one here if it is intended.
"""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.tools.bench.ipc import (
    CLIENTS,
    Bench,
    call_gate,
    ipc_batch,
    ipc_batches,
    ipc_threads,
    null_request,
    under_load,
)
from callgate.tools.bench.measuring import BenchmarkError


def test_a_null_request_keeps_its_budget_from_the_clients_far_call_to_its_return() -> None:
    counts = null_request()
    assert counts["guest_instructions"] == {"total": 200, "ring0": 170, "ring3": 30}
    assert counts["client_gates"] == 1
    assert counts["server_gates"] == 1
    assert counts["ring_changes"] == 4, "client to kernel, kernel to server, and the same way back"
    assert counts["cr3_loads"] == 2
    assert counts["pte_writes"] == 2
    assert counts["tlb_invalidations"] == 0, "the load of CR3 drops the entry of the page"
    assert counts["host_calls"] == {}
    assert counts["fast_handoffs"] == 2
    assert (counts["requests"], counts["fast_requests"], counts["fast_replies"]) == (1, 1, 1)
    # None of them is for x87 and SSE while these are not used: `switch` needs no further comparison.
    assert counts["fpu_switches"] == 0
    assert "#NM" not in counts["exceptions"]
    assert counts["blocking_waits"] == 1


def test_a_null_request_asks_policy_for_both_handoffs_if_it_is_to() -> None:
    counts = null_request(fast_path=False)
    assert counts["guest_instructions"] == {"total": 304, "ring0": 274, "ring3": 30}
    assert counts["host_calls"] == {"handoff": 2}
    assert (counts["fast_handoffs"], counts["cr3_loads"], counts["blocking_waits"]) == (0, 2, 1)
    assert (counts["requests"], counts["fast_requests"], counts["fast_replies"]) == (1, 0, 0)


def test_a_refused_request_costs_only_entering_and_leaving_the_gate() -> None:
    counts = call_gate(3)
    assert counts["guest_instructions"] == {"total": 35, "ring0": 34, "ring3": 1}
    assert (counts["client_gates"], counts["ring_changes"]) == (1, 2)


def test_a_null_request_costs_the_same_every_time() -> None:
    assert null_request() == null_request()


def test_a_batch_of_four_requests_makes_one_request_and_no_host_call() -> None:
    counts = null_request("bench_batch")
    assert counts["guest_instructions"] == {"total": 708, "ring0": 480, "ring3": 228}
    assert counts["host_calls"] == {}
    assert (counts["requests"], counts["batched_requests"]) == (1, 4)
    assert (counts["client_gates"], counts["server_gates"], counts["ring_changes"]) == (1, 1, 4)
    assert (counts["cr3_loads"], counts["pte_writes"], counts["tlb_invalidations"]) == (2, 2, 0)
    assert (counts["fast_requests"], counts["fast_replies"], counts["fast_handoffs"]) == (1, 1, 2)
    assert null_request("bench_batch", fast_path=False)["host_calls"] == {"handoff": 2}


# 33 switches for 32 messages: 32 times to a client and once to the server; threads of one process need only two.
@pytest.mark.parametrize(("load", "switches"), [(ipc_batch, 33 / 32), (ipc_batches, 33 / 128), (ipc_threads, 2 / 32)])
def test_requests_that_queue_up_share_their_address_space_switches(load: Callable[[int], Any], switches: float) -> None:
    result = load(1)
    assert result["n"] > 5000
    assert result["cr3_loads"] == pytest.approx(switches, abs=0.0006)


def test_a_benchmark_whose_client_has_ended_is_no_measurement() -> None:
    bench = Bench(clients=1)
    bench.system.machine.run(fuel=100_000)
    bench.kernel.processes.kill(bench.processes[0], 9)
    with pytest.raises(BenchmarkError, match="a client has ended with 9"):
        under_load("ended", bench, 1)
    bench.close()


@pytest.mark.parametrize("clients", [1, CLIENTS])
def test_each_wait_for_a_reply_is_counted_for_its_server(clients: int) -> None:
    """One client hands the CPU over; of many some find the server awake and block."""
    bench = Bench(clients=clients)
    bench.system.run(fuel=200_000)
    fields = bench.kernel.slots.block(bench.endpoint)
    waits = bench.system.machine.ledger.blocking_waits
    assert fields["blocking_waits"] + fields["fast"] == waits > 100
    assert waits <= fields["tail"] + fields["fast"]
    bench.close()
