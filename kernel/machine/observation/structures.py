"""Structures of the ABI as they lie in memory, to be read and printed: numbers that have names are shown by them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any

from callgate.kernel.abi import kinds_of
from callgate.kernel.abi.layout import Layout, field_names, layouts, offset_of, size_of
from callgate.kernel.common.near_miss import nearest, those_like

BYTES = 16  # that are shown of an array of bytes
SHOWN = 8  # numbers of an array, before what follows is left out


class Structure:
    """A copy of a structure: `slot.client`, `endpoint.slots[3].linear`; printing it shows every field."""

    def __init__(self, layout: type[Layout], data: bytes, address: int) -> None:
        """Take the bytes of a layout, and where they lie."""
        self._layout = layout
        self._data = data
        self._address = address

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self:
            known = ", ".join(nearest(name, self) or self)
            raise AttributeError(f"{self._layout.__name__} has no field {name!r}; there is {known}")
        declared = dict(field[:2] for field in self._layout._fields_)[name]
        return self._value(declared, offset_of(self._layout, name), name)

    def __contains__(self, name: object) -> bool:
        return name in set(field_names(self._layout))

    def __bool__(self) -> bool:
        """Whether any byte is not zero."""
        return any(self._data)

    def __iter__(self) -> Iterator[str]:
        return field_names(self._layout)

    def _value(self, declared: Any, offset: int, name: str) -> Any:
        if issubclass(declared, ctypes.Array):
            if declared._type_ is ctypes.c_uint8 and name not in kinds_of(self._layout):
                return self._data[offset : offset + declared._length_]
            size = ctypes.sizeof(declared._type_)
            return [self._value(declared._type_, offset + index * size, name) for index in range(declared._length_)]
        size = ctypes.sizeof(declared)
        data = self._data[offset : offset + size]
        if issubclass(declared, Layout):
            return Structure(declared, data, self._address + offset)
        return _named(kinds_of(self._layout).get(name), int.from_bytes(data, "little"))

    def place(self, name: str) -> tuple[int, int]:
        """Return the linear address and the size of a field; AttributeError."""
        getattr(self, name)
        declared = dict(field[:2] for field in self._layout._fields_)[name]
        return self._address + offset_of(self._layout, name), ctypes.sizeof(declared)

    def lines(self) -> list[str]:
        """Return a line for each field: offset, name, value."""
        width = max(len(name) for name in self)
        return [f"+{offset_of(self._layout, name):#05x} {name:<{width}} {_shown(getattr(self, name))}" for name in self]

    def __repr__(self) -> str:
        return "\n".join([f"<{self._layout.__name__} at {self._address:#010x}>", *self.lines()])


def _named(kind: type[IntEnum | IntFlag] | None, value: int) -> int:
    """Return a number as the member of its enumeration, or as it is if it is none."""
    if kind is None:
        return value
    try:
        return kind(value)
    except ValueError:
        return value


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        text = value[:BYTES].hex(" ") + " …" * (len(value) > BYTES)
        return f"{text}  {value[:BYTES].decode('latin-1')!r}" if any(value[:BYTES]) else f"{len(value)} bytes"
    if isinstance(value, list):
        found = [(index, item) for index, item in enumerate(value) if item]
        if not found:
            return f"{len(value)} times 0"
        shown = " ".join(f"[{index}]={_shown(item)}" for index, item in found[:SHOWN])
        return shown + f" and {len(found) - SHOWN} more" * (len(found) > SHOWN)
    if isinstance(value, Structure):
        return "{" + " ".join(f"{name}={_shown(getattr(value, name))}" for name in value) + "}"
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, IntFlag):
        return (value.name or "").replace("|", " | ") if value else "0"
    return f"{value:#x}"


def layout_named(name: str) -> type[Layout]:
    """Return a layout of the ABI by its name; KeyError names those like it."""
    known = layouts()
    if name not in known:
        raise KeyError(f"no structure {name!r}; there is {those_like(name, known)}")
    return known[name]


def structure_size(name: str) -> int:
    """Return the size of a layout of the ABI, in bytes; KeyError."""
    return size_of(layout_named(name))
