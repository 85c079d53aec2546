"""Whose turn it is: instructions by thread, and the account of what ring 3 touches, kept by host code at each switch.

The kernel switches threads in machine code, without a host call where it need not choose.  At the instruction that
makes another thread the running one, the counting hook charges the thread whose turn ends with all instructions since
the last switch, and takes the account of the one whose turn begins.  Both are known by their selectors, which the
kernel keeps in two words of memory, one after the other: the running thread's and the next one's.
"""

import ctypes
from typing import Final

from callgate.kernel.machine.engine.counter_state import CounterState, count_for
from callgate.kernel.machine.engine.sites import Sites

SELECTORS: Final = 1 << 13  # of a descriptor table
WORDS: Final = ctypes.c_uint32 * 2
SERVER, CLIENT = 1, 2  # accounts: their numbers in `ledger.FILE_KINDS`


class Turn(ctypes.Structure):
    """What the hook reads and writes for one selector."""

    _fields_ = [("retired", ctypes.c_uint64), ("kind", ctypes.c_uint64)]


class Turns:
    """The instructions that each thread has retired, by its selector."""

    def __init__(self, state: CounterState) -> None:
        """Publish an empty table in `state`."""
        self.state = state
        self.table = (Turn * SELECTORS)()
        self.view = memoryview(self.table).cast("B")
        self.used = 0  # bytes of the table
        self.words = WORDS()  # selectors of the running thread and of the next one
        state.turns = ctypes.addressof(self.table)

    def watch(self, sites: Sites, address: int, words: "ctypes.Array[ctypes.c_uint32]") -> None:
        """Let a turn end whenever the instruction at linear `address` executes; `words` overlays the guest's two."""
        self.words = words
        self.state.running = ctypes.addressof(words)
        sites.turn = self.end
        sites.turns(address)

    def begin(self, selector: int) -> None:
        """A new thread has this selector: it has retired nothing, and what it touches is booked to a client."""
        self.used = max(self.used, (selector // 8 + 1) * ctypes.sizeof(Turn))
        self.table[selector // 8] = Turn(kind=CLIENT)

    def account(self, selector: int, kind: int) -> None:
        """Book file data that a thread touches in ring 3 to SERVER or CLIENT, from its next turn."""
        self.table[selector // 8].kind = kind

    def retired(self, selector: int) -> int:
        """Return the instructions that the thread with this selector has retired up to now."""
        now = self.state.count - self.state.charged_at if self.words[0] == selector else 0
        return int(self.table[selector // 8].retired) + now

    def end(self) -> None:
        """Do what host code does at a switch (`PythonCounter`)."""
        state = self.state
        self.table[(self.words[0] & 0xFFFF) // 8].retired += state.count - state.charged_at
        state.charged_at = state.count
        count_for(state, self.table[(self.words[1] & 0xFFFF) // 8].kind)

    def save(self) -> bytes:
        """Return the table for a snapshot."""
        return self.view[: self.used].tobytes()

    def load(self, saved: bytes) -> None:
        """Go back to a saved table."""
        if len(saved) < self.used:
            self.view[: self.used] = bytes(self.used)
        self.used = len(saved)
        self.view[: self.used] = saved
