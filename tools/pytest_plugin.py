"""The pytest plugin: tests of assembly (docs/testing.md).

`test_*.asm` files are collected, a test for each case; `bare_cpu` and `booted` are the same from Python.
Nothing that costs time is imported before a test needs it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback

if TYPE_CHECKING:
    from callgate.asm.assembler import Program
    from callgate.tools.asmtest.bare import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem
    from callgate.tools.asmtest.cases import Case

CPU = pytest.StashKey["BareCpu"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare where `.include` looks."""
    parser.addini("callgate_include", "folders that .include searches, relative to the root", "paths", [])


def shared_cpu(config: pytest.Config) -> BareCpu:
    """Return the session's bare CPU, made when it is first needed."""
    if CPU not in config.stash:
        from callgate.tools.asmtest.bare import BareCpu
        from callgate.tools.asmtest.programs import Programs

        include = [Path(item) for item in config.getini("callgate_include")]
        config.stash[CPU] = BareCpu(Programs(include), config.rootpath)
    return config.stash[CPU]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the machine back."""
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

    program: Program

    def collect(self) -> Iterable[pytest.Item]:
        """Yield a test for each case; a mistake in the file is a CollectError that says where."""
        from callgate.asm.assembler import AsmErrors
        from callgate.asm.assembler.source import decode
        from callgate.tools.asmtest.cases import as_written, parse, with_code, without_code
        from callgate.tools.asmtest.places import shown_errors, shown_file

        cases: list[Case] = []
        shown = shown_file(str(self.path), self.config.rootpath)
        try:
            text = decode(self.path.read_bytes())
            cases = parse(text, shown)
            if not cases:  # somebody else's file
                return
            programs = shared_cpu(self.config).programs
            self.program = programs.text(with_code(text, cases), self.path)
            off = without_code(text, cases, lambda marked: programs.defined(marked, self.path))
        except AsmErrors as errors:
            named = AsmErrors([as_written(error, str(self.path), cases) for error in errors.errors])
            raise self.CollectError(f"{shown}:\n{shown_errors(named, self.config.rootpath)}") from None
        except OSError as error:
            raise self.CollectError(f"{shown}: {error.strerror or error}") from None
        for case in cases:
            item = AsmCase.from_parent(self, name=case.name, case=case)
            if case.label in off:
                item.add_marker(pytest.mark.skip(reason="stands in a part that is not assembled"))
            yield item


class AsmCase(pytest.Item):
    """One case of a `test_*.asm` file."""

    def __init__(self, *, case: Case, **options: Any) -> None:
        super().__init__(**options)
        self.case = case

    def runtest(self) -> None:
        """Run the case."""
        from callgate.tools.asmtest.runner import check_cases

        assert isinstance(self.parent, AsmFile)
        check_cases(self.case, self.parent.program, shared_cpu(self.config))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what a person needs to see: no traceback of Python; the summary gets the reason."""
        from callgate.asm.assembler import AsmError
        from callgate.tools.asmtest.result import RoutineError
        from callgate.tools.asmtest.runner import CaseFailure

        error = excinfo.value
        if not isinstance(error, CaseFailure | AsmError | RoutineError):
            return super().repr_failure(excinfo, style)
        reason = error.reason if isinstance(error, CaseFailure) else getattr(error, "message", str(error))
        crash = ReprFileLocation(str(self.path), self.case.place.line, reason)
        entry = ReprEntryNative([str(error) + "\n"])
        return ReprExceptionInfo(ReprTraceback([entry], None, style="native"), crash)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the case stands."""
        return self.path, self.case.place.line - 1, self.case.title


@cache
def folder_of(path: Path) -> Path:
    """Return a file's folder, the same object for each of its tests."""
    return path.parent


class Current:
    """The test that is being set up.  Asking pytest for `request` instead costs `bare_cpu` a tenth of a test."""

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
    cpu.reset()
    cpu.folder = folder_of(item.path)
    return cpu


@pytest.fixture(scope="session")
def booted_images() -> list[Path]:
    """Disk images that `booted` boots with; override it in a conftest.py.  By default none."""
    return []


@pytest.fixture(scope="session")
def booted_system(booted_images: list[Path]) -> Iterator[BootedSystem]:
    """The system behind `booted`, booted once."""
    from callgate.tools.asmtest.booted import BootedSystem

    system = BootedSystem(booted_images)
    yield system
    system.close()


@pytest.fixture
def booted(booted_system: BootedSystem) -> BootedSystem:
    """A booted system at the shell's prompt, as a snapshot brings it back for each test."""
    booted_system.reset()
    return booted_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Add to the report of a Python test that fails what its fixtures know, and leave our own code out of it."""
    try:
        return (yield)
    except pytest.skip.Exception:
        raise
    except Exception as error:
        from callgate.tools.asmtest import report

        fixtures = getattr(item, "funcargs", {})
        if "bare_cpu" in fixtures:
            add_section(item, "bare CPU", report.describe_call(fixtures["bare_cpu"]))
        if "booted" in fixtures and not isinstance(error, report.SPEAKING):
            add_section(item, "booted system", fixtures["booted"].describe())
        if fixtures.keys() & {"bare_cpu", "booted"} and not item.config.option.fulltrace:
            report.without_internals(error)
        raise


def add_section(item: pytest.Item, title: str, lines: list[str]) -> None:
    """Add lines, if there are any, to the report of a test."""
    if lines:
        item.add_report_section("call", title, "\n".join(lines))
