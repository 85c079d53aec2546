"""The kinds of the exact clock, and which one a machine gets.

The one by blocks is many times as fast in long runs of plain code, and a little slower in short ones, which spend their
time on translating.  It relies on internals of the engine, and a machine has it only if it is asked for by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.kernel.machine.engine.counter import NativeCounter, PythonCounter, native_available

Counter = NativeCounter | PythonCounter
KINDS: Final = ("auto", "blocks", "native", "python")


def make_counter(uc: int, kind: str, fail: Callable[[BaseException], None]) -> Counter:
    """Return the counter that `kind` names: "blocks", "native" or "python"; for "auto" the native one where it can be.

    OSError if the host cannot have one that is named.
    """
    if kind not in KINDS:
        raise ValueError(f"counter {kind!r} is not {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if kind == "python" or (kind == "auto" and not native_available()):
        return PythonCounter(uc, fail)
    try:
        if kind == "blocks":
            from callgate.kernel.machine.blocks.block_counter import BlockCounter

            return BlockCounter(uc, fail)
        return NativeCounter(uc, fail)
    except OSError:
        if kind != "auto":
            raise
        return PythonCounter(uc, fail)
