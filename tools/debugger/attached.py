"""A debugger in Python: what the prompt's commands do, as methods.

with boot("disk.img", options=SystemOptions(commands="df")) as system, attach(system) as debugger:
debugger.run(until="ipc.reply")
debugger.back(3)
print(debugger.why("eax"))

A machine without a kernel takes one as well, with the programs in its memory: `attach(machine, program)`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callgate.kernel.machine import Machine
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.history import BUDGET, History
from callgate.tools.debugger.target import BareMachine, Subject
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.looks import FrameLook, backtrace
from callgate.tools.debugger.workbench.workbench import Workbench

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.kernel.machine import Stop
    from callgate.kernel.system import System
    from callgate.tools.debugger.why import Link


class Attached:
    """A system or a machine with a debugger.

    `bench` is what the commands at the prompt work on, `history` what has been.

    What cannot be done is a CommandError, which says what to do instead.
    """

    def __init__(self, subject: Subject, budget: int = BUDGET) -> None:
        """Keep the run from now on, in at most `budget` bytes; NotQuiescent in the middle of a request."""
        self.machine = subject.machine
        self.history = History(subject, budget)
        self.bench = Workbench(subject, self.history)

    @property
    def system(self) -> System:
        """The system; NoKernel for a machine without a kernel."""
        return self.bench.system

    def close(self) -> None:
        """Take breakpoints, watchpoints and observers out of the system or machine."""
        self.bench.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Forward.

    def run(self, until: str | int | None = None, condition: str | None = None) -> Stop:
        """Run to a breakpoint or watchpoint, or once to a place or event for which a condition holds.

        A place is what the command `break` takes, or an address.
        """
        if until is None:
            return self._counted(self.bench.run())
        stopping = self.bench.stops.add(place_of(until), condition, once=True)
        try:
            return self._counted(self.bench.run())
        finally:
            if stopping.number in self.bench.stops.known:
                self.bench.stops.remove(stopping.number)

    def _counted(self, stop: Stop) -> Stop:
        self.bench.stops.found(stop)
        return stop

    def step(self, count: int = 1) -> Stop:
        """Execute instructions; a delivery of an exception or interrupt counts as one."""
        return self._repeated(count, self.bench.step)

    def step_over(self, count: int = 1) -> Stop:
        """Execute instructions of this routine: what they call runs through."""
        return self._repeated(count, self.bench.over)

    def step_line(self, count: int = 1) -> Stop:
        """Run to the beginning of another source line."""
        return self._repeated(count, lambda: self.bench.lines.forward(self.bench.step))

    def step_out(self) -> Stop:
        """Run to the code that has called this routine."""
        return self.bench.out()

    def _repeated(self, count: int, move: Callable[[], Stop]) -> Stop:
        if count < 1:
            raise ValueError(f"{count} steps: there is at least one")
        for _ in range(count):
            stop = move()
        return stop

    # Backward.

    def back(self, count: int = 1) -> bool:
        """Go back by instructions; False at the beginning, where it ends."""
        return all(self.bench.back_step() for _ in range(count))

    def back_over(self, count: int = 1) -> bool:
        """Go back by instructions of this routine, past what they have called; False at the beginning."""
        return all(self.bench.back_over() for _ in range(count))

    def back_line(self, count: int = 1) -> bool:
        """Go back by source lines; False at the beginning."""
        return all(self.bench.lines.backward(self.bench.back_step) for _ in range(count))

    def back_out(self) -> bool:
        """Go back to the call of this routine; False at the beginning."""
        return self.bench.back_out()

    def back_to_stop(self) -> Stop | None:
        """Go back to the last breakpoint or watchpoint; None, and to the beginning, if there is none."""
        return self.bench.back()

    def go(self, retired: int) -> None:
        """Go to where a number of instructions have retired."""
        self.bench.go(retired)

    # Stops.

    def break_at(self, place: str | int, condition: str | None = None) -> int:
        """Stop at a place in code, an event, `slot 5`, or `state served`, as the command `break`; return its number."""
        return self.bench.stops.add(place_of(place), condition).number

    def watch(self, place: str | int, kind: str = "write", length: int | None = None) -> int:
        """Stop after accesses of a kind ("write", "read", "access") to memory; return the number of the stop.

        `place` is an expression that names memory, or an address (of a dword, unless `length` says otherwise).
        """
        return self.bench.stops.watch(Kind(kind), memory_of(place), length).number

    def delete(self, number: int) -> None:
        """Remove a stop."""
        self.bench.stops.remove(number)

    # Looking.

    def value(self, text: str) -> Any:
        """Return the value of an expression of the debugger: `message.error`, `slot[0].client`, `[esp+4]`."""
        return self.bench.meanings.value(Expression(text))

    def where(self, address: int | None = None) -> str:
        """Return an address, EIP if none is given, with its symbol in the kernel or in the running program."""
        return self.bench.code.name(self.machine.cpu.eip if address is None else address)

    def backtrace(self, thread: int | None = None) -> list[FrameLook]:
        """Return the calls that a thread is in, the running one if none is named, the innermost first.

        They lead through gates and interrupts into the program.  LookupError, with the reason, for a thread that there
        is not, or whose registers are not known.
        """
        return backtrace(self.bench, thread)

    def why(self, what: str | int, most: int = 1) -> list[Link]:
        """Return what wrote a register or a place last, and with `most` > 1 where that came from, and so on."""
        return list(self.bench.why(memory_of(what), most))


def attach(subject: Subject | Machine, *programs: Program, budget: int = BUDGET) -> Attached:
    """Return a debugger for a system or a machine, which keeps its run from now on, in at most `budget` bytes.

    A machine without a kernel has symbols, source lines and call frames of the `programs` in its memory; ValueError if
    they are given for a system, which knows its own.  A part of the run that is repeated calls the functions of its
    host calls again.
    """
    if isinstance(subject, Machine):
        return Attached(BareMachine(subject, programs), budget)
    if programs:
        raise ValueError("a system knows the programs that it runs: name programs for a machine only")
    return Attached(subject, budget)


def place_of(place: str | int) -> str:
    """Return a place as the command `break` takes it."""
    return f"{place:#x}" if isinstance(place, int) else place


def memory_of(place: str | int) -> str:
    """Return what commands take for the dword at an address, and any other place as it is."""
    return f"[{place:#x}]" if isinstance(place, int) else place
