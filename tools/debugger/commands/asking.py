"""Commands that ask the history: who, when, list requests.  Each lists numbered moments that `goto #N` goes to."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from callgate.kernel.common.near_miss import those_like
from callgate.tools.debugger.commands.language import Desk, command, count_in
from callgate.tools.debugger.commands.moving import moment_of
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.queries import (
    NAMES,
    Accesses,
    Answer,
    Fact,
    RequestRow,
    Stretch,
    Touch,
    becomes,
    before_instruction,
    requests_between,
    touches,
)
from callgate.tools.debugger.why.locations import WHOLE
from callgate.tools.debugger.why.registers import RegisterTouch, RegisterWatch
from callgate.tools.debugger.workbench.expressions import COMPARED, Expression, constant, error_name, layered
from callgate.tools.debugger.workbench.facts import endpoints_of, server_fact, slot_fact, slot_number, state_named
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench
from callgate.tools.inspection.wording import counted

if TYPE_CHECKING:
    from callgate.kernel.machine.memory.outside import Outside

Row = TypeVar("Row")
Asked = TypeVar("Asked")
BETWEEN: Final = re.compile(r"^(?P<what>.*?)(?:\s*\bbetween\s+(?P<begin>\S+)\s+and\s+(?P<end>\S+))?\s*$")
WHO: Final = re.compile(
    r"^(?P<kind>reads|writes|accesses|read|wrote|write)\s+(?P<place>.+?)(?:\s+length\s+(?P<length>\S+))?$"
)
SLOT: Final = re.compile(r"^(?:was\s+|is\s+)?slot\s+(?P<slot>\S+)(?:\s+of\s+(?P<endpoint>\S+))?\s+(?P<state>\S+)$")
SERVER: Final = re.compile(r"^(?:was\s+|is\s+)?(?:server|endpoint)\s+(?P<endpoint>\S+)\s+(?P<state>dead|alive)$")
KINDS: Final = {
    **dict.fromkeys(("reads", "read"), Kind.READ),
    **dict.fromkeys(("writes", "wrote", "write"), Kind.WRITE),
    "accesses": Kind.ACCESS,
}
SHOWN: Final = 500
"""Rows that are said; each has a number all the same."""
WIDEST: Final = 8  # bytes of a value
USE_OF_WHEN: Final = "when FIELD == VALUE (or != < <= > >=), when slot 5 taken, when server d0p1 dead"


def stretch_of(desk: Desk, found: re.Match[str]) -> Stretch:
    """Return what `between A and B` means: all of the history, if it is not said; CommandError."""
    history = desk.bench.history
    begin, end = found["begin"], found["end"]
    return Stretch(
        history,
        history.first if begin is None else moment_of(desk.bench, begin),
        history.edge if end is None else moment_of(desk.bench, end),
        desk.progress,
    )


def parted(rest: str) -> re.Match[str]:
    """Return what is asked, and between which moments."""
    found = BETWEEN.match(rest)
    assert found is not None  # all of it may be missing
    if found["begin"] is None and re.search(r"(^|\s)between\b", rest):
        raise CommandError("between A and B: two moments, each a number of instructions, #N, start, here, or end")
    return found


def say(desk: Desk, answer: Answer[Row], moment: Callable[[Row], Moment], lines: Callable[[Row], str]) -> None:
    """Say numbered rows, and how far they reach."""
    desk.progress(1.0)
    desk.bench.found = {number: moment(row) for number, row in enumerate(answer.rows, 1)}
    width = len(str(min(len(answer.rows), SHOWN)))
    for number, row in enumerate(answer.rows[:SHOWN], 1):
        desk.say(f"#{number:<{width}} {moment(row).position}: {lines(row)}")
    if len(answer.rows) > SHOWN:
        desk.say(f"and {len(answer.rows) - SHOWN:,} more, up to #{len(answer.rows)}: ask for less with between A and B")
    if not answer.rows:
        desk.say("nothing" if answer.cut is None else "nothing so far")
    if answer.cut is not None:
        desk.say(f"{answer.reason}: looked through up to {answer.cut}; the system stands where it stood")


def asked(query: Callable[[], Asked]) -> Asked:
    """Ask; CommandError for a stretch that is none."""
    try:
        return query()
    except ValueError as error:
        raise CommandError(str(error)) from None


def accesses(desk: Desk, stretch: Stretch) -> Accesses:
    """Return what watches memory."""
    bench = desk.bench
    return Accesses(bench.debuggee, stretch, bench.code.name)


def pieces_of(bench: Workbench, address: int, size: int) -> list[tuple[int, int, int]]:
    """Return the memory behind an address of the running process; CommandError if it is not all mapped."""
    process = bench.debuggee.threads.running().process
    pieces = list(bench.debuggee.memory.pieces(process, address, size))
    if sum(length for _, _, length in pieces) != size:
        raise CommandError(f"{address:#010x}: no memory is mapped there")
    return pieces


# Reads and writes.


@command(
    "who",
    "reads|writes|accesses PLACE [length N] | REGISTER  [between A and B]",
    "each instruction and host call that read or wrote memory, device that wrote it, and instruction with a register. "
    "What devices read is not seen, nor words of the kernel's own blocks that policy reads: states of slots, threads",
    examples=(
        "who writes slot[0].client",
        "who reads [0x40001008] between 14000 and here",
        "who writes endpoint[1].free between #3 and end",
        "who writes eax between 14000 and here",
        "who writes [eax]",
    ),
)
def who(desk: Desk, rest: str) -> None:
    """List accesses."""
    found = parted(rest)
    asked_for = WHO.match(found["what"])
    if asked_for is None:
        raise CommandError("who reads PLACE, or who writes PLACE: a register, a field, or an address in brackets")
    bench = desk.bench
    if asked_for["place"] in WHOLE:
        if asked_for["length"]:
            raise CommandError(f"length: {asked_for['place']} is a register; [{asked_for['place']}] is memory")
        who_of_register(desk, KINDS[asked_for["kind"]], WHOLE[asked_for["place"]], stretch_of(desk, found))
        return
    address, size = bench.meanings.place(Expression(asked_for["place"]))
    size = count_in(asked_for["length"]) if asked_for["length"] else size
    pieces, kind, stretch = pieces_of(bench, address, size), KINDS[asked_for["kind"]], stretch_of(desk, found)
    with bench.stops.suspended():
        answer = asked(lambda: touches(accesses(desk, stretch), kind, pieces))
    say(desk, answer, lambda touch: touch.moment, lambda touch: access_in_words(touch, size))


def who_of_register(desk: Desk, kind: Kind, register: str, stretch: Stretch) -> None:
    """List accesses to a general register."""
    bench, answer = desk.bench, Answer[RegisterTouch]()

    def thread() -> str:
        running = bench.debuggee.threads.running()
        return f"thread {running.number} {running.name!r}, ring {bench.machine.cpu.cpl}"

    def words(touch: RegisterTouch) -> str:
        change = f" becomes {touch.after:#010x}" if touch.after != touch.before else ""
        if touch.by:
            return f"{register} = {touch.before:#010x}{change}, by {touch.by}"
        by = f"{bench.code.name(touch.address)}  {touch.instruction}"
        return f"{register} = {touch.before:#010x}{change}, by {by}, {touch.thread}"

    watch = RegisterWatch(bench.chain.tracer, register, lambda: before_instruction(bench.history), thread)
    writes, reads = kind is not Kind.READ, kind is not Kind.WRITE

    @contextmanager
    def watching() -> Iterator[None]:
        def around(what: Outside) -> AbstractContextManager[None]:
            return watch.outside(what, lambda: bench.history.moment, answer.add)

        with watch.watching(writes=writes, reads=reads, told=answer.add), bench.history.surrounded(around, when=writes):
            yield

    with bench.stops.suspended():
        asked(lambda: stretch.scan(answer, watching))
    say(desk, answer, lambda touch: touch.moment, words)


def access_in_words(touch: Touch, size: int) -> str:
    """Return an access as a line."""
    what = f"{'write' if touch.write else 'read'} of {counted(touch.size, 'byte')} at {touch.address:#010x}"
    if size > WIDEST:
        return f"{what} by {touch.by}"
    width = 2 * size + 2
    change = f"{touch.before:#0{width}x}" + (f" becomes {touch.after:#0{width}x}" if touch.write else "")
    return f"{what}, {change}, by {touch.by}"


# Moments.


@command(
    "when",
    "FIELD == VALUE | slot N [of ENDPOINT] STATE | server ENDPOINT dead  [between A and B]",
    "the moments at which memory became what is asked for",
    examples=(
        "when slot 5 taken",
        "when was slot 0 of d0p1 released",
        "when endpoint[1].tail >= 3",
        "when server d0p1 dead",
    ),
)
def when(desk: Desk, rest: str) -> None:
    """List moments."""
    found = parted(rest)
    if not found["what"]:
        raise CommandError(USE_OF_WHEN)
    facts, stretch = facts_of(desk.bench, found["what"]), stretch_of(desk, found)
    with desk.bench.stops.suspended():
        answer = asked(lambda: becomes(accesses(desk, stretch), facts))
    say(
        desk,
        answer,
        lambda row: row[0],
        lambda row: f"{row[1]}, by {row[2]}" if "," in row[2] else f"{row[1]}, {row[2]}",
    )


def facts_of(bench: Workbench, text: str) -> list[Fact]:
    """Return what is asked after; CommandError."""
    slot, server = SLOT.match(text), SERVER.match(text)
    if slot is not None:
        state, index = state_named(slot["state"]), slot_number(slot["slot"])
        return [
            slot_fact(bench.debuggee, endpoint, index, state)
            for endpoint in endpoints_of(bench.debuggee, slot["endpoint"])
        ]
    if server is not None:
        (endpoint,) = endpoints_of(bench.debuggee, server["endpoint"])
        return [server_fact(bench.debuggee, endpoint, dead=server["state"] == "dead")]
    return [field_fact(bench, text)]


def field_fact(bench: Workbench, text: str) -> Fact:
    """Return what `FIELD == VALUE` means; CommandError."""
    expression = Expression(text)
    node = expression.tree
    if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in COMPARED:
        raise CommandError(USE_OF_WHEN)
    address, size = bench.meanings.place(Expression(ast.unparse(node.left)))
    value = bench.meanings.other_side(node)
    if size > WIDEST:
        raise CommandError(f"{ast.unparse(node.left)} has {size} bytes: name a field of at most {WIDEST}")
    compared = COMPARED[type(node.ops[0])]
    return Fact(ast.unparse(node.left), pieces_of(bench, address, size), lambda found: compared(found, value))


# Requests.


@command(
    "list requests|requests",
    "[where CONDITION] [between A and B]",
    "the requests, each from the taking of its slot to its release",
    examples=(
        "list requests",
        "list requests where op == OPEN and error != 0",
        "requests where endpoint == d0p1 and duration > 500 between 10000 and here",
    ),
)
def list_requests(desk: Desk, rest: str) -> None:
    """List requests."""
    found = parted(rest)
    condition = requests_condition(desk.bench, found["what"])
    stretch = stretch_of(desk, found)
    with desk.bench.stops.suspended():
        answer = asked(lambda: requests_between(desk.bench.system, stretch))
    answer.rows = [row for row in answer.rows if condition(row)]
    say(desk, answer, lambda row: row.moment, request_in_words)


def requests_condition(bench: Workbench, text: str) -> Callable[[RequestRow], bool]:
    """Return what `where CONDITION` means; CommandError for a name that means nothing."""
    if not text:
        return lambda _row: True
    word, _, condition = text.partition(" ")
    if word not in ("where", "if") or not condition:
        raise CommandError(f"{text!r}: list requests where CONDITION")
    expression = Expression(condition)
    endpoints = {endpoint.name: endpoint.number for endpoint in bench.system.kernel.state.endpoints.by_number.values()}
    check_names(expression, (*NAMES, *endpoints))

    def holds(row: RequestRow) -> bool:
        known = row.names()
        try:
            return bool(expression.value(layered(known, endpoints, missing(known)), lambda _linear, _size: b""))
        except CommandError:
            return False

    return holds


def missing(known: dict[str, object]) -> Callable[[str], object]:
    """Return a layer that refuses the names of what a request does not have yet."""

    def look(name: str) -> object:
        if name in NAMES and name not in known:
            raise CommandError(f"the request has no {name} yet")
        raise LookupError(name)

    return look


def check_names(expression: Expression, known: Sequence[str]) -> None:
    """CommandError for memory, and for a name that is neither known nor a number of the ABI."""
    for node in ast.walk(expression.tree):
        if isinstance(node, ast.List | ast.Subscript | ast.Attribute):
            raise CommandError(f"{ast.unparse(node)}: a condition on requests has fields of a request, and no memory")
        if isinstance(node, ast.Name) and node.id not in known:
            try:
                constant(node.id)
            except CommandError:
                raise CommandError(
                    f"no field {node.id!r} of a request; there is {those_like(node.id, known)}"
                ) from None


def request_in_words(row: RequestRow) -> str:
    """Return a request as a line."""
    error = "no reply yet" if row.error is None else error_name(row.error)
    duration = "under way" if row.duration is None else f"{row.duration:,} instructions"
    client = f"{row.client} {row.client_name!r}"
    return f"{row.operation_name} to slot {row.slot} of {row.endpoint_name} from thread {client}, {error}, {duration}"
