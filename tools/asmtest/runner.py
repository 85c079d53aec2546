"""Runs cases on the bare CPU and says what did not hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from callgate.asm.assembler import AsmError, Program
from callgate.asm.assembler.errors import near_miss
from callgate.asm.assembler.macros import split_arguments
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.machine.bus import DmaError
from callgate.kernel.machine.stream import Event
from callgate.tools.asmtest.bare import FUEL, BareCpu
from callgate.tools.asmtest.board import RIGHTS, SEGMENT_SELECTORS
from callgate.tools.asmtest.cases import Case, Statement, relations, structure_of
from callgate.tools.asmtest.report import describe
from callgate.tools.asmtest.result import FLAGS, WHOLE, CallResult, RoutineError
from callgate.tools.asmtest.structures import StructureError
from callgate.tools.asmtest.values import bits_of, failure, holds, memory_operand, string_bytes, value_of


class CaseFailure(Exception):
    """A case that did not hold; the text is ready to be shown."""


class CaseRun:
    """One run of one case."""

    def __init__(self, case: Case, program: Program, cpu: BareCpu) -> None:
        self.case = case
        self.program = program
        self.cpu = cpu
        self.registers: dict[str, int] = {}

    def run(self) -> None:
        """Set up, run, check; CaseFailure, or AsmError for a mistake in the case."""
        self.cpu.reset()
        self.cpu.use(self.program)
        self.cpu.journal.append((self.cpu.use, (self.program,), {}))
        for word in ("ring", "protect", "segment", "host", "set", "place"):
            for statement in self.case.all(word):
                self._guarded(statement, getattr(self, f"_{word}"))
        wrong: list[tuple[Statement, str]] = []
        result = self._call(wrong)
        if result is not None:
            for statement in self.case.all("expect"):
                self._guarded(statement, lambda item: wrong.extend(self._expect(item, result)))
        if wrong:
            raise CaseFailure(describe(self.case, wrong, self.cpu))

    def _guarded(self, statement: Statement, action: Callable[[Statement], None]) -> None:
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
        self._assign(statement, statement.rest, self._set_register)

    def _assign(self, statement: Statement, text: str, register: Callable[[str, int], None]) -> None:
        for relation in relations(statement, text):
            if relation.operator != "=":
                raise statement.error(f"{relation.left} {relation.operator} … sets nothing")
            name, data = relation.left, string_bytes(relation.right)
            memory = memory_operand(name, statement, self.program)
            if memory is not None:
                if data is None:
                    value = self._value(relation.right, statement)
                    data = (value & (1 << memory[1] * 8) - 1).to_bytes(memory[1], "little")
                self.cpu.write(memory[0], data)
            elif name in WHOLE or name in FLAGS or name == "eflags":
                value = self._value(relation.right, statement)
                if not -(1 << bits_of(name) - 1) <= value < 1 << bits_of(name):
                    raise statement.error(f"{relation.right} does not fit into {name}")
                register(name, value & (1 << bits_of(name)) - 1)
            else:
                hint = near_miss(name, [*WHOLE, *FLAGS]) or "registers of 32 bits, flags and dword [address] can be set"
                raise statement.error(f"{name} cannot be set", hint)

    def _set_register(self, name: str, value: int) -> None:
        self.registers[name] = value

    def _place(self, statement: Statement) -> None:
        self._place_text(statement, statement.rest)

    def _place_text(self, statement: Statement, text: str) -> None:
        found = structure_of(statement, text)
        if found is None:
            raise statement.error("no structure is placed")
        name, address, fields = found
        if any(relation.operator != "=" for relation in fields):
            raise statement.error("fields are set with =")
        values = {relation.left: self._value(relation.right, statement) for relation in fields}
        self.cpu.place(name, self._value(address, statement), **values)

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
            self.cpu.protect(self._value(relation.left, statement), 1, relation.right)

    def _host(self, statement: Statement) -> None:
        name, _, answer = (part.strip() for part in statement.rest.partition(":"))
        if name not in HostCall.__members__:
            hint = near_miss(name, HostCall.__members__) or "see abi/calls.py, HostCall"
            raise statement.error(f"there is no host call {name}", hint)
        self.cpu.on_host_call(HostCall[name], partial(self._answer, statement, answer))

    def _answer(self, statement: Statement, answer: str, _value: int) -> None:
        """Do what the line says, in the middle of a run; nothing of it belongs into the journal."""
        if not answer:
            return
        length = len(self.cpu.journal)
        if structure_of(statement, answer) is not None:
            self._place_text(statement, answer)
        else:
            self._assign(statement, answer, partial(setattr, self.cpu.machine.cpu))
        del self.cpu.journal[length:]

    # Running and checking.

    def _call(self, wrong: list[tuple[Statement, str]]) -> CallResult | None:
        call = self.case.one("call")
        target = call.rest if call else self.case.label
        if target not in self.program.symbols:
            assert call is not None
            raise call.error(f"there is no routine {target}", near_miss(target, self.program.symbols))
        options: dict[str, Any] = dict(self.registers)
        stack, fuel = self.case.one("stack"), self.case.one("fuel")
        if stack:
            options["stack"] = [self._value(item, stack) for item in split_arguments(stack.rest)]
        options["fuel"] = self._value(fuel.rest, fuel) if fuel else FUEL
        try:
            result = self.cpu.call(target, faults=True, **options)
        except RoutineError as error:
            wrong.append((call or next(self.case.all("code")), str(error)))
            return None
        faults = [item for item in self.case.all("expect") if item.rest.split("=")[0].strip() == "fault"]
        if result.fault and not faults:
            wrong.append((call or next(self.case.all("code")), f"{target} faulted: {result.fault}"))
            return None
        return result

    def _expect(self, statement: Statement, result: CallResult) -> list[tuple[Statement, str]]:
        word, _, rest = statement.rest.partition(" ")
        special = {"fault": self._expect_fault, "events": self._expect_events, "unchanged": self._expect_unchanged}
        if word in special:
            found = special[word](statement, rest.strip().removeprefix("=").strip(), result)
        elif (structure := structure_of(statement)) is not None:
            found = self._expect_fields(statement, *structure)
        else:
            found = [failure(relation, self.cpu, result, self.program) for relation in relations(statement)]
        return [(statement, text) for text in found if text]

    def _expect_fields(self, statement: Statement, name: str, address: str, fields: list[Any]) -> list[str | None]:
        at = self._value(address, statement)
        return [holds(item, self.cpu.field(name, at, item.left), 64, self.program) for item in fields]

    def _expect_fault(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        """`#PF 0x2 at 0x1000`; error code and address may be left out."""
        if not text.startswith(("#", "int ")):
            raise statement.error("a fault is written #PF 0x2 at 0x1000, #GP 0, #UD or int 0x80")
        fault = result.fault
        if fault is None:
            return [f"no fault, expected {text}"]
        head, _, address = (part.strip() for part in text.partition(" at "))
        name, _, code = head.partition(" ")
        if name == "int":
            same = fault.software and fault.vector == self._value(code, statement)
        else:
            same = fault.name == name and (not code or fault.error_code == self._value(code, statement))
        if same and address:
            same = fault.address == self._value(address, statement)
        return [] if same else [f"the fault is {fault}, expected {text}"]

    def _expect_events(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        """`take slot=1, give`: the whole sequence; fields that are not named may be anything."""
        wanted = split_arguments(text) if text != "none" else []
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
                raise statement.error(f"{item!r} is no field of an event", ";@ expect events = take slot=1, give")
            if event.fields.get(name) != self._value(value, statement):
                return False
        return event.kind == kind

    def _expect_unchanged(self, statement: Statement, text: str, result: CallResult) -> list[str | None]:
        found: list[str | None] = []
        for name in split_arguments(text):
            if name not in WHOLE:
                raise statement.error(f"{name} is no register", near_miss(name, WHOLE))
            before = self.cpu.before[name] + (4 if name == "esp" else 0)  # RET takes the return address
            if result.registers[name] != before:
                found.append(f"{name} was {before:#x} and is {result.registers[name]:#x}, expected unchanged")
        return found


def check_cases(case: Case, program: Program, cpu: BareCpu) -> None:
    """Run one case; CaseFailure or AsmError say what is wrong."""
    CaseRun(case, program, cpu).run()


__all__ = ["AsmError", "CaseFailure", "CaseRun", "check_cases"]
