"""Runs cases on the bare CPU and reports expectations that do not hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from callgate.asm.assembler import AsmError, Program
from callgate.asm.assembler.language.macros import split_arguments
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.machine.cpu.exceptions import NAMES
from callgate.kernel.machine.cpu.fpu import FloatingPoint
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.machine.observation.stream import Event
from callgate.tools.asmtest.bare.convention import Argument, Convention, make_frame, violations
from callgate.tools.asmtest.bare.cpu import FUEL, BareCpu
from callgate.tools.asmtest.board import wide
from callgate.tools.asmtest.board.board import MEMORY, RIGHTS, SEGMENT_SELECTORS
from callgate.tools.asmtest.board.result import FLAGS, WHOLE, CallResult, RoutineError
from callgate.tools.asmtest.board.structures import StructureError, put_field
from callgate.tools.asmtest.cases.directives import Case, Statement, relations, structure_of
from callgate.tools.asmtest.cases.report import describe
from callgate.tools.asmtest.cases.values import (
    argument_of,
    bits_of,
    failure,
    holds,
    memory_operand,
    string_bytes,
    value_of,
    wide_value,
)
from callgate.tools.asmtest.objects.linking import External

FAULT = re.compile(
    r"(?:(?P<name>#\w+)(?:\s+(?P<code>(?!at\b)\S(?:(?!\sat\b).)*))?|int\s+(?P<vector>(?:(?!\sat\b).)+))"
    r"(?:\s+at\s+(?P<address>(?:(?!\sat\b).)+))?"
)
NEVER = re.compile(r"never\s+within\s+(.+)")
LABELS_SHOWN = 20
EXCEPTIONS = tuple(name for name in NAMES.values() if name.startswith("#"))


class CaseFailure(Exception):
    """A case that did not hold; the text is ready to be shown, `reason` is one line."""

    def __init__(self, text: str, reasons: list[str]) -> None:
        super().__init__(text)
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        self.reason = reasons[0] + more


class CaseRun:
    """One run of one case."""

    def __init__(
        self,
        case: Case,
        program: Program,
        cpu: BareCpu,
        convention: Convention | None = None,
        external: Mapping[str, External] | None = None,
    ) -> None:
        """`convention` is the routine's calling convention; `external` has the names that objects lack."""
        self.case = case
        self.convention = convention
        self.external = external
        self.floating: FloatingPoint | None = None  # wide registers before the call, if the case compares them
        self.program = program
        self.cpu = cpu
        self.registers: dict[str, int] = {}

    def run(self) -> None:
        """Set up, run, check; CaseFailure, or AsmError for a mistake in the case."""
        self.cpu.reset()
        self.cpu.use(self.program, self.external)
        lines = self.case.by_word
        for word in ("ring", "protect", "segment", "host", "set", "place"):
            if word in lines:
                self._guarded(lines[word], getattr(self, f"_{word}"))
        wrong: list[tuple[Statement, str]] = []
        result = self._call(wrong)
        if result is not None:
            self._guarded(self.case.all("expect"), partial(self._expect, result=result, wrong=wrong))
        if wrong:
            raise CaseFailure(describe(self.case, wrong, self.cpu), [text for _, text in wrong])

    def _guarded(self, lines: Sequence[Statement], action: Callable[[Statement], None]) -> None:
        for statement in lines:
            try:
                action(statement)
            except StructureError as error:
                raise statement.error(str(error), "see the structure's declaration") from None
            except (DmaError, OverflowError):
                raise statement.error("the address lies outside the 8 MiB of memory") from None

    def _value(self, text: str, statement: Statement) -> int:
        return value_of(text, statement, self.program)

    # Setting up.

    def _set(self, statement: Statement) -> None:
        for target, value in self._assignments(statement, statement.rest):
            if target in wide.BITS:
                self.cpu.set_wide(str(target), value)
            elif isinstance(target, str):
                self.registers[target] = value
            else:
                self.cpu.write(target[0], value.to_bytes(target[1], "little"))

    def _assignments(self, statement: Statement, text: str) -> list[tuple[str | tuple[int, int], int]]:
        """Return a target and its value: a register or flag by name, memory by address and size."""
        found: list[tuple[str | tuple[int, int], int]] = []
        for relation in relations(statement, text):
            if relation.operator != "=":
                raise statement.error(f"{relation.left} {relation.operator} … sets nothing", "write =")
            name, data = relation.left, string_bytes(relation.right, statement)
            memory = memory_operand(name, statement, self.program)
            if memory is not None and data is not None:
                found.append(((memory[0], len(data)), int.from_bytes(data, "little")))
            elif memory is not None:
                found.append((memory, self._fitting(relation.right, memory[1] * 8, name, statement)))
            elif name in wide.SETTABLE:
                found.append((name, wide_value(name, relation.right, statement, self.program).raw()))
            elif name in WHOLE or name in FLAGS or name == "eflags":
                found.append((name, self._fitting(relation.right, bits_of(name), name, statement)))
            else:
                hint = (
                    did_you_mean(name, [*WHOLE, *FLAGS, *wide.SETTABLE])
                    or "registers of 32 bits, flags and dword [address] can be set"
                )
                raise statement.error(f"{name} cannot be set", hint)
        return found

    def _fitting(self, text: str, bits: int, name: str, statement: Statement) -> int:
        """Return a value of `bits` bits, unsigned."""
        value = self._value(text, statement)
        if not -(1 << bits - 1) <= value < 1 << bits:
            hint = f"it has {bits} bit{'s' if bits > 1 else ''}: write 0 to {(1 << bits) - 1:#x}"
            raise statement.error(f"{text} does not fit into {name}", hint)
        return value & (1 << bits) - 1

    def _place(self, statement: Statement) -> None:
        name, address, values = self._placement(statement, statement.rest)
        self.cpu.place(name, address, **values)

    def _placement(self, statement: Statement, text: str) -> tuple[str, int, dict[str, int]]:
        """Return a structure's name, its address, and the values of fields."""
        found = structure_of(statement, text)
        if found is None:
            raise statement.error("no structure is placed")
        name, address, fields = found
        if any(relation.operator != "=" for relation in fields):
            raise statement.error("fields are set with =")
        return (
            name,
            self._value(address, statement),
            {relation.left: self._value(relation.right, statement) for relation in fields},
        )

    def _segment(self, statement: Statement) -> None:
        for relation in relations(statement):
            if relation.left not in SEGMENT_SELECTORS or relation.operator != "=":
                raise statement.error(f"{relation.left} is none of {', '.join(SEGMENT_SELECTORS)}")
            self.cpu.segment(relation.left, self._value(relation.right, statement))

    def _ring(self, statement: Statement) -> None:
        if statement.rest not in ("0", "3"):
            raise statement.error("routines run in ring 0 or 3")
        self.cpu.enter_ring(int(statement.rest))

    def _protect(self, statement: Statement) -> None:
        for relation in relations(statement):
            if relation.right not in RIGHTS or relation.operator != "=":
                raise statement.error(f"{relation.right} is none of {', '.join(RIGHTS)}")
            address = self._value(relation.left, statement)
            if not 0 <= address < MEMORY:
                raise OverflowError  # as for an address that is written to
            self.cpu.protect(address, 1, relation.right)

    def _host(self, statement: Statement) -> None:
        name, _, answer = (part.strip() for part in statement.rest.partition(":"))
        if name not in HostCall.__members__:
            hint = did_you_mean(name, HostCall.__members__) or f"there are {', '.join(HostCall.__members__)}"
            raise statement.error(f"there is no host call {name}", hint)
        self.cpu.on_host_call(HostCall[name], self._answer(statement, answer))

    def _answer(self, statement: Statement, text: str) -> Callable[[int], None]:
        """Return a function that carries out the line in the middle of a run; the journal must not record it."""
        if not text:
            return lambda _value: None
        if structure_of(statement, text) is not None:
            name, address, values = self._placement(statement, text)
            change = partial(self.cpu.place, name, address, **values)
            kind = self.cpu.structure_at(name, address)
            for path, value in values.items():
                put_field(kind, path, value)  # on a copy: a mistake in the line is reported before the run
        else:
            change = partial(self._change, self._assignments(statement, text))

        def answer(_value: int) -> None:
            length = len(self.cpu.journal)
            change()
            del self.cpu.journal[length:]

        return answer

    def _change(self, assignments: list[tuple[str | tuple[int, int], int]]) -> None:
        """Set registers, flags and memory now."""
        cpu = self.cpu.machine.cpu
        for target, value in assignments:
            if target in wide.BITS:
                wide.write(self.cpu.machine, str(target), value)
            elif not isinstance(target, str):
                self.cpu.write(target[0], value.to_bytes(target[1], "little"))
            elif target in FLAGS:
                cpu.eflags = cpu.eflags & ~(1 << FLAGS[target]) | value << FLAGS[target]
            else:
                setattr(cpu, target, value)

    # Running and checking.

    def _call(self, wrong: list[tuple[Statement, str]]) -> CallResult | None:
        lines = self.case.by_word
        call = lines["call"][0] if "call" in lines else None
        run = call or lines["code"][0]
        target = self._target(call)
        stack = lines["stack"][0] if "stack" in lines else None
        fuel = lines["fuel"][0] if "fuel" in lines else None
        never = self._never()
        limit = fuel or (never[0] if never else None)
        instructions = never[1] if never else self._value(fuel.rest, fuel) if fuel else FUEL
        if limit and instructions < 1:
            raise limit.error(f"{instructions} instructions are too few", "write 1 or more")
        words = [self._value(item, stack) for item in split_arguments(stack.rest)] if stack else []
        registers = self.registers
        if self.convention is not None:
            frame = make_frame(self.cpu, self.convention, self._arguments(), registers, words)
            registers, words = frame.registers, frame.stack
        if not wide.BITS.keys().isdisjoint(self._unchanged()):
            self.floating = self.cpu.machine.fpu
        options: dict[str, Any] = {"fuel": instructions, "stack": words, **registers}
        try:
            result = self.cpu.run_routine(target, options, faults=True, returns=never is None)
        except RoutineError as error:
            wrong.append((never[0] if never else run, str(error).replace(self.case.label, "the code")))
            return None
        if result.fault and not self._faults():
            wrong.append((run, f"{call.rest if call else 'the code'} faulted: {result.fault}"))
            return None
        if self.convention is not None and result.returned:
            broken = violations(self.convention, self.cpu.before, result, len(words), self.cpu.machine.fpu)
            wrong.extend((run, text) for text in broken)
        return result

    def _faults(self) -> bool:
        """Whether the case expects a fault."""
        return any(item.rest.split("=")[0].strip() == "fault" for item in self.case.all("expect"))

    def _target(self, call: Statement | None) -> str:
        """Return the label to call; AsmError lists the existing ones."""
        target = call.rest if call else self.case.label
        if target in self.program.symbols:
            return target
        assert call is not None
        labels = [name for name, symbol in self.program.symbols.items() if symbol.kind == "label"]
        known = ", ".join([name for name in labels if not name.startswith("__case_")][:LABELS_SHOWN])
        raise call.error(
            f"there is no routine {target}", did_you_mean(target, labels) or f"there are {known or 'none'}"
        )

    def _never(self) -> tuple[Statement, int] | None:
        """Return the line that says that the routine does not return, and the number of instructions."""
        for statement in self.case.all("expect"):
            match = NEVER.fullmatch(statement.rest) if statement.rest.startswith("never") else None
            if match is not None:
                if self.case.one("fuel"):
                    raise statement.error("the number of instructions is given twice", "leave ;@ fuel out")
                return statement, self._value(match[1], statement)
        return None

    def _arguments(self) -> list[Argument]:
        statement = self.case.one("args")
        if statement is None:
            return []
        return [argument_of(item, statement, self.program, self.cpu) for item in split_arguments(statement.rest)]

    def _unchanged(self) -> list[str]:
        names: list[str] = []
        for item in self.case.all("expect"):
            word, *rest = item.rest.split(maxsplit=1)
            if word == "unchanged" and rest:
                names += split_arguments(rest[0])
        return names

    def _expect(self, statement: Statement, result: CallResult, wrong: list[tuple[Statement, str]]) -> None:
        """Add to `wrong` what does not hold."""
        word, _, rest = statement.rest.partition(" ")
        if word == "never":
            if not NEVER.fullmatch(statement.rest):
                raise statement.error(f"{statement.rest} is incomplete", "write ;@ expect never within 1000")
            return
        if word in ("fault", "events", "unchanged"):
            look: Callable[[Statement, str, CallResult], list[str | None]] = getattr(self, f"_expect_{word}")
            found = look(statement, rest.strip().removeprefix("=").strip(), result)
        elif (structure := structure_of(statement)) is not None:
            found = self._expect_fields(statement, *structure)
        else:
            found = [failure(relation, self.cpu, result, self.program) for relation in relations(statement)]
        wrong.extend((statement, text) for text in found if text)

    def _expect_fields(self, statement: Statement, name: str, address: str, fields: list[Any]) -> list[str | None]:
        at = self._value(address, statement)
        return [holds(item, self.cpu.field(name, at, item.left), 64, self.program) for item in fields]

    def _expect_fault(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        """`#PF 0x2 at 0x1000`; error code and address may be left out."""
        match = FAULT.fullmatch(text)
        if match is None:
            hint = "write ;@ expect fault = #PF 0x2 at 0x1000, or #GP 0, or #UD, or int 0x80"
            raise statement.error(f"{text or 'nothing'} is not a fault", hint)
        name = match["name"]
        if name is not None and name not in EXCEPTIONS:
            hint = did_you_mean(name, EXCEPTIONS) or f"there are {', '.join(EXCEPTIONS)}"
            raise statement.error(f"there is no exception {name}", hint)
        vector, code, address = (
            self._value(match[group], statement) if match[group] else None for group in ("vector", "code", "address")
        )
        fault = result.fault
        if fault is None:
            return [f"no fault, expected {text}"]
        same = fault.software and fault.vector == vector if name is None else fault.name == name
        same = same and code in (None, fault.error_code) and address in (None, fault.address)
        return [] if same else [f"the fault is {fault}, expected {text}"]

    def _expect_events(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        """`take slot=1, give`: the whole sequence; fields that are not named may have any value."""
        if not text:
            raise statement.error("no events are named", "write ;@ expect events = take slot=1, give, or events = none")
        wanted = split_arguments(text) if text != "none" else []
        kinds = {site.name for site in self.program.events}
        for item in wanted:
            kind = item.split(maxsplit=1)[0]
            if kind not in kinds:
                hint = did_you_mean(kind, kinds) or f"the source has {', '.join(sorted(kinds)) or 'none'}"
                raise statement.error(f"there is no event {kind}", hint)
        shown = ", ".join(f"{event.kind} {event.fields}" for event in result.events) or "none"
        same = len(wanted) == len(result.events)
        for item, event in zip(wanted, result.events, strict=False):
            same = same and self._same_event(statement, item, event)
        return [] if same else [f"the events are {shown}, expected {text}"]

    def _same_event(self, statement: Statement, text: str, event: Event) -> bool:
        kind, *fields = text.split()
        for item in fields:
            name, equals, value = item.partition("=")
            if not equals:
                raise statement.error(f"{item!r} is not a field of an event", ";@ expect events = take slot=1, give")
            if event.fields.get(name) != self._value(value, statement):
                return False
        return event.kind == kind

    def _expect_unchanged(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        found: list[str | None] = []
        for name in split_arguments(text) or [""]:
            if name in wide.BITS and self.floating is not None:
                before, now = wide.raw_of(self.floating, name), wide.raw_of(self.cpu.machine.fpu, name)
                if before != now:
                    found.append(f"{name} was {before:#x} and is {now:#x}, expected unchanged")
                continue
            if name not in WHOLE:
                hint = (
                    did_you_mean(name, [*WHOLE, *wide.BITS])
                    or f"write ;@ expect unchanged with some of {', '.join(WHOLE)}"
                )
                raise statement.error(f"{name or 'nothing'} is not a register of 32 bits", hint)
            before = self.cpu.before[name] + (4 if name == "esp" else 0)  # RET takes the return address
            if result.registers[name] != before:
                found.append(f"{name} was {before:#x} and is {result.registers[name]:#x}, expected unchanged")
        return found


def check_cases(
    case: Case,
    program: Program,
    cpu: BareCpu,
    convention: Convention | None = None,
    external: Mapping[str, External] | None = None,
) -> None:
    """Run one case; CaseFailure or AsmError name the fault."""
    CaseRun(case, program, cpu, convention, external).run()


__all__ = ["AsmError", "CaseFailure", "CaseRun", "check_cases"]
