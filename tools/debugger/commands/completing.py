"""What the last word of a line may become: words of commands, and names that their arguments may have.

A screen asks while the machine runs on another thread, so nothing here looks at the machine's state.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.layout import Layout, field_names
from callgate.kernel.abi.message import Endpoint, Message, SlotRecord
from callgate.tools.debugger.commands.language import by_name
from callgate.tools.debugger.workbench.expressions import ENUMERATIONS
from callgate.tools.debugger.workbench.names import OF_KERNEL, OTHERS, REGISTERS, SIZES

if TYPE_CHECKING:
    from callgate.tools.debugger.workbench.workbench import Workbench

STRUCTURES: Final[dict[str, type[Layout]]] = {"message": Message, "slot": SlotRecord, "endpoint": Endpoint}
FIELD: Final = re.compile(r"((message|slot|endpoint)(?:\[\w*\])?\.)\w*\Z")
BEGINS: Final = re.compile(r"[\w.]*\Z")


def completions(text: str, line: str, bench: Workbench | None = None) -> list[str]:
    """Return what the last word of a line may become; without a `bench` only words of commands."""
    before = line[: len(line) - len(text)].split()
    before[:1] = [word.partition("/")[0] for word in before[:1]]  # x/4w
    found: set[str] = set()
    argument = False
    for name, command in by_name().items():
        words = name.split()
        if words[: len(before)] == before and len(words) > len(before) and words[len(before)].startswith(text):
            found.add(words[len(before)] + " ")
        argument = argument or (bool(command.arguments) and before[: len(words)] == words)
    if argument and bench is not None:
        found.update(names(text, bench))
    return sorted(found)


def names(text: str, bench: Workbench) -> Iterable[str]:
    """Return the names in code and expressions that a word may become: none for an empty word, it may be any."""
    kernel = bench.debuggee.target.has_kernel
    field = FIELD.search(text)
    if field is not None and kernel:
        prefix = text[: field.end(1)]
        return [prefix + name for name in field_names(STRUCTURES[field[2]]) if (prefix + name).startswith(text)]
    match = BEGINS.search(text)
    word = "" if match is None else match[0]
    if not word:
        return []
    known = {*REGISTERS, *OTHERS, *SIZES, *bench.machine.addresses}
    known |= bench.machine.stream.kinds | bench.machine.event_sites.kinds
    if kernel:
        known |= {name for enumeration in ENUMERATIONS for name in enumeration.__members__}
    else:
        known -= set(OF_KERNEL)
    begin = text[: len(text) - len(word)]
    return [begin + name for name in known if name.startswith(word)]
