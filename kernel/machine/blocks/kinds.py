"""The kinds of the exact clock, and which one a machine gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callgate.kernel.machine.blocks.block_counter import BlockCounter
from callgate.kernel.machine.engine.counter import NativeCounter, PythonCounter, native_available

Counter = NativeCounter | PythonCounter
KINDS: Final = ("auto", "blocks", "native", "python")


def make_counter(uc: int, kind: str, fail: Callable[[BaseException], None]) -> Counter:
    """Return the counter that `kind` names: "blocks", "native", "python", or the fastest one for "auto".

    OSError if the host cannot have it.
    """
    if kind not in KINDS:
        raise ValueError(f"counter {kind!r} is not {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    if kind == "python" or (kind == "auto" and not native_available()):
        return PythonCounter(uc, fail)
    makers = {"blocks": (BlockCounter,), "native": (NativeCounter,), "auto": (BlockCounter, NativeCounter)}
    for maker in makers[kind]:
        try:
            return maker(uc, fail)
        except OSError:
            if kind != "auto":
                raise
    return PythonCounter(uc, fail)
