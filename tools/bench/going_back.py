"""The cost of a history: of keeping a run, and of going back in it.

The figures to hold, on the demo: a run that is kept at least 0.9 times as fast as one that is not; one step back in
20 ms by median and 150 ms at worst; any instruction in 300 ms; back over one request in 50 ms; where a directory
entry's size comes from in 1 s; a checkpoint in 0.5 ms.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from typing import Any, Final

from callgate.kernel.system import System
from callgate.tools.bench.debugging import system
from callgate.tools.bench.measuring import BenchmarkError, timing
from callgate.tools.debugger.history import History
from callgate.tools.debugger.terminal.prompt import Prompt
from callgate.tools.debugger.terminal.workbench import Workbench

WORK: Final = "; ".join(["ls -l", "cat README.TXT", "df", "tree", "cat PATTERN.BIN"] * 2)
STEPS_BACK: Final = 200
PLACES: Final = 100
TO_THE_ENTRY: Final = ("tbreak gate.system if call == LOCK_DIRECTORY and thread == 12", "continue", "finish")


def timed(function: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds that a function takes."""
    begin = clock()
    function()
    return clock() - begin


def run_once(*, kept: bool) -> float:
    """Return the seconds of CPU time of the work, kept by a history or not."""
    with system(WORK) as booted:
        run = History(booted).run if kept else booted.machine.run
        return timed(run, time.process_time)


def checkpoints(history: History) -> list[float]:
    """Return the seconds that each of many checkpoints along a run takes."""
    samples = []
    history.go(history.first)
    end = history.edge.position.retired
    for retired in range(end // 50, end, end // 50):
        history.go(history.moment_at(retired))
        if history.checkpoints.before(history.moment).moment != history.moment:
            kept = len(history.checkpoints.kept)
            took = timed(history.keep_checkpoint)
            samples += [took] * (len(history.checkpoints.kept) > kept)
    return samples


def in_the_past(booted: System) -> dict[str, list[float]]:
    """Return the seconds of each thing that is done in the past of one run."""
    bench = Workbench(booted, History(booted))
    history = bench.history
    history.run()
    dice = random.Random(1)  # noqa: S311 - the same places in every run
    end = history.edge.position.retired
    found = {
        "step-back": [timed(history.step_back) for _ in range(STEPS_BACK)],
        "go-anywhere": [timed(lambda: history.go(history.moment_at(dice.randrange(end)))) for _ in range(PLACES)],
    }
    history.go(history.edge)
    found["back-over-a-request"] = [timed(lambda: bench.back_to_event("ipc.take")) for _ in range(20)]
    found["checkpoint"] = checkpoints(history)
    bench.close()
    return found


def chain() -> float:
    """Return the seconds in which `why -c` finds the byte of the image that a directory entry's size comes from."""
    with system("ls -l") as booted:
        prompt = Prompt(Workbench(booted, History(booted)), io.StringIO())
        for line in TO_THE_ENTRY:
            prompt.line(line)
        took = timed(lambda: prompt.line("why -c [eax + 0xa8]"))
        assert isinstance(prompt.output, io.StringIO)
        if "disk d0, sector" not in prompt.output.getvalue():
            raise BenchmarkError("the chain does not lead to the disk")
        return took


def bench_back(rounds: int) -> list[dict[str, Any]]:
    """Return the elements of `callgate bench debug` about histories."""
    alone, kept = [], []
    for _ in range(rounds):  # by turns, so that a load of the host is shared
        alone.append(min(run_once(kept=False) for _ in range(2)))
        kept.append(min(run_once(kept=True) for _ in range(2)))
    ratio = round(min(alone) / min(kept), 3)
    with system(WORK) as booted:
        past = in_the_past(booted)
    return [
        {"name": "run-unkept", "n": 1, "wall_us": timing(alone, 1)},
        {"name": "run-kept", "n": 1, "wall_us": timing(kept, 1), "ratio_of_speed_to_unkept": ratio},
        *({"name": name, "n": 1, "wall_us": timing(samples, 1)} for name, samples in past.items()),
        {"name": "why-chain", "n": 1, "wall_us": timing([chain() for _ in range(rounds)], 1)},
    ]
