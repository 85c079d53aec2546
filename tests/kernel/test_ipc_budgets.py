"""What a request costs, in counts that do not wobble."""

from callgate.tools.benchmarks import ipc_batch, null_request


def test_a_null_request_keeps_its_budget() -> None:
    counts = null_request()
    assert counts["server_gates"] == 1
    assert counts["cr3_loads"] == 2
    assert counts["pte_writes"] == 2
    assert counts["tlb_invalidations"] == 1
    assert sum(counts["host_calls"].values()) <= 4
    assert counts["requests"] == 1
    assert counts["guest_instructions"]["total"] <= 300
    # Not one of them is for x87 and SSE while nobody uses them: `switch` asks by a comparison that it makes anyway.
    assert counts["fpu_switches"] == 0
    assert "#NM" not in counts["exceptions"]


def test_a_null_request_costs_the_same_every_time() -> None:
    assert null_request() == null_request()


def test_requests_that_pile_up_share_their_address_space_switches() -> None:
    result = ipc_batch(3)
    assert result["n"] > 100
    assert result["cr3_loads"] < 1.2
