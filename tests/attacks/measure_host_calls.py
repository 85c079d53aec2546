"""Measure the worst of every host call while the attackers of this folder do what they can.

    python tests/attacks/measure_host_calls.py                      print the table
    python tests/attacks/measure_host_calls.py --json build/host-calls.json
    python tests/attacks/measure_host_calls.py --write              put it into docs/performance.md
    python tests/attacks/measure_host_calls.py tests/attacks/exhaustion/test_exhaustion_limits.py

The tests run twice: once to count the lines of Python that each call executes, which is the same on every host once the
cache of assembled programs is filled, and once to take its time.  A call that awaits machine code is counted a step
at a time: the call itself and each RESUME.  Calls of programs and servers are shown under their own names.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from callgate.kernel.system import System

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TESTS = (
    "tests/attacks/exhaustion/test_exhaustion_limits.py",
    "tests/attacks/exhaustion/test_exhaustion_programs.py",
    "tests/attacks/exhaustion/test_exhaustion_log.py",
    "tests/attacks/exhaustion/test_exhaustion_families.py",
    "tests/attacks/exhaustion/test_exhaustion_releases.py",
    "tests/attacks/exhaustion/test_exhaustion_windows.py",
    "tests/attacks/exhaustion/test_exhaustion_writing.py",
    "tests/attacks/protocol/test_protocol_disk_requests.py",
    "tests/attacks/test_confused_deputy.py",
    "tests/attacks/memory/test_forged_references.py",
    "tests/attacks/memory/test_stale_mappings.py",
    "tests/attacks/protocol/test_protocol.py",
    "tests/attacks/protocol/test_protocol_rules.py",
    "tests/attacks/disk/test_dma_and_disk.py",
    "tests/attacks/disk/test_dma_and_disk_edges.py",
    "tests/attacks/test_random_calls.py",
    "tests/attacks/disk/test_link_targets.py",
    "tests/attacks/servers/test_first_data.py",
    "tests/attacks/servers/test_names_of_others.py",
    "tests/attacks/protocol/test_protocol_waits.py::test_the_thread_that_ages_file_data_waits_for_no_server",
    "tests/attacks/protocol/test_protocol_deaths.py::test_a_thread_killed_while_the_kernel_reads_its_file_window_does_not_fault_for_ever",
)
MACHINE_CODE = "the kernel's machine code answers it, and policy is not called"
NOT_MEASURED = {
    "system.write": MACHINE_CODE,
    "system.read_character": MACHINE_CODE,
    "system.take_break": MACHINE_CODE,
    "server.wait": MACHINE_CODE,
    "server.reply_none": MACHINE_CODE,
    "server.reply_registers": MACHINE_CODE,
    "server.reply_data": MACHINE_CODE,
    "server.reply_object": MACHINE_CODE,
    "server.reply_sectors": MACHINE_CODE,
    "slot_fail": "takes a slot that machine code has posted to a dead server, no argument of ring 3",
    "disk_watched": "takes no argument: it looks at what disks have in flight",
    "panic": "a fault of the kernel; it ends the run",
}
"""Calls that no attack reaches, and why."""


@dataclass(slots=True)
class Worst:
    """The worst of one host call: where the counts and times come from stands in `test`."""

    calls: int = 0
    lines: int = 0
    seconds: float = 0.0
    test: str = ""


class Meter:
    """A pytest plugin that puts itself between the machine and the answers of every system that a test makes."""

    def __init__(self, *, lines: bool) -> None:
        self.lines = lines
        self.found: dict[str, Worst] = {}
        self.test = ""

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.test = item.name

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Measure every system that is made meanwhile."""
        make = System.__init__

        def made(system: System, *arguments: Any, **options: Any) -> None:
            make(system, *arguments, **options)
            functions = system.machine.host_calls.functions
            for port, (function, name, names) in list(functions.items()):
                functions[port] = (self._measured(name, names, function), name, names)

        System.__init__ = made  # type: ignore[method-assign]
        try:
            yield
        finally:
            System.__init__ = make  # type: ignore[method-assign]

    def _measured(self, name: str, names: Mapping[int, str], function: Callable[[int], None]) -> Callable[[int], None]:
        def call(value: int) -> None:
            count, seconds = (counted(function, value), 0.0) if self.lines else (0, timed(function, value))
            worst = self.found.setdefault(names.get(value, name), Worst())
            worst.calls += 1
            if count > worst.lines:
                worst.test = self.test
            worst.lines = max(worst.lines, count)
            worst.seconds = max(worst.seconds, seconds)

        return call


def timed(function: Callable[[int], None], value: int) -> float:
    """Return the CPU seconds of a call: others run on this host too."""
    begun = time.thread_time()
    function(value)
    return time.thread_time() - begun


def counted(function: Callable[[int], None], value: int) -> int:
    """Return the lines of Python that a call executes."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        function(value)
    finally:
        sys.settrace(previous)
    return lines


def measure(tests: list[str], *, lines: bool) -> dict[str, Worst]:
    """Run tests and return the worst of each call."""
    meter = Meter(lines=lines)
    with meter.everywhere():
        status = pytest.main(["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--timeout=3600", *tests], [meter])
    if status:
        raise SystemExit(f"the tests must pass before their host calls mean anything (exit code {int(status)})")
    return meter.found


def table(found: dict[str, Worst]) -> str:
    """Return the table, most work first."""
    rows = [
        "| host call | calls | most lines of Python | most CPU time, ms | worst in |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, worst in sorted(found.items(), key=lambda entry: (-entry[1].lines, entry[0])):
        test = worst.test.partition("[")[0]
        rows.append(f"| `{name}` | {worst.calls:,} | {worst.lines:,} | {1000 * worst.seconds:.1f} | `{test}` |")
    rows += [f"| `{name}` | 0 | | | {reason} |" for name, reason in sorted(NOT_MEASURED.items()) if name not in found]
    return "\n".join(rows)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Measure the worst of every host call under attack.")
    parser.add_argument("tests", nargs="*", default=[str(ROOT / name) for name in TESTS])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.relative_to(ROOT)}")
    options = parser.parse_args()
    found = measure(options.tests, lines=True)
    for name, worst in measure(options.tests, lines=False).items():
        found.setdefault(name, Worst(calls=worst.calls)).seconds = worst.seconds
    text = table(found)
    print(text)  # noqa: T201
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {name: asdict(worst) for name, worst in sorted(found.items())}
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.write:
        document = DOCUMENT.read_text(encoding="utf-8")
        head, _, rest = document.partition(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
