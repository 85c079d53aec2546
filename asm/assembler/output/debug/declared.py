"""Structures that a source declares by `.struct`, as ctypes has them."""

import ctypes
from collections.abc import Mapping

StructureType = type[ctypes.LittleEndianStructure]
NUMBERS = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32, 8: ctypes.c_uint64}


def declared_structures(offsets: Mapping[str, int]) -> dict[str, StructureType]:
    """Return what a source declared by `.struct`, from its `Name.field` offsets and `sizeof(Name)`."""
    fields: dict[str, list[tuple[str, int]]] = {}
    for key, offset in offsets.items():
        name, dot, field = key.partition(".")
        if dot:
            fields.setdefault(name, []).append((field, offset))
    return {name: make_structure(name, found, offsets[f"sizeof({name})"]) for name, found in fields.items()}


def make_structure(name: str, fields: list[tuple[str, int]], size: int) -> StructureType:
    """Return a structure; fields of 1, 2, 4 or 8 bytes are numbers, others arrays of bytes."""
    ends = [offset for _, offset in fields[1:]] + [size]
    declared = []
    for (field, offset), end in zip(fields, ends, strict=True):
        length = end - offset
        declared.append((field, NUMBERS.get(length) or ctypes.c_uint8 * length))
    return type(name, (ctypes.LittleEndianStructure,), {"_pack_": 1, "_layout_": "ms", "_fields_": declared})
