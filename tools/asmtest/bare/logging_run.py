"""Repeating a failed test to note what its Python does to the machine, for a recording.

The journal is carried out again: what the test sets up for a call is the difference between the end of the call before
and the call's beginning, and what one of its functions does is the difference that the function makes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler import Program
from callgate.kernel.common.record import replaced
from callgate.kernel.machine.memory.outside import SetUp
from callgate.kernel.machine.observation.position import Position
from callgate.tools.asmtest.board.board import MEMORY, RETURN
from callgate.tools.asmtest.board.places import shown_file
from callgate.tools.asmtest.objects.linking import LinkedProgram
from callgate.tools.recording import (
    Answer,
    CallsHeader,
    CallsRun,
    Occurred,
    RunDiffers,
    apply,
    difference,
    ending,
    run_to,
    state_of,
    written_calls,
)
from callgate.tools.recording.changes import NOTHING, State

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop
    from callgate.tools.asmtest.bare.cpu import BareCpu

MASK: Final = 0xFFFF_FFFF


class NotRepeatable(Exception):
    """A test that did something else when it was repeated, or that has called nothing: the reason."""


class LoggingRun:
    """One repetition of a test on the bare CPU, with its calls and answers."""

    def __init__(self, cpu: BareCpu) -> None:
        """Repeat what the test has done so far; NotRepeatable."""
        self.cpu = cpu
        self.machine = cpu.machine
        self.occurred: list[Occurred] = []
        self.set_ups: list[SetUp] = []  # the same without positions
        self.answers: list[Answer] = []
        self.state: State = NOTHING  # at the end of the call before
        self.stop: Stop | None = None  # of the last call, None if it ended by an error
        kept, before, number, last = list(cpu.journal), cpu.before, cpu.calls, cpu.last
        program = cpu.program
        try:
            self._repeat()
            self.final = self.machine.position
            self.registers = self.machine.cpu.registers()
            again = cpu.last
        finally:
            cpu.journal[:] = kept
            cpu.before, cpu.calls, cpu.last = before, number, last
        if not self.occurred or program is None:
            raise NotRepeatable("the test has called no routine")
        found = [None if result is None else (result.registers, result.instructions) for result in (last, again)]
        if found[0] != found[1]:
            raise NotRepeatable(
                "the test's last call did something else when it was repeated: a function of the test's, or what it "
                "has changed past bare_cpu, is different the second time"
            )
        self.program = program

    def _repeat(self) -> None:
        cpu, steps = self.cpu, list(self.cpu.journal)
        cpu.reset()
        cpu.run_machine = self._run
        try:
            for function, arguments, options in steps:
                with suppress(Exception):  # the test has handled it, or it is the failure
                    function(*arguments, **options)
        finally:
            cpu.run_machine = self.machine.run
        self.machine.runner.settle()

    def _run(self, *, fuel: int | None = None) -> Stop:
        """Run one call, and note what was set up for it; what answers it notes what it does."""
        machine = self.machine
        machine.runner.settle()
        now = state_of(machine)
        every = tuple(now.registers.items())  # a call gets them all, also those that have kept their values
        self.set_ups.append(replaced(difference(self.state, now), registers=every))
        self.occurred.append(Occurred(machine.position, self.set_ups[-1]))
        self.stop = None
        host_calls, stubs = machine.host_calls.functions, self.cpu.stubs
        plain, named = dict(host_calls), dict(stubs)
        noting = {port: (self._noting(name, call, 0), name, names) for port, (call, name, names) in plain.items()}
        host_calls.update(noting)
        stubs.update({name: self._noting(name, function, 1) for name, function in named.items()})
        try:
            self.stop = machine.run(fuel=fuel)
        finally:
            # A function may have given another one for its port meanwhile.
            host_calls.update({port: plain[port] for port, entry in noting.items() if host_calls.get(port) is entry})
            stubs.update(named)
            machine.runner.settle()
            self.state = state_of(machine)
        return self.stop

    def _noting(self, name: str, function: Callable[..., Any], ahead: int) -> Callable[..., Any]:
        """Return a function that does the same and notes what it changes.

        One for a name is called before an instruction (`ahead` is 1), and its result goes into EAX.
        """

        @wraps(function)
        def called(*arguments: int) -> Any:
            before, count = state_of(self.machine), int(self.machine.state.count) + ahead
            result = function(*arguments)
            changes = difference(before, state_of(self.machine))
            if ahead and isinstance(result, int):
                others = tuple(item for item in changes.registers if item[0] != "eax")
                changes = replaced(changes, registers=(*others, ("eax", result & MASK)))
            self.answers.append(Answer(count, name, changes))
            return result

        return called

    @property
    def end(self) -> Position:
        """Where the failure is: before the last instruction of the last call, or before the one that faulted."""
        retired = self.final.retired
        if self.stop is None or self.stop.reason != "fault":
            retired -= 1
        return max(Position(retired), self.occurred[-1].position)

    def header(self) -> CallsHeader:
        """Return what the calls run on."""
        program = self.program
        if isinstance(program, LinkedProgram):
            program.read_lines()
        stubs = dict(program.stubs) if isinstance(program, LinkedProgram) else {}
        ports = {port: name for port, (_, name, _) in self.machine.host_calls.functions.items()}
        return CallsHeader(MEMORY, RETURN, [named_from(program, self.cpu)], stubs, ports)


def recording_of_calls(cpu: BareCpu, test: str) -> str:
    """Return a recording of what a test has done so far on the bare CPU.

    NotRepeatable if the test does something else when it is repeated; RunDiffers if a machine that has nothing but the
    recording does not come to the registers at the end of the last call.
    """
    run = LoggingRun(cpu)
    header = run.header()
    with CallsRun(header, run.set_ups[0], run.answers).machine as machine:
        for entry in run.occurred[1:]:
            run_to(machine, entry.position)
            apply(machine, entry.what)
        run_to(machine, run.end)
        last = ending(machine)
        run_to(machine, run.final)
        if machine.cpu.registers() != run.registers:
            raise RunDiffers(f"a repetition comes to {run.final} with other registers")
    return written_calls(test, header, run.occurred, run.answers, last)


def named_from(program: Program, cpu: BareCpu) -> Program:
    """Return a program whose files are named as messages name them: relative to the project's folder."""

    def name(file: str) -> str:
        return shown_file(file, cpu.root)

    return Program(
        RETURN,  # what calls routines: none of them is where a program begins, below which there is no caller
        program.sections,
        {key: symbol._replace(file=name(symbol.file)) for key, symbol in program.symbols.items()},
        [line._replace(file=name(line.file)) for line in program.lines],
        program.events,
        program.marks,
        [name(file) for file in program.sources],
        program.frame_sites,
        program.variables,
        program.structures,
    )
