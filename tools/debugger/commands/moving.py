"""Commands that move through the run, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from callgate.kernel.machine import Stop
from callgate.tools.debugger.commands.at_stops import SILENT
from callgate.tools.debugger.commands.language import Desk, command, conditional, count_in
from callgate.tools.debugger.commands.views import symbol_or_number, where
from callgate.tools.debugger.debuggee import watchpoints
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.workbench.at_endpoints import AtEndpoints
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.stops import EVENT, Stopping
from callgate.tools.debugger.workbench.workbench import PHASES, REQUEST, Workbench
from callgate.tools.inspection.wording import counted
from callgate.tools.recording import FAULT, NO_ANSWER, RETURNED

ENDED = ("exit", "halt", "triple-fault", "not-modelled", "no volume")
OF_CALLS = (FAULT, RETURNED, NO_ANSWER)
UNTESTED = "error in testing its condition: "
BEGINNING = "this is the beginning of the history"


def report(desk: Desk, stop: Stop | None) -> None:
    """Say why a run ended, and where; commands of the stop that has ended it are due, and may ask for silence."""
    stopping = None if stop is None else desk.bench.stops.of_stop(stop)
    lines = [] if stop is None else reason(desk, stop)
    if stopping is not None and stopping.commands:
        desk.due = stopping
        if stopping.commands[0] == SILENT:
            desk.show(line for line in lines if line.startswith(UNTESTED))
            return
    desk.show(lines)
    desk.show(where(desk.bench))
    desk.show(displayed(desk))


def displayed(desk: Desk) -> Iterator[str]:
    """Yield the expressions that are to be shown at each stop, with their values."""
    for number, text in enumerate(desk.displays, 1):
        try:
            lines = symbol_or_number(desk.bench, desk.bench.meanings.value(Expression(text))).splitlines()
        except CommandError as error:
            lines = [str(error)]
        yield f"  {number}: {text} = {lines[0]}"
        yield from lines[1:]


def reason(desk: Desk, stop: Stop) -> list[str]:
    """Return why a run ended, if that is not what was asked for."""
    stopping = desk.bench.stops.of_stop(stop)
    lines = _reason(desk, stop, stopping)  # before one for once is removed
    desk.bench.stops.found(stop)
    problem = desk.bench.stops.untested(stopping, stop) if stopping is not None else ""
    return [*lines, f"{UNTESTED}{problem}"] if problem else lines


def _reason(desk: Desk, stop: Stop, stopping: Stopping | None) -> list[str]:
    number = f"stop {stopping.number}: " if stopping is not None else ""
    if stop.reason == EVENT:
        return [f"{number}event {stop.detail[1]}"]
    if stop.reason == watchpoints.HIT:
        access = stop.detail
        what = "write" if access.write else "read"
        by = f"by {access.by}" if access.by != "cpu" else f"by {desk.bench.code.name(access.eip)}"
        if stopping is not None and isinstance(stopping.what, AtEndpoints):
            return [f"{number}{stopping.what.in_words(access.watchpoint)}, {by}"]
        return [f"{number}{what} of {counted(access.size, 'byte')} at {access.address:#010x} {by}"]
    if stopping is not None:
        return [f"{number}{stopping.text}"]
    return end_in_words(desk, stop)


def end_in_words(desk: Desk, stop: Stop) -> list[str]:
    """Return why a run ended that no stop has ended."""
    if stop.reason in OF_CALLS:
        return [end_of_call(stop)]
    if stop.reason == "exit":
        return [f"the system has ended with status {stop.detail}"]
    if stop.reason == "halt":
        if not desk.bench.debuggee.target.has_kernel:
            return ["the CPU has halted, and no interrupt is to come"]
        status = desk.bench.system.exit_code
        if status is not None:
            return [f"the system has ended with status {status}, and goes on no further: back continue goes back"]
        return ["the system waits for what does not come: type TEXT sends it a line"]
    if stop.reason == "interrupted":
        return ["interrupted"]
    if stop.reason == "not-modelled":
        return [f"the CPU is in a state that this machine does not have: {stop.detail}"]
    if stop.reason in ENDED:
        return [f"{stop.reason}: {stop.detail}" if stop.detail is not None else stop.reason]
    return []


def end_of_call(stop: Stop) -> str:
    """Return in words how a call of a test ended."""
    if stop.reason == FAULT:
        return f"{stop.detail}: there is no IDT, and the call ends here"
    if stop.reason == RETURNED:
        return "the routine has returned, and the test ends here"
    return f"{stop.detail} is answered by Python, which was not asked here in the test: what it would do is not known"


def goes_on(stop: Stop) -> bool:
    """Whether a step has come to its end, so that the next one can follow."""
    return stop.reason in ("position", "debugger reached")


@command(
    "step|s",
    "[N]",
    "to the beginning of another source line, N times, into what is called",
    examples=("step", "s 10"),
    repeats=True,
)
def step(desk: Desk, rest: str) -> None:
    """Step by line."""
    _times(desk, rest, lambda: desk.bench.lines.forward(desk.bench.step))


@command(
    "stepi|si",
    "[N]",
    "N instructions, into what they call; an exception or interrupt counts as one",
    examples=("stepi", "si 10"),
    repeats=True,
)
def step_instruction(desk: Desk, rest: str) -> None:
    """Step by instruction."""
    _times(desk, rest, desk.bench.step)


@command("next|n", "[N]", "to the beginning of another source line, N times; what is called runs through", repeats=True)
def over(desk: Desk, rest: str) -> None:
    """Step over calls by line."""
    _times(desk, rest, lambda: desk.bench.lines.forward(desk.bench.over))


@command("nexti|ni|p", "[N]", "N instructions; what they call runs through", examples=("nexti",), repeats=True)
def over_instruction(desk: Desk, rest: str) -> None:
    """Step over calls."""
    _times(desk, rest, desk.bench.over)


def _times(desk: Desk, rest: str, move: Callable[[], Stop]) -> None:
    stop = None
    for _ in range(count_in(rest)):
        stop = move()
        if not goes_on(stop):
            break
    report(desk, stop)


@command("finish|out|fin", "", "run until this routine has returned", repeats=True)
def out(desk: Desk, rest: str) -> None:
    """Step out."""
    nothing(rest)
    report(desk, desk.bench.out())


@command("continue|c", "", "run to the next stop", repeats=True)
def go_on(desk: Desk, rest: str) -> None:
    """Continue."""
    nothing(rest)
    report(desk, desk.bench.run())


@command(
    "until|u",
    "PLACE|EVENT [if CONDITION]",
    "run to a place or an event, once",
    examples=("until take_slot", "until ipc.reply"),
)
def until(desk: Desk, rest: str) -> None:
    """Run to a place."""
    if not rest:
        raise CommandError("until what? a place or an event: until ipc.fetch")
    place, condition = conditional(rest)
    stopping = desk.bench.stops.add(place, condition, once=True)
    try:
        report(desk, desk.bench.run())
    finally:
        if stopping.number in desk.bench.stops.known:
            desk.bench.stops.remove(stopping.number)


@command("sb", "N", "run N instructions, or to a stop before that", examples=("sb 1000",))
def instructions(desk: Desk, rest: str) -> None:
    """Run for some instructions."""
    _run_to(desk, desk.bench.machine.clock.retired + count_in(rest))


@command("sba", "N", "run until N instructions have retired, or to a stop before that", examples=("sba 20000",))
def instructions_in_all(desk: Desk, rest: str) -> None:
    """Run to a number of instructions."""
    number = count_in(rest)
    if number <= desk.bench.machine.clock.retired:
        raise CommandError(f"{number:,} instructions have retired already: goto {number} goes back there")
    _run_to(desk, number)


def _run_to(desk: Desk, retired: int) -> None:
    report(desk, desk.bench.run_to(retired))


@command(
    "step phase|sp|phase", "[N]", "to the next event of a request: taken, filled, posted, fetched, …", repeats=True
)
def phase(desk: Desk, rest: str) -> None:
    """Step by phase."""
    _to_events(desk, PHASES, count_in(rest))


@command("step request|sr|request next", "[N]", "to the beginning of the next request", repeats=True)
def next_request(desk: Desk, rest: str) -> None:
    """Step by request."""
    _to_events(desk, REQUEST, count_in(rest))


def _to_events(desk: Desk, name: str, count: int) -> None:
    for _ in range(count):
        stop = desk.bench.to_event(name)
        if stop.reason != EVENT:
            break
    report(desk, stop)


@command("back step|bs|reverse-step|rs", "[N]", "N source lines back, into what was called", repeats=True)
def back_step(desk: Desk, rest: str) -> None:
    """Step back by line."""
    _times_back(desk, rest, lambda: desk.bench.lines.backward(desk.bench.back_step))


@command("back stepi|bsi|rsi|reverse-stepi", "[N]", "N instructions back", examples=("back stepi 5",), repeats=True)
def back_step_instruction(desk: Desk, rest: str) -> None:
    """Step back by instruction."""
    _times_back(desk, rest, desk.bench.back_step)


@command("back next|bn|reverse-next|rn", "[N]", "N source lines back, past what they have called", repeats=True)
def back_over(desk: Desk, rest: str) -> None:
    """Step back over calls by line."""
    _times_back(desk, rest, lambda: desk.bench.lines.backward(desk.bench.back_over))


@command(
    "back nexti|bni|rni|reverse-nexti",
    "[N]",
    "N instructions back in this routine, past what they have called",
    repeats=True,
)
def back_over_instruction(desk: Desk, rest: str) -> None:
    """Step back over calls."""
    _times_back(desk, rest, desk.bench.back_over)


def _times_back(desk: Desk, rest: str, move: Callable[[], bool]) -> None:
    for _ in range(count_in(rest)):
        if not move():
            desk.say(BEGINNING)
            break
    report(desk, None)


@command("back out|bo|reverse-finish", "", "back to the call of this routine", repeats=True)
def back_out(desk: Desk, rest: str) -> None:
    """Step back out."""
    nothing(rest)
    if not desk.bench.back_out():
        desk.say(BEGINNING)
    report(desk, None)


@command("back continue|bc|rc|reverse-continue", "", "back to the last stop before here", repeats=True)
def back_continue(desk: Desk, rest: str) -> None:
    """Continue backwards."""
    nothing(rest)
    _came_back(desk, desk.bench.back())


@command("back phase|bp", "[N]", "back to the last event of a request", repeats=True)
def back_phase(desk: Desk, rest: str) -> None:
    """Go back by phase."""
    _back_to_events(desk, PHASES, count_in(rest))


@command("back request|br", "[N]", "back to the last beginning of a request", repeats=True)
def back_request(desk: Desk, rest: str) -> None:
    """Go back by request."""
    _back_to_events(desk, REQUEST, count_in(rest))


@command("back to|bt-event", "EVENT", "back to the last event of a kind", examples=("back to ipc.reply",), repeats=True)
def back_to(desk: Desk, rest: str) -> None:
    """Go back to an event."""
    if not desk.bench.stops.kinds(rest):
        raise CommandError(f"no event {rest!r}; try: info events")
    _back_to_events(desk, rest, 1)


def _back_to_events(desk: Desk, name: str, count: int) -> None:
    stop: Stop | None = None
    for _ in range(count):
        stop = desk.bench.back_to_event(name)
        if stop is None:
            break
    _came_back(desk, stop)


def _came_back(desk: Desk, stop: Stop | None) -> None:
    if stop is None:
        desk.say(BEGINNING)
    report(desk, stop)


@command(
    "goto|go",
    "N|#N|start|end",
    "to where N instructions have retired; to a numbered moment of the last answer; to the furthest",
    examples=("goto 14500", "goto #3", "goto end"),
)
def goto(desk: Desk, rest: str) -> None:
    """Go to a position."""
    desk.bench.go_to(moment_of(desk.bench, rest))
    report(desk, None)


def moment_of(bench: Workbench, text: str) -> Moment:
    """Return what N, #N, `start`, `here` or `end` means; CommandError."""
    history = bench.history
    named = {"start": history.first, "end": history.edge, "here": history.moment, "now": history.moment}
    if text in named:
        return named[text]
    number = number_of(text.removeprefix("#").replace(",", ""))
    if number is None or number < 0:
        raise CommandError(
            f"{text!r} is no moment: a number of instructions, #N of the last answer, `start`, `here` or `end`"
        )
    if not text.startswith("#"):
        return history.moment_at(number)
    if number not in bench.found:
        known = bench.found
        there = f"there are #{min(known)} to #{max(known)}" if known else "ask when, who, list, or why"
        raise CommandError(f"no moment #{number}; {there}")
    return bench.found[number]


@command("where|w", "", "where the system stands")
def say_where(desk: Desk, rest: str) -> None:
    """Say where."""
    nothing(rest)
    report(desk, None)


def nothing(rest: str) -> None:
    """CommandError if there are arguments."""
    if rest:
        raise CommandError(f"{rest!r}: this command takes no argument")
