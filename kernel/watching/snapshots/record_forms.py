"""How the records of policy are kept: which there are, and how a copy of what one holds is made.

Copies follow from the types of a record's fields, each of which is declared.  What cannot change is not copied, and
nor are records: they are kept themselves.  A type of which no copy can be made is refused when this is imported.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from itertools import chain
from operator import call, itemgetter
from types import NoneType, UnionType
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from callgate.kernel.common.table import Table
from callgate.kernel.core.errors import PolicyError
from callgate.kernel.core.log import LogState
from callgate.kernel.core.records import Endpoints, EndpointState, Process, Tasks, Thread, Version
from callgate.kernel.core.symbols import SymbolTable
from callgate.kernel.file_data.ageing_timer import AgeingState
from callgate.kernel.file_data.objects import FileObject, FilesState
from callgate.kernel.file_data.spans import Span
from callgate.kernel.files.directories import DirectoriesState
from callgate.kernel.ipc.deferred_releases import DeferredReleasesState
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.page_tables import KernelSpace
from callgate.kernel.servers.disk_changes import DiskChangesState
from callgate.kernel.servers.mounting import MountingState
from callgate.kernel.storage.blocks import Blocks, Uses
from callgate.kernel.storage.cache_records import CacheState
from callgate.kernel.storage.disk_requests import DiskRequestsState, Run
from callgate.kernel.storage.disk_watch import DiskWatchState
from callgate.kernel.storage.sector_lists import SectorListsState
from callgate.kernel.tasks.scheduler import SchedulerState

RECORDS: Final = (
    *(SchedulerState, Tasks, Endpoints, KernelSpace, FramePool, DiskWatchState, DiskRequestsState, CacheState),
    *(FilesState, SectorListsState, AgeingState, DirectoriesState, DeferredReleasesState, MountingState),
    *(DiskChangesState, LogState),
    *(Thread, Process, EndpointState, Version, FileObject, Span, Run, Blocks, Uses),
)
"""The classes of records: those that `KernelState` names, and what two of them lead to."""
FIXED: Final = (int, bool, str, bytes, None, NoneType, SymbolTable, PolicyError)
COUNTING: Final = {Blocks, FramePool}
"""Those that count a change of what a field holds, in another field, before they make it: reading one is free."""
NOT_KEPT: Final = {(Span, "words")}  # guest memory, or what stands for it: `SpanRecords.bind`

ALL: Final = itemgetter(slice(None))

NOTHING: Final[tuple[tuple[Any, ...], tuple[Any, ...]]] = ((), ())  # of an empty dictionary

Content = tuple[tuple[Any, ...], tuple[Any, ...]]
Copier = Callable[[Any], Any]
Leads = Callable[[Any], Iterable[Any]]
Size = Callable[[Any], int]


class Way(NamedTuple):
    """How values of some type are kept."""

    copy: Copier | None = None  # None: a value cannot change, and is kept itself
    restore: Copier | None = None  # makes a value of a copy
    leads: Leads | None = None  # returns the records that a copy leads to; None: to none
    size: Size = sys.getsizeof  # returns about how many bytes a copy takes
    kind: type = NoneType  # of values that are copied
    copied: type = NoneType  # of copies
    is_record: bool = False  # whether a value is a record, or None
    source: str = ""  # what `copy` does as an expression of Python's, of {0}; "": it is to be called


def way_of(kind: Any) -> Way:
    """Return how values of a type are kept; TypeError if it is not known."""
    if kind in RECORDS:
        return Way(leads=lambda record: (record,), is_record=True)
    if kind is array:
        return Way(ALL, ALL, kind=array, copied=array, source="{0}[:]")
    if kind in FIXED or (isinstance(kind, type) and issubclass(kind, Enum)):
        return Way()
    if isinstance(kind, type) and issubclass(kind, tuple):
        return of_tuple([way_of(part) for part in get_type_hints(kind).values()])
    if isinstance(kind, type) and vars(kind).get("__slots__"):
        return of_object(kind)
    return of_alias(kind, get_origin(kind), get_args(kind))


def of_alias(kind: Any, origin: Any, arguments: tuple[Any, ...]) -> Way:
    """Return the way of a type that has been made of others: a union, or a container of something."""
    if origin is Table:
        return of_table(arguments)
    if origin is UnionType:
        return of_union([way_of(part) for part in arguments])
    if origin is tuple:
        return of_tuple([way_of(part) for part in arguments if part is not Ellipsis])
    if origin in (list, deque, set):
        return of_items(origin, way_of(arguments[0]))
    if origin in (dict, OrderedDict, Counter):
        return of_mapping(origin, *arguments)
    raise TypeError(f"it is not known how {kind} is kept in a snapshot")


def of_table(arguments: tuple[Any, ...]) -> Way:
    """Return the way of tables, which are records."""
    for kind in arguments:
        if kind not in RECORDS and (way_of(kind).copy or way_of(kind).leads):
            raise TypeError("what a table holds is to stay as it is, or to be a record")
    return Way(leads=lambda table: (table,), is_record=True)


def of_mapping(kind: Any, key: Any, value: Any = int) -> Way:
    """Return the way of dictionaries and the like; those whose values are all None are sets in order."""
    if value in (None, NoneType):
        return Way(tuple, kind.fromkeys, kind=kind, copied=tuple, source="(*{0},)")
    return of_values(kind, way_of(key), way_of(value))


def of_union(ways: list[Way]) -> Way:
    """Return the way of values of one of some types, of which one can be that of things that change."""
    changing = [way for way in ways if way.copy or way.leads]
    if not changing:
        return Way()
    (way,) = changing
    copy, restore, leads, size, kind, copied, is_record, _ = way
    if copy is None or restore is None:
        return Way(leads=leads and (lambda value: () if value is None else leads(value)), is_record=is_record)
    return Way(
        lambda value: copy(value) if type(value) is kind else value,
        lambda value: restore(value) if type(value) is copied else value,
        leads and (lambda value: leads(value) if type(value) is copied else ()),
        lambda value: size(value) if type(value) is copied else 0,
        kind,
        copied,
    )


def of_tuple(ways: list[Way]) -> Way:
    """Return the way of tuples of values that cannot change."""
    if any(way.copy for way in ways):
        raise TypeError("what a tuple holds is to stay as it is")
    leading = [(index, way.leads) for index, way in enumerate(ways) if way.leads]
    return Way(leads=(lambda value: chain(*(leads(value[index]) for index, leads in leading))) if leading else None)


def of_items(kind: Any, way: Way) -> Way:
    """Return the way of lists, sets and the like, whose copies are tuples: smaller, and no garbage to look for."""
    copy, restore, leads, size = way[:4]
    inner: Leads | None = leads and (lambda value: chain.from_iterable(map(leads, distinct(value))))
    if copy is None or restore is None:
        return Way(tuple, kind, inner, kind=kind, copied=tuple, source="(*{0},)")
    return Way(
        lambda value: tuple(map(copy, value)) if value else (),
        lambda value: kind(map(restore, value)),
        inner,
        lambda value: sys.getsizeof(value) + sum(map(size, value)),
        kind,
        tuple,
    )


def distinct(values: Iterable[Any]) -> Iterable[Any]:
    """Return each of some values once; those that are one object are one, whatever they are equal to."""
    return dict(zip(map(id, values), values, strict=True)).values()


def of_values(kind: Any, key: Way, way: Way) -> Way:
    """Return the way of dictionaries whose keys stay as they are."""
    if key.copy or key.leads:
        raise TypeError("keys are numbers and the like")
    copy, restore, leads, size = way[:4]
    if copy is None or restore is None:
        return of_columns(kind, leads)
    inner: Leads | None = leads and (lambda held: chain.from_iterable(map(leads, held[1])))
    return Way(
        lambda value: (tuple(value), tuple(map(copy, value.values()))) if value else NOTHING,
        lambda held: kind(dict(zip(held[0], map(restore, held[1]), strict=True))),
        inner,
        lambda held: 2 * sys.getsizeof(held[0]) + sum(map(size, held[1])),
        kind,
        tuple,
    )


def of_columns(kind: Any, leads: Leads | None) -> Way:
    """Return the way of dictionaries whose values do not change either: keys and values take a third of the space.

    A `Counter` made of pairs would count those, so each is made of a dictionary.
    """
    return Way(
        lambda value: (*value, *value.values()) if value else (),
        lambda held: kind(dict(zip(held[: len(held) // 2], held[len(held) // 2 :], strict=True))),
        leads and (lambda held: chain.from_iterable(map(leads, held[len(held) // 2 :]))),
        kind=kind,
        copied=tuple,
        source="(*{0}, *{0}.values())",
    )


def of_object(kind: type) -> Way:
    """Return the way of objects that belong to one record: copies of their fields, in order."""
    form = Form(kind)

    def restore(content: Any) -> Any:
        value: Any = object.__new__(kind)
        form.fill(value, content)
        return value

    leads = form.leads_to if form.leads or form.records else None
    return Way(form.content, restore, leads, form.size, kind, tuple)


class Form:
    """How the objects of one class are kept: what their fields hold that cannot change, and copies of what can."""

    def __init__(self, kind: type) -> None:
        """TypeError if one of its fields has no type, or one of which it is not known how it is kept."""
        types = get_type_hints(kind)
        self.kind = kind
        self.slots = getattr(kind, "__slots__", ())
        names = [name for name in self.slots if (kind, name) not in NOT_KEPT]
        if not names or not types.keys() >= set(names):
            raise TypeError(f"{kind.__name__} does not say which type each of its fields has")
        ways = {name: way_of(types[name]) for name in names}
        self.names = tuple(name for name, way in ways.items() if not way.copy)
        self.owning = tuple(name for name, way in ways.items() if way.copy)  # those that hold what can change
        self.guarded = [] if kind in COUNTING else [*self.owning]
        self.content = reader(self.names, {name: ways[name] for name in self.owning})
        self.restorers = tuple(way.restore for way in ways.values() if way.copy and way.restore)
        self.records = [index for index, name in enumerate(self.names) if ways[name].is_record]
        self.leads = [
            (part, index, way.leads)
            for part, group in enumerate((self.names, self.owning))
            for index, way in enumerate(map(ways.__getitem__, group))
            if way.leads and not (way.is_record and not part)
        ]
        self.least = sum(sys.getsizeof((None,) * len(fields)) for fields in (self.names, self.owning))
        self.sizes = tuple(ways[name].size for name in self.owning)
        self.by_identity = not any(map(names_equal_records, types.values()))

    def leads_to(self, content: Content) -> list[Any]:
        """Return the records that the content of an object leads to."""
        values = content[0]
        found = [values[index] for index in self.records if values[index] is not None]
        for part, index, leads in self.leads:
            found += leads(content[part][index])
        return found

    def leads_anew(self, content: Content, before: Content) -> list[Any]:
        """Return at least those that it leads to and `before` does not, which was another content of that object."""
        if not self.by_identity:
            return self.leads_to(content)
        values, values_before = content[0], before[0]
        found = [values[index] for index in self.records if values[index] is not values_before[index]]
        found = [record for record in found if record is not None]
        for part, index, leads in self.leads:
            held = content[part][index]
            if held != before[part][index]:
                found += leads(held)
        return found

    def size(self, content: Content) -> int:
        """Return about how many bytes a copy takes."""
        return self.least + sum(map(call, self.sizes, content[1]))

    def fill(self, value: Any, content: Content) -> None:
        """Give an object what `content` returned."""
        for name, item in zip(self.names, content[0], strict=True):
            setattr(value, name, item)
        for name, restore, item in zip(self.owning, self.restorers, content[1], strict=True):
            setattr(value, name, restore(item))


class TableForm:
    """How tables are kept: the records among their values are what they lead to."""

    kind = Table
    slots = guarded = ()
    by_identity = False

    def content(self, table: Any) -> Content:
        """Return the keys and the values."""
        return tuple(table), tuple(table.values())

    def leads_to(self, content: Content) -> list[Any]:
        """Return the values that are records."""
        return [value for value in content[1] if isinstance(value, RECORDS)]

    def leads_anew(self, content: Content, before: Content) -> list[Any]:
        """Return at least those that it leads to and `before` does not."""
        del before
        return self.leads_to(content)

    def size(self, content: Content) -> int:
        """Return about how many bytes a copy takes."""
        return 2 * sys.getsizeof(content[0])

    def fill(self, table: Any, content: Content) -> None:
        """Give a table what `content` returned."""
        table.clear()
        table.update(zip(*content, strict=True))


def reader(names: Iterable[str], owning: Mapping[str, Way]) -> Callable[[Any], Content]:
    """Return a function that returns what fields of an object hold, and copies of what those hold that own something.

    It is compiled.  Code that names a field has its place in the object at hand, where `attrgetter` looks for it by its
    name: records took a fifth longer to keep, since the CPU's caches no longer have what must be looked at for that.
    """
    values = "".join(f"value.{name}, " for name in names)
    sources = {name: way.source or f"copy_{name}({{0}})" for name, way in owning.items()}
    copies = "".join(source.format(f"value.{name}") + ", " for name, source in sources.items())
    function: Callable[[Any], Content] = eval(  # noqa: S307 - of names of fields
        f"lambda value: (({values}), ({copies}))", {f"copy_{name}": way.copy for name, way in owning.items()}
    )
    return function


def names_equal_records(kind: Any) -> bool:
    """Whether a type leads to records of which two may be equal."""
    if kind in RECORDS:
        return "__eq__" in vars(kind)
    return any(map(names_equal_records, get_args(kind)))


FORMS: Final[dict[type, Form | TableForm]] = {Table: TableForm(), **{kind: Form(kind) for kind in RECORDS}}
