"""Commands that set stops, change them and list them."""

from __future__ import annotations

from callgate.tools.debugger.commands.frames import innermost
from callgate.tools.debugger.commands.language import Desk, command, conditional, count_in
from callgate.tools.debugger.commands.moving import nothing
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.passing import MOST
from callgate.tools.debugger.workbench.stops import Stopping
from callgate.tools.inspection.wording import counted


@command(
    "break|b",
    "PLACE|EVENT|slot N|state NAME [of ENDPOINT] [if CONDITION]",
    "stop before an instruction, at an event, or after a slot or a server has changed its state",
    examples=(
        *("break take_slot", "break shell:run_line", "break ipc.reply if op == FREE_SPACE", "break slots.asm:40"),
        *("break slot 5 of d0p1", "break state served", "break state server-dead"),
    ),
)
def break_(desk: Desk, rest: str) -> None:
    """Add a stop."""
    _add(desk, rest, once=False)


@command("tbreak|tb", "PLACE|EVENT [if CONDITION]", "the same, once")
def tbreak(desk: Desk, rest: str) -> None:
    """Add a stop for once."""
    _add(desk, rest, once=True)


def _add(desk: Desk, rest: str, *, once: bool) -> None:
    place, condition = conditional(rest)
    if not place:
        raise CommandError("break where? a symbol, an address, FILE:LINE, or an event: help break")
    stopping = desk.bench.stops.add(place, condition, once=once)
    desk.say(f"stop {stopping.number} set: {stopping.text}")


def _watch(desk: Desk, rest: str, kind: Kind) -> None:
    innermost(desk)
    watched, condition = conditional(rest)
    place, _, length = watched.partition(" length ")
    if not place.strip():
        raise CommandError("watch what? [ADDRESS], or a field: watch endpoint[1].free")
    stopping = desk.bench.stops.watch(kind, place.strip(), count_in(length) if length else None, condition)
    desk.say(f"stop {stopping.number} set: {stopping.text}")


@command(
    "watch",
    "PLACE [length N] [if CONDITION]",
    "stop after a write to memory; the condition is about what has been written",
    examples=(
        *("watch endpoint[1].free", "watch [0x40001008]", "watch slot[0].client"),
        "watch endpoint[1].free if endpoint[1].free == 0",
    ),
)
def watch(desk: Desk, rest: str) -> None:
    """Add a watchpoint for writes."""
    _watch(desk, rest, Kind.WRITE)


@command("rwatch", "PLACE [length N] [if CONDITION]", "stop after a read of memory")
def rwatch(desk: Desk, rest: str) -> None:
    """Add a watchpoint for reads."""
    _watch(desk, rest, Kind.READ)


@command("awatch", "PLACE [length N] [if CONDITION]", "stop after a read or a write of memory")
def awatch(desk: Desk, rest: str) -> None:
    """Add a watchpoint for both."""
    _watch(desk, rest, Kind.ACCESS)


@command(
    "condition",
    "N [CONDITION]",
    "give a stop another condition, or none; it keeps its number",
    examples=("condition 1 thread == 12", "condition 1"),
)
def condition(desk: Desk, rest: str) -> None:
    """Change a stop's condition."""
    word, _, text = rest.partition(" ")
    number = number_of(word)
    if number is None:
        raise CommandError("condition N [CONDITION]: the number of a stop; info break lists them")
    stopping = desk.bench.stops.set_condition(number, text.strip().removeprefix("if "))
    desk.say(f"stop {stopping.number} set: {stopping.text}")


@command(
    "ignore",
    "N COUNT",
    "pass a stop COUNT times before it ends a run, 0 for no longer; each place counts once, in a run forward",
    examples=("ignore 1 5", "ignore 1 0"),
)
def ignore(desk: Desk, rest: str) -> None:
    """Have the next hits of a stop end no run."""
    word, _, text = rest.partition(" ")
    number, count = number_of(word), number_of(text.strip())
    if number is None or count is None:
        raise CommandError("ignore N COUNT: the number of a stop, and how often it is passed; info break lists stops")
    if not 0 <= count <= MOST:
        raise CommandError(f"{count:,} times: a stop is passed 0 to {MOST:,} times")
    stopping = desk.bench.stops.ignore(number, count)
    desk.say(f"stop {stopping.number}: {stopping.text}{passes(stopping)}")


def passes(stopping: Stopping) -> str:
    """Return in words how many hits are still to be passed, to stand after others."""
    left = stopping.passing.left
    return f", passes the next {counted(left, 'hit')}" if left else ""


@command("delete|del|d", "[N …]", "remove stops, all if none is named")
def delete(desk: Desk, rest: str) -> None:
    """Remove stops."""
    for number in _stops_in(desk, rest):
        desk.bench.stops.remove(number)


def _stops_in(desk: Desk, rest: str) -> list[int]:
    """Return the numbers of stops, all if none is named; CommandError."""
    numbers = [number for number in map(number_of, rest.split()) if number is not None]
    if len(numbers) < len(rest.split()):
        raise CommandError(f"{rest!r}: give the numbers of stops; info break lists them")
    return numbers or list(desk.bench.stops.known)


@command("disable|disa|bpd", "[N …]", "let stops end no run, all if none is named; they keep their numbers")
def disable(desk: Desk, rest: str) -> None:
    """Disable stops."""
    for number in _stops_in(desk, rest):
        desk.bench.stops.enable(number, on=False)


@command("enable|en|bpe", "[N …]", "let stops end runs again, all if none is named")
def enable(desk: Desk, rest: str) -> None:
    """Enable stops."""
    for number in _stops_in(desk, rest):
        desk.bench.stops.enable(number, on=True)


@command("info break|info breakpoints|info watchpoints|info b|stops|blist", "", "the stops")
def info_break(desk: Desk, rest: str) -> None:
    """List stops."""
    nothing(rest)
    known = desk.bench.stops.known.values()
    for stop in known:
        desk.say(
            f"{stop.number:>3}  {stop.text}{', once' if stop.once else ''}{'' if stop.enabled else ', disabled'}, "
            f"{stop.hits + stop.passing.hits} hits{passes(stop)}"
        )
        desk.show(f"       {line}" for line in stop.commands)
    if not known:
        desk.say("no stops")


@command("info events", "", "the kinds of events that can be stopped at")
def info_events(desk: Desk, rest: str) -> None:
    """List the kinds of events."""
    nothing(rest)
    machine = desk.bench.machine
    desk.show(sorted(machine.stream.kinds | machine.event_sites.kinds))
