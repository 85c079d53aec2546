"""Servers with several threads: requests are served side by side, each answered by the thread that has it."""

from collections.abc import Callable
from typing import Any

import pytest

Rigs = Callable[..., Any]
MANY = [{"count": 5, "seed": 0x1000 * number} for number in range(8)]


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_all_threads_of_a_server_serve_at_once(rig: Rigs, threads: int) -> None:
    made = rig("echo", *MANY, THREADS=threads)
    made.trace()
    assert made.run().reason == "halt"
    assert made.codes == [0] * len(MANY)
    assert len(set(made.happened("ipc.fetch"))) == threads
    assert made.unaccounted() == []


def test_one_thread_fetches_while_another_still_serves(rig: Rigs) -> None:
    made = rig("echo", *MANY, THREADS=3)
    made.trace()
    made.run()
    open_requests = most = 0
    for kind, _, _ in made.events:
        open_requests += (kind == "ipc.map") - (kind == "ipc.unmap")
        most = max(most, open_requests)
    assert most == 3
    assert open_requests == 0


def test_threads_of_one_server_share_its_page_tables(rig: Rigs) -> None:
    made = rig("echo", {"count": 1}, THREADS=4)
    made.run()
    tables = {made.kernel.threads.block(thread)["cr3"] for thread in made.endpoint.process.threads}
    assert len(tables) == 1
