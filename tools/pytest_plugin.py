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

        config.stash[CPU] = BareCpu(Programs([Path(item) for item in config.getini("callgate_include")]))
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
        from callgate.tools.asmtest.cases import as_written, parse, with_code

        cases: list[Case] = []
        try:
            text = self.path.read_text(encoding="utf-8")
            cases = parse(text, self._shown())
            self.program = shared_cpu(self.config).programs.text(with_code(text, cases), self.path)
        except AsmErrors as errors:
            shown = AsmErrors([as_written(error, str(self.path), cases) for error in errors.errors])
            raise self.CollectError(f"{self._shown()}:\n{shown}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise self.CollectError(f"{self._shown()}:\n{error}") from None
        if not cases:
            raise self.CollectError(f"{self._shown()} has no case; begin one with ;@ case what is tested")
        for case in cases:
            yield AsmCase.from_parent(self, name=case.title, case=case)

    def _shown(self) -> str:
        try:
            return str(self.path.relative_to(self.config.rootpath))
        except ValueError:
            return str(self.path)


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
        """Return what a person needs to see: no traceback of Python."""
        from callgate.asm.assembler import AsmError
        from callgate.tools.asmtest.result import RoutineError
        from callgate.tools.asmtest.runner import CaseFailure

        if isinstance(excinfo.value, CaseFailure | AsmError | RoutineError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

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
    """Add registers and last instructions of the last call to the report of a Python test that fails."""
    try:
        return (yield)
    except pytest.skip.Exception:
        raise
    except BaseException:
        if CPU in item.config.stash and "bare_cpu" in getattr(item, "fixturenames", ()):
            from callgate.tools.asmtest.report import describe_call

            lines = describe_call(item.config.stash[CPU])
            if lines:
                item.add_report_section("call", "bare CPU", "\n".join(lines))
        raise
