"""What policy's records hold, kept record by record: only those that may have changed are copied, or given back.

A record whose content has been kept is *sealed*: its class is exchanged for a subclass that gives it back its own
before a field is written, or a field is read that holds what can be changed without the record, a list for one.  So a
record that is still sealed is what was kept, wherever references to it are.  Policy pays next to nothing for it:
reading a number is what it was, and a record that was touched once is a plain object again.

This holds for what a record owns: the objects that only its fields lead to, of which nothing else keeps a reference
from one host call to the next.  What two records lead to is a record itself (`RECORDS`).  A record is the same object
for good: a restore gives it its content, not another object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from callgate.kernel.watching.snapshots.record_forms import FORMS, Form

set_class: Final = vars(object)["__class__"].__set__  # whatever the class of the object says


def sealed(form: Form) -> type:
    """Return the subclass whose objects become `form.kind` before they can change; it looks like that class."""
    kind = form.kind

    def change(record: Any, name: str, value: object) -> None:
        set_class(record, kind)
        setattr(record, name, value)

    def remove(record: Any, name: str) -> None:
        set_class(record, kind)
        delattr(record, name)

    def looker(name: str) -> property:
        def look(record: Any) -> Any:
            set_class(record, kind)
            return getattr(record, name)

        return property(look)

    def reduce(record: Any, protocol: int) -> Any:
        """Return how to make a copy, of the class that everybody else knows."""
        set_class(record, kind)
        return record.__reduce_ex__(protocol)

    def equal(record: Any, other: Any) -> bool:
        """Compare records as their class does, which compares only objects of one class."""
        for each in (record, other):
            if type(each) is subclass:
                set_class(each, kind)
        return bool(record == other)

    members: dict[str, Any] = {name: looker(name) for name in form.guarded}
    members |= {"__slots__": (), "__setattr__": change, "__delattr__": remove, "__reduce_ex__": reduce}
    members |= {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    if "__eq__" in vars(kind):
        members |= {"__eq__": equal, "__hash__": kind.__hash__}
    subclass = type(kind.__name__, (kind,), members)
    subclass.__slots__ = form.slots  # type: ignore[attr-defined]  # as code sees them that goes through the fields
    return subclass


SEALED: Final = {kind: sealed(form) for kind, form in FORMS.items()}
FORM_OF: Final = FORMS | {SEALED[kind]: form for kind, form in FORMS.items()}  # by the class that a record has now


class Kept:
    """What a record held at a moment."""

    __slots__ = ("content", "form", "leads_to", "record", "sealed", "size")

    def __init__(self, record: Any) -> None:
        self.record = record
        self.form = form = FORM_OF[type(record)]
        self.sealed = SEALED[form.kind]
        self.content = form.content(record)
        self.leads_to = form.leads_to(self.content)
        self.size = form.size(self.content)  # bytes, about

    def seal(self) -> None:
        """The record holds this: note its first change."""
        set_class(self.record, self.sealed)

    def give_back(self) -> None:
        """Give the record what it held."""
        set_class(self.record, self.form.kind)
        self.form.fill(self.record, self.content)


Records = dict[int, Kept]
"""What all records held at a moment, by `id`: each is here with those that it leads to, so none is freed."""


class RecordKeeper:
    """Keeps the records that `roots` lead to, as often as asked, and gives them back what they held."""

    def __init__(self, roots: Sequence[object]) -> None:
        self.roots = roots
        self.present: Records = {}  # what was kept or given back last: what records that are sealed hold
        self.copied = self.given_back = 0  # records

    def keep(self) -> Records:
        """Return what all records hold."""
        present, kept, fresh = self.present, Records(), list[Kept]()
        self.present = {}  # should one fail
        found: list[Any] = [*self.roots]
        while found:
            record = found.pop()
            place = id(record)
            if place in kept:
                continue
            known = present.get(place)
            if known is None or type(record) is not known.sealed:
                known = Kept(record)
                fresh.append(known)
            kept[place] = known
            found += known.leads_to
        for known in fresh:
            known.seal()
        self.copied += len(fresh)
        self.present = kept
        return kept

    def give_back(self, kept: Records) -> list[Any]:
        """Give all records what they held; return those that held something else until now, or may have."""
        present = self.present
        changed = [
            known
            for place, known in kept.items()
            if present.get(place) is not known or type(known.record) is not known.sealed
        ]
        self.present = {}  # should one fail
        for known in changed:
            known.give_back()
        for known in changed:
            known.seal()
        self.given_back += len(changed)
        self.present = kept
        return [known.record for known in changed]
