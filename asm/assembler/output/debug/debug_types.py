"""Structures, enumerations and variables for debuggers: a unit of .debug_info of its own (DWARF 2.0.0, chapters 4, 5).

A field or array whose note begins with the name of an enumeration has that type, in the size of the field.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler.output.debug.declared import declared_structures
from callgate.asm.assembler.output.debug.leb128 import text, uleb

if TYPE_CHECKING:
    from callgate.asm.assembler.output.unit import Unit, Variable

UNIT, BASE, STRUCTURE, MEMBER, ARRAY, BOUND, ENUMERATION, ENUMERATOR, VARIABLE = range(3, 12)
END: Final = b"\0"
HEADER_SIZE: Final = 11
LANGUAGE_C89: Final = 1
ENCODING_UNSIGNED: Final = 7
OP_ADDR, OP_PLUS_UCONST = 0x03, 0x23
FIRST_WORD: Final = re.compile(r"[A-Za-z_]\w*")


def abbreviation(number: int, tag: int, children: bool, *pairs: int) -> bytes:
    """Return an entry of .debug_abbrev; `pairs` are attributes, each with its form."""
    return bytes([number, tag, children, *pairs, 0, 0])


#: Tags, attributes and forms by their numbers (DWARF 2.0.0, 7.5.4): 8 string, 11 data1, 5 data2, 6 data4, 19 ref4,
#: 10 block1, 15 udata, 12 flag; 3 name, 37 producer, 19 language, 62 encoding, 11 byte size, 73 type, 56 place of a
#: member, 47 upper bound, 28 constant, 2 location, 63 external.
ABBREVIATIONS: Final = b"".join(
    (
        abbreviation(UNIT, 0x11, True, 3, 8, 37, 8, 19, 5),
        abbreviation(BASE, 0x24, False, 3, 8, 62, 11, 11, 11),
        abbreviation(STRUCTURE, 0x13, True, 3, 8, 11, 6),
        abbreviation(MEMBER, 0x0D, False, 3, 8, 73, 19, 56, 10),
        abbreviation(ARRAY, 0x01, True, 73, 19),
        abbreviation(BOUND, 0x21, False, 47, 6),
        abbreviation(ENUMERATION, 0x04, True, 3, 8, 11, 11),
        abbreviation(ENUMERATOR, 0x28, False, 3, 8, 28, 15),
        abbreviation(VARIABLE, 0x34, False, 3, 8, 73, 19, 2, 10, 63, 12),
    )
)


@dataclass(frozen=True)
class Types:
    """What is declared elsewhere, by name: ctypes structures, `_notes_` of theirs, and members of enumerations."""

    structures: Mapping[str, type[ctypes.Structure]] = field(default_factory=dict)
    enumerations: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def type_unit(known: Types, program: Unit) -> bytes:
    """Return the unit, with the types that the program's sources declare; empty if there is nothing to say."""
    types = Types({**known.structures, **declared_structures(program.structures)}, known.enumerations)
    if not types.structures and not types.enumerations:
        return b""
    writer = TypeWriter(types)
    for size in (1, 2, 4, 8):
        writer.base(size)
    for name in types.enumerations:
        writer.enumeration(name, 4)
    for name, structure in types.structures.items():
        writer.structure(name, structure)
    for variable in program.variables:
        writer.variable(variable)
    body = bytes(writer.out) + END
    return struct.pack("<IHIB", HEADER_SIZE - 4 + len(body), 2, 0, 4) + body


class TypeWriter:
    """Writes each type once, before what refers to it."""

    def __init__(self, types: Types) -> None:
        self.types = types
        self.places: dict[tuple[str, str, int], int] = {}
        self.out = bytearray([UNIT]) + text("types") + text("callgate asm") + struct.pack("<H", LANGUAGE_C89)

    def _begin(self, kind: str, name: str, number: int) -> int:
        """Return the place of an entry that begins here."""
        place = self.places[kind, name, number] = HEADER_SIZE + len(self.out)
        return place

    def base(self, size: int) -> int:
        """Return the place of the unsigned integer of `size` bytes."""
        if ("base", "", size) in self.places:
            return self.places["base", "", size]
        place = self._begin("base", "", size)
        self.out += bytes([BASE]) + text(f"uint{8 * size}_t") + bytes([ENCODING_UNSIGNED, size])
        return place

    def enumeration(self, name: str, size: int) -> int:
        """Return the place of an enumeration in `size` bytes."""
        if ("enumeration", name, size) in self.places:
            return self.places["enumeration", name, size]
        members = self.types.enumerations[name]
        place = self._begin("enumeration", name, size)
        self.out += bytes([ENUMERATION]) + text(name) + bytes([size])
        for member, value in members.items():
            self.out += bytes([ENUMERATOR]) + text(member) + uleb(value & (1 << 8 * size) - 1)
        self.out += END
        return place

    def array(self, element: int, count: int) -> int:
        """Return the place of an array."""
        if ("array", str(element), count) in self.places:
            return self.places["array", str(element), count]
        place = self._begin("array", str(element), count)
        self.out += bytes([ARRAY]) + struct.pack("<I", element)
        self.out += bytes([BOUND]) + struct.pack("<I", count - 1) + END
        return place

    def structure(self, name: str, structure: type[ctypes.Structure]) -> int:
        """Return the place of a structure."""
        if ("structure", name, 0) in self.places:
            return self.places["structure", name, 0]
        notes: Mapping[str, str] = getattr(structure, "_notes_", {})
        members = b""
        for declared in structure._fields_:
            member, kind = declared[0], declared[1]
            place = self.type(kind, notes.get(member, ""))
            where = bytes([OP_PLUS_UCONST]) + uleb(getattr(structure, member).offset)
            members += bytes([MEMBER]) + text(member) + struct.pack("<IB", place, len(where)) + where
        place = self._begin("structure", name, 0)
        self.out += bytes([STRUCTURE]) + text(name) + struct.pack("<I", ctypes.sizeof(structure)) + members + END
        return place

    def type(self, kind: Any, note: str) -> int:
        """Return the place of a field's type."""
        if issubclass(kind, ctypes.Array):
            return self.array(self.type(kind._type_, note), kind._length_)
        if issubclass(kind, ctypes.Structure):
            return self.structure(kind.__name__, kind)
        size = ctypes.sizeof(kind)
        word = FIRST_WORD.match(note)
        if word is not None and word[0] in self.types.enumerations:
            return self.enumeration(word[0], size)
        return self.base(size)

    def variable(self, variable: Variable) -> None:
        """Write a variable, unless its structure is unknown."""
        structure = self.types.structures.get(variable.type)
        if structure is None:
            return
        place = self.structure(variable.type, structure)
        if variable.count != 1:
            place = self.array(place, variable.count)
        where = struct.pack("<BI", OP_ADDR, variable.address)
        self.out += bytes([VARIABLE]) + text(variable.name) + struct.pack("<IB", place, len(where)) + where + b"\1"
