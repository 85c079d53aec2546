"""The tests of a `test_*.asm` file, as pytest collects and runs them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback
from callgate.tools.asmtest.shared import shared_cpu

if TYPE_CHECKING:
    from callgate.asm.assembler import AsmError, AsmErrors, Program
    from callgate.tools.asmtest.bare.convention import Convention
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.cases.directives import Case
    from callgate.tools.asmtest.cases.ready import Ready
    from callgate.tools.asmtest.cases.runner import CaseRun
    from callgate.tools.asmtest.cases.unit import Unit
    from callgate.tools.asmtest.objects.linking import External

    AbiOf = Callable[[Case, str], Convention | None]
    Holds = Callable[[Ready, Program, BareCpu], bool]

OF_RUN = {"abi", "fixture", "object", "extern"}  # words that matter before a run begins


class AsmFile(pytest.File):
    """A source with cases."""

    program: Program | None = None
    cases: Sequence[Case] = ()  # if there are object files
    unit: Unit | None = None  # the program is made when a case is run: there are object files
    text = ""

    @cached_property
    def again(self) -> Sequence[Case]:
        """The cases in the order of their tests, parsed again, as they were when the file was read."""
        from callgate.tools.asmtest.board.places import shown_file
        from callgate.tools.asmtest.cases.directives import parse
        from callgate.tools.asmtest.cases.variants import variants

        cases = parse(self.text, shown_file(str(self.path), self.config.rootpath))
        return [variant for case in cases for _, variant in variants(case)]  # two may have one name

    def collect(self) -> Iterable[pytest.Item]:
        """Return a test for each case; a mistake in the file is a CollectError that names the place."""
        with collecting_no_garbage():
            return self._collect()

    def _collect(self) -> list[pytest.Item]:
        from callgate.asm.assembler import AsmError, AsmErrors
        from callgate.asm.assembler.language.source import decode
        from callgate.tools.asmtest.board.places import shown_error, shown_errors, shown_file
        from callgate.tools.asmtest.cases.directives import as_written, parse
        from callgate.tools.asmtest.cases.ready import ready
        from callgate.tools.asmtest.cases.variants import marks, variants

        cases: list[Case] = []
        shown = shown_file(str(self.path), self.config.rootpath)
        try:
            text = self.text = decode(self.path.read_bytes())
            cases = parse(text, shown)
            if not cases:  # not a file of cases
                return []
            off = self._prepare(text, cases)
            tests = [(name, variant, marks(variant)) for case in cases for name, variant in variants(case)]
        except AsmError as error:
            raise self.CollectError(f"{shown}:\n{shown_error(error, self.config.rootpath)}") from None
        except AsmErrors as errors:
            named = AsmErrors([as_written(error, str(self.path), cases) for error in errors.errors])
            raise self.CollectError(f"{shown}:\n{shown_errors(named, self.config.rootpath)}") from None
        except OSError as error:
            raise self.CollectError(f"{shown}: {error.strerror or error}") from None
        items: list[pytest.Item] = []
        for number, (name, case, decorators) in enumerate(tests):
            item = AsmCase.from_parent(self, name=name, case=case)
            if self.program is not None and item.plain:
                item.make_ready(ready(case, self.program), number)
            for decorator in decorators:
                item.add_marker(decorator)
            if case.label in off:
                item.add_marker(pytest.mark.skip(reason="stands in a part that is not assembled"))
            items.append(item)
        return items

    def _prepare(self, text: str, cases: Sequence[Case]) -> set[str]:
        """Assemble the source; return the labels of cases that are switched off.

        With object files assembling has to wait until a case is run, whose fixtures may make them.
        """
        from callgate.tools.asmtest.cases.directives import with_code, without_code

        cpu = shared_cpu(self.config)
        source = with_code(text, cases)
        if cases[0].settings("object"):
            from callgate.tools.asmtest.cases.unit import Unit

            self.unit, self.cases = Unit(source, self.path, cpu.objects), cases
        else:
            self.program = cpu.programs.text(source, self.path)
        return without_code(text, cases, lambda marked: cpu.programs.defined(marked, self.path))


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Have Python look for no garbage meanwhile: of many new objects, all of which stay, it would find none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class AsmCase(pytest.Item):
    """One case of a `test_*.asm` file."""

    program: Program | None = None  # that is made when it is run: of objects
    ready: Ready | None = None
    number = 0
    external: Mapping[str, External] = MappingProxyType({})
    mistake: AsmError | AsmErrors | None = None

    def __init__(self, *, case: Case, **options: Any) -> None:
        super().__init__(**options)
        self.kept: Case | None = case
        self.title, self.line = case.title, case.place.line
        self.plain = OF_RUN.isdisjoint(case.by_word) and OF_RUN.isdisjoint(line.word for line in case.common)

    def make_ready(self, ready: Ready | None, number: int) -> None:
        """Take the form in which the case is run, if it has one: its lines are needed only if it does not hold.

        `number` is its place among the tests of the file, from 0.
        """
        if ready is not None:
            self.ready, self.kept, self.number = ready, None, number

    @property
    def case(self) -> Case:
        """The lines of the case, parsed again if they were not kept."""
        if self.kept is None:
            assert isinstance(self.parent, AsmFile)
            self.kept = self.parent.again[self.number]
        return self.kept

    def setup(self) -> None:
        """Ask for the fixtures that the case names, then link objects; mistakes in the case fail its run."""
        super().setup()
        if self.plain:
            return
        from callgate.asm.assembler import AsmError, AsmErrors
        from callgate.tools.asmtest.cases.directives import as_written

        assert isinstance(self.parent, AsmFile)
        try:
            self._set_up(self.parent)
        except AsmError as error:
            self.mistake = error
        except AsmErrors as errors:
            path, cases = str(self.parent.path), self.parent.cases
            self.mistake = AsmErrors([as_written(error, path, cases) for error in errors.errors])

    def _set_up(self, file: AsmFile) -> None:
        for statement in self.case.settings("fixture"):
            for name in statement.rest.replace(",", " ").split():
                try:
                    self.fixture(name)
                except LookupError as error:
                    raise statement.error(str(error)) from None
        if file.unit is not None:
            self.program, self.external = file.unit.program(self.case, self.fixture)
            return
        for statement in self.case.settings("extern"):
            raise statement.error("there are no objects that need it", "begin with ;@ object FILE")

    def fixture(self, name: str) -> Any:
        """Return the value of a fixture; LookupError if there is none of the name."""
        from callgate.tools.asmtest.fixtures import fixture_value

        return fixture_value(self, name)

    def runtest(self) -> None:
        """Run the case."""
        if self.mistake is not None:
            raise self.mistake
        assert isinstance(self.parent, AsmFile)
        program = self.program or self.parent.program
        assert program is not None
        cpu = shared_cpu(self.config)
        if cpu.attached.lent:
            cpu.attached.drop()
        case_run, abi_of, holds = runner()
        if self.ready is not None and cpu.convention is None and holds(self.ready, program, cpu):
            return
        convention = cpu.convention if self.plain else abi_of(self.case, self.config.getini("callgate_abi"))
        case_run(self.case, program, cpu, convention, self.external).run()

    def failed_by(self, error: Exception) -> bool:
        """Whether an error is that the case did not hold, and not a mistake in it."""
        from callgate.tools.asmtest.cases.runner import CaseFailure

        return isinstance(error, CaseFailure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the report for a user: no traceback of Python; the summary has the reason."""
        from callgate.asm.assembler import AsmError, AsmErrors
        from callgate.tools.asmtest.board.places import shown_errors
        from callgate.tools.asmtest.board.result import RoutineError
        from callgate.tools.asmtest.cases.runner import CaseFailure

        error: BaseException = excinfo.value
        if isinstance(error, CaseFailure):
            reason = error.reason
        elif isinstance(error, AsmErrors):
            error, reason = shown_errors(error, self.config.rootpath), error.errors[0].message
        elif isinstance(error, AsmError | RoutineError):
            reason = getattr(error, "message", str(error))
        else:
            return super().repr_failure(excinfo, style)
        crash = ReprFileLocation(str(self.path), self.line, reason)
        entry = ReprEntryNative([str(error) + "\n"])
        return ReprExceptionInfo(ReprTraceback([entry], None, style="native"), crash)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the place of the case."""
        return self.path, self.line - 1, self.title


@cache
def runner() -> tuple[type[CaseRun], AbiOf, Holds]:
    """Return what runs a case, what finds its calling convention, and what runs one that is made ready.

    An import statement costs a tenth of a case.
    """
    from callgate.tools.asmtest.cases.ready import holds
    from callgate.tools.asmtest.cases.runner import CaseRun
    from callgate.tools.asmtest.cases.unit import abi_of

    return CaseRun, abi_of, holds
