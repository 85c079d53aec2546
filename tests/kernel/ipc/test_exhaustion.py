"""Programs and servers that take all they can: they are refused, others live on, and everything is released."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE
from callgate.kernel.abi.thread import KERNEL_STACK_SPAN

Rigs = Callable[..., Any]


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(
    ("piece", "refusal"), [(0, "NO_RESOURCES"), (4096, "NO_MEMORY"), (0x5000, "NO_MEMORY"), (1 << 20, "NO_MEMORY")]
)
def test_a_program_that_takes_all_it_can_is_refused_and_everything_is_released_after_it(
    rig: Rigs, piece: int, refusal: str
) -> None:
    made = rig("echo", THREADS=1)
    made.run()
    first = run_hog(made, piece)
    assert first.exit_code == 100 + made.error(refusal)
    after = used_frames(made)
    threads = len(made.kernel.state.tasks.threads)
    again = run_hog(made, piece)
    assert again.exit_code == first.exit_code
    assert used_frames(made) == after
    assert len(made.kernel.state.tasks.threads) == threads
    honest = made.start_client(count=3)
    made.attention()
    assert made.run().reason == "halt"
    assert honest.exit_code == 0
    assert made.unaccounted() == []


def test_a_server_that_starts_threads_for_ever_has_32_and_continues_to_serve(rig: Rigs) -> None:
    made = rig("greedy", {"count": 3}, {"count": 3, "seed": 0x2000})
    made.run()
    assert made.codes == [0, 0]
    assert len(made.endpoint.process.threads) == len(made.endpoint.servers) == 32


def run_hog(made: Any, piece: int) -> Any:
    hog = made.start_client(program="hog", seed=piece)
    made.attention()
    assert made.run().reason == "halt"
    made.kernel.threads.reap()
    made.kernel.exits.reap_orphans()
    return hog


def used_frames(made: Any) -> int:
    """Return the frames in use; kernel stacks and their page tables stay, and are not counted."""
    stacks = made.kernel.state.tasks.stack_frames
    tables = {number * KERNEL_STACK_SPAN // LARGE_PAGE_SIZE for number in stacks}
    return int(made.kernel.memory.low.used) - sum(map(len, stacks.values())) - len(tables)
