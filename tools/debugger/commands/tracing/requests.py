"""Commands that show what has happened up to here: the way of the last request, and the last events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.commands.language import Desk, command, count_in
from callgate.tools.debugger.commands.moving import nothing
from callgate.tools.debugger.history.timeline import DROPPED, Entry, Timeline, Way
from callgate.tools.debugger.history.timeline import MOST as KEPT
from callgate.tools.debugger.target import NoKernel
from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.tools.debugger.workbench.workbench import Workbench

SHOWN: Final = 10  # events, if no number is given
MOST: Final = 10_000


@command(
    "way|request way", "", "the way of the last request: the phases it has passed, [the present one], those to come"
)
def way(desk: Desk, rest: str) -> None:
    """Show the way of a request."""
    nothing(rest)
    if not desk.bench.debuggee.target.has_kernel:
        raise NoKernel
    found = desk.bench.timeline.way()
    if found is None:
        raise CommandError("no request has been begun up to here")
    desk.say(title(desk.bench, found))
    desk.say(f"  {' > '.join(f'[{name}]' if state == 'present' else name for name, state in phases(found))}")


def title(bench: Workbench, found: Way) -> str:
    """Return whose request it is, in a line."""
    endpoints = bench.system.kernel.state.endpoints.by_number
    endpoint = endpoints.get(found.slot[0])
    name = endpoint.name if endpoint is not None else f"endpoint {found.slot[0]}"
    client, server = found.passed[0].thread, found.thread_of("fetch")
    known = {thread.number: f"{thread.number} {thread.name!r}" for thread in bench.debuggee.threads}
    parts = [f"{found.operation or 'a request'} of {name}, slot {found.slot[1]}"]
    parts.append(f"client {known.get(client or 0, client)}")
    if server is not None:
        parts.append(f"server {known.get(server, server)}")
    return ", ".join(parts)


def phases(found: Way) -> Iterator[tuple[str, str]]:
    """Yield each phase and whether it is "passed", "present" or "to come"."""
    road = found.road
    count = len(found.passed) + len(road) - len(road[road.index(found.passed[0].name) :])
    for index, name in enumerate(road):
        yield name, "passed" if index < count - 1 else "present" if index == count - 1 else "to come"


@command("events|timeline", "[N]", f"the last N events before here, {SHOWN} if N is not given", examples=("events 30",))
def events(desk: Desk, rest: str) -> None:
    """Show events."""
    wanted = count_in(rest, SHOWN)
    timeline = desk.bench.timeline
    present = timeline.present
    first = max(present - min(wanted, MOST), 0)
    if wanted > present - first:
        desk.show(missing(timeline, first))
    desk.show(line(entry) for entry in timeline.entries[first:present])
    if not present:
        desk.say("no event has come up to here")


def missing(timeline: Timeline, first: int) -> Iterator[str]:
    """Yield why events that were asked for are not shown: the first that is, is that of index `first`."""
    if first:
        place = timeline.entries[first - 1].retired
        yield f"{MOST:,} events are shown at once; those before them: goto {place}, events"
    elif timeline.dropped:
        first_kept = f"events before instruction {timeline.begin:,} are not kept"
        yield f"{first_kept}: of a long run the last {KEPT - DROPPED:,} to {KEPT:,} are"


def line(entry: Entry) -> str:
    """Return an event as a line: where it came, and what it says."""
    return f"{entry.retired:>13,}  {entry.event}"
