"""`pytest --asm-cov`: collects in every process of a run, merges, reports.  Loaded only on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from callgate.tools.asmtest.coverage.measuring import Coverage
from callgate.tools.asmtest.coverage.report import Report, lcov, make_report, text_lines, write_annotated

NAME: Final = "callgate_coverage"
OUTPUT: Final = "callgate_coverage"  # key of the results that a worker of pytest-xdist returns
KINDS: Final = ("term", "term-missing", "lcov", "annotate")
LCOV_FILE: Final = "asm-coverage.info"
ANNOTATED: Final = "asm-coverage"


def reports_of(config: pytest.Config) -> list[tuple[str, str]]:
    """Return kind and target of each report; UsageError for an unknown kind."""
    found = []
    for text in config.getoption("asm_cov_report") or ["term"]:
        kind, _, target = text.partition(":")
        if kind not in KINDS:
            raise pytest.UsageError(f"--asm-cov-report {text}: there are {', '.join(KINDS)}")
        if target and kind.startswith("term"):
            raise pytest.UsageError(f"--asm-cov-report {text}: the terminal has no file; write {kind}")
        found.append((kind, target))
    return found


class CoveragePlugin:
    """One run with coverage."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.reports = reports_of(config)
        self.limit: float | None = config.getoption("asm_cov_fail_under")
        self.folders = [config.invocation_params.dir / item for item in config.getoption("asm_cov") if item]
        for folder in self.folders:
            if not folder.exists():
                raise pytest.UsageError(f"--asm-cov {folder}: there is no such file or folder")
        self.folders = [folder.resolve() for folder in self.folders]
        self.coverage = Coverage()
        self.coverage.start()
        self.report: Report | None = None
        self.notes: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Add the results of a worker."""
        self.coverage.add(getattr(node, "workeroutput", {}).get(OUTPUT, []))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand the results to the process that reports, or write the reports."""
        worker = getattr(self.config, "workeroutput", None)
        if worker is not None:
            worker[OUTPUT] = self.coverage.export()
            return
        if self.config.option.collectonly:
            return
        root = self.config.rootpath
        self.report = make_report(self.coverage.results(), self.folders, root)
        for kind, target in self.reports:
            self._write(kind, target, self.report, root)
        if self.limit is not None and self.report.least < self.limit and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self, kind: str, target: str, report: Report, root: Path) -> None:
        try:
            if kind == "lcov":
                path = self.config.invocation_params.dir / (target or LCOV_FILE)
                path.write_text(lcov(report, root), encoding="utf-8")
                self.notes.append(f"LCOV: {path}")
            elif kind == "annotate":
                path = self.config.invocation_params.dir / (target or ANNOTATED)
                self.notes.append(f"{write_annotated(report, path, root)} annotated listings: {path}")
        except OSError as error:
            self.notes.append(f"{error.filename}: {error.strerror}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the reports for the terminal."""
        report = self.report
        if report is None:
            return
        terminalreporter.section("coverage of assembly")
        if not report.files:
            terminalreporter.line("no test executed any assembly of the files that are reported")
        kinds = [kind for kind, _ in self.reports]
        if report.files and {"term", "term-missing"} & set(kinds):
            for line in text_lines(report, gaps="term-missing" in kinds):
                terminalreporter.line(line)
        for note in self.notes:
            terminalreporter.line(note)
        if self.limit is not None and report.least < self.limit:
            terminalreporter.line(f"coverage of {report.least:.2f} % is less than {self.limit:g} %", red=True)

    def pytest_unconfigure(self) -> None:
        """Watch no longer."""
        self.coverage.stop()
