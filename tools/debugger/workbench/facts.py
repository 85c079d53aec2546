"""What endpoints and slots can be asked about by name: the memory that says it, and which of its values mean it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.abi.message import Endpoint, EndpointFlags, SlotState
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.core.records import EndpointState
from callgate.kernel.watching.requests import endpoint_named, request_of
from callgate.tools.debugger.debuggee import Debuggee
from callgate.tools.debugger.queries import Fact
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.failure import CommandError

STATES: Final = {state.name.lower(): state for state in SlotState} | {"released": SlotState.FREE}
SERVER_STATES: Final = {"server-dead": True, "server-alive": False}
NAMES_TO_COME: Final = ("rom",)
OF_VOLUME: Final = re.compile(r"d\d+(p\d+)?")  # names of the servers of disks and their partitions
STATE: Final = offset_of(Endpoint, "state")
MASKS: Final = offset_of(Endpoint, "unused")  # `free` lies next to it
assert offset_of(Endpoint, "free") == MASKS + 4


def state_named(name: str) -> SlotState:
    """Return a slot's state by its name; CommandError names those like it."""
    if name.lower() not in STATES:
        raise CommandError(f"no state {name!r} of a slot; there is {those_like(name.lower(), STATES)}")
    return STATES[name.lower()]


def slot_number(text: str) -> int:
    """Return the index of a slot; CommandError."""
    number = number_of(text)
    if number is None or not 0 <= number < SLOTS:
        raise CommandError(f"{text!r} is not a slot: give a number from 0 to {SLOTS - 1}")
    return number


def endpoints_of(debuggee: Debuggee, name: str | None) -> list[EndpointState]:
    """Return the endpoint of a name; without one that of the request of the running thread, or all; CommandError."""
    kernel = debuggee.kernel
    known = list(kernel.state.endpoints.by_number.values())
    if not known:
        raise CommandError("no server takes requests yet; go to a moment at which one does: until ipc.take")
    try:
        if name is not None:
            return [endpoint_named(kernel, name)]
    except KeyError as error:
        raise CommandError(str(error.args[0])) from None
    record = debuggee.threads.running().record
    request = request_of(kernel, record) if record is not None else None
    mine = [endpoint for endpoint in known if request is not None and endpoint.name == request.endpoint]
    return mine or known


def slot_fact(debuggee: Debuggee, endpoint: EndpointState, index: int, state: SlotState) -> Fact:
    """Return the fact that a slot is in a state.

    A slot is free or taken by the masks `free` and `unused`; `Endpoint.state` says how far its request has come.
    """
    name, there = f"slot {index} of {endpoint.name}", there_is(debuggee, endpoint)
    if state in (SlotState.FREE, SlotState.TAKEN):
        return Fact(
            name,
            pieces(endpoint, MASKS, 8),
            lambda value: bool(available(value) >> index & 1) is (state is SlotState.FREE),
            there,
            lambda value: "free" if available(value) >> index & 1 else "taken",
        )
    place = pieces(endpoint, STATE + index, 1)
    return Fact(name, place, lambda value: value == state, there, state_in_use)


def there_is(debuggee: Debuggee, endpoint: EndpointState) -> Callable[[], bool]:
    """Return a function that says whether there is an endpoint now: before that, its memory means something else."""
    number, block, known = endpoint.number, endpoint.block, debuggee.kernel.state

    def there() -> bool:
        found = known.endpoints.by_number.get(number)
        return found is not None and found.block == block

    return there


def available(masks: int) -> int:
    """Return the mask of the slots that can be taken, from `unused` (low half) and `free`."""
    return (masks | masks >> 32) & (1 << SLOTS) - 1


def state_in_use(value: int) -> str:
    """Return in words what `Endpoint.state` says of a slot that a client has: FREE until its request is on the way."""
    value = value or SlotState.TAKEN
    return SlotState(value).name.lower() if value in set(SlotState) else f"{value:#x}"


def server_fact(debuggee: Debuggee, endpoint: EndpointState, *, dead: bool) -> Fact:
    """Return the fact that an endpoint's server is dead or not."""
    return Fact(
        f"server of {endpoint.name}",
        pieces(endpoint, offset_of(Endpoint, "flags"), 4),
        lambda value: bool(value & EndpointFlags.DEAD) is dead,
        there_is(debuggee, endpoint),
        lambda value: "dead" if value & EndpointFlags.DEAD else "alive",
    )


def pieces(endpoint: EndpointState, offset: int, size: int) -> list[tuple[int, int, int]]:
    """Return a place in an endpoint's block as memory that can be watched."""
    physical = endpoint.block + offset
    return [(KERNEL_BASE + physical, physical, size)]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of memory, (linear, physical, bytes) a piece: whether it is one says `begins`, of values as numbers."""

    pieces: list[tuple[int, int, int]]
    begins: Callable[[int, int], bool]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a stop waits for: `text` says it, `changes` are those of an endpoint; `names` are of endpoints.

    They may be still to come; None means all.
    """

    text: str
    changes: Callable[[EndpointState], list[Change]]
    names: list[str] | None
    what: str  # the same without endpoints
    slot: int | None = None  # that it is about


def waiting_for(debuggee: Debuggee, words: list[str]) -> Waiting | None:
    """Return what `slot N [of ENDPOINT]` or `state NAME [of ENDPOINT]` waits for, None for another text; CommandError.

    A slot by its number: each change of its state.  Without a name it is about the endpoint of the running thread's
    request, and if there is none about all.
    """
    if len(words) not in (2, 4) or words[0] not in ("slot", "state") or words[2:3] not in ([], ["of"]):
        return None
    what, name = " ".join(words[:2]), words[1].lower()
    index = slot_number(words[1]) if words[0] == "slot" else None
    if index is None and name not in {*STATES, *SERVER_STATES}:
        raise CommandError(f"no state {words[1]!r}; there is {those_like(name, [*STATES, *SERVER_STATES])}")

    def changes(endpoint: EndpointState) -> list[Change]:
        if index is not None:
            return changes_of_slot(endpoint, index)
        if name in SERVER_STATES:
            fact = server_fact(debuggee, endpoint, dead=SERVER_STATES[name])
            return [Change(fact.pieces, fact.begins)]
        return [change_to(endpoint, state_named(words[1]))]

    there = list(debuggee.kernel.state.endpoints.by_number.values())
    if words[2:]:
        names = [endpoint_to_be(debuggee, words[3])]
    else:
        known = endpoints_of(debuggee, None) if there else []
        if len(known) == len(there):
            return Waiting(what, changes, None, what, index)
        names = [endpoint.name for endpoint in known]
    return Waiting(f"{what} of {', '.join(names)}", changes, names, what, index)


def endpoint_to_be(debuggee: Debuggee, name: str) -> str:
    """Return the name of an endpoint that is there, or of one that may come; CommandError."""
    there = list(debuggee.kernel.state.endpoints.by_number.values())
    if name in NAMES_TO_COME or OF_VOLUME.fullmatch(name):
        return name
    if not there:
        raise CommandError(f"no endpoint {name!r} can come: they are named rom, d0p1, d0p2, …")
    return endpoints_of(debuggee, name)[0].name


def changes_of_slot(endpoint: EndpointState, index: int) -> list[Change]:
    """Return each change of a slot's state; that it is free again is said by the masks."""
    masks, state = pieces(endpoint, MASKS, 8), pieces(endpoint, STATE + index, 1)
    return [
        Change(masks, lambda before, after: bool((available(before) ^ available(after)) >> index & 1)),
        Change(state, lambda before, after: after not in (before, SlotState.FREE)),
    ]


def change_to(endpoint: EndpointState, state: SlotState) -> Change:
    """Return the change of any slot to a state."""
    if state is SlotState.TAKEN:
        return Change(pieces(endpoint, MASKS, 8), lambda before, after: bool(available(before) & ~available(after)))
    if state is SlotState.FREE:
        return Change(pieces(endpoint, MASKS, 8), lambda before, after: bool(available(after) & ~available(before)))

    def begins(before: int, after: int) -> bool:
        old, new = before.to_bytes(SLOTS, "little"), after.to_bytes(SLOTS, "little")
        return any(now == state != then for then, now in zip(old, new, strict=True))

    return Change(pieces(endpoint, STATE, SLOTS), begins)
