"""A clock that is wrong on purpose: what compares two clocks must notice."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def one_too_many(pair: Any) -> Iterator[None]:
    """Have the clock that is tested count one instruction too many wherever a block is left early."""
    machine = pair.both[0].machine
    left = machine.counter.left

    def wrong(linear: Any, *, attempted: bool = True) -> None:
        left(linear, attempted=attempted)
        machine.state.count += linear is not None

    machine.traps.counter.left = wrong
    try:
        yield
    finally:
        del machine.traps.counter.left
