"""The pytest plugin: tests of assembly (docs/testing.md).

`test_*.asm` files are collected, a test for each case; `bare_cpu` and `booted` are the same from Python.
Modules that are slow to import are imported only when a test needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

if TYPE_CHECKING:
    from callgate.asm.assembler import AsmError, AsmErrors, Program
    from callgate.tools.asmtest.bare.convention import Convention
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem
    from callgate.tools.asmtest.cases.directives import Case
    from callgate.tools.asmtest.cases.runner import CaseRun
    from callgate.tools.asmtest.cases.unit import Unit
    from callgate.tools.asmtest.objects.linking import External

OF_RUN = {"abi", "fixture", "object", "extern"}  # words that matter before a run begins
CPU = pytest.StashKey["BareCpu"]()
SYSTEMS = pytest.StashKey[dict[tuple[Path, ...], "BootedSystem"]]()
RECORDINGS = "recordings"  # the folder of --asm-record


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare where `.include` looks."""
    parser.addini("callgate_include", "folders that .include searches, relative to the root", "paths", [])
    group = parser.getgroup("callgate", "coverage of assembly")
    group.addoption(
        "--asm-cov",
        action="append",
        nargs="?",
        const="",
        metavar="PATH",
        help="measure which instructions and directions of conditional jumps the tests execute, of the sources below "
        "PATH (several times for several), by default of all in the project but test_*.asm",
    )
    group.addoption(
        "--asm-cov-report",
        action="append",
        metavar="KIND[:TARGET]",
        help="term (default), term-missing (with the instructions that were not executed), lcov:FILE, annotate:FOLDER; "
        "several times for several",
    )
    group.addoption(
        "--asm-cov-fail-under",
        type=float,
        metavar="PERCENT",
        help="fail if fewer instructions or fewer directions were executed",
    )
    group.addoption(
        "--asm-record",
        nargs="?",
        const=RECORDINGS,
        metavar="FOLDER",
        help=f"write a recording of each test of assembly that fails into FOLDER, {RECORDINGS} if none is said; the "
        "failure shows the command that opens it there",
    )
    parser.addini("callgate_record", "folder for recordings of tests that fail, as --asm-record=FOLDER", default="")
    parser.addini("callgate_abi", "calling convention that is checked for calls that do not say one", default="none")


def pytest_configure(config: pytest.Config) -> None:
    """Load the measurement of coverage if it is requested."""
    folder = recordings_folder(config)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise pytest.UsageError(f"--asm-record: {folder} is no folder; write --asm-record=FOLDER")
    if config.getoption("asm_cov") is not None:
        from callgate.tools.asmtest.coverage.plugin import NAME, CoveragePlugin

        config.pluginmanager.register(CoveragePlugin(config), NAME)
    elif config.getoption("asm_cov_report") or config.getoption("asm_cov_fail_under") is not None:
        raise pytest.UsageError("--asm-cov-report and --asm-cov-fail-under do nothing without --asm-cov")


def recordings_folder(config: pytest.Config) -> Path | None:
    """Return the folder for recordings of tests that fail; None if there are to be none."""
    asked, said = config.getoption("asm_record"), config.getini("callgate_record")
    if asked:
        return Path(config.invocation_params.dir, asked)
    return Path(config.rootpath, said) if said else None


def shared_cpu(config: pytest.Config) -> BareCpu:
    """Return the session's bare CPU, made when it is first needed, and anew if a test has closed its machine."""
    cpu = config.stash.get(CPU, None)
    if cpu is None or cpu.machine.handle is None:
        from callgate.tools.asmtest.bare.cpu import BareCpu
        from callgate.tools.asmtest.board.programs import Programs

        include = [Path(item) for item in config.getini("callgate_include")]
        cpu = BareCpu(Programs(include), config.rootpath)
        cpu.convention = convention_of(config)
        config.stash[CPU] = cpu
    return cpu


def shared_system(config: pytest.Config, images: tuple[Path, ...]) -> BootedSystem:
    """Return the session's system with these disk images, booted when it is first needed, and anew if it is closed."""
    systems = config.stash.setdefault(SYSTEMS, {})
    system = systems.get(images)
    if system is None or system.machine.handle is None:
        from callgate.tools.asmtest.booted import BootedSystem

        system = systems[images] = BootedSystem(images)
    return system


def convention_of(config: pytest.Config) -> Convention | None:
    """Return the convention that the ini option `callgate_abi` names; UsageError if there is none."""
    from callgate.tools.asmtest.bare.convention import convention_named

    try:
        return convention_named(config.getini("callgate_abi"))
    except ValueError as error:
        raise pytest.UsageError(f"ini option callgate_abi: {error}") from None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the machines."""
    for system in config.stash.get(SYSTEMS, {}).values():
        system.close()
    if CPU in config.stash:
        config.stash[CPU].close()
        del config.stash[CPU]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect `test_*.asm`."""
    if file_path.suffix == ".asm" and file_path.name.startswith("test_"):
        return AsmFile.from_parent(parent, path=file_path)
    return None


class AsmFile(pytest.File):
    """A source with cases."""

    program: Program | None = None
    cases: Sequence[Case] = ()
    unit: Unit | None = None  # the program is made when a case is run: there are object files

    def collect(self) -> Iterable[pytest.Item]:
        """Yield a test for each case; a mistake in the file is a CollectError that names the place."""
        from callgate.asm.assembler import AsmError, AsmErrors
        from callgate.asm.assembler.language.source import decode
        from callgate.tools.asmtest.board.places import shown_error, shown_errors, shown_file
        from callgate.tools.asmtest.cases.directives import as_written, parse
        from callgate.tools.asmtest.cases.variants import marks, variants

        cases: list[Case] = []
        shown = shown_file(str(self.path), self.config.rootpath)
        try:
            text = decode(self.path.read_bytes())
            cases = self.cases = parse(text, shown)
            if not cases:  # not a file of cases
                return
            off = self._prepare(text)
            tests = [(name, variant, marks(variant)) for case in cases for name, variant in variants(case)]
        except AsmError as error:
            raise self.CollectError(f"{shown}:\n{shown_error(error, self.config.rootpath)}") from None
        except AsmErrors as errors:
            named = AsmErrors([as_written(error, str(self.path), cases) for error in errors.errors])
            raise self.CollectError(f"{shown}:\n{shown_errors(named, self.config.rootpath)}") from None
        except OSError as error:
            raise self.CollectError(f"{shown}: {error.strerror or error}") from None
        for name, case, decorators in tests:
            item = AsmCase.from_parent(self, name=name, case=case)
            for decorator in decorators:
                item.add_marker(decorator)
            if case.label in off:
                item.add_marker(pytest.mark.skip(reason="stands in a part that is not assembled"))
            yield item

    def _prepare(self, text: str) -> set[str]:
        """Assemble the source; return the labels of cases that are switched off.

        With object files assembling has to wait until a case is run, whose fixtures may make them.
        """
        from callgate.tools.asmtest.cases.directives import with_code, without_code

        cpu = shared_cpu(self.config)
        source = with_code(text, self.cases)
        if self.cases[0].settings("object"):
            from callgate.tools.asmtest.cases.unit import Unit

            self.unit = Unit(source, self.path, cpu.objects)
        else:
            self.program = cpu.programs.text(source, self.path)
        return without_code(text, self.cases, lambda marked: cpu.programs.defined(marked, self.path))


class AsmCase(pytest.Item):
    """One case of a `test_*.asm` file."""

    program: Program | None = None  # that is made when it is run: of objects
    external: Mapping[str, External] = MappingProxyType({})
    mistake: AsmError | AsmErrors | None = None

    def __init__(self, *, case: Case, **options: Any) -> None:
        super().__init__(**options)
        self.case = case
        self.plain = OF_RUN.isdisjoint(case.by_word) and OF_RUN.isdisjoint(line.word for line in case.common)

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
        case_run, abi_of = runner()
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
        crash = ReprFileLocation(str(self.path), self.case.place.line, reason)
        entry = ReprEntryNative([str(error) + "\n"])
        return ReprExceptionInfo(ReprTraceback([entry], None, style="native"), crash)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the place of the case."""
        return self.path, self.case.place.line - 1, self.case.title


@cache
def runner() -> tuple[type[CaseRun], Callable[[Case, str], Convention | None]]:
    """Return what runs a case, and what finds its calling convention: an import statement costs a tenth of a case."""
    from callgate.tools.asmtest.cases.runner import CaseRun
    from callgate.tools.asmtest.cases.unit import abi_of

    return CaseRun, abi_of


@cache
def folder_of(path: Path) -> Path:
    """Return a file's folder, the same object for each of its tests."""
    return path.parent


class Current:
    """The test that is being set up.  Using pytest's `request` instead would cost `bare_cpu` a tenth of a test."""

    item: pytest.Item


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep the test for the fixtures."""
    Current.item = item


@pytest.fixture
def bare_cpu() -> BareCpu:
    """A CPU with flat memory; sources are named relative to the test's file."""
    item = Current.item
    cpu = shared_cpu(item.config)
    cpu.attached.lend()
    cpu.reset()
    cpu.folder = folder_of(item.path)
    return cpu


@pytest.fixture(scope="session")
def booted_images() -> list[Path]:
    """Disk images that `booted` boots with; override it in a conftest.py.  By default none."""
    return []


@pytest.fixture
def booted(booted_images: list[Path]) -> Iterator[BootedSystem]:
    """A booted system at the shell's prompt, restored from a snapshot for each test."""
    system = shared_system(Current.item.config, tuple(booted_images))
    system.reset()
    yield system
    system.leave()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Add data of its fixtures to the report of a Python test that fails, and leave our own code out of it."""
    try:
        return (yield)
    except pytest.skip.Exception:
        raise
    except Exception as error:
        from callgate.tools.asmtest.cases import report

        fixtures = ours(item)
        if "bare_cpu" in fixtures:
            add_section(item, "bare CPU", report.describe_call(fixtures["bare_cpu"]))
        if "booted" in fixtures and not isinstance(error, report.SPEAKING):
            add_section(item, "booted system", fixtures["booted"].describe())
        add_section(item, "recording", recorded(item, error))
        if fixtures.keys() & {"bare_cpu", "booted"} and not item.config.option.fulltrace:
            report.without_internals(error)
        raise


def ours(item: pytest.Item) -> dict[str, Any]:
    """Return the values of `bare_cpu` and `booted` in a test, unless a fixture of the user's own has that name."""
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem

    values = getattr(item, "funcargs", {})
    kinds = {"bare_cpu": BareCpu, "booted": BootedSystem}
    return {name: values[name] for name, kind in kinds.items() if isinstance(values.get(name), kind)}


def recorded(item: pytest.Item, error: Exception) -> list[str]:
    """Write a recording of a test that failed, if there is to be one; return the command that opens it, or why not."""
    folder, here = recordings_folder(item.config), item.config.invocation_params.dir
    fixtures = ours(item)
    ran = isinstance(item, AsmCase) and item.failed_by(error)
    if folder is None or not (ran or fixtures.keys() & {"bare_cpu", "booted"}):
        return []
    from callgate.tools.asmtest.recorded import record, record_calls

    if "booted" in fixtures:
        return record(fixtures["booted"], folder, item.nodeid, here)
    return record_calls(shared_cpu(item.config), folder, item.nodeid, here)


def add_section(item: pytest.Item, title: str, lines: list[str]) -> None:
    """Add lines, if there are any, to the report of a test."""
    if lines:
        item.add_report_section("call", title, "\n".join(lines))
