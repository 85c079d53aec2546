"""The kinds of the exact clock, and which one a machine gets.

By itself a machine counts by instruction at first, and by blocks once it has run for a while: that is many times as
fast, but takes a second translation of all code.  What can be seen of a run is the same under each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from callgate.kernel.machine.blocks.patient import PatientCounter
from callgate.kernel.machine.engine.counter import NativeCounter, PythonCounter, native_available

Counter = NativeCounter | PythonCounter
VARIABLE: Final = "CALLGATE_COUNTER"
KINDS: Final = ("auto", "blocks", "native", "python")


def make_counter(uc: int, kind: str, fail: Callable[[BaseException], None]) -> Counter:
    """Return the counter that `kind` names: "blocks" (from the beginning), "native" (by instruction), "python".

    "auto" is that of the environment variable CALLGATE_COUNTER, for tests; without it the one that fits, where host
    code can be made, and else the one in Python.  OSError if the host cannot have one that is named.
    """
    if kind == "auto":
        kind = os.environ.get(VARIABLE, kind)
    if kind not in KINDS:
        raise ValueError(f"counter {kind!r} is not {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if kind == "python" or (kind == "auto" and not native_available()):
        return PythonCounter(uc, fail)
    try:
        if kind == "native":
            return NativeCounter(uc, fail)
        if kind == "auto":
            return PatientCounter(uc, fail)
        from callgate.kernel.machine.blocks.block_counter import BlockCounter

        return BlockCounter(NativeCounter(uc, fail), fail)
    except OSError:
        if kind != "auto":
            raise
        return PythonCounter(uc, fail)
