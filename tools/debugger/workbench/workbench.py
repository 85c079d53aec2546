"""A system or bare machine under a debugger, with its history: every way to move through its run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from callgate.kernel.machine import Stop
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.lent_views import StaleView
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.system import System
from callgate.tools.debugger.debuggee import Debuggee
from callgate.tools.debugger.history import History, HistoryInterrupted, Moment
from callgate.tools.debugger.history.searching import Last
from callgate.tools.debugger.history.timeline import Timeline
from callgate.tools.debugger.target import Subject
from callgate.tools.debugger.why import Chain, InRegister, Link
from callgate.tools.debugger.why.locations import FOLLOWED, SEGMENTS
from callgate.tools.debugger.workbench.code import LONGEST, Code
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.lines import Lines
from callgate.tools.debugger.workbench.names import REGISTERS, Meanings
from callgate.tools.debugger.workbench.passing import Passing
from callgate.tools.debugger.workbench.selection import Selection
from callgate.tools.debugger.workbench.stops import ENDS, REACHED, Stops
from callgate.tools.recording import RunDiffers

OPENING_INTERRUPTED: Final = "interrupted on the way to its end: this is its beginning; `goto end` leads there"
STOOD: Final = "the system stands where it stood"
PHASES: Final = "ipc"  # all events of a request
REQUEST: Final = "ipc.take"  # the first of them
SHORTEST_CALL: Final = 2  # bytes


class Workbench:
    """What the commands work on."""

    def __init__(self, subject: Subject, history: History, debuggee: Debuggee | None = None) -> None:
        """Work on `debuggee`, which a front end has made of a system or a bare machine, or make it."""
        self.machine = subject.machine
        self.history = history
        self.debuggee = debuggee or Debuggee(subject)
        self.code = Code(self.debuggee)
        self.meanings = Meanings(self.debuggee)
        self.selection = Selection(self.debuggee, history)
        self.stops = Stops(self.debuggee, self.code, self.meanings)
        self.chain = Chain(self.debuggee, history, self.code.name)
        self.lines = Lines(self)
        self.found: dict[int, Moment] = {}  # the moments of the last answer by their numbers, which begin at 1
        self.timeline = Timeline(history)
        history.around.append(self.debuggee.watchpoints.outside)
        history.restored.append(self._restored)
        history.branched.append(self._branched)
        history.returning.append(self.debuggee.at_rest)

    @property
    def system(self) -> System:
        """The system; NoKernel for a bare machine."""
        return self.debuggee.system

    def open(self) -> bool:
        """Go to where a recording is to be shown from; CommandError if its run does not come there.

        False after Ctrl-C: it is shown from its beginning.
        """
        if self.history.opening is None:
            return True
        try:
            self.history.go(self.history.opening)
        except HistoryInterrupted:
            return False
        except (RunDiffers, PageFault, IndexError, ValueError) as error:  # the last three: of what it sets up
            raise CommandError(f"the recording cannot be repeated: {error}; record it again") from None
        self._arrive()
        return True

    @contextmanager
    def following(self) -> Iterator[None]:
        """Come back to where the system stands if a recording's run cannot be followed: CommandError says why.

        CommandError as well where a view of memory is held, which a state to go back to would not allow.
        """
        origin = self.history.moment
        try:
            yield
        except RunDiffers as error:
            if self.history.moment != origin:
                self.history.come_back(origin)
            raise CommandError(f"this is not the run that was recorded: {error}; {STOOD}") from None
        except StaleView as error:
            raise CommandError(str(error)) from None

    def close(self) -> None:
        """Take everything out of the system."""
        self.timeline.close()
        self.stops.clear()
        self.debuggee.close()

    def _restored(self) -> None:
        self.debuggee.threads.forget()
        self.debuggee.breakpoints.passed = (-1, 0)
        self.debuggee.watchpoints.renew()

    def _branched(self, moment: Moment) -> None:
        """Forget moments that are no longer, and hits that were passed after this one."""
        self.stops.forget_after(moment.position)
        self.found = {number: found for number, found in self.found.items() if found <= moment}

    def value(self, expression: Expression) -> Any:
        """Return what an expression is in the frame that is selected; CommandError."""
        return self.meanings.value(expression, frame=self.selection.now())

    # Forward.

    def run(self) -> Stop:
        """Run on to what ends it; where the system stands nothing ends it again."""
        begin = self.history.moment
        self.selection.forget()
        self.debuggee.watchpoints.renew()
        with self.stops.counting():
            while True:
                stop = self.history.run()
                if stop.reason not in ENDS or self.history.moment != begin:
                    return stop

    def run_to(self, retired: int) -> Stop:
        """Run on to where a number of instructions have retired, or to what ends the run before that."""
        self.selection.forget()
        with self.stops.counting():
            return self.history.run(goal=Position(retired))

    def step(self) -> Stop:
        """One instruction, or the delivery of an exception or interrupt."""
        self.selection.forget()
        with self.stops.counting():
            return self.history.step()

    def over(self) -> Stop:
        """One instruction; what it calls runs through."""
        instruction = self.code.current()
        if instruction is None or not instruction.calls:
            return self.step()
        return self._until(instruction.address + instruction.size, self.machine.cpu.esp)

    def out(self) -> Stop:
        """Run to the code that has called this routine."""
        while True:
            instruction = self.code.current()
            if instruction is not None and instruction.returns:
                return self.step()
            before = self.history.moment
            stop = self.over()
            if stop.reason not in ("position", REACHED) or self.history.moment == before:
                return stop

    def _until(self, address: int, esp: int) -> Stop:
        """Run until the running thread is at an address again, with its stack where it is now."""
        return self.until_at(address, esp, self.debuggee.threads.running().number)

    def until_at(self, address: int, esp: int, thread: int) -> Stop:
        """Run until a thread is at an address, with its stack at `esp`."""
        with self._reaching([address], lambda: self._here(thread, esp)):
            return self.run()

    def _here(self, thread: int, esp: int) -> bool:
        return self.machine.cpu.esp == esp and self.debuggee.threads.running().number == thread

    @contextmanager
    def _reaching(self, addresses: Sequence[int], condition: Callable[[], bool]) -> Iterator[None]:
        def reached() -> None:
            if condition():
                self.machine.request_stop(REACHED)

        sites = [self.machine.probe(address, reached) for address in addresses]
        try:
            yield
        finally:
            for site in sites:
                self.machine.unprobe(site)

    def to_event(self, name: str) -> Stop:
        """Run to the next event of a kind, or one whose first or last word it is."""
        with self._listening(name):
            return self.run()

    @contextmanager
    def _listening(self, name: str) -> Iterator[None]:
        kinds = self.stops.kinds(name)
        if not kinds:
            raise CommandError(f"no event {name!r} can come; try: info events")
        listener = self.stops.listener(None, Passing())
        self.machine.stream.subscribe(listener, kinds, again=True)
        try:
            yield
        finally:
            self.machine.stream.unsubscribe(listener)

    # Backward.

    def back(self) -> Stop | None:
        """Go back to the last thing that ends a run; None, and to the beginning, if there is none."""
        return self._back(self.stops.kinds_wanted(), self.stops.may_end)

    def _back(self, kinds: Collection[str] | None, counts: Callable[[Event], bool]) -> Stop | None:
        """Do so; if only events of some kinds can end a run, the time line knows where the last one has come."""

        def latest(end: Position) -> Last | None:
            return None if kinds is None else self.timeline.latest(kinds, end, counts)

        stop = self.history.back_to(lambda stop: stop.reason in ENDS, latest=latest)
        self._arrive()
        return stop

    def _arrive(self) -> None:
        """The breakpoint at the instruction where the system now stands does not end the next run."""
        self.debuggee.breakpoints.passed = int(self.machine.state.count), self.machine.cpu.eip
        self.selection.forget()

    def back_step(self) -> bool:
        """Go to the position before; False at the beginning."""
        moved = self.history.step_back()
        self._arrive()
        return moved

    def back_over(self) -> bool:
        """Go to the instruction before in this routine: past what it has called; False at the beginning."""
        here, thread, esp = self.machine.cpu.eip, self.debuggee.threads.running().number, self.machine.cpu.esp
        calls = self._calls_that_end_at(here)
        origin = self.history.moment
        if not self.back_step():
            return False
        before = self.code.current()
        if not calls or before is None or before.address in calls or not before.returns:
            return True
        self.history.go(origin)
        with self._reaching(calls, lambda: self._here(thread, esp)):
            found = self.history.back_to(lambda stop: stop.reason == REACHED)
        self._arrive()
        return found is not None

    def _calls_that_end_at(self, address: int) -> list[int]:
        """Return the addresses of calls after which the code at `address` comes."""
        found = []
        for size in range(SHORTEST_CALL, LONGEST):
            instructions = self.code.instructions(address - size, 1)
            if instructions and instructions[0].size == size and instructions[0].calls:
                found.append(address - size)
        return found

    def back_out(self) -> bool:
        """Go back to the call of this routine; False at the beginning."""
        while True:
            if not self.back_over():
                return False
            instruction = self.code.current()
            if instruction is not None and instruction.calls and self._enters(instruction.size):
                return True

    def _enters(self, size: int) -> bool:
        """Whether the call at EIP has entered the code that the system came back from: it has not been passed over."""
        eip = self.machine.cpu.eip
        after = self.history.moment
        self.history.step()
        entered = self.machine.cpu.eip != eip + size
        self.history.go(after)
        self._arrive()
        return entered

    def back_to_event(self, name: str) -> Stop | None:
        """Go back to the last event of a kind, as `to_event`."""
        wanted, kinds = self.stops.kinds_wanted(), self.stops.kinds(name)
        with self._listening(name):
            return self._back(
                None if wanted is None else wanted.union(kinds),
                lambda event: event.kind in kinds or self.stops.may_end(event),
            )

    def why(self, text: str, most: int = 1) -> Iterator[Link]:
        """Yield what wrote a register or memory last, and from where that came, at most `most` links; CommandError."""
        if text in FOLLOWED:
            return self.chain.links(InRegister(FOLLOWED[text]), most)
        if text in REGISTERS:
            raise CommandError(f"{text}: general registers and {', '.join(SEGMENTS)} are followed, and memory")
        if not text:
            raise CommandError("why what? a register, a field, or an address in brackets: why [esp]")
        try:
            location = self.chain.location(*self.meanings.place(Expression(text)))
        except LookupError as error:
            raise CommandError(str(error)) from None
        return self.chain.links(location, most)

    def go(self, retired: int) -> None:
        """Go to where a number of instructions have retired; CommandError if that is not in the history."""
        self.go_to(self.history.moment_at(retired))

    def go_to(self, moment: Moment) -> None:
        """Go to a moment; CommandError if it is not in the history."""
        try:
            self.history.go(moment)
        except ValueError as error:
            hint = f"; sba {moment.position.retired} runs on to it" if moment > self.history.edge else ""
            raise CommandError(f"{error}{hint}") from None
        self._arrive()
