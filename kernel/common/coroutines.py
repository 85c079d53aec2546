"""Coroutines outside an event loop."""

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_at_once(coroutine: Coroutine[Any, Any, T], otherwise: str) -> T:
    """Return the result of a coroutine that never has to wait; if it does, it is closed: RuntimeError `otherwise`."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(otherwise)
