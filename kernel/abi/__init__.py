"""Layouts, selectors, numbers and error codes: pure data that imports nothing else of the project.

`constants` gathers everything that assembly may name; the reference in docs/ is printed from the same
tables.
"""

import importlib
import re
from enum import IntEnum, IntFlag
from functools import cache

from callgate.kernel.abi.layout import Layout, field_constants, layouts

WORD = re.compile(r"\w+")
MODULES = (
    "disks.ahci",
    "boot",
    "calls",
    "directory",
    "disks.disk",
    "errors",
    "file",
    "fpu",
    "disks.ide",
    "limits",
    "memory",
    "message",
    "rom",
    "disks.sectors",
    "selectors",
    "thread",
    "volume",
)


@cache
def enumerations() -> dict[str, type[IntEnum | IntFlag]]:
    """Return every enumeration of the ABI, by name."""
    found: dict[str, type[IntEnum | IntFlag]] = {}
    for name in MODULES:
        module = importlib.import_module(f"{__name__}.{name}")
        found |= {
            key: value
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, IntEnum | IntFlag) and value.__members__
        }
    return found


@cache
def kinds_of(layout: type[Layout]) -> dict[str, type[IntEnum | IntFlag]]:
    """Return the enumerations that fields of a layout hold: those whose names their notes begin with."""
    known = enumerations()
    words = {field: WORD.match(note) for field, note in layout._notes_.items()}
    return {field: known[word[0]] for field, word in words.items() if word and word[0] in known}


@cache
def constants() -> dict[str, int]:
    """Return every name that assembly sources may use, with its value.

    ``Structure.field`` is an offset, ``sizeof(Structure)`` a size in bytes, ``Enumeration.MEMBER`` a
    value, and ``UPPER_CASE`` a module constant.
    """
    table: dict[str, int] = {}
    for name in MODULES:
        module = importlib.import_module(f"{__name__}.{name}")
        for key, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, IntEnum | IntFlag):
                table.update({f"{key}.{member}": int(item) for member, item in value.__members__.items()})
            elif key.isupper() and isinstance(value, int):
                table[key] = value
    for layout in layouts().values():
        table.update(field_constants(layout))
    return table
