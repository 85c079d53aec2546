"""Judge mutants in the process that has collected their tests: pytest's plugin for `run.py`.

The environment's MUTATING names the two ends of pipes, as "3 4".  From the first one come lines of JSON:

    {"tests": [...], "file": PATH, "before": TEXT}   run the tests in a process of its own, the file having been changed
    {"tests": [...], "file": ""}                     run them without a change; there may be many

and each is answered by a line into the second: what the tests have reported (`counts`, and `tail` of a failure), how
long each took (`seconds` of CPU time, by name), by which `signal` the process ended, or why a `fresh` process is
needed.
PATH is relative to the current folder.  The file is changed on disk, so that a process which reads it sees the change.
Of Python files, functions are given their new code; of others, nothing is kept that was made of them.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import pytest
from code_changes import NotEnoughError, Place, apply, changed_functions
from forking import SLOW, Limits, Reports, Said, chosen, fork, functions_of, run

TIME_LIMIT = 600  # seconds for the tests of one mutant
UNCHANGED = Limits(cpu=3600, wall=3600)  # seconds for tests without a change, of which nothing is known yet
KEPT = "callgate.asm.assembler.encoding"  # what instructions are encoded as does not depend on sources
CODES: dict[int, Any] = {}  # code that has been executed before the first fork, by id, which it keeps
OPENED: set[str] = set()  # files that were opened before it, without modules that are imported
recording = True


def note_call(frame: FrameType, event: str, _: object) -> None:
    """Note the code of a function that is called."""
    if event == "call":
        CODES[id(frame.f_code)] = frame.f_code


def note_open(event: str, arguments: tuple[Any, ...]) -> None:
    """Note a file that is opened."""
    if recording and event == "open" and isinstance(arguments[0], str):
        OPENED.add(arguments[0])


def begin() -> None:
    """Note from now on what is called and opened: it must not depend on a change."""
    sys.addaudithook(note_open)
    sys.setprofile(note_call)


def end() -> set[Place]:
    """Note nothing from now on; return the places of code that has been executed."""
    global recording
    sys.setprofile(None)
    recording = False  # an audit hook cannot be removed
    resolved = {name: str(Path(name).resolve()) for name in {code.co_filename for code in CODES.values()}}
    return {(resolved[code.co_filename], code.co_qualname, code.co_firstlineno) for code in CODES.values()}


def results_kept() -> list[Any]:
    """Return the functions that keep what they have returned (functools.cache): a changed file may change it."""
    gc.unfreeze()
    found = [one for one in gc.get_objects() if isinstance(one, functools._lru_cache_wrapper)]
    gc.freeze()
    return [one for one in found if not one.__module__.startswith(KEPT)]


class Judge:
    """Runs tests with one file changed."""

    def __init__(self, ask: int, answer: int) -> None:
        self.ask = os.fdopen(ask, encoding="utf-8")
        self.answer = os.fdopen(answer, "w", encoding="utf-8")
        self.called: set[Place] = set()
        self.opened: set[Path] = set()
        self.functions: dict[Path, list[FunctionType]] = {}
        self.results: list[Any] = []
        begin()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        """Assemble what nearly every test needs, and stop noting what happens."""
        opened = {Path(name).resolve() for name in OPENED}  # what is assembled here is forgotten again
        import_servers()
        warm()
        self.called, self.opened = end(), opened
        self.functions, self.results = functions_of(), results_kept()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge what is asked for instead of running the tests."""
        if session.testsfailed:
            raise session.Interrupted("not all tests could be collected")
        reports = Reports()
        session.config.pluginmanager.register(reports)
        for line in self.ask:
            task = json.loads(line)
            print(json.dumps(self.judge(task, session.items, reports)), file=self.answer, flush=True)
        return True

    def judge(self, task: Said, items: Sequence[pytest.Item], reports: Reports) -> Said:
        """Return the answer to one line."""
        tests = chosen(items, task["tests"])
        if not tests:
            return {"fresh": "the tests have not been collected"}
        try:
            change = self.change(Path(task["file"]).resolve(), task["before"]) if task["file"] else lambda: None
        except NotEnoughError as why:
            return {"fresh": str(why)}

        def work(say: Callable[[Said], None]) -> None:
            say({})
            change()
            run(tests, reports)
            tail = "".join(f"{test} ({phase}):\n{report}\n" for test, phase, report in reports.failed)
            say({"counts": reports.counts, "tail": tail, "seconds": reports.seconds})

        limits = Limits(task["cpu"], TIME_LIMIT) if "cpu" in task else UNCHANGED
        ended = fork(work, Path(os.environ["MUTATING_NOTES"]), limits)
        if ended.status == SLOW:
            return {"slow": limits.wall}
        if ended.signal:
            return {"signal": ended.signal}
        return ended.said if ended.status == 0 else {"fresh": "the forked process failed"}

    def change(self, path: Path, before: str) -> Callable[[], None]:
        """Return what makes a changed file count in a forked process; NotEnoughError if nothing does."""
        if path.suffix == ".py":
            changes = changed_functions(path, before, path.read_text(encoding="utf-8"), self.called, self.functions)
            return lambda: apply(changes)
        if path in self.opened:
            raise NotEnoughError(f"{path.name} has been read")
        return self.forget_results

    def forget_results(self) -> None:
        """Forget what functions have returned."""
        for one in self.results:
            one.cache_clear()


def import_servers() -> None:
    """Import what every first boot of a process imports: the servers, and the decoder of instructions."""
    from callgate import server

    import_module("capstone")
    for found in pkgutil.walk_packages(server.__path__, f"{server.__name__}."):
        import_module(found.name)


def warm() -> None:
    """Take the kernel and the programs out of the cache, and have each instruction of the kernel encoded once."""
    from callgate.asm.assembler import assemble
    from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_LOAD
    from callgate.kernel.programs import images

    kernel = images.kernel_image()
    assemble(kernel.sources[0], origin=KERNEL_BASE + KERNEL_LOAD, load=KERNEL_LOAD)
    for name in images.ROM_PROGRAMS:
        images.program_file(name)


def pytest_configure(config: pytest.Config) -> None:
    """Do what MUTATING asks for."""
    if "MUTATING" in os.environ:
        ask, answer = map(int, os.environ["MUTATING"].split())
        config.pluginmanager.register(Judge(ask, answer))
