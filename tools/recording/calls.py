"""Recordings of tests that call routines on a machine without a kernel (the bare CPU of docs/testing.md).

The header has the size of memory, the programs with their symbols and lines, and where Python answers.  What comes from
outside is what the test sets up for each call.  What a function of the test has done in the middle of a call, a host
call's answer or a name's that the objects lack, is in the list of answers: it follows from nothing that could be
repeated, so what it changed is done again.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from zlib import compress

from callgate.asm.assembler import Program
from callgate.asm.assembler.output.record import describe, restore
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.cpu.exceptions import PF, name_of
from callgate.kernel.machine.memory.outside import SetUp
from callgate.tools.recording.changes import make
from callgate.tools.recording.identity import callgate_version, sources_digest
from callgate.tools.recording.lines import LARGEST, plain_set_up, set_up, unpacked

if TYPE_CHECKING:
    from callgate.kernel.machine.observation.stream import Event

FAULT: Final = "fault"  # reasons of stops, as the bare CPU has them; the detail of a fault says which
RETURNED: Final = "returned"
NO_ANSWER: Final = "no answer"  # its detail is what would have been asked
FAULTS: Final = ("exception", "int")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function of the test has changed, in the instruction with the number `count`."""

    count: int
    name: str
    changes: SetUp


@dataclass(frozen=True, slots=True)
class CallsHeader:
    """What a test's calls run on: bytes of memory, the address that a routine returns to, programs by what they are.

    `stubs` are addresses of names that Python answers, `ports` those of host calls.
    """

    memory: int
    returns: int
    programs: Sequence[Program]
    stubs: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[int, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return it as an object."""
        return {
            "memory": self.memory,
            "returns": self.returns,
            "programs": [plain_program(program) for program in self.programs],
            "stubs": dict(self.stubs),
            "ports": {str(port): name for port, name in self.ports.items()},
        }


def header_of(entry: Mapping[str, Any]) -> CallsHeader:
    """Return what an object of `plain` stands for; ValueError, KeyError or TypeError if it is none."""
    memory = int(entry["memory"])
    if memory > LARGEST:
        raise ValueError(f"{memory} bytes of memory")
    return CallsHeader(
        memory,
        int(entry["returns"]),
        [program_of(item) for item in entry["programs"]],
        {str(name): int(address) for name, address in entry["stubs"].items()},
        {int(port): str(name) for port, name in entry["ports"].items()},
    )


def plain_program(program: Program) -> dict[str, Any]:
    """Return a program with symbols, lines, events and call frames as an object."""
    contents = [[len(section.data), b64encode(compress(section.data)).decode()] for section in program.sections]
    return describe(program) | {"contents": contents}


def program_of(entry: dict[str, Any]) -> Program:
    """Return the program that such an object describes."""
    names = [section[0] for section in entry["sections"]]
    data = [unpacked(text, int(size)) for size, text in entry["contents"]]
    return restore(Program, entry, dict(zip(names, data, strict=True)))


def beginning_of_calls(test: str, calls: CallsHeader) -> dict[str, Any]:
    """Return the first line of a recording of a test's calls, but for what says that it is one."""
    return {
        "version": callgate_version(),
        "sources": sources_digest(),
        "test": test,
        "calls": calls.plain(),
        "images": [],
    }


def plain_answer(answer: Answer) -> dict[str, Any]:
    """Return an answer as an object."""
    return {"answer": answer.name, "count": answer.count, "set_up": plain_set_up(answer.changes)}


def parsed_answer(entry: Mapping[str, Any]) -> Answer:
    """Return what such an object stands for; ValueError, KeyError or TypeError if it is none."""
    return Answer(int(entry["count"]), str(entry["answer"]), set_up(entry["set_up"]))


class CallsRun:
    """The machine of a recording, which begins before the first instruction of the first call.

    A run ends where the bare CPU's did: at a fault, and when a routine has returned; also where Python would be asked
    for something that it was not asked for in the test.  `around` is called with the name of a function and what does
    the same as it has done; it has to call that.
    """

    def __init__(self, header: CallsHeader, first: SetUp, answers: Sequence[Answer]) -> None:
        """Make the machine; ValueError for a size of memory that no machine has."""
        self.header = header
        self.answers = answers
        self.known = {(answer.count, answer.name): answer.changes for answer in answers}
        self.around: Callable[[str, Callable[[], None]], None] = lambda _name, do: do()
        self.machine = machine = Machine(memory=header.memory, high_memory=0)
        machine.stream.subscribe(self._faulted, kinds=FAULTS, again=True)
        machine.probe(header.returns, lambda: machine.request_stop(RETURNED))
        for name, address in header.stubs.items():
            machine.probe(address, partial(self._answer, name, 1))
        for port, name in header.ports.items():
            machine.host_calls.register(port, partial(self._answer, name, 0), name)
        make(machine, first)

    def ended(self) -> Stop | None:
        """Return how a call has ended where the machine stands; None if it has not.

        There is no IDT, so that whatever is delivered has ended it.
        """
        position, eip = self.machine.position, self.machine.cpu.eip
        if position.delivered:
            return Stop(FAULT, position.retired, eip, "an exception")  # which one was said when it came
        return Stop(RETURNED, position.retired, eip) if eip == self.header.returns else None

    def _faulted(self, event: Event) -> None:
        """End the run; the detail is the exception as the bare CPU names it: #PF 0x2 at 0x1000, int 0x80."""
        vector, error, address = (int(str(event.fields.get(name, 0))) for name in ("vector", "error", "cr2"))
        text = f"{name_of(vector)} {error:#x}" + (f" at {address:#x}" if vector == PF else "")
        self.machine.request_stop(FAULT, f"int {vector:#x}" if event.kind == "int" else text)

    def _answer(self, name: str, ahead: int, _eax: int = 0) -> None:
        """Do what Python has done in the instruction where the machine is, or, with `ahead` 1, before the next one."""
        changes = self.known.get((int(self.machine.state.count) + ahead, name))
        if changes is None:
            self.machine.request_stop(NO_ANSWER, name)
        else:
            self.around(name, partial(make, self.machine, changes))
