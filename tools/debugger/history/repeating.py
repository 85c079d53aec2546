"""Repeating what has been: a checkpoint is restored, and the machine runs on as it did, without telling it again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final, NoReturn

from callgate.kernel.machine import Stop
from callgate.kernel.machine.engine.control import PAUSE
from callgate.kernel.machine.memory.outside import Outside, SetUp
from callgate.kernel.machine.observation.position import Position
from callgate.tools.debugger.history.checkpoints import Checkpoint, Checkpoints, Moment
from callgate.tools.debugger.history.interrupts import HistoryInterrupted, Interrupts
from callgate.tools.debugger.target import Target
from callgate.tools.recording import Occurred, RunDiffers

ENDS: Final = ("interrupted", PAUSE)
Around = Callable[[Outside], AbstractContextManager[object]]
Returning = Callable[[], AbstractContextManager[object]]


class Repeating:
    """The part of `History` that runs in the past."""

    checkpoints: Checkpoints
    edge: Moment  # the furthest moment; beyond it nothing has happened yet

    def __init__(self, target: Target) -> None:
        self.target = target
        self.machine = target.machine
        self.interrupts = Interrupts(target.machine)
        self.occurred: list[Occurred] = []  # from outside, in order
        self.happened = 0  # how many of them have, where the system is
        self.restored: list[Callable[[], None]] = []  # called when a checkpoint has been restored
        self.returning: list[Returning] = []  # each is entered while the system comes back to where it stood
        self.around: list[Around] = []  # each is entered while something from outside comes again
        self.silent = False  # what runs has been, and nothing that comes from outside is new
        self.mute = False  # what the guest prints has been printed
        self.telling = False  # what runs is shown to a user
        self.told = self.machine.position  # what the guest has printed up to here has been printed
        self.ending: tuple[Moment, dict[str, int]] | None = None  # of a recording: until the run has come there
        self.due = math.inf  # CPU time from which on a run is to end where a checkpoint can be taken
        self.asked = math.inf  # the clock's time before which CPU time is not asked for: it takes ten times as long
        self.machine.host_calls.answered = self._answered

    @property
    def moment(self) -> Moment:
        """Where the system is."""
        return Moment(self.machine.position, self.happened)

    def repeat(self, left: int | None, until: Callable[[], bool] | int | str | None, goal: Position | None) -> Stop:
        """Run in the past, up to the next thing from outside or to its end; the arguments are those of `run`."""
        due = self.occurred[self.happened].position if self.happened < len(self.occurred) else None
        target = self.edge.position if due is None else due
        wanted = self._up_to_what_was_told(target if goal is None else min(goal, target))
        with self._quietly():
            stop = self.machine.run(fuel=left, until=until, goal=wanted)
            self.machine.runner.settle()
            self._compare()
            if due is not None and self.machine.position >= due and (stop.reason == "position" or self._set_up_next()):
                self.machine.control.request = None
                self._happen()
                return self.machine.runner.requested() or stop  # it may have written what is watched
        return stop

    def _set_up_next(self) -> bool:
        """Whether a test sets up a call next: whatever has ended here, the code stands at nothing before that."""
        return isinstance(self.occurred[self.happened].what, SetUp)

    def _happen(self) -> None:
        """Let the next thing from outside come again."""
        entry = self.occurred[self.happened]
        if self.machine.position != entry.position:
            there, here = entry.position, self.machine.position
            differ = f"the run was to come to {there} at {there.clock:,} ns, and is at {here} at {here.clock:,} ns"
            raise RunDiffers(differ)
        with self._quietly(), ExitStack() as stack:
            for around in self.around:
                stack.enter_context(around(entry.what))
            self.target.repeat(entry.what)
            self.happened += 1

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Let nothing be told that was told before; what the guest prints is, if it is shown for the first time."""
        stream, serial = self.machine.stream, self.machine.serial
        before = self.silent, self.mute, stream.repeating, serial.source
        self.silent = stream.repeating = True
        self.mute = not self.telling or self.machine.position < self.told
        serial.source = self._no_more_input
        try:
            yield
        finally:
            serial.flush()
            if not self.mute:
                self.told = max(self.told, self.machine.position)
            self.silent, self.mute, stream.repeating, serial.source = before

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Have what the guest prints told where it has not been: in a recording, whose run is new to the user."""
        before, self.telling = self.telling, True
        try:
            yield
        finally:
            self.telling = before

    def _up_to_what_was_told(self, goal: Position) -> Position:
        """Return a goal, or before it the place from which on what the guest prints is to be told."""
        return min(goal, self.told) if self.machine.position < self.told else goal

    def _compare(self) -> None:
        """Compare the registers with those at the end of a recording, once; RunDiffers."""
        if self.ending is None or self.moment != self.ending[0]:
            return
        (moment, expected), self.ending = self.ending, None
        found = self.machine.cpu.registers()
        wrong = [
            f"{name} is {found[name]:#x} and was {value:#x}" for name, value in expected.items() if found[name] != value
        ]
        if wrong:
            raise RunDiffers(f"the run comes to its end, {moment.position}, with other registers: {', '.join(wrong)}")

    @contextmanager
    def surrounded(self, around: Around, *, when: bool = True) -> Iterator[None]:
        """Have something entered while something from outside comes again, for as long as the block lasts."""
        if when:
            self.around.append(around)
        try:
            yield
        finally:
            if when:
                self.around.remove(around)

    def _no_more_input(self, _size: int) -> NoReturn:
        raise RunDiffers(f"the run waits for input at {self.machine.position}, where it did not")

    # To a moment.

    def _answered(self) -> None:
        """Pause after a host call at which a checkpoint is due and can be taken."""
        now = time.perf_counter()
        if now < self.asked:
            return
        left = self.due - time.process_time()
        if left > 0:  # the host has run something else as well
            self.asked = now + left
        elif self.target.quiet():
            self.machine.control.pause()

    @contextmanager
    def pausing(self, seconds: float) -> Iterator[None]:
        """Let runs within the block end (`PAUSE`) where a state can be kept, once they have taken this much CPU time.

        That is after a host call: what one takes differs, so that a number of instructions says little.
        """
        self.due, self.asked = time.process_time() + seconds, time.perf_counter() + seconds
        try:
            yield
        finally:
            self.due = self.asked = math.inf

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.restore(checkpoint)
        self.happened = checkpoint.moment.outside
        for told in self.restored:
            told()
        self.interrupts.pass_on()

    def come_back(self, moment: Moment) -> None:
        """Make the system stand at a moment that has been, whatever its state is, and whether Ctrl-C comes or not."""
        with self.interrupts.ignored(), self._alone(), ExitStack() as stack:
            for returning in self.returning:
                stack.enter_context(returning())
            self._restore(self.checkpoints.before(moment))
            self._run_to(moment)

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Make the system stand where it stands now when the block has ended, however it ends."""
        origin = self.moment
        try:
            yield
        finally:
            if self.moment != origin:
                self.come_back(origin)

    @contextmanager
    def travelling(self) -> Iterator[None]:
        """Come back if Ctrl-C ends the block: HistoryInterrupted."""
        origin = self.moment
        try:
            with self.interrupts.held(), self._alone():
                yield
        except HistoryInterrupted:
            self.come_back(origin)
            raise

    def _run_to(self, moment: Moment) -> None:
        """Run on to a moment that has been, or to a pause on the way there.

        HistoryInterrupted after Ctrl-C, wherever the system then is.
        """
        while self.moment < moment:
            before = self.moment
            due = (self.happened < moment.outside and self.occurred[self.happened].position) or None
            goal = moment.position if due is None else min(due, moment.position)
            stop = self._run_quietly(self._up_to_what_was_told(goal))
            if due is not None and self.machine.position >= due:
                self._happen()
            if stop is not None and stop.reason == "interrupted":
                if self.interrupts.deaf:
                    continue
                raise HistoryInterrupted
            if stop is not None and stop.reason == PAUSE:
                return
            if self.moment == before:
                raise RunDiffers(f"the run was to come to {moment.position} and stays at {before.position}")
            if due is None and self.machine.position >= moment.position:
                return

    def _run_quietly(self, goal: Position) -> Stop | None:
        """Run up to a position; None if the run ended with an error, as it did the first time."""
        stop: Stop | None = None
        with self._quietly():
            try:
                while self.machine.position < goal:
                    before, again = self.machine.position, stop
                    stop = self.machine.run(goal=goal)
                    if stop.reason in ENDS or (self.machine.position == before and stop == again):
                        break
            except Exception:
                if self.machine.position < goal:
                    raise
            self.machine.runner.settle()
        self._compare()
        return stop

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no breakpoint stop what is repeated, and let Ctrl-C end it."""
        breakpoints, machine = self.machine.breakpoints, self.machine
        before, asked = breakpoints.enabled, machine.on_interrupt
        breakpoints.enabled, machine.on_interrupt = False, None
        try:
            yield
        finally:
            breakpoints.enabled, machine.on_interrupt = before, asked
