"""Events that the engine reports and a CPU would handle itself: exceptions, INT n, and refused instructions.

An exception that Unicorn finds is delivered on the spot: the hook patches the CPU's state and returns,
and execution goes on in the guest's handler.  A fault that only we find (a port that ring 3 may not use,
SYSENTER) is found in the middle of an instruction: the state before it is kept, the engine stops before
the next one, and `settle` goes back to the kept state and delivers the fault from there.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.cpu.cpu import EFLAGS_IF, EFLAGS_TF, NotModelled
from callgate.kernel.machine.cpu.exceptions import DB, NO_EXCEPTION, PF, UD, Delivery, Incident, TripleFault, name_of
from callgate.kernel.machine.cpu.paging import PF_FETCH, PageFault
from callgate.kernel.machine.cpu.returns import Returns
from callgate.kernel.machine.cpu.stepping import Stepping
from callgate.kernel.machine.engine.counter import ByInstruction
from callgate.kernel.machine.engine.counter_state import NOWHERE
from callgate.kernel.machine.engine.untranslatable import Translator
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.observation.position import Deliveries, Position
from callgate.kernel.machine.observation.stop import Occurrence, TripleFaultReport

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.engine.clock import Clock
    from callgate.kernel.machine.engine.control import Control
    from callgate.kernel.machine.observation.ledger import Ledger
    from callgate.kernel.machine.observation.stream import EventStream

CODE_SHOWN = 15
PREFIXES = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
LOCK = 0xF0
INT1 = b"\xf1"
RECENT = 16  # occurrences kept for the report
BARREN = 500  # deliveries with no instruction retired between them after which the run loop is asked
STACK_SHOWN = 16  # dwords of stack in a triple-fault report
SOFTWARE_NAME = "int {:#x}"
INTERRUPT_NAME = "irq {:#x}"


class Refusal(NamedTuple):
    """A fault to be delivered in place of an instruction, and the state before it."""

    context: bytes
    incident: Incident


class Traps:
    """Exceptions and interrupts of one machine."""

    def __init__(
        self,
        cpu: Cpu,
        paging: Paging,
        control: Control,
        ledger: Ledger,
        stream: EventStream,
        clock: Clock,
    ) -> None:
        """Deliver exceptions to `cpu`; the arguments say which listeners are called, and where they are counted."""
        self.cpu = cpu
        self.state = control.state
        self.paging = paging
        self.control = control
        self.ledger = ledger
        self.stream = stream
        stream.declare("exception", "int", "interrupt")
        self.clock = clock
        self.recent: deque[Occurrence] = deque(maxlen=RECENT)
        self.barren = 0  # deliveries since an instruction has retired
        self.barren_at = 0  # the count of instructions then
        self.deliveries = Deliveries()
        self.goal: Position | None = None  # the run is to stop there, or at the first position after it
        self.delivery = Delivery(cpu, paging)
        self.stepping = Stepping(cpu, paging)
        self.refusal: Refusal | None = None
        self.translator = Translator(cpu.handle)
        self.returns = Returns(cpu, paging, control)
        self.counter: ByInstruction = ByInstruction()
        self.executed: Callable[[], None] = lambda: None  # an instruction has: may refuse it after all
        self.observer: Callable[[Incident], None] | None = None  # called with everything that is delivered

    # Hooks.

    def interrupt(self, vector: int) -> None:
        """INT n or an exception: EIP is the next instruction for the one, the faulting for the other."""
        if self.counter.broken_off():
            return
        self.ledger.plain_since = None
        hooked = not self.state.block_word
        self._leave_block(vector)
        if self.returns.hidden is not None:
            self.returns.show()
        self.executed()
        if self.refusal is not None:
            self.settle()
            return
        cpu, layout = self.cpu, self.cpu.layout
        cpu.save()
        eip = cpu.get(layout.eip)
        software = bool(cpu.get(layout.is_int))
        if hooked and not software and vector != DB:
            self._mend_flags(eip)
        code = 0 if software else cpu.get(layout.error_code)
        if (vector == PF or self.stepping.active) and not software and self._step(vector, code, eip):
            return
        if self.stepping.active:
            self.stepping.finish()
        if software:
            self._deliver(Incident(vector, eip, 0, software=True, instruction=self.current()))
            return
        if vector == PF and self._before_fetch(eip, code):
            return
        if vector != DB:
            self._uncount(eip, fetch=vector == PF and bool(code & PF_FETCH))
        self._deliver(Incident(vector, eip, code))

    def _leave_block(self, vector: int) -> None:
        """Count what has been executed of the present block, if it is counted as a whole."""
        if not self.state.block_word:
            return
        cpu, layout = self.cpu, self.cpu.layout
        cpu.save()
        fetch = vector == PF and cpu.get(layout.error_code) & PF_FETCH
        linear = cpu.get(layout.eip) + cpu.get(layout.segment("cs") + 8) & 0xFFFF_FFFF
        software = bool(cpu.get(layout.is_int))  # INTO does not end a block, and EIP is after it
        self.counter.left(None if vector == DB or fetch else linear, attempted=not software)

    def _leave_at_invalid(self, *, gave_up: bool) -> None:
        """Leave the present block likewise, at what is reported as an invalid opcode."""
        cpu, layout = self.cpu, self.cpu.layout
        cpu.save()
        eip = cpu.get(layout.eip)
        linear = None if gave_up else eip + cpu.get(layout.segment("cs") + 8) & 0xFFFF_FFFF
        self.counter.left(linear)

    def _mend_flags(self, eip: int) -> None:
        """Make the arithmetic flags those before the faulting instruction at `eip`, for which the hook was called.

        After the hook the engine replaces what they are computed from by the flags themselves, but at a fault it
        remembers only how they were computed before (docs/emulator-notes.md).
        """
        cpu, layout, state = self.cpu, self.cpu.layout, self.state
        linear = eip + cpu.get(layout.segment("cs") + 8) & 0xFFFF_FFFF
        if state.last_address != linear or not self.translator.engine:
            return
        quads, source, kind = cpu.context.quads, layout.flags_source >> 3, layout.flags_kind >> 3
        if (quads[source], quads[kind]) != (state.flags_source, state.flags_kind):
            quads[source], quads[kind] = state.flags_source, state.flags_kind
            cpu.restore()

    def _step(self, vector: int, code: int, eip: int) -> bool:
        """Deal with a fetch fault that has come too early, and with the steps towards it; False if it is neither."""
        cpu, stepping = self.cpu, self.stepping
        linear = eip + cpu.get(cpu.layout.segment("cs") + 8) & 0xFFFF_FFFF
        if stepping.active and vector == DB:
            stepping.trapped(linear)
            return True
        executed = not code & PF_FETCH and self.state.last_address == linear
        address = cpu.get(cpu.layout.cr2)
        if vector == PF and stepping.wanted(linear, address, executed=executed):
            stepping.start(linear, address)
            return True
        return False

    def _before_fetch(self, eip: int, code: int) -> bool:
        """Stop before an instruction that cannot be fetched, where the counting hook would stop if it came there."""
        cpu, layout = self.cpu, self.cpu.layout
        linear = eip + cpu.get(layout.segment("cs") + 8) & 0xFFFF_FFFF
        if not code & PF_FETCH and self.state.last_address == linear:
            return False
        return self._stop_before()

    def _stop_before(self) -> bool:
        """Stop here if the counting hook would stop, which never comes here; False if it would not."""
        cpu, layout = self.cpu, self.cpu.layout
        if not self.control.due(interruptible=bool(cpu.get(layout.eflags) & EFLAGS_IF)):
            return False
        cpu.put(layout.old_exception, NO_EXCEPTION)
        cpu.restore()
        self.control.stop_soon()
        return True

    def interrupted(self) -> None:
        """Call it between two instructions: the engine has stopped for another reason."""
        if self.stepping.active:
            self.cpu.save()
            self.stepping.finish()
            self.cpu.restore()

    def invalid(self) -> None:
        """An invalid opcode; the engine reports INT 6 and INT1 here as well, which are not faults."""
        self.ledger.plain_since = None
        gave_up, hooked = self.translator.gave_up(), not self.state.block_word
        if self.state.block_word:
            self._leave_at_invalid(gave_up=gave_up)
        self.returns.show()
        self.executed()
        if self.refusal is not None:
            self.settle()
            return
        cpu, layout = self.cpu, self.cpu.layout
        cpu.save()
        eip = cpu.get(layout.eip)
        if hooked:
            self._mend_flags(eip)
        if gave_up:
            self._untranslatable(eip)
            return
        if self.stepping.active:
            self.stepping.finish()
        if cpu.get(layout.is_int):
            self._deliver(Incident(UD, cpu.get(layout.next_eip), software=True, instruction=eip))
            return
        length = self._int1(eip)
        if length:
            self._deliver(Incident(DB, eip + length))
            return
        self._uncount(eip)
        self._deliver(Incident(UD, eip))

    def _untranslatable(self, eip: int) -> None:
        """The block at `eip` cannot be translated: raise #UD, after the instructions before the one at fault."""
        if self._stop_before():
            self.control.leave()
            return
        if not self.stepping.active:
            self.stepping.start(eip + self.cpu.get(self.cpu.layout.segment("cs") + 8) & 0xFFFF_FFFF, None)
            return
        self.stepping.finish()
        self._deliver(Incident(UD, eip))

    def _int1(self, eip: int) -> int:
        """Return the length of the INT1 at `eip`, 0 if it is something else."""
        base = self.cpu.get(self.cpu.layout.segment("cs") + 8)
        code = self._mapped(eip + base & 0xFFFF_FFFF, CODE_SHOWN)
        opcode = code.lstrip(PREFIXES)
        return len(code) - len(opcode) + 1 if opcode[:1] == INT1 and LOCK not in code[: -len(opcode)] else 0

    def refuse(self, vector: int, code: int) -> None:
        """Called within an instruction (or before it, at a site): make it a fault without any effect."""
        if self.refusal is not None:
            return
        self.ledger.plain_since = None
        self.cpu.save()
        eip = self.current()
        incident = Incident(vector, eip, code)
        self.refusal = Refusal(self._without_steps(bytes(self.cpu.context.view)), incident)
        self.control.stop_soon()

    def refuse_before(self, vector: int, code: int, eip: int, address: int | None = None) -> None:
        """Called at a site: fault instead of executing the instruction at `eip`, which is not counted.

        `address` is that of a page fault.
        """
        self.cpu.save()
        if address is not None:
            self.cpu.put(self.cpu.layout.cr2, address)
        context = self._without_steps(bytes(self.cpu.context.view))
        self.refusal = Refusal(context, Incident(vector, eip, code, counted=False))
        self.control.stop_soon()

    def refuse_after(self, vector: int, context: bytes, eip: int) -> None:
        """Make an instruction that has been executed a fault; `context` is the state before it."""
        self.refusal = Refusal(self._without_steps(context), Incident(vector, eip))
        self.control.stop_soon()

    def _without_steps(self, context: bytes) -> bytes:
        """Return a saved state without the TF that `Stepping` has set, which is not the guest's."""
        if not self.stepping.active:
            return context
        at = self.cpu.layout.eflags
        flags = int.from_bytes(context[at : at + 4], "little") & ~EFLAGS_TF
        return context[:at] + flags.to_bytes(4, "little") + context[at + 4 :]

    def settle(self) -> None:
        """Deliver what `refuse` kept, from the state before the instruction."""
        assert self.refusal is not None
        kept, incident = self.refusal
        self.refusal = None
        cpu = self.cpu
        if self.stepping.active:
            self.stepping.finish()
        cpu.context.view[:] = kept
        cpu.put_late_flags(cpu.eflags)  # what was kept within a run does not hold them where a run takes them from
        cpu.put(cpu.layout.eip, incident.eip)
        if incident.counted:
            self._uncount(incident.eip)
        self._deliver(incident)

    # Interrupt lines.

    def external(self, vector: int) -> None:
        """Deliver an interrupt of the controller at the present boundary."""
        name = INTERRUPT_NAME.format(vector)
        self.ledger.plain_since = None
        self.ledger.interrupts[name] += 1
        if self.stream.active:
            self.stream.emit("interrupt", vector=vector)
        self.cpu.save()
        eip = self.cpu.get(self.cpu.layout.eip)
        self.recent.append(Occurrence(self.clock.now, name, 0, eip))
        self._deliver(Incident(vector, eip, external=True))

    # The rest.

    def current(self) -> int:
        """EIP of the instruction that executes, as an offset in CS; within a hook."""
        base = self.cpu.get(self.cpu.layout.segment("cs") + 8)
        return int(self.state.last_address) - base & 0xFFFF_FFFF

    def _uncount(self, eip: int, *, fetch: bool = False) -> None:
        """Uncount an attempt that did not retire; one whose fetch faulted was never counted."""
        state = self.state
        linear = eip + self.cpu.get(self.cpu.layout.segment("cs") + 8) & 0xFFFF_FFFF
        if not fetch and state.last_address == linear:
            state.count -= 1
            state.quadrants[linear >> 30] -= 1
            state.stored_at = NOWHERE  # what it has stored before it faulted is not that of the next one
        state.last_address = NOWHERE

    def _count_barren(self) -> None:
        """A CPU can deliver exceptions for ever and never execute: return to the run loop now and then."""
        if self.state.count != self.barren_at:
            self.barren, self.barren_at = 0, self.state.count
        self.barren += 1
        if not self.barren % BARREN:
            self.control.stop_soon()

    @property
    def position(self) -> Position:
        """Where the run is: at a boundary between two instructions."""
        retired = int(self.state.count)
        return Position(retired, self.deliveries.since(retired), self.clock.now)

    def _deliver(self, incident: Incident) -> None:
        self._count_barren()
        self.deliveries.count(int(self.state.count), self.clock.now)
        if self.stream.active:
            self._emit(incident)
        if self.observer is not None:
            self.observer(incident)
        try:
            vectors = self.delivery.deliver(incident)
        except TripleFault as fault:
            self.control.request_stop("triple-fault", self._report(fault))
            return
        except NotModelled:
            self.deliveries.uncount()
            raise
        if incident.external:
            vectors = vectors[1:]
        clock = self.clock.now
        for vector in vectors:
            software = incident.software and vector == incident.vector
            name = SOFTWARE_NAME.format(vector) if software else name_of(vector)
            self.ledger.exceptions[name] += 1
            self.recent.append(Occurrence(clock, name, incident.error_code, incident.eip))
        if self.goal is not None and self.position >= self.goal:
            self.control.request_stop("position")

    def _emit(self, incident: Incident) -> None:
        fields: dict[str, object] = {"vector": incident.vector, "error": incident.error_code, "eip": incident.eip}
        if incident.vector == PF and not incident.software:
            fields["cr2"] = self.cpu.get(self.cpu.layout.cr2)
        if not incident.external:
            self.stream.emit("int" if incident.software else "exception", **fields)

    def _report(self, fault: TripleFault) -> TripleFaultReport:
        cpu = self.cpu
        code = self._mapped(cpu.eip + cpu.segment_base("cs"), CODE_SHOWN)
        stack = self._mapped(cpu.esp + cpu.segment_base("ss"), STACK_SHOWN * 4)
        words = struct.unpack_from(f"<{len(stack) // 4}I", stack)
        return TripleFaultReport(tuple(fault.chain), cpu.registers(), words, code, tuple(self.recent))

    def _mapped(self, linear: int, size: int) -> bytes:
        """Return linear memory as far as there is any."""
        data = b""
        with suppress(PageFault, DmaError):
            while len(data) < size:
                at = linear + len(data) & 0xFFFF_FFFF
                data += self.paging.read_linear(at, min(size - len(data), PAGE_SIZE - at % PAGE_SIZE))
        return data
