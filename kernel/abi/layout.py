"""Structures whose layout Python, assembly and the documentation share.

A layout is declared once, as a ctypes structure.  Python overlays it on guest memory, the assembler
learns every field as ``Structure.field`` (its offset) and ``sizeof(Structure)``, and the reference in
``docs/`` is printed from it.  No number of a layout is written a second time.
"""

import ctypes
from collections.abc import Iterator
from typing import ClassVar


class Layout(ctypes.LittleEndianStructure):
    """Base of every shared layout: little-endian, no padding that is not written down.

    Subclasses declare ``_fields_`` as ctypes wants it; ``_notes_`` says in a few words what each field
    is for (printed in the reference); where it begins with an enumeration's name, the field holds that.
    Declaring a subclass registers it.  The helpers below are functions, not methods, because a field may be called
    ``size``.
    """

    _pack_ = 1
    _layout_ = "ms"
    _notes_: ClassVar[dict[str, str]] = {}
    _registry_: ClassVar[dict[str, type["Layout"]]] = {}

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        Layout._registry_[cls.__name__] = cls


def size_of(layout: type[Layout]) -> int:
    """Return the size of ``layout`` in bytes."""
    return ctypes.sizeof(layout)


def offset_of(layout: type[Layout], field: str) -> int:
    """Return the byte offset of ``field``; AttributeError if ``layout`` has no such field."""
    return int(getattr(layout, field).offset)


def field_names(layout: type[Layout]) -> Iterator[str]:
    """Yield the names of the fields in order of their offsets."""
    for declared in layout._fields_:
        yield declared[0]


def field_constants(layout: type[Layout]) -> dict[str, int]:
    """Return the assembler's names of one layout: ``Name.field`` and ``sizeof(Name)``."""
    name = layout.__name__
    table = {f"{name}.{field}": offset_of(layout, field) for field in field_names(layout)}
    table[f"sizeof({name})"] = size_of(layout)
    return table


def layouts() -> dict[str, type[Layout]]:
    """Return every layout that has been declared, by name."""
    return dict(Layout._registry_)
