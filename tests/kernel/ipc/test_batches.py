"""Batches: several requests in one message.  Whole flows, costs, deaths and preemptions at each instruction."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from callgate.kernel.abi.message import BATCH_ENTRIES

SomeOf = Callable[[Iterable[int], int], list[int]]
Rigs = Callable[..., Any]
ENOUGH = 400_000
BATCHER = {"program": "batcher", "entries": 4}


@pytest.mark.parametrize("entries", [1, 2, BATCH_ENTRIES])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_request_of_a_batch_is_answered_with_its_own_result(rig: Rigs, entries: int, threads: int) -> None:
    made = rig("inverter", *[{**BATCHER, "entries": entries, "count": 5, "seed": 7000 * n} for n in range(3)], THREADS=threads)
    assert made.run().reason == "halt"
    assert made.codes == [0, 0, 0]
    assert made.requests == made.block["replies"] == 15, "a batch is one message"
    assert made.machine.ledger.counts().batched_requests == 15 * entries
    assert made.unaccounted() == []
