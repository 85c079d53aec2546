"""No wake-up is lost: a request that comes at any instruction of another one is served."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

SomeOf = Callable[[Iterable[int], int], list[int]]
Rigs = Callable[..., Any]
ENOUGH = 100_000


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("fast", [False, True])  # without and with direct switches
@pytest.mark.parametrize("threads", [1, 2])
def test_a_client_that_starts_at_any_instruction_of_the_only_request_is_served(
    rig: Rigs, threads: int, fast: bool, some_of: SomeOf
) -> None:
    """The server announces its sleep and then checks the ring once more: a request between the two is seen."""
    made = rig("echo", {"count": 1}, THREADS=threads, options={"fast_path": fast})
    made.system.run(until=made.label("before"))
    numbers = [process.number for process in made.clients]
    kept = made.system.snapshot()
    begin = made.machine.clock.retired
    made.run()
    stranded: list[tuple[int, str]] = []
    for steps in some_of(range(made.machine.clock.retired - begin), 7):
        made.system.restore(kept)
        made.clients = [made.kernel.state.tasks.processes[number] for number in numbers]
        made.machine.step(steps)
        place = made.kernel.image.symbol_at(made.machine.cpu.eip)
        late = made.start_client(seed=0x9000, priority=9)
        made.attention()
        made.run(ENOUGH)
        if made.codes != [0] or late.exit_code != 0 or made.unaccounted():
            stranded.append((steps, place))
    assert stranded == []
