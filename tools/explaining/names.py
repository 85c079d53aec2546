"""Names of `kernel/abi` and of the sources: numbers, structures, fields, constants, events, counters, labels.

What is said of a number is the comment that stands beside it in `kernel/abi`, and the text of its enumeration.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from functools import cache
from types import ModuleType
from typing import Final

from callgate.asm.assembler import EventSite, Program
from callgate.kernel import abi
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.layout import Layout, field_names, offset_of, size_of
from callgate.kernel.common.near_miss import nearest
from callgate.kernel.machine.cpu.exceptions import NAMES
from callgate.kernel.programs.images import EVENT_PROGRAMS, kernel_image, program_image
from callgate.tools.explaining import addresses
from callgate.tools.explaining.answers import Answer, Part, Unknown
from callgate.tools.explaining.counters import COUNTERS
from callgate.tools.explaining.paging import vector

COMMENT: Final = re.compile(r"^\s*(\w+)(?:: \w+)? = [^#\n]*#\s*(.*)$", re.MULTILINE)
LEDGER: Final = "callgate boot --stats FILE writes it; docs/ledger.md says more"
MEANINGS: Final = {
    "SystemCall": "system call",
    "ServerCall": "function of the server gate",
    "HostCall": "host call",
    "ErrorCode": "error code",
    "WaitReason": "what a thread waits for",
    "ReplyType": "reply type",
}


def explain(name: str) -> list[Answer]:
    """Return what is known by a name, the exact one or, if there is none, one that differs in case; Unknown."""
    found = list(_all(name))
    if not found:
        other = [known for known in catalogue() if known.lower().removeprefix("#") == name.lower().removeprefix("#")]
        found = [answer for known in other for answer in _all(known)]
    if not found:
        near = nearest(name, catalogue())
        hint = f"did you mean {', '.join(near)}?" if near else "callgate explain --help shows what there is"
        raise Unknown(f"{name!r} is no name that is known here; {hint}")
    return found


def _all(name: str) -> Iterator[Answer]:
    for kind in enumerations():
        yield from _of_enumeration(kind, name)
    for layout in layouts():
        yield from _of_layout(layout, name)
    yield from _of_constants(name)
    yield from _of_events(name)
    if name in COUNTERS:
        yield Answer("counter of the ledger", name, COUNTERS[name], notes=[LEDGER])
    if name in NAMES.values():
        yield vector(name)
    yield from _of_labels(name)


@cache
def catalogue() -> frozenset[str]:
    """Return every name that can be asked for."""
    names = {
        name
        for module in modules()
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int)
    }
    for kind in enumerations():
        names |= {kind.__name__, *kind.__members__, *(f"{kind.__name__}.{member}" for member in kind.__members__)}
    for layout in layouts():
        names |= {layout.__name__, *(f"{layout.__name__}.{field}" for field in field_names(layout))}
    names |= {event.name for event, _ in _events()} | set(NAMES.values()) | COUNTERS.keys()
    return frozenset(names | {symbol.name for symbol in kernel_image().symbols.values() if symbol.kind == "label"})


@cache
def modules() -> tuple[ModuleType, ...]:
    """Return the modules of the reference, in its order."""
    return tuple(importlib.import_module(f"{abi.__name__}.{name}") for name in abi.MODULES)


def _types(module: ModuleType) -> Iterator[type]:
    for item in vars(module).values():
        if isinstance(item, type) and item.__module__ == module.__name__:
            yield item


@cache
def enumerations() -> tuple[type[IntEnum | IntFlag], ...]:
    """Return the enumerations of the reference."""
    return tuple(item for module in modules() for item in _types(module) if issubclass(item, IntEnum | IntFlag))


@cache
def layouts() -> tuple[type[Layout], ...]:
    """Return the structures of the reference."""
    return tuple(item for module in modules() for item in _types(module) if issubclass(item, Layout))


def first_paragraph(item: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(item) or "").split("\n\n")[0].split())


@cache
def comments(item: type | ModuleType) -> dict[str, str]:
    """Return the comments beside names in the source of a class or module."""
    return dict(COMMENT.findall(inspect.getsource(item)))


def _of_enumeration(kind: type[IntEnum | IntFlag], name: str) -> Iterator[Answer]:
    title = kind.__name__
    if name == title:
        parts = [Part(f"{int(one):#x}", member, "", _meaning(kind, member)) for member, one in kind.__members__.items()]
        yield Answer("enumeration", title, first_paragraph(kind), parts)
    member = name.removeprefix(f"{title}.")
    if member in kind.__members__:
        value = int(kind.__members__[member])
        answer = Answer(MEANINGS.get(title, title), member, f"{title}.{member} = {value:#x} ({value})")
        answer.notes = [note for note in (_meaning(kind, member), first_paragraph(kind)) if note]
        yield answer


def _meaning(kind: type[IntEnum | IntFlag], member: str) -> str:
    said = comments(kind).get(member, "")
    return said or (ERROR_TEXT.get(ErrorCode[member], "") if kind is ErrorCode else "")


def _of_layout(layout: type[Layout], name: str) -> Iterator[Answer]:
    title = layout.__name__
    if name == title:
        answer = Answer("structure", title, f"{size_of(layout)} bytes. {first_paragraph(layout)}")
        answer.parts = [_field(layout, field) for field in field_names(layout)]
        yield answer
    field = name.removeprefix(f"{title}.")
    if name != field and field in field_names(layout):
        part = _field(layout, field)
        size = getattr(layout, field).size
        yield Answer("field", name, f"offset {part.place}, {size} bytes", notes=[part.meaning] if part.meaning else [])


def _field(layout: type[Layout], field: str) -> Part:
    size = getattr(layout, field).size
    return Part(f"{offset_of(layout, field):#x}", field, f"{size}", layout._notes_.get(field, ""))


def _of_constants(name: str) -> Iterator[Answer]:
    for module in modules():
        value = vars(module).get(name)
        # A module that imports a constant is not where it is defined.
        if (
            name.isupper()
            and isinstance(value, int)
            and re.search(rf"^{name}\b", inspect.getsource(module), re.MULTILINE)
        ):
            answer = Answer("constant", name, f"{value:#x} ({value})", notes=[first_paragraph(module)])
            said = comments(module).get(name)
            answer.notes = [said, *answer.notes] if said else answer.notes
            yield answer


def _events() -> Iterator[tuple[EventSite, Program]]:
    for program in (kernel_image(), *map(program_image, EVENT_PROGRAMS)):
        for event in program.events:
            yield event, program


def _of_events(name: str) -> Iterator[Answer]:
    parts = [
        Part(
            f"{event.address:#010x}",
            program.symbol_at(event.address),
            addresses.source_place(program, event.address),
            _fields(event.fields),
        )
        for event, program in _events()
        if event.name == name
    ]
    if parts:
        yield Answer(
            "event", name, "where it stands in the sources, with its fields; docs/trace.md says when it comes", parts
        )


def _fields(fields: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in fields)


def _of_labels(name: str) -> Iterator[Answer]:
    image = kernel_image()
    symbol = image.symbols.get(name)
    if symbol is not None and symbol.kind != "constant":
        yield addresses.explain(symbol.address)
