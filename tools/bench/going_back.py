"""The cost of a history: of keeping a run, and of going back in it.

The figures to hold, on the demo: a run that is kept at least 0.9 times as fast as one that is not; one step back in
20 ms by median and 150 ms at worst; any instruction in 300 ms, also of a run of a minute; back over one request in
50 ms; where a directory entry's size comes from in 1 s; a checkpoint in 0.5 ms.

The minute is CPU time in which commands follow each other without a pause: as much work as a minute of the clock can
hold.  Virtual time would say little: a minute of it is no work at all where the machine idles.
"""

from __future__ import annotations

import io
import itertools
import random
import time
from collections.abc import Callable
from typing import Any, Final

from callgate.kernel.system import System
from callgate.tools.bench.debugging import system
from callgate.tools.bench.measuring import BenchmarkError, timing
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.workbench import Workbench

TURN: Final = ("ls -l", "cat README.TXT", "df", "tree", "cat PATTERN.BIN")
WORK: Final = "; ".join(TURN * 2)
STEPS_BACK: Final = 200
PLACES: Final = 100
REQUESTS: Final = 40
MINUTE: Final = 60.0  # seconds of CPU time
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
    found = {"step-back": [timed(history.step_back) for _ in range(STEPS_BACK)], "go-anywhere": journeys(history)}
    found["back-over-a-request"] = [back_over(bench, end) for end in ends_of_requests(bench)]
    found["checkpoint"] = checkpoints(history)
    bench.close()
    return found


def journeys(history: History) -> list[float]:
    """Return the seconds of going to each of many instructions of the run, one after the other."""
    dice = random.Random(1)  # noqa: S311 - the same places in every run
    end = history.edge.position.retired
    return [timed(lambda: history.go(history.moment_at(dice.randrange(end)))) for _ in range(PLACES)]


def ends_of_requests(bench: Workbench) -> list[int]:
    """Return where requests, any of the run, release their slots: retired instructions."""
    found: list[int] = []
    note = bench.machine.stream.subscribe(
        lambda _event: found.append(bench.machine.clock.retired), ["ipc.release"], again=True
    )
    bench.history.go(bench.history.first)
    bench.history.forward_to(bench.history.edge)
    bench.machine.stream.unsubscribe(note)
    return random.Random(1).sample(found, min(REQUESTS, len(found)))  # noqa: S311 - the same in every run


def back_over(bench: Workbench, end: int) -> float:
    """Return the seconds from where a request has released its slot back to where it took it."""
    bench.history.go(bench.history.moment_at(end))
    return timed(lambda: bench.back_to_event("ipc.take"))


def a_minute() -> dict[str, Any]:
    """Return the element of a run of a minute: going anywhere in it, with the budget that a history has by itself."""
    turn = itertools.cycle(TURN)
    begin = time.process_time()

    def typed(_size: int) -> bytes:
        line = "exit" if time.process_time() - begin >= MINUTE else next(turn)
        return f"{line}\n".encode()

    with system(None, typed) as booted:
        history = History(booted)
        history.run()
        samples = journeys(history)
        return {
            "name": "go-in-a-minute",
            "n": 1,
            "wall_us": timing(samples, 1),
            "retired": history.edge.position.retired,
            "checkpoints": len(history.checkpoints.kept),
            "stored_bytes": history.checkpoints.stored,
        }


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
        a_minute(),
        {"name": "why-chain", "n": 1, "wall_us": timing([chain() for _ in range(rounds)], 1)},
    ]
