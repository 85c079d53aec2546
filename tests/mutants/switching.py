"""Switch conditions of the kernel off in the process that runs the tests: pytest's plugin for `search.py`.

The environment's SWITCHING names a JSON file with what is to be done:

    {"to": PATH, "watch": true}                               run the tests; note when each condition was true
    {"to": PATH, "try": [{"file", "name", "tests": [...]}]}   run each condition's tests with the condition off

Results are lines of JSON in the file `to`.  The code of functions is replaced where they are (a condition has the same
function and line as before), so that what takes long, importing and collecting, is done once: each condition is tried
in a process that is forked from this one.
"""

from __future__ import annotations

import ast
import builtins
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from conditions import ROOT, files, find

CPU_LIMIT = 10  # seconds of CPU time for the tests of one condition: a test that takes longer does not end
TIME_LIMIT = 300  # seconds for them on a host that does other things too
SLOW = -1  # the status of a process that was ended because it took longer
AWAITED_GENERATOR = 0x100  # CO_ITERABLE_COROUTINE, which types.coroutine adds to a function's code
WARM = 3  # tests that run before the first fork: they assemble the kernel

Change = Callable[[str, ast.expr], ast.expr]


def off(condition: ast.expr) -> ast.expr:
    """Return an expression that evaluates the condition, and is false."""
    return ast.BoolOp(ast.And(), [condition, ast.Constant(False)])


def functions_of(paths: Iterable[Path]) -> dict[Path, list[FunctionType]]:
    """Return the functions that have been imported from each file."""
    gc.unfreeze()
    found: dict[Path, list[FunctionType]] = {path: [] for path in paths}
    resolved: dict[str, Path] = {}
    for one in gc.get_objects():
        if isinstance(one, FunctionType):
            name = one.__code__.co_filename
            if name not in resolved:
                resolved[name] = Path(name).resolve()
            found.get(resolved[name], []).append(one)
    gc.freeze()
    return found


def replace(path: Path, functions: Sequence[FunctionType], change: Change) -> None:
    """Change the conditions of a file in its functions; `change` takes a condition's name and its expression."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, node in find(tree):
        node.test = ast.copy_location(change(name, node.test), node.test)
    module = compile(ast.fix_missing_locations(tree), functions[0].__code__.co_filename, "exec", dont_inherit=True)
    codes = {(code.co_qualname, code.co_firstlineno): code for code in inner_codes(module)}
    for function in functions:
        old = function.__code__
        new = codes.get((old.co_qualname, old.co_firstlineno))
        if new is not None and new.co_freevars == old.co_freevars:
            function.__code__ = new.replace(co_flags=new.co_flags | (old.co_flags & AWAITED_GENERATOR))


def inner_codes(code: CodeType) -> Iterator[CodeType]:
    """Return the code of every function within other code."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inner_codes(constant)


class Watch:
    """Notes for each test which conditions were true while it ran."""

    def __init__(self, to: Path) -> None:
        self.to = to
        self.true: set[str] = set()

    def seen(self, condition: str, value: Any) -> Any:
        """Note a condition that holds; return its value."""
        if value:
            self.true.add(condition)
        return value

    def pytest_runtestloop(self) -> None:
        """Have all conditions noted, and go on to run the tests."""
        builtins.switching_seen = self.seen  # type: ignore[attr-defined]
        functions = functions_of(files())
        for path in (path for path in functions if functions[path]):
            file = path.relative_to(ROOT).as_posix()

            def noted(name: str, condition: ast.expr, file: str = file) -> ast.expr:
                call = ast.Name("switching_seen", ast.Load())
                return ast.Call(call, [ast.Constant(f"{file} {name}"), condition], [])

            replace(path, functions[path], noted)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.true.clear()
        start = time.process_time()
        result = yield
        seconds = round(time.process_time() - start, 3)
        append(self.to, {"test": item.nodeid, "seconds": seconds, "true": sorted(self.true)})
        return result


class Try:
    """Runs, for each condition, tests without it until one fails."""

    def __init__(self, to: Path, tasks: Sequence[dict[str, Any]]) -> None:
        self.to = to
        self.tasks = tasks
        self.functions: dict[Path, list[FunctionType]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tasks instead of the tests."""
        items = {item.nodeid: item for item in session.items}
        run(session.items[:WARM])
        self.functions = functions_of(files())
        for task in self.tasks:
            tests = [items[test] for test in task["tests"] if test in items]
            append(self.to, {key: task[key] for key in ("file", "name")} | self._fork(task, tests))
        return True

    def _fork(self, task: dict[str, Any], tests: Sequence[pytest.Item]) -> dict[str, Any]:
        """Run tests without a condition in a process of its own; return the first that failed, and how."""
        result = self.to.with_suffix(f".{os.getpid()}")
        result.write_text("{}", encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            self._child(task, tests, result)
        status = wait(child)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8") or "{}")
        result.unlink()
        if status == SLOW:
            return {"error": f"its tests took longer than {TIME_LIMIT} s, which may be the host's fault"}
        if os.WIFSIGNALED(status):  # a test computes for ever (SIGXCPU), or has broken the emulator
            return {"failed": found.get("running"), "how": f"signal {os.WTERMSIG(status)}"}
        return found if status == 0 else {"error": "the process of its tests failed: see its output"}

    def _child(self, task: dict[str, Any], tests: Sequence[pytest.Item], result: Path) -> None:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, resource.getrlimit(resource.RLIMIT_CPU)[1]))
            path = ROOT / task["file"]
            replace(path, self.functions[path], lambda name, test: off(test) if name == task["name"] else test)
            reports = Reports()
            if tests:
                tests[0].config.pluginmanager.register(reports)
            for test in tests:
                result.write_text(json.dumps({"running": test.nodeid}), encoding="utf-8")
                run([test])
                if reports.failed:
                    break
            result.write_text(json.dumps(reports.found()), encoding="utf-8")
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the process must not go on as its parent's twin
            traceback.print_exc()
        finally:
            os._exit(1)


class Reports:
    """What tests report: the first failure."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test that could not begin proves nothing.
        if report.failed and report.when != "setup":
            self.failed.append((report.nodeid, str(report.longrepr)[-200:]))

    def found(self) -> dict[str, str]:
        """Return the test that failed first and the end of its report; nothing if all passed."""
        return dict(zip(("failed", "how"), self.failed[0], strict=True)) if self.failed else {}


def run(items: Sequence[pytest.Item]) -> None:
    """Run tests as pytest's own loop does."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def wait(child: int) -> int:
    """Return the status of a process that has ended, SLOW if it had to be ended."""
    end = time.monotonic() + TIME_LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return SLOW


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line of JSON to a file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Do what SWITCHING asks for."""
    if "SWITCHING" in os.environ:
        task = json.loads(Path(os.environ["SWITCHING"]).read_text(encoding="utf-8"))
        to = Path(task["to"])
        config.pluginmanager.register(Watch(to) if task.get("watch") else Try(to, task["try"]))
