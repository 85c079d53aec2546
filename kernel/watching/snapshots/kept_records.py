"""What policy's records hold, kept record by record: only those that may have changed are copied, or given back.

A record whose content has been kept is *sealed*: its class is exchanged for a subclass that gives it back its own
before a field is written, or a field is read that holds what can be changed without the record, a list for one; a
`Table`, which is a dictionary and a record, before a method changes it.  So a
record that is still sealed is what was kept, wherever references to it are.  Policy pays next to nothing for it:
reading a number is what it was, and a record that was touched once is a plain object again.

This holds for what a record owns: the objects that only its fields lead to, of which nothing else keeps a reference
from one host call to the next.  What two records lead to is a record itself (`RECORDS`).  A record is the same object
for good: a restore gives it its content, not another object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress
from operator import is_, is_not
from typing import Any, Final

from callgate.kernel.common.table import Table
from callgate.kernel.watching.snapshots.record_forms import FORMS, Content, Form, TableForm
from callgate.kernel.watching.snapshots.sizes import Sized, Total

SPARE: Final = 4  # a quarter more records are kept than anything leads to, before those are looked for
set_class: Final = vars(object)["__class__"].__set__  # whatever the class of the object says


CHANGES: Final = ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update")
"""The methods that change a table."""


class Broken:
    """The last seal that was broken, of records of any system: another object each time, so that no lock is needed."""

    last: object = object()


def unseal(record: Any, kind: type) -> None:
    """Make a sealed record one of its own class: it may be about to change."""
    Broken.last = object()
    set_class(record, kind)


def sealed(form: Form | TableForm) -> type:
    """Return the subclass whose objects become `form.kind` before they can change; it looks like that class."""
    kind: Any = form.kind

    def reduce(record: Any, protocol: int) -> Any:
        """Return how to make a copy, of the class that everybody else knows."""
        unseal(record, kind)
        return record.__reduce_ex__(protocol)

    def equal(record: Any, other: Any) -> bool:
        """Compare records as their class does, which compares only objects of one class."""
        for each in (record, other):
            if type(each) is subclass:
                unseal(each, kind)
        return bool(record == other)

    members: dict[str, Any] = {"__slots__": (), "__reduce_ex__": reduce}
    members |= changing_methods(kind) if kind is Table else changing_attributes(kind, form.guarded)
    members |= {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    if "__eq__" in vars(kind):
        members |= {"__eq__": equal, "__hash__": kind.__hash__}
    subclass = type(kind.__name__, (kind,), members)
    subclass.__slots__ = form.slots  # type: ignore[attr-defined]  # as code sees them that goes through the fields
    return subclass


def changing_attributes(kind: type, guarded: Sequence[str]) -> dict[str, Any]:
    """Return what makes an object one of `kind` before a field is written, or one of `guarded` read."""

    def change(record: Any, name: str, value: object) -> None:
        unseal(record, kind)
        setattr(record, name, value)

    def remove(record: Any, name: str) -> None:
        unseal(record, kind)
        delattr(record, name)

    def looker(name: str) -> property:
        def look(record: Any) -> Any:
            unseal(record, kind)
            return getattr(record, name)

        return property(look)

    return {"__setattr__": change, "__delattr__": remove, **{name: looker(name) for name in guarded}}


def changing_methods(kind: type) -> dict[str, Any]:
    """Return what makes a table one of `kind` before it is changed."""

    def changer(name: str) -> Any:
        plain = getattr(kind, name)

        def change(table: Any, *arguments: Any, **named: Any) -> Any:
            unseal(table, kind)
            return plain(table, *arguments, **named)

        return change

    return {name: changer(name) for name in CHANGES}


SEALED: Final = {kind: sealed(form) for kind, form in FORMS.items()}
FORM_OF: Final = FORMS | {SEALED[kind]: form for kind, form in FORMS.items()}  # by the class that a record has now


class Kept(Sized):
    """What a record held at a moment."""

    __slots__ = ("content", "form", "record", "sealed")

    def __init__(self, record: Any, form: Form | TableForm, sealed: type, content: Content, total: Total) -> None:
        self.total = total
        self.size = 0
        self.record = record
        self.form = form
        self.sealed = sealed  # its class as long as it holds this
        self.content = content

    def measure(self) -> int:
        """Return about how many bytes it takes."""
        return self.form.size(self.content)

    @property
    def leads_to(self) -> Iterable[Any]:
        """The records that it leads to."""
        return self.form.leads_to(self.content)

    def holds(self, content: Content) -> bool:
        """Return whether a record that holds `content` holds what it did."""
        if content != self.content:
            return False
        return self.form.by_identity or all(map(is_, self.form.leads_to(content), self.leads_to))

    def seal(self) -> None:
        """The record holds this: note its first change."""
        set_class(self.record, self.sealed)

    def give_back(self) -> None:
        """Give the record what it held."""
        set_class(self.record, self.form.kind)
        self.form.fill(self.record, self.content)


Records = tuple[Kept, ...]
"""What all records held at a moment: each is here with those that it leads to, so none is freed."""


class RecordKeeper:
    """Keeps the records that `roots` lead to, as often as asked, and gives them back what they held."""

    def __init__(self, roots: Sequence[object], total: Total | None = None) -> None:
        """The copies that are made are counted in `total`."""
        self.total = total or Total()
        self.roots = roots
        self.present: Records = ()  # what was kept or given back last: what records that are sealed hold
        self.records: list[Any] = []  # those of `present`, in order
        self.seals: list[type] = []  # the class of each as long as it is sealed
        self.places: dict[int, int] = {}  # where each is in `present`, by its `id`
        self.broken: object = None  # the last seal that was broken when each of these records was sealed last
        self.most = 0  # of them, before it is looked whether something still leads to each
        self.copied = self.given_back = 0  # records

    def keep(self) -> Records:
        """Return what all records hold: the same object as the time before if they hold what they did."""
        broken = Broken.last
        present, self.present = self.present, ()  # should one fail, all are copied the next time
        if not present:
            self._take_over(present)
        kept, touched = [*present], self._touched()
        found: list[Any] = [] if present else [*self.roots]
        made: list[Kept] = []
        for place in touched:
            known = kept[place]
            form = known.form
            content = form.content(known.record)
            if not known.holds(content):
                kept[place] = now = Kept(known.record, form, known.sealed, content, self.total)
                made.append(now)
                found += form.leads_anew(content, known.content)
        if found:
            made += self._add(found, kept)
        for place in touched:
            kept[place].seal()
        self.copied += len(touched) + len(kept) - len(present)
        if made:
            self.total.add(*made)
            present = tuple(kept)
        if len(present) > self.most:
            present = self._reached(present)
            self.most = len(present) + len(present) // SPARE + 1
        self.present, self.broken = present, broken
        return present

    def _take_over(self, present: Records) -> None:
        """Note where the records are."""
        self.records = [known.record for known in present]
        self.seals = [known.sealed for known in present]
        self.places = {id(record): place for place, record in enumerate(self.records)}

    def _touched(self) -> list[int]:
        """Return the places of the records that are not sealed."""
        if self.broken is Broken.last:
            return []
        records = self.records
        return [*compress(range(len(records)), map(is_not, map(type, records), self.seals))]

    def _add(self, found: list[Any], kept: list[Kept]) -> list[Kept]:
        """Keep those of some records that are not kept yet, and all that they lead to; return what is new of `kept`.

        `found` is used up.
        """
        places, begin = self.places, len(kept)
        while found:
            record = found.pop()
            if id(record) not in places:
                form = FORM_OF[type(record)]
                content = form.content(record)
                known = Kept(record, form, SEALED[form.kind], content, self.total)
                places[id(record)] = len(kept)
                kept.append(known)
                self.records.append(record)
                self.seals.append(known.sealed)
                known.seal()
                found += form.leads_to(content)
        return kept[begin:]

    def _reached(self, present: Records) -> Records:
        """Return those that the roots lead to."""
        reached: dict[int, Kept] = {}
        found: list[Any] = [*self.roots]
        while found:
            place = self.places[id(found.pop())]
            if place not in reached:
                known = reached[place] = present[place]
                found += known.leads_to
        present = tuple(reached.values())
        self._take_over(present)
        return present

    def give_back(self, kept: Records) -> list[Any]:
        """Give all records what they held; return those that held something else until now, or may have."""
        present, broken = self.present, Broken.last
        if kept is present:
            changed = [kept[place] for place in self._touched()]
            if not changed:
                self.broken = broken
                return []
        else:
            same = {*map(id, present)}
            changed = [known for known in kept if id(known) not in same or type(known.record) is not known.sealed]
            self._take_over(kept)
        self.present, self.broken = (), None  # should one fail
        for known in changed:
            known.give_back()
        for known in changed:
            known.seal()
        self.given_back += len(changed)
        self.present, self.broken = kept, broken
        return [known.record for known in changed]
