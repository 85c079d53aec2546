"""Switch conditions of the kernel in the process that runs the tests: pytest's plugin for `search.py`.

The environment's SWITCHING names a JSON file with what is to be done:

    {"to": PATH, "watch": true}                               run the tests; note what switching would have changed
    {"to": PATH, "try": [{"file", "name", "tests": [...]}]}   run each condition's tests with the condition switched

Results are lines of JSON in the file `to`.  The code of functions is replaced where they are (a condition has the same
function and line as before), and machine code is patched where it is assembled, so that what takes long, importing and
collecting, is done once: each condition is tried in a process that is forked from this one.
"""

from __future__ import annotations

import ast
import builtins
import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import jumps
import pytest
from callgate.asm.assembler import Program
from callgate.kernel.machine.engine.executed import PASSED, TAKEN
from callgate.kernel.programs.images import kernel_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.asmtest.coverage.measuring import Coverage
from conditions import ROOT, files, find, operands
from forking import (
    OUT_OF_CPU,
    SLOW,
    Ended,
    Limits,
    Reports,
    append,
    chosen,
    fork,
    functions_of,
    inner_codes,
    limit_cpu,
    put_code,
    run,
)

LIMITS = Limits(cpu=600, wall=300)  # of all tests of one condition
AT_FIRST = 1.5  # seconds of CPU time of one test
MANY_TIMES = 10  # what a test takes when nothing is switched: one that takes more has noticed

Change = Callable[[str, ast.expr, bool], ast.expr]


def off(condition: ast.expr, value: bool = False) -> ast.expr:
    """Return an expression that evaluates the condition, and is false; an operand of `and`, true."""
    return ast.BoolOp(ast.Or() if value else ast.And(), [condition, ast.Constant(value)])


def replace(path: Path, functions: Sequence[FunctionType], change: Change) -> None:
    """Change the conditions of a file in its functions.

    `change` takes the name of a condition or of an operand, its expression, and the value that it has when it is off.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, node in find(tree):
        for operand, parent, number in operands(name, node.test):
            value = parent.values[number]
            parent.values[number] = ast.copy_location(change(operand, value, isinstance(parent.op, ast.And)), value)
        node.test = ast.copy_location(change(name, node.test, False), node.test)
    module = compile(ast.fix_missing_locations(tree), functions[0].__code__.co_filename, "exec", dont_inherit=True)
    codes = {(code.co_qualname, code.co_firstlineno): code for code in inner_codes(module)}
    for function in functions:
        old = function.__code__
        new = codes.get((old.co_qualname, old.co_firstlineno))
        if new is not None and new.co_freevars == old.co_freevars:
            put_code(function, new)


class Watch:
    """Notes for each test which conditions were not as they are when they are off, while it ran, and which jumps."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.true: set[str] = set()
        self.jumps = JumpsSeen()

    def seen(self, condition: str, value: Any, off: bool) -> Any:
        """Note a condition that would be another if it were off; return its value."""
        if bool(value) != off:
            self.true.add(condition)
        return value

    def pytest_runtestloop(self) -> None:
        """Have all conditions noted, and go on to run the tests."""
        builtins.switching_seen = self.seen  # type: ignore[attr-defined]
        functions = functions_of(files())
        for path in (path for path in functions if functions[path]):
            file = path.relative_to(ROOT).as_posix()

            def noted(name: str, condition: ast.expr, off: bool, file: str = file) -> ast.expr:
                call = ast.Name("switching_seen", ast.Load())
                return ast.Call(call, [ast.Constant(f"{file} {name}"), condition, ast.Constant(off)], [])

            replace(path, functions[path], noted)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.true.clear()
        start = time.process_time()
        result = yield
        seconds = round(time.process_time() - start, 3)
        append(
            self.to,
            {"test": item.nodeid, "seconds": seconds, "true": sorted([*self.true, *self.jumps.take(item.path)])},
        )
        return result


class JumpsSeen:
    """The ways that the kernel's conditional jumps went, in every program that has the kernel's sources."""

    def __init__(self) -> None:
        self.coverage = Coverage()
        self.coverage.start()  # now: tests of one module may share a CPU that has been made before they run
        self.path = Path()  # of the module whose tests run
        self.known = {(str(ROOT / jump.file), jump.line, jump.number): jump for jump in jumps.all_jumps()}

    def take(self, path: Path) -> set[str]:
        """Return the cases that would have been otherwise in a test of a module, since this was asked last."""
        found = set()
        used = {id(kernel_image())}
        for program, watched in [*self.coverage.watched.items(), *self.coverage.aliases.items()]:
            for (file, line, number, _), (_, is_jump, flags) in watched.results():
                if flags:
                    used.add(program)
                jump = self.known.get((file, line, number)) if is_jump and flags else None
                if jump is not None:
                    bits = zip(jump.cases, (TAKEN, PASSED), strict=True)
                    found |= {f"{jump.file} {case}" for case, bit in bits if flags & bit}
            for page in watched.sheet.pages.values():
                ctypes.memset(page.flags, 0, ctypes.sizeof(page.flags))
        if path != self.path:  # tests of one module may share a program; what others have assembled is not kept alive
            self.path = path
            self.coverage.watched = {key: one for key, one in self.coverage.watched.items() if key in used}
        return found


class Try:
    """Runs, for each condition, tests without it until one fails."""

    def __init__(self, to: Path, tasks: Sequence[dict[str, Any]]) -> None:
        self.to = to
        self.tasks = tasks
        self.functions: dict[Path, list[FunctionType]] = {}
        self.jumps = jumps.all_jumps()
        self.programs: list[Program] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tasks instead of the tests."""
        # No test is run here: what it leaves, as a booted system that others begin with, would not be switched.
        System([], SystemOptions(shell=False)).close()  # what the first machine of a process looks for is found
        self.functions, self.programs = functions_of(files()), jumps.programs()
        for task in self.tasks:
            tests = chosen(session.items, task["tests"])
            append(self.to, {key: task[key] for key in ("file", "name")} | self._fork(task, tests))
        return True

    def _fork(self, task: dict[str, Any], tests: Sequence[pytest.Item]) -> dict[str, Any]:
        """Run tests without a condition in a process of its own; return the first that failed, and how.

        A loop that never ends is the usual way in which a test fails late.  So a test may take little CPU time at
        first; only when that was not enough, how much it needs is measured.
        """
        cpu = task.get("cpu", AT_FIRST)
        ended = self._attempt(task, tests, cpu)
        if ended.signal == OUT_OF_CPU and "cpu" not in task:
            enough = self._enough(chosen(tests, [ended.said["running"]]))
            if enough is None:
                return {"error": "its test does not pass when nothing is switched"}
            if enough > cpu:
                ended = self._attempt(task, tests, enough)
        if ended.status == SLOW:
            return {"error": f"its tests took longer than {LIMITS.wall} s, which may be the host's fault"}
        if ended.signal:
            return {"failed": ended.said.get("running"), "how": f"signal {ended.signal}"}
        return ended.said if ended.status == 0 else {"error": "the process of its tests failed: see its output"}

    def _attempt(self, task: dict[str, Any], tests: Sequence[pytest.Item], cpu: float) -> Ended:
        """Run tests with a condition switched, each for these seconds of CPU time at most, until one fails."""

        def attempt(say: Callable[[dict[str, Any]], None]) -> None:
            self._switch(task["file"], task["name"])
            say(first_failure(tests, cpu, say))

        return fork(attempt, self._said(), LIMITS)

    def _enough(self, tests: Sequence[pytest.Item]) -> float | None:
        """Return the CPU time in seconds that a test may take, since it takes less by far; None if it does not pass."""

        def unchanged(say: Callable[[dict[str, Any]], None]) -> None:
            say(first_failure(tests, LIMITS.cpu, say))

        ended = fork(unchanged, self._said(), LIMITS)
        return None if ended.status or ended.said else MANY_TIMES * ended.seconds

    def _said(self) -> Path:
        return self.to.with_suffix(f".{os.getpid()}")

    def _switch(self, file: str, name: str) -> None:
        """Switch one condition, operand or jump."""
        if file.startswith("asm/"):
            jump = next(one for one in self.jumps if one.file == file and name in one.cases)
            jumps.switch(jump, self.programs, always=jump.cases.index(name) == 1)
            return

        def change(found: str, test: ast.expr, value: bool) -> ast.expr:
            return off(test, value) if found == name else test

        replace(ROOT / file, self.functions[ROOT / file], change)


def first_failure(tests: Sequence[pytest.Item], cpu: float, say: Callable[[dict[str, Any]], None]) -> dict[str, str]:
    """Run tests, each for `cpu` seconds of CPU time at most, until one fails; return it and the end of its report.

    A test that could not begin proves nothing.
    """
    reports = Reports()
    if tests:
        tests[0].config.pluginmanager.register(reports)
    for test in tests:
        say({"running": test.nodeid})
        limit_cpu(cpu)
        run([test])
        for name, phase, report in reports.failed:
            if phase != "setup":
                return {"failed": name, "how": report[-200:]}
    return {}


def pytest_configure(config: pytest.Config) -> None:
    """Do what SWITCHING asks for."""
    if "SWITCHING" in os.environ:
        task = json.loads(Path(os.environ["SWITCHING"]).read_text(encoding="utf-8"))
        to = Path(task["to"])
        config.pluginmanager.register(Watch(to) if task.get("watch") else Try(to, task["try"]))
