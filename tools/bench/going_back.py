"""The cost of a history: of keeping a run, and of going back in it.

The figures to hold, on the demo: a run that is kept at least 0.9 times as fast as one that is not; one step back in
20 ms by median and 150 ms at worst; any instruction in 300 ms, also of a run of a minute; back over one request in
50 ms; where a directory entry's size comes from in 1 s; a checkpoint in 0.5 ms; 1 KiB of recording
for a second of idle.

The minute is CPU time in which commands follow each other without a pause: as much work as a minute of the clock can
hold.  Virtual time would say little: a minute of it is no work at all where the machine idles.
"""

from __future__ import annotations

import io
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.programs.kernel_labels import TAKE_SLOT
from callgate.kernel.system import System
from callgate.tools.bench.debugging import PAIRS, system
from callgate.tools.bench.measuring import BenchmarkError, by_turns, run_time, timing
from callgate.tools.bench.recording_idle import bench_idle_recording
from callgate.tools.debugger.commands.prompt import Prompt
from callgate.tools.debugger.history import History
from callgate.tools.debugger.workbench.workbench import Workbench

TURN: Final = ("ls -l", "cat README.TXT", "df", "tree", "cat PATTERN.BIN")
WORK: Final = "; ".join(TURN * 2)
LONGER: Final = "; ".join(TURN * 8)  # of which a machine's beginning is little
STEPS_BACK: Final = 200
PLACES: Final = 100
REQUESTS: Final = 40
MOUNTS: Final = 10
MINUTE: Final = 60.0  # seconds of CPU time
TO_THE_ENTRY: Final = ("tbreak gate.system if call == LOCK_DIRECTORY and thread == 12", "continue", "finish")


class Sample(NamedTuple):
    """What something took, in seconds: by the clock, and of CPU time."""

    wall: float
    cpu: float


def timed(function: Callable[[], object]) -> Sample:
    """Return what a function takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def element(name: str, samples: Sequence[Sample], **more: Any) -> dict[str, Any]:
    """Return an element of the result."""
    wall, cpu = (timing(list(column), 1) for column in zip(*samples, strict=True))
    return {"name": name, "n": 1, "wall_us": wall, "cpu_us": cpu, **more}


def run_unkept() -> float:
    """Return the seconds of CPU time that the work takes without a history."""
    with system(LONGER) as booted:
        return run_time(booted.machine, booted.run)


def run_kept() -> float:
    """Return the seconds of CPU time that it takes with one."""
    with system(LONGER) as booted:
        return run_time(booted.machine, History(booted).run)


def keep_run(history: History) -> list[Sample]:
    """Run a system to its end; return what each checkpoint on the way has taken."""
    samples = list[Sample]()
    plain = history.keep_checkpoint

    def keep(spent: float = 0.0) -> bool:
        done: list[bool] = []
        sample = timed(lambda: done.append(plain(spent)))
        samples.extend([sample] * done[0])
        return done[0]

    setattr(history, "keep_checkpoint", keep)  # noqa: B010 - a method
    history.run()
    delattr(history, "keep_checkpoint")
    return samples


def in_the_past(booted: System) -> dict[str, list[Sample]]:
    """Return what each thing takes that is done in the past of one run."""
    history = History(booted)
    bench = Workbench(booted, history)
    history.run()
    found = {"step-back": [timed(history.step_back) for _ in range(STEPS_BACK)], "go-anywhere": journeys(history)}
    found["go-before-mounts-end"] = before_mounts_end(bench)
    ends = ends_of_requests(bench)
    found["back-to-event-over-a-request"] = [
        back_over(bench, end, lambda: bench.back_to_event("ipc.take")) for end in ends
    ]
    bench.stops.add(TAKE_SLOT, None)
    found["back-to-breakpoint-over-a-request"] = [back_over(bench, end, bench.back) for end in ends]
    bench.close()
    return found


def journeys(history: History) -> list[Sample]:
    """Return what going to each of many instructions of the run takes, one after the other."""
    dice = random.Random(1)  # noqa: S311 - the same places in every run
    end = history.edge.position.retired
    return [timed(lambda: history.go(history.moment_at(dice.randrange(end)))) for _ in range(PLACES)]


def before_mounts_end(bench: Workbench) -> list[Sample]:
    """Return what going from the end to just before the volumes are mounted takes, where no checkpoint can be kept."""
    history, clock = bench.history, bench.machine.clock
    history.go(history.first)
    history.run(until=lambda: bench.system.kernel.state.tasks.shell >= 0)
    mounted = history.moment_at(clock.retired)
    samples = []
    for _ in range(MOUNTS):
        history.go(history.edge)
        samples.append(timed(lambda: history.go(mounted)))
    return samples


def ends_of_requests(bench: Workbench) -> list[int]:
    """Return where requests, any of the run, release their slots: retired instructions.

    Left out are those that policy posts, which take none by an event, and those in the middle of which another begins.
    """
    found: list[int] = []
    taken: tuple[int, object] | None = None
    machine = bench.machine

    def note(event: Event) -> None:
        nonlocal taken
        slot = machine.cpu.gs, event.fields["slot"]
        if event.kind == "ipc.release" and slot == taken:
            found.append(machine.clock.retired)
        taken = slot if event.kind == "ipc.take" else None

    machine.stream.subscribe(note, ["ipc.take", "ipc.release"], again=True)
    bench.history.go(bench.history.first)
    bench.history.forward_to(bench.history.edge)
    machine.stream.unsubscribe(note)
    return random.Random(1).sample(found, min(REQUESTS, len(found)))  # noqa: S311 - the same in every run


def back_over(bench: Workbench, end: int, move: Callable[[], object]) -> Sample:
    """Return what a move takes from where a request has released its slot back to where it took it."""
    bench.history.go(bench.history.moment_at(end))
    sample = timed(move)
    if not bench.history.moment.position.retired < end:
        raise BenchmarkError("it does not go back")
    return sample


def a_minute() -> list[dict[str, Any]]:
    """Return the elements of a run of a minute: each checkpoint, and going anywhere, with the budget of a history."""
    turn = itertools.cycle(TURN)
    begin = time.process_time()

    def typed(_size: int) -> bytes:
        line = "exit" if time.process_time() - begin >= MINUTE else next(turn)
        return f"{line}\n".encode()

    with system(None, typed) as booted:
        history = History(booted)
        taken = keep_run(history)
        kept = len(history.checkpoints.kept)
        stored = history.checkpoints.stored
        went = element(
            "go-in-a-minute",
            journeys(history),
            retired=history.edge.position.retired,
            checkpoints=kept,
            stored_bytes=stored,
        )
        return [element("checkpoint", taken), went]


def chain() -> Sample:
    """Return the time in which `why -c` finds the byte of the image that a directory entry's size comes from."""
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
    runs = by_turns(rounds * PAIRS, run_unkept, run_kept)
    with system(WORK) as booted:
        past = in_the_past(booted)
    return [
        {"name": "run-unkept", "n": 1, "wall_us": timing(runs.plain, 1)},
        {"name": "run-kept", "n": 1, "wall_us": timing(runs.other, 1), "ratio_of_speed_to_unkept": runs.ratio},
        *(element(name, samples) for name, samples in past.items()),
        *a_minute(),
        bench_idle_recording(),
        element("why-chain", [chain() for _ in range(rounds)]),
    ]
