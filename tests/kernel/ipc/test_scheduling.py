"""Scheduling: round robin among equals, higher priorities first, sleepers in time."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

Rigs = Callable[..., Any]
FOREVER = 0xFFFF_FFFF
SLICE = 1_000_000  # nanoseconds; kernel/tasks/scheduler.py, SLICE_TICKS
SPINNER: dict[str, Any] = {"program": "spinner", "count": FOREVER, "seed": 0}


def test_threads_of_equal_priority_share_the_cpu_in_turns_of_a_millisecond(rig: Rigs) -> None:
    made = rig("keeper", SPINNER, SPINNER, SPINNER)
    made.system.run(until=made.label_of("spinner", "start"))
    made.trace()
    threads = made.threads()
    before = [made.kernel.threads.retired(thread) for thread in threads]
    made.system.run(fuel=15_000_000)
    shares = [made.kernel.threads.retired(thread) - start for thread, start in zip(threads, before, strict=True)]
    assert max(shares) - min(shares) < 0.15 * sum(shares)
    numbers = {thread.number: index for index, thread in enumerate(threads)}
    order = [numbers[thread] for thread in made.happened("thread.switch") if thread in numbers]
    assert len(order) > 9
    assert all((after - before) % 3 == 1 for before, after in pairwise(order)), order


def test_a_thread_that_runs_alone_is_not_interrupted(rig: Rigs) -> None:
    made = rig("keeper", SPINNER)
    made.system.run(until=made.label_of("spinner", "start"))
    made.system.run(fuel=2 * SLICE)  # a timer that was set before runs out
    before = made.machine.ledger.counts().interrupts
    made.system.run(fuel=8 * SLICE)
    assert made.machine.ledger.counts().interrupts == before


@pytest.mark.thorough(only=True)
def test_the_thread_of_higher_priority_runs_first_and_to_its_end(rig: Rigs) -> None:
    made = rig("keeper", SPINNER, {**SPINNER, "count": 3_000_000, "priority": 9})
    made.system.run(fuel=5_000_000)
    assert made.codes == [None, None]
    low, high = map(made.kernel.threads.retired, made.threads())
    assert low == 0
    assert high > 4_000_000
    made.system.run(fuel=5_000_000)
    assert made.codes == [None, 0]


def test_a_sleeping_thread_of_higher_priority_runs_as_soon_as_its_time_has_come(rig: Rigs) -> None:
    pause = 2_500_000
    made = rig("keeper", SPINNER, {**SPINNER, "count": 10, "seed": pause, "priority": 9})
    made.system.run(until=made.label_of("spinner", "start"))
    began = made.machine.clock.now
    sleeper = made.threads()[1]
    made.system.run(until=made.label_of("spinner", "again"))
    while made.kernel.scheduler.current is not sleeper:
        made.machine.step()
        made.system.run(until=made.label_of("spinner", "start.count"), fuel=10_000)
    late = made.machine.clock.now - began - pause
    assert 0 <= late < SLICE // 10
