"""Telling whether an instruction for which the hook was called twice in a row retired twice or was restarted.

A jump to itself and an iteration of REP retire twice.  A store that hits translated code does not: the engine breaks it
off, translates the code anew and restarts the instruction.  The hook (`machine.engine.counter`) remembers by address
which instructions follow themselves and asks here about the others.

A REP store that overwrites code of its own page cannot be told from its next iteration: there, an iteration counts
twice.
"""

import ctypes
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

from callgate.kernel.machine.engine.counter_state import put_flags_back

if TYPE_CHECKING:
    from callgate.kernel.machine.engine.counter_state import CounterState

REPEAT_SLOTS: Final = 1 << 12
REPEAT_CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)


class Follows(Enum):
    """Whether an instruction for which the hook was called twice in a row has retired between the calls."""

    NEVER = 0  # it cannot follow itself: it was broken off
    NOW = 1  # this time it has, but it may be broken off as well
    ALWAYS = 2  # it is a transfer of control that stores nothing, or REP


class Repeats:
    """The record of instructions for which the hook was called twice in a row."""

    def __init__(self, state: "CounterState", fail: Callable[[BaseException], None]) -> None:
        """Publish an empty table in `state`; exceptions of `follows_itself` go to `fail`."""
        self.state = state
        self.table = (ctypes.c_uint32 * REPEAT_SLOTS)()
        self.follows_itself: Callable[[int], Follows] = lambda _address: Follows.ALWAYS
        self.fail = fail
        self._callback = REPEAT_CALL(lambda _uc, address: self.judge(address))
        self.address = state.repeats = ctypes.addressof(self.table)
        state.repeat_call = ctypes.cast(self._callback, ctypes.c_void_p).value

    def known(self, address: int) -> bool:
        """Whether the instruction at a linear address is known to follow itself."""
        return bool(self.table[address & REPEAT_SLOTS - 1] == address)

    def judge(self, address: int) -> None:
        """Uncount the first of two calls for an address, or remember that both are right."""
        try:
            follows = self.follows_itself(address)
            if follows == Follows.ALWAYS:
                self.table[address & REPEAT_SLOTS - 1] = address
            elif follows == Follows.NEVER:
                put_flags_back(self.state)
                self.state.count -= 1
                self.state.quadrants[address >> 30 & 3] -= 1
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.fail(error)

    def forget(self, address: int, size: int) -> None:
        """The code in `size` bytes from `address` on has changed."""
        first = address & REPEAT_SLOTS - 1
        if first + size > REPEAT_SLOTS:
            ctypes.memset(self.table, 0, ctypes.sizeof(self.table))
        else:
            ctypes.memset(self.address + 4 * first, 0, 4 * size)
