"""Pictures of policy's records: all that they hold, read past whatever the classes of the objects do.

Nothing here uses the code that keeps records for snapshots (`callgate.kernel.watching`), whose work is judged by it.
"""

from array import array
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache

from callgate.kernel.common.table import Table
from callgate.kernel.core.symbols import SymbolTable
from callgate.kernel.state import KernelState

PLAIN = (int, str, bytes, bool, float, type(None), Enum, SymbolTable, Exception)
MAPPINGS = (dict, OrderedDict, Counter)
ITEMS = (list, deque, set, array)


@cache
def slots_of(kind: type) -> tuple[type, tuple[tuple[str, Callable[[object], object]], ...]]:
    """Return the class that declares the fields of a class's objects, and what reads each; not the memory of a span."""
    if issubclass(kind, Table):
        return Table, (("values", lambda table: (*dict.values(table),)),)
    own = next(each for each in reversed(kind.__mro__) if each.__dict__.get("__slots__"))
    names = [name for name in own.__dict__["__slots__"] if name != "words"]
    return own, tuple((name, own.__dict__[name].__get__) for name in names)


def own_class(thing: object) -> type:
    """Return the class that declares the fields of a record or of a part of one."""
    return slots_of(type(thing))[0]


def fields(thing: object) -> list[tuple[str, object]]:
    """Return the fields with what they hold, by the slots themselves."""
    return [(name, read(thing)) for name, read in slots_of(type(thing))[1]]


def picture(state: KernelState) -> list[object]:
    """Return each object that policy's state leads to, once, with what it holds; objects are named by their order."""
    numbers: dict[int, int] = {}
    found: list[object] = []
    alive: list[object] = []

    def name_of(thing: object) -> object:
        if type(thing) in (int, bool, str, bytes) or isinstance(thing, PLAIN):
            return thing
        if isinstance(thing, tuple):
            return tuple(map(name_of, thing))
        if id(thing) not in numbers:
            numbers[id(thing)] = len(numbers)
            alive.append(thing)
            waiting.append(thing)
        return ("object", numbers[id(thing)])

    waiting = [getattr(state, name) for name in KernelState.__slots__ if name != "hosted"]
    for number, root in enumerate(waiting):
        numbers[id(root)] = number
    for thing in waiting:  # which grows
        found.append((own_class(thing) if hasattr(thing, "__slots__") else type(thing), held(thing, name_of)))
    return found


def held(thing, name_of) -> object:
    if isinstance(thing, MAPPINGS):
        return [(name_of(key), name_of(value)) for key, value in thing.items()]
    if isinstance(thing, set):
        return sorted(map(repr, thing))
    if isinstance(thing, ITEMS):
        return list(map(name_of, thing))
    return [(name, name_of(value)) for name, value in fields(thing)]


def owned(values: list[object], records: tuple[type, ...]) -> Iterator[object]:
    """Yield the objects that can change and that the values of a record's fields lead to, with no record between."""
    waiting = [*values]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, (*PLAIN, *records)):
            continue
        if not isinstance(thing, tuple):
            yield thing
        if isinstance(thing, MAPPINGS):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, (*ITEMS, tuple)):
            waiting += thing
        else:
            waiting += [value for _, value in fields(thing)]
