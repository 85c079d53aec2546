"""The pytest plugin: tests of assembly (docs/testing.md).

`test_*.asm` files are collected, a test for each case; `bare_cpu` and `booted` are the same from Python.
Modules that are slow to import are imported only when a test needs them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from callgate.tools.asmtest.items import AsmCase, AsmFile
from callgate.tools.asmtest.shared import close_machines, shared_cpu, shared_system

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.cpu import BareCpu
    from callgate.tools.asmtest.booted import BootedSystem

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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the machines."""
    close_machines(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect `test_*.asm`."""
    if file_path.suffix == ".asm" and file_path.name.startswith("test_"):
        return AsmFile.from_parent(parent, path=file_path)
    return None


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
