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

import io
import pickle
import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import chain
from operator import is_, methodcaller
from types import FunctionType, NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callgate.kernel.common.counted import Counted
from callgate.kernel.watching.snapshots.sizes import Sized, Total
from callgate.server.hosted import HostedServer, VolumeGeometry

if TYPE_CHECKING:
    from callgate.server.message import ServerMemory

FIXED: Final = {int, bool, float, str, bytes, NoneType, VolumeGeometry}
CONTAINERS: Final = {dict, list, set, OrderedDict}
SHAPES: Final = 1024  # which attributes an object has, and of which classes
FEW: Final = 8  # items of a container that are looked at one by one
FAILURES: Final = (pickle.PicklingError, AttributeError, TypeError, RecursionError)


class _Ways(dict[type, Callable[[Any], Any]]):
    """How objects are pickled, by class: each class is looked at once, and its objects by no code in Python."""

    def __init__(self, shared: Callable[[Any], Any], part: Callable[[Any], Any] | None) -> None:
        """`shared` says what stands for an object that is shared, and raises PicklingError for one that is not.

        `part` says what stands for one that counts its changes; None: nothing does.
        """
        super().__init__()
        self.shared = shared
        self.part = part

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        copied = isinstance(getattr(kind, "__deepcopy__", None), FunctionType)  # that of `array`, for one, is none
        way = self.shared if copied else AS_USUAL
        if self.part is not None and issubclass(kind, Counted):
            way = self.part
        self[kind] = way
        return way


AS_USUAL: Final = methodcaller("__reduce_ex__", pickle.HIGHEST_PROTOCOL)


class ServerPickler:
    """Pickles servers, or what they hold, one after the other; it leaves out the memory, and what is shared."""

    def __init__(self, *, parts: bool = False) -> None:
        """`parts` says to leave out what counts its changes as well."""
        self.file = io.BytesIO()
        self.pickler = pickle.Pickler(self.file, pickle.HIGHEST_PROTOCOL)
        self.pickler.dispatch_table = self.ways = _Ways(self._shared, self._leave_out if parts else None)
        self.left_out: list[object] = []

    def pickled(self, thing: object, memory: ServerMemory) -> tuple[bytes, list[object]]:
        """Return a thing without a memory and what it shares, and that; b"" if it cannot be pickled."""
        self.left_out = [memory]
        self.ways[type(memory)] = self._memory
        self.file.seek(0)
        self.file.truncate()
        self.pickler.clear_memo()
        try:
            self.pickler.dump(thing)
        except FAILURES:
            return b"", []
        return self.file.getvalue(), self.left_out[1:]

    def _memory(self, memory: object) -> Any:
        """Have `left_out` called in the place of the memory."""
        return (left_out, (0,)) if memory is self.left_out[0] else AS_USUAL(memory)

    def _shared(self, thing: Any) -> Any:
        """Have it called in the place of what is shared."""
        if thing.__deepcopy__({}) is not thing:
            raise pickle.PicklingError("it is copied in a way of its own")
        return self._leave_out(thing)

    def _leave_out(self, thing: object) -> Any:
        self.left_out.append(thing)
        return left_out, (len(self.left_out) - 1,)


class _Unpickler(pickle.Unpickler):
    """Puts back what was left out, with another memory."""

    def __init__(self, file: io.BytesIO, things: list[object]) -> None:
        super().__init__(file)
        self.things = things

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what puts a thing back, or a class by the names of its module and its own."""
        if (module_name, global_name) == (__name__, left_out.__name__):
            return self.things.__getitem__
        return super().find_class(module_name, global_name)


def left_out(_number: int) -> object:
    """Stand for something in what is pickled."""
    raise AssertionError("`_Unpickler` puts another function in its place")


def unpickled(data: bytes, things: list[object]) -> Any:
    """Return what was pickled, with these things where something was left out."""
    return _Unpickler(io.BytesIO(data), things).load()  # pickled in this process


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
