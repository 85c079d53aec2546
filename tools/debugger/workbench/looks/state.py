"""Registers, threads and endpoints as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.message import SlotState
from callgate.kernel.watching.requests import SlotView, block_of, queue_of, slots
from callgate.tools.debugger.debuggee.frames import frames

if TYPE_CHECKING:
    from callgate.kernel.core.records import EndpointState
    from callgate.kernel.machine.observation.structures import Structure
    from callgate.tools.debugger.workbench.workbench import Workbench

FLAGS: Final = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT"}
UNUSED, FREE = ".", "-"
LEGEND: Final = ". unused, - free, T taken, P posted, S served, D done"


@dataclass(frozen=True, slots=True)
class Register:
    """A register, and whether it has changed."""

    name: str
    value: int
    changed: bool


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of EFLAGS, and whether it has changed."""

    name: str
    set: bool
    changed: bool


@dataclass(frozen=True, slots=True)
class RegisterLook:
    """The registers of the CPU; EFLAGS is apart."""

    registers: tuple[Register, ...]
    eflags: Register
    flags: tuple[Flag, ...]
    iopl: int
    cpl: int


@dataclass(frozen=True, slots=True)
class ThreadLook:
    """A thread: its state in words, and the address with its symbol at which it stands ("?" if it has none)."""

    number: int
    name: str
    process: int
    state: str
    place: str
    running: bool


@dataclass(frozen=True, slots=True)
class FrameLook:
    """A frame of a stack: where it stands, or where what it has called returns to."""

    eip: int
    symbol: str  # with the distance from it; "" if there is none
    source: str  # file and line of the instruction that executes, or of the call; "" if not known


@dataclass(frozen=True, slots=True)
class EndpointLook:
    """An endpoint: its block, its 32 slots with a letter for each, and the slots whose requests wait in the ring."""

    number: int
    name: str
    file_system: str
    block: Structure
    slots: tuple[SlotView, ...]
    letters: str
    queue: tuple[int, ...]

    @property
    def busy(self) -> list[SlotView]:
        """The slots that are in use."""
        return [slot for slot in self.slots if slot.state is not SlotState.FREE]


def registers(bench: Workbench, before: dict[str, int] | None) -> RegisterLook:
    """Return the registers; what has changed is so compared with `before`, nothing if that is None."""
    values = bench.machine.cpu.registers()
    old = values if before is None else before
    eflags, was = values["eflags"], old.get("eflags", 0)
    return RegisterLook(
        tuple(Register(name, value, old.get(name) != value) for name, value in values.items() if name != "eflags"),
        Register("eflags", eflags, eflags != was),
        tuple(Flag(name, bool(eflags >> bit & 1), bool((eflags ^ was) >> bit & 1)) for bit, name in FLAGS.items()),
        eflags >> 12 & 3,
        bench.machine.cpu.cpl,
    )


def threads(bench: Workbench) -> list[ThreadLook]:
    """Return the threads by number."""
    known = bench.debuggee.threads
    running = known.running().number
    found = []
    for thread in known:
        try:
            eip = bench.debuggee.registers.general(thread)["eip"]
            place = bench.code.name(eip, thread.process) if eip is not None else "?"
        except LookupError:
            place = "?"
        state, number = known.state(thread), thread.number
        found.append(ThreadLook(number, thread.name, thread.process.number, state, place, number == running))
    return found


def backtrace(bench: Workbench, number: int | None = None) -> list[FrameLook]:
    """Return the frames of a thread, the running one's if no number is given, the innermost first.

    LookupError, with the reason, for a thread that there is not, or whose registers are not known.
    """
    known = bench.debuggee.threads
    thread = known.running() if number is None else known.by_number(number)
    if thread is None:
        raise LookupError(f"there is no thread {number}")
    found = []
    for frame in frames(bench.debuggee, thread):
        line = bench.code.line(frame.code, thread.process)
        source = "" if line is None else bench.code.source_name(line)
        found.append(FrameLook(frame.eip, bench.code.symbol(frame.eip, thread.process), source))
    return found


def endpoint(bench: Workbench, state: EndpointState) -> EndpointLook:
    """Return an endpoint as it is now."""
    block = block_of(bench.system.kernel, state)
    found = tuple(slots(bench.system.kernel, state))
    letters = "".join(
        UNUSED if block.unused >> slot.index & 1 else FREE if slot.state is SlotState.FREE else slot.state.name[0]
        for slot in found
    )
    return EndpointLook(state.number, state.name, state.file_system or "", block, found, letters, queue_of(block))


def endpoints(bench: Workbench) -> list[EndpointLook]:
    """Return all endpoints by number; none without a kernel."""
    if not bench.debuggee.target.has_kernel:
        return []
    return [endpoint(bench, state) for _, state in sorted(bench.system.kernel.state.endpoints.by_number.items())]
