"""Calls of the three gates as stops: where a thread has come through a gate, and where it is about to go back.

A call has one number, whatever its gate: that of a system call is its own; a request of the IPC gate is IPC plus its
operation, a call of the server gate SERVER plus its function.  The gates leave the number in no register, so the
entries that have been seen are kept, by the count of instructions: the count names the same moment whenever a history
comes by it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT, Operation, ServerCall, SystemCall
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.programs import kernel_labels

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.tools.debugger.debuggee.world import Threads
    from callgate.tools.debugger.target import Target

HIT: Final = "debugger gate"  # reason of the machine's stop; its detail is the GateCall
IPC: Final = 0x1_0000
SERVER: Final = 0x2_0000
FUNCTIONS: Final = 0xFFFF  # the most that a number has of a function: larger ones are not known to any gate
MOST_KEPT: Final = 1 << 16  # entries of one thread; of more, the later half
RETF_BYTES: Final = 1

GATES: Final = ("system", "ipc", "server")
NAMES: Final = {
    **{call.value: f"system.{call.name}" for call in SystemCall},
    **{IPC + operation.value: f"ipc.{operation.name}" for operation in Operation},
    **{SERVER + call.value: f"server.{call.name}" for call in ServerCall},
}
"""The numbers that the gates know, with names."""


@dataclass(frozen=True, slots=True)
class GateCall:
    """A thread that has entered by a gate, or is about to leave: the next instruction is the RETF."""

    number: int
    entering: bool

    @property
    def name(self) -> str:
        """The name of the call, as `name_of` has it."""
        return name_of(self.number)


class GateCalls:
    """What of the gates' calls ends a run."""

    def __init__(self, target: Target, threads: Threads) -> None:
        """A machine without a kernel has no gates."""
        self.machine = target.machine
        self.threads = threads
        self.sites = self._sites(target.system.kernel.image) if target.has_kernel else []
        self.handles: list[int] = []
        self.wanted: frozenset[int] | None = None  # empty: all; None: nothing ends a run
        self.passed = -1  # the count of instructions at which a run has ended here
        self.entries: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # by thread: count, number

    def _sites(self, image: Program) -> list[tuple[int, Callable[[], None]]]:
        """Return where threads enter and leave, and what is done there."""
        return [
            (image.address(kernel_labels.SYSTEM_GATE), lambda: self._entered(0, self.machine.cpu.eax)),
            (image.address(kernel_labels.IPC_GATE), lambda: self._entered(IPC, self.machine.cpu.ebp & FUNCTIONS)),
            (
                image.address(kernel_labels.SERVER_GATE),
                lambda: self._entered(SERVER, self.machine.cpu.eax & ~SERVER_CALL_NO_WAIT),
            ),
            (image.address(kernel_labels.LEAVE_END) - RETF_BYTES, self._leaving),
            (image.address(kernel_labels.IPC_GATE_LEAVING), self._leaving),
            (image.address(kernel_labels.SERVER_GATE_LEAVING), self._leaving),
        ]

    def catch(self, numbers: Iterable[int] | None) -> None:
        """Have runs end at the calls of these numbers, at those of all gates if there are none; None: at none."""
        self.wanted = None if numbers is None else frozenset(numbers)
        if self.wanted is None:
            for handle in self.handles:
                self.machine.unprobe(handle)
            self.handles.clear()
            self.entries.clear()
        elif not self.handles:
            self.handles = [self.machine.probe(address, function) for address, function in self.sites]

    def forget_after(self, count: int) -> None:
        """The run goes on in another way after this many instructions."""
        for entries in self.entries.values():
            del entries[bisect_left(entries, (count + 1, 0)) :]

    def _entered(self, gate: int, function: int) -> None:
        number, count = gate + min(function, FUNCTIONS), int(self.machine.state.count)
        entries = self.entries[self.threads.running().number]
        at = bisect_left(entries, (count, 0))
        known = at < len(entries) and entries[at][0] == count
        entries[at : at + known] = [(count, number)]  # a register may have been changed by hand since
        if len(entries) > MOST_KEPT:
            del entries[: MOST_KEPT // 2]
        self._reached(number, entering=True)

    def _leaving(self) -> None:
        entries = self.entries[self.threads.running().number]
        at = bisect_left(entries, (int(self.machine.state.count), 0))
        if at:
            self._reached(entries[at - 1][1], entering=False)

    def _reached(self, number: int, *, entering: bool) -> None:
        count = int(self.machine.state.count)
        if self.wanted is None or (self.wanted and number not in self.wanted) or count == self.passed:
            return
        self.passed = count
        self.machine.request_stop(HIT, GateCall(number, entering))


def name_of(number: int) -> str:
    """Return `system.OPEN`, `ipc.READ`, `server.WAIT`; the gate and the function's number if no gate knows it."""
    return NAMES.get(number, f"{GATES[number >> 16]}.{number & FUNCTIONS:#x}")


def number_of(word: str) -> int:
    """Return the number of a call that a user names: `OPEN`, `ipc.read`, `0x10007`; ValueError with those like it.

    A name without its gate is a system call, an operation, or a function of the server gate, whichever there is first.
    """
    if word[:1].isdecimal():
        try:
            number = int(word, 0)
        except ValueError:
            number = -1
        if not 0 <= number < len(GATES) << 16:
            raise ValueError(f"{word} is no number of a call: 0 to 0x2ffff")
        return number
    wanted = word.lower()
    for number, name in NAMES.items():
        if wanted in (name.lower(), name.partition(".")[2].lower()):
            return number
    known = {name.lower() for name in NAMES.values()} | {name.partition(".")[2].lower() for name in NAMES.values()}
    raise ValueError(f"no call {word}; there is {those_like(wanted, sorted(known))}")


def table() -> list[str]:
    """Return lines: each number with its name."""
    return [f"{number:>7}  {number:#07x}  {name}" for number, name in NAMES.items()]
