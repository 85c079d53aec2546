"""The bare CPU's callbacks while a routine runs, and readers of state that is needed only on request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from callgate.asm.assembler import EventSite, LedgerMark
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.observation.stream import Event
from callgate.tools.asmtest.board import wide
from callgate.tools.asmtest.board.result import Fault, RoutineError

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.operations import Operations


def emitter(cpu: Operations, site: EventSite) -> Callable[[], None]:
    """Return the function that notes an event of `.event`."""

    def hit() -> None:
        registers = cpu.machine.cpu
        values = {key: getattr(registers, text) if text.isalpha() else int(text) for key, text in site.fields}
        cpu.events.append(Event(cpu.machine.clock.now, site.name, values))

    return hit


def counter(cpu: Operations, mark: LedgerMark) -> Callable[[], None]:
    """Return the function that counts a mark of `.ledger`."""

    def hit() -> None:
        cpu.machine.ledger.extra[mark.name] += mark.amount

    return hit


def unanswered(cpu: Operations, call: HostCall) -> Callable[[int], None]:
    """Return the function that refuses a host call."""

    def refuse(_value: int) -> None:
        raise RoutineError(
            f"host call {call.name} at {cpu.name_of(cpu.machine.state.last_address)} has no answer; "
            f"give one with cpu.on_host_call(HostCall.{call.name}, function)"
        )

    return refuse


def refusals(cpu: Operations) -> dict[int, tuple[Callable[[int], None], str, dict[int, str]]]:
    """Return the function for each host call of the kernel that a test does not answer."""
    no_names: dict[int, str] = {}
    return {int(call): (unanswered(cpu, call), call.name.lower(), no_names) for call in HostCall}


def fault_of(machine: Machine, event: Event) -> Fault:
    """Return the fault that an event of the machine reports; INT3 and INTO are known by their opcodes."""
    before = int(str(event.fields["eip"])) + machine.cpu.segment_base("cs") - 1 & 0xFFFF_FFFF
    with suppress(PageFault, DmaError):
        return Fault.of_event(event, machine.read(before, 1)[0])
    return Fault.of_event(event, 0)


def wide_reader(cpu: Operations, number: int) -> Callable[[str], int | float]:
    """Return the function that reads the wide registers after the call of this number, until the next one begins."""

    def read(name: str) -> int | float:
        if number != cpu.calls:
            raise ValueError(f"look at {name} before the next call: it is not kept")
        return wide.value_of(cpu.machine.fpu, name)

    return read
