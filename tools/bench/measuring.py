"""Common parts of the benchmarks: elements of the result, times and counts per operation."""

from __future__ import annotations

import gc
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from callgate.kernel.machine import Machine, Stop


class BenchmarkError(RuntimeError):
    """A benchmark cannot be run here."""


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end, whatever came of the block, if SIGINT has come while a machine was running.

    Machines handle the signal themselves as they run; Python notes each signal in a pipe as well.
    """
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
        with os.fdopen(reader, "rb") as noted:
            came = signal.SIGINT in (noted.read() or b"")
        if came:
            raise KeyboardInterrupt from None


class ByTurns(NamedTuple):
    """What each of two things takes that were run by turns, in seconds."""

    plain: list[float]
    other: list[float]

    @property
    def ratio(self) -> float:
        """How fast the other one is, compared with the plain one: the median over the pairs.

        What slows the host down for a while slows both of a pair, and is gone with a quotient of theirs.
        """
        pairs = zip(self.plain, self.other, strict=True)
        return round(statistics.median(plain / other for plain, other in pairs), 3)


def by_turns(pairs: int, plain: Callable[[], float], other: Callable[[], float]) -> ByTurns:
    """Run two things, which return what they take, in pairs; the one that was first is second in the next pair."""
    taken: dict[Callable[[], float], list[float]] = {plain: [], other: []}
    for number in range(pairs):
        for function in (other, plain) if number % 2 else (plain, other):
            taken[function].append(function())
    return ByTurns(taken[plain], taken[other])


def run_time(machine: Machine, run: Callable[[], object]) -> float:
    """Return the CPU time of this thread from a machine's first instruction to its last, in seconds.

    `run` has the machine run, once or in several pieces.  What it does before and after is not counted, all that it
    does between two pieces is.
    """
    plain = machine.run
    times: list[float] = []

    def timed(**bounds: Any) -> Stop:
        if not times:
            gc.collect()
            times.append(time.thread_time())
        try:
            return plain(**bounds)
        finally:
            times[1:] = [time.thread_time()]

    setattr(machine, "run", timed)  # noqa: B010 - a method
    try:
        run()
    finally:
        delattr(machine, "run")
    begin, end = times
    return end - begin


def timing(samples: list[float], operations: int) -> dict[str, float]:
    """Return median, minimum and maximum in microseconds per operation, and the number of rounds."""
    each = [1e6 * sample / operations for sample in samples]
    return {"median": statistics.median(each), "min": min(each), "max": max(each), "rounds": len(each)}


def element(name: str, operations: int, counts: dict[str, Any], wall: dict[str, float]) -> dict[str, Any]:
    """Return one element of the result: counts per operation."""
    return {"name": name, "n": operations, **per_operation(counts, operations), "wall_us": wall}


def per_operation(value: Any, operations: int) -> Any:
    """Divide every number of a nested structure."""
    if isinstance(value, dict):
        return {key: per_operation(item, operations) for key, item in value.items()}
    quotient = value / operations
    return int(quotient) if quotient == int(quotient) else round(quotient, 3)
