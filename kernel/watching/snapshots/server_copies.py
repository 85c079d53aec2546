"""Copies of hosted servers for snapshots.

A server is a Python object of another package, made of plain data.  Of its attributes, and of those of its parts that
count their changes (`Counted`), numbers and the like are kept as they are; whatever else is no such part is pickled,
which is several times as fast as `HostedServer.duplicate`.  A part that has not changed since the copy before is not
looked into.  Two things are left out: the memory that a server works on, which is that of the process at each restore,
and values that return themselves from `__deepcopy__`, which are shared.  A server that makes its copies in a way of its
own (of slots, or by `__reduce__`) is pickled whole; one that cannot be pickled (of a class within a function, or with a
`duplicate` of its own) is duplicated.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from operator import is_
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callgate.kernel.common.counted import Counted
from callgate.kernel.watching.snapshots.server_pickling import ServerPickler, unpickled
from callgate.kernel.watching.snapshots.sizes import Sized, Total
from callgate.server.hosted import HostedServer, VolumeGeometry

if TYPE_CHECKING:
    from callgate.server.message import ServerMemory

FIXED: Final = {int, bool, float, str, bytes, NoneType, VolumeGeometry}
CONTAINERS: Final = {dict, list, set, OrderedDict}
SHAPES: Final = 1024  # which attributes an object has, and of which classes
FEW: Final = 8  # items of a container that are looked at one by one


class _TakenApart(dict[type, bool]):
    """Whether a copy of an object of a class is one of what its `__dict__` holds."""

    def __missing__(self, kind: type) -> bool:
        plain = Counted if issubclass(kind, Counted) else object
        ways = ("__reduce_ex__", "__reduce__", "__getstate__")
        special = [getattr(kind, name) is not getattr(plain, name) for name in ways]
        special += [hasattr(kind, name) for name in ("__setstate__", "__deepcopy__")]
        special += [bool(vars(each).get("__slots__")) for each in kind.__mro__ if each is not Counted]
        self[kind] = not any(special)
        return self[kind]


TAKEN_APART: Final = _TakenApart()


class Entangled(Exception):
    """A server cannot be copied part by part."""


def is_fixed(value: object) -> bool:
    """Whether a value cannot change, and can be told so at a glance."""
    kind = type(value)
    return kind in FIXED or (issubclass(kind, tuple) and all(type(item) in FIXED for item in value))  # type: ignore[attr-defined]


def is_plain(kind: type, value: Any) -> bool:
    """Whether a value holds nothing that can change, so that a shallow copy is one."""
    if kind is array:
        return True
    if kind not in CONTAINERS or len(value) > FEW:
        return False
    items = (*value, *value.values()) if issubclass(kind, dict) else value
    return all(type(item) in FIXED for item in items)


def duplicate(value: Any) -> Any:
    """Return a copy of a value that `is_plain`."""
    return value[:] if type(value) is array else value.copy()


@lru_cache(SHAPES)
def doubtful(kind: type, names: tuple[str, ...], kinds: tuple[type, ...]) -> tuple[str, ...]:
    """Return which attributes of an object of a class have to be looked at, by their names and classes."""
    unchanging = HostedServer.unchanging if issubclass(kind, HostedServer) else ()
    pairs = zip(names, kinds, strict=True)
    return tuple(name for name, of in pairs if of not in FIXED and name not in unchanging)


class ObjectCopy(Sized):
    """What the attributes of a server held at a moment, or those of a part of it."""

    __slots__ = (
        *("by_key", "changes", "kind", "left_out", "memory_in", "of", "parts", "pickled", "plain", "state", "values"),
    )

    def __init__(self, thing: Any, copies: Copies) -> None:
        """Entangled if some of them cannot be kept in this way."""
        self.total = copies.picklers.total
        self.size = 0
        kind: Any = type(thing)
        self.kind: type = kind
        self.of = thing
        self.state = state = dict(vars(thing))  # in order; what is not kept by the attribute itself is put in later
        self.changes = thing.changes if issubclass(kind, Counted) else 0
        self.values = values = (*state.values(),)
        self.memory_in: list[str] = []
        self.plain: dict[str, Any] = {}  # containers, which nothing else leads to
        self.parts: dict[str, int] = {}  # their numbers
        self.by_key: dict[str, dict[object, int]] = {}  # those of parts in a dictionary
        pickled = self._sort(copies, doubtful(kind, (*state,), (*map(type, values),)))
        if pickled or (len(self.plain) > 1 and len({*map(id, self.plain.values())}) < len(self.plain)):
            pickled |= self.plain  # which the others may lead to
            self.plain = {}
        self.pickled, self.left_out = copies.pickled(pickled) if pickled else (b"", ())
        self.plain = {name: duplicate(value) for name, value in self.plain.items()}
        self.total.add(self)

    def measure(self) -> int:
        """Return about how many bytes it takes."""
        return sys.getsizeof(self.state) + sum(map(sys.getsizeof, self.plain.values())) + len(self.pickled)

    def forget(self) -> None:
        """Forget what this is a copy of, which holds something else now, or is no longer needed."""
        self.of, self.values = None, ()

    def holds_still(self) -> bool:
        """Return whether what this is a copy of holds the same now, as far as can be told at a glance."""
        now = vars(self.of)
        if self.pickled or self.by_key or len(now) != len(self.values) or not all(map(is_, now.values(), self.values)):
            return False
        return not any(now[name] or copy for name, copy in self.plain.items())

    def _sort(self, copies: Copies, names: Iterable[str]) -> dict[str, object]:
        """Note how each of some attributes is kept; return those that are to be pickled."""
        pickled: dict[str, object] = {}
        for name in names:
            value = self.state[name]
            kind = type(value)
            if value is copies.memory:
                self.memory_in.append(name)
            elif issubclass(kind, Counted):
                self.parts[name] = copies.number_of(value)
            elif is_plain(kind, value):
                self.plain[name] = value
            elif kind is dict and all(issubclass(type(each), Counted) for each in value.values()):
                self.by_key[name] = {key: copies.number_of(each) for key, each in value.items()}
            elif is_fixed(value):
                continue
            else:
                pickled[name] = value
            self.state[name] = None
        return pickled

    @property
    def leads_to(self) -> list[int]:
        """The numbers of the parts that it leads to."""
        numbers = [*self.parts.values()]
        if self.by_key:
            numbers += chain.from_iterable(each.values() for each in self.by_key.values())
        if self.left_out:
            numbers += [each.number for each in self.left_out if isinstance(each, Reference)]
        return numbers

    def fill(self, thing: object, making: Making) -> None:
        """Give an object of this kind what was kept."""
        state = dict(self.state)
        state |= dict.fromkeys(self.memory_in, making.memory)
        state |= {name: duplicate(value) for name, value in self.plain.items()}
        state |= {name: making.part(number) for name, number in self.parts.items()}
        for name, numbers in self.by_key.items():
            state[name] = {key: making.part(number) for key, number in numbers.items()}
        if self.pickled:
            others = [making.part(each.number) if isinstance(each, Reference) else each for each in self.left_out]
            state |= unpickled(self.pickled, [making.memory, *others])
        vars(thing).update(state)
        self.of, self.values = thing, (*state.values(),)


class Reference(NamedTuple):
    """Stands for a part in what is left out of what is pickled."""

    number: int


class Copies:
    """The copies of a server's parts, by number: a part keeps its own."""

    def __init__(self, memory: ServerMemory, picklers: Picklers, before: Mapping[int, ObjectCopy]) -> None:
        """Begin with the copies from before, of which those stay whose parts have not changed."""
        self.memory = memory
        self.picklers = picklers
        self.numbers: dict[int, int] = {}  # of parts, by `id`
        self.next = 0  # the number of the next new one, once there has been one
        self.parts = dict(before)
        for number, copy in before.items():
            if copy.of.changes != copy.changes:
                self._copy(number, copy.of)

    def _copy(self, number: int, part: Counted) -> None:
        if not TAKEN_APART[type(part)]:
            raise Entangled
        before, copy = self.parts.get(number), ObjectCopy(part, self)
        self.parts[number] = copy
        if before is not None:
            before.forget()

    def number_of(self, part: Counted) -> int:
        """Return the number of a part, which is copied if it is new; Entangled if it has no copy of this kind."""
        if not self.numbers:
            self.numbers = {id(copy.of): number for number, copy in self.parts.items()}
        number = self.numbers.get(id(part))
        if number is None:
            number = self.numbers[id(part)] = self.next or max(self.parts, default=0) + 1
            self.next = number + 1
            self._copy(number, part)
        return number

    def pickled(self, values: dict[str, object]) -> tuple[bytes, tuple[object, ...]]:
        """Return what attributes hold, pickled, and what is left out of it: parts, and what is shared."""
        pickled, things = self.picklers.parts.pickled(values, self.memory)
        if not pickled:
            raise Entangled
        return pickled, tuple(Reference(self.number_of(each)) if isinstance(each, Counted) else each for each in things)

    def drop_lost(self, own: ObjectCopy) -> None:
        """Forget the parts that a server no longer leads to."""
        found, reached = [own], set[int]()
        for copy in found:
            new = {*copy.leads_to} - reached
            reached |= new
            found += [self.parts[number] for number in new]
        self.parts = {number: copy for number, copy in self.parts.items() if number in reached}


class Making:
    """A server that is being made of copies."""

    def __init__(self, memory: ServerMemory, copies: Mapping[int, ObjectCopy]) -> None:
        self.memory = memory
        self.copies = copies
        self.things: dict[int, Any] = {}

    def part(self, number: int) -> Any:
        """Return a part: one object, whatever leads to it.  Its copy is the one that it is made of, from now on."""
        if number not in self.things:
            copy = self.copies[number]
            kind: Any = copy.kind
            thing = self.things[number] = kind.__new__(kind)
            copy.fill(thing, self)
            copy.changes = thing.changes
        return self.things[number]


class Picklers:
    """What servers are pickled by: part by part, or whole."""

    def __init__(self, total: Total) -> None:
        """`total` is of the copies that are made."""
        self.total = total
        self.parts = ServerPickler(parts=True)
        self.whole = ServerPickler()


class ServerCopy(Sized):
    """What a server was at a moment: taken apart, pickled as a whole, or duplicated."""

    __slots__ = ("duplicate", "most", "own", "parts", "pickled", "shared")

    def __init__(self, server: HostedServer, picklers: Picklers, before: ServerCopy | None = None) -> None:
        """`before` is an earlier one of the same server, or of one that was: parts that have not changed are its."""
        self.total = picklers.total
        self.size = 0
        self.own: ObjectCopy | None = None
        self.parts: dict[int, ObjectCopy] = {}  # by number
        self.most = 0  # parts, before it is looked whether something still leads to each
        self.pickled = b""
        self.shared: list[object] = []
        self.duplicate: HostedServer | None = None
        if type(server).duplicate is not HostedServer.duplicate:
            self.duplicate = server.duplicate(server.memory)
        elif not self._take_apart(server, picklers, before):
            self.pickled, self.shared = picklers.whole.pickled(server, server.memory)
            if not self.pickled:
                self.duplicate = server.duplicate(server.memory)
        if self.pickled:
            picklers.total.add(self)

    def measure(self) -> int:
        """Return about how many bytes it takes, but for its parts."""
        return len(self.pickled)

    def _take_apart(self, server: HostedServer, picklers: Picklers, before: ServerCopy | None) -> bool:
        if not TAKEN_APART[type(server)]:
            return False
        known = None if before is None else before.own
        try:
            copies = Copies(server.memory, picklers, {} if before is None else before.parts)
            if known is not None and known.of is server and known.holds_still():
                self.own = known
            else:
                self.own = ObjectCopy(server, copies)
        except Entangled:
            return False
        self.most = before.most if before is not None else 0
        if len(copies.parts) > self.most:
            copies.drop_lost(self.own)
            self.most = 2 * len(copies.parts)
        self.parts = copies.parts
        return True

    def forget(self) -> None:
        """Forget the server and its parts: another one takes its place."""
        for copy in (self.own, *self.parts.values()):
            if copy is not None:
                copy.forget()

    def on(self, memory: ServerMemory) -> HostedServer:
        """Return a server that is what this one was, and works on `memory`."""
        if self.duplicate is not None:
            return self.duplicate.duplicate(memory)
        server: HostedServer
        if self.own is None:
            server = unpickled(self.pickled, [memory, *self.shared])
            return server
        kind: Any = self.own.kind
        server = kind.__new__(kind)
        making = Making(memory, self.parts)
        self.own.fill(server, making)
        self.parts = {number: self.parts[number] for number in making.things}
        return server
