"""Print docs/reference.md from kernel/abi: every structure with its offsets, every enumeration with its numbers.

`python -m callgate.tools.documents.reference > docs/reference.md`; a test compares the file with it.
"""

import importlib
import inspect
from enum import IntEnum, IntFlag

from callgate.kernel import abi
from callgate.kernel.abi.layout import Layout, field_names, offset_of, size_of
from callgate.kernel.abi.limits import LIMITS

HEAD = """\
# Reference: structures and numbers

Printed from `kernel/abi/` by `python -m callgate.tools.documents.reference`; do not edit. Offsets and sizes are bytes,
everything is little-endian. What the gates' functions take and return: [gates.md](gates.md).
"""


LIMITS_MODULE = "callgate.kernel.abi.limits"


def first_paragraph(item: object) -> str:
    """Return the first paragraph of a docstring on one line."""
    return paragraph(item, 0)


def second_paragraph(item: object) -> str:
    """Return the second paragraph of a docstring on one line."""
    return paragraph(item, 1)


def paragraph(item: object, number: int) -> str:
    """Return a paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(item) or "").split("\n\n")[number].split())


def structure(layout: type[Layout]) -> str:
    """Return the table of one structure."""
    rows = [f"### {layout.__name__}", "", first_paragraph(layout), "", f"{size_of(layout)} bytes.", ""]
    rows += ["| offset | size | field | what it is |", "| --- | --- | --- | --- |"]
    for name in field_names(layout):
        size = getattr(layout, name).size
        note = layout._notes_.get(name, "")
        rows.append(f"| {offset_of(layout, name):#x} | {size} | `{name}` | {note} |")
    return "\n".join(rows)


def enumeration(kind: type[IntEnum | IntFlag]) -> str:
    """Return the table of one enumeration."""
    rows = [f"### {kind.__name__}", "", first_paragraph(kind), "", "| value | name |", "| --- | --- |"]
    rows += [f"| {int(member):#x} | `{name}` |" for name, member in kind.__members__.items()]
    return "\n".join(rows)


def limits() -> str:
    """Return the table of limits."""
    rows = ["| what | whose | limit | at the limit |", "| --- | --- | --- | --- |"]
    rows += [f"| {row.what} | {row.whose} | {row.limit} | {row.gives} |" for row in LIMITS]
    return "\n".join(rows)


def reference() -> str:
    """Return the whole document."""
    parts = [HEAD]
    for name in abi.MODULES:
        module = importlib.import_module(f"{abi.__name__}.{name}")
        parts.append(f"## {name.rpartition('.')[2]}: {first_paragraph(module)}")
        if module.__name__ == LIMITS_MODULE:
            parts += [second_paragraph(module), limits()]
            continue
        for item in vars(module).values():
            if not isinstance(item, type) or item.__module__ != module.__name__:
                continue
            if issubclass(item, Layout):
                parts.append(structure(item))
            elif issubclass(item, IntEnum | IntFlag):
                parts.append(enumeration(item))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
