"""Records: what `@dataclass(slots=True)` makes of a class, without compiling code.

The standard library writes the source of each method of a dataclass and compiles it when the class is made, that is at
import: 0.2 to 0.6 ms, which was a seventh of a boot.  Records share their methods instead, and these go through the
fields one by one.  Making an object takes 1 µs longer in this way, so what is made for each page or disk command has an
`__init__` of its own, which stays.  Fields are declared as those of dataclasses are, `field(default_factory=…)`
included.
"""

from collections.abc import Callable
from dataclasses import MISSING, Field, field
from typing import Any, TypeVar, dataclass_transform, overload

Class = TypeVar("Class", bound=type)
Value = TypeVar("Value")


@overload
def record(cls: Class, /) -> Class: ...
@overload
def record(*, eq: bool = False, frozen: bool = False) -> Callable[[Class], Class]: ...
@dataclass_transform(eq_default=False, field_specifiers=(field,))
def record(cls: Class | None = None, /, *, eq: bool = False, frozen: bool = False) -> Any:
    """Make a class with a slot for each field, `__init__`, `__repr__` and `__match_args__`; methods it has stay.

    With `eq` or `frozen`, records of one class are equal if their fields are, else only a record and itself; with
    `frozen` they can be hashed too, and fields cannot be assigned: AttributeError.  TypeError if a field without a
    default follows one that has one, and for what a dataclass has and a record has not: a base but `object`,
    `__post_init__`, ClassVar, a default that all records would share and could change.
    """
    if cls is None:
        return lambda cls: _make(cls, eq or frozen, frozen)
    return _make(cls, eq, frozen)


def names_in(kind: type) -> tuple[str, ...]:
    """Return the names of a record's fields, in order."""
    names: tuple[str, ...] = kind._fields_  # type: ignore[attr-defined]
    return names


def as_dict(value: object) -> dict[str, Any]:
    """Return the fields of a record by name; those of records in them are not taken apart."""
    return {name: getattr(value, name) for name in names_in(type(value))}


def replaced(value: Value, **fields: Any) -> Value:
    """Return a new record with these fields, and the others as in `value`."""
    return type(value)(**as_dict(value) | fields)


def _make(cls: type, eq: bool, frozen: bool) -> type:
    members = dict(vars(cls))
    names = tuple(cls.__annotations__)
    defaults = {name: members.pop(name) for name in names if name in members}
    problems = {
        "a record has no base but object": cls.__bases__ != (object,),
        "__post_init__ of a record is not called": "__post_init__" in members,
        "a ClassVar would be a field": any("ClassVar" in str(kind) for kind in cls.__annotations__.values()),
        "a default that can change needs field(default_factory=...)": any(map(_shared, defaults.values())),
    }
    for problem, found in problems.items():
        if found:
            raise TypeError(f"{cls.__name__}: {problem}")
    if names[len(names) - len(defaults) :] != tuple(defaults):
        raise TypeError(f"{cls.__name__}: a field without a default follows one that has one")
    for name in ("__dict__", "__weakref__"):
        del members[name]
    shared: dict[str, object] = {"__init__": _init, "__repr__": _repr}
    if eq:
        shared |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if frozen:
        shared |= {"__setattr__": _refuse, "__delattr__": _refuse, "__reduce__": _reduce}
    own: dict[str, object] = {"__slots__": names, "__match_args__": names, "__qualname__": cls.__qualname__}
    own |= {"_fields_": names, "_defaults_": defaults, "_put_": staticmethod(object.__setattr__) if frozen else setattr}
    return type(cls)(cls.__name__, (), shared | members | own)


def _shared(default: object) -> bool:
    """Whether a default is one object for all records, and can change; what can be hashed is taken not to."""
    return type(default).__hash__ is None


def _init(self: Any, /, *values: object, **named: object) -> None:
    names: tuple[str, ...] = self._fields_
    put: Callable[[object, str, object], None] = self._put_
    if len(values) > len(names):
        raise TypeError(f"{type(self).__name__} has {len(names)} fields, and {len(values)} values were given")
    for name, value in zip(names, values):  # noqa: B905 - the rest of the names may be missing
        put(self, name, value)
    for name in names[len(values) :]:
        if name in named:
            value = named.pop(name)
        else:
            value = self._defaults_.get(name, MISSING)
            if isinstance(value, Field):
                make: Any = value.default_factory
                value = make()
            elif value is MISSING:
                raise TypeError(f"{type(self).__name__} needs a value for {name!r}")
        put(self, name, value)
    if named:
        raise TypeError(f"{type(self).__name__} has no field, or two values, for {', '.join(map(repr, named))}")


def _repr(self: Any) -> str:
    values = (f"{name}={getattr(self, name)!r}" for name in self._fields_)
    return f"{type(self).__qualname__}({', '.join(values)})"


def _values(self: Any) -> tuple[object, ...]:
    return tuple(getattr(self, name) for name in self._fields_)


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash((type(self), *_values(self)))


def _refuse(self: Any, name: str, *_value: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be changed: the record is frozen")


def _reduce(self: Any) -> tuple[type, tuple[object, ...]]:
    return type(self), _values(self)
