"""The frames of a thread's stack, through call gates and interrupts into the program, by the CFI of each."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler.output.frame_sites import DWARF_REGISTERS

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread

MOST: Final = 64  # frames of a stack
WORD: Final = 0xFFFF_FFFF
WORD_SIZE: Final = 4
CONST4U: Final = 0x0C
NAMES: Final = {number: name for name, number in DWARF_REGISTERS.items()}
KEPT: Final = ("ebx", "ebp", "esi", "edi")
Values = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: registers by name, None for one that is not known; `called`: EIP is where a call returns to.

    `saved` are the registers of which the frame that it has called says where they are.
    """

    values: Values
    called: bool
    saved: frozenset[str] = frozenset()

    @property
    def eip(self) -> int:
        """Where it stands, or where what it has called returns to."""
        return self.values["eip"] or 0

    @property
    def code(self) -> int:
        """An address within the instruction that it executes."""
        return self.eip - 1 if self.called else self.eip


def frames(debuggee: Debuggee, thread: DebugThread) -> list[Frame]:
    """Return a thread's frames, the innermost first; LookupError if its registers are not known."""
    frame: Frame | None = Frame(debuggee.registers.general(thread), called=False)
    found: list[Frame] = []
    while frame is not None and len(found) < MOST:
        found.append(frame)
        frame = _caller(debuggee, thread.process, frame)
    return found


def _caller(debuggee: Debuggee, process: Process, frame: Frame) -> Frame | None:
    file = debuggee.world.debug_file(frame.code, process)
    if file is None:
        return None
    from callgate.tools.debugger.debuggee.call_frames import table

    starts, all_rules = table(file)
    index = bisect_right(starts, frame.code) - 1
    if index < 0 or frame.code >= all_rules[index][0]:
        return None
    _, interrupted, rules = all_rules[index]
    base = frame.values.get(NAMES[rules["cfa"].reg])
    if base is None:
        return None
    cfa = base + rules["cfa"].offset & WORD
    values: Values = {name: frame.values.get(name) for name in (*KEPT, "eax", "ecx", "edx")}
    values["esp"] = cfa
    for number, rule in rules.items():
        if isinstance(number, int) and number in NAMES:
            values[NAMES[number]] = _value(debuggee, process, cfa, rule, frame.values.get(NAMES[number]))
    if not values.get("eip"):
        return None
    saved = frozenset(NAMES[number] for number in rules if isinstance(number, int) and number in NAMES)
    return Frame(values, not interrupted, saved)


def _value(debuggee: Debuggee, process: Process, cfa: int, rule: Any, now: int | None) -> int | None:
    def word(address: int) -> int | None:
        data = debuggee.memory.read(process, address & WORD, WORD_SIZE)
        return int.from_bytes(data, "little") if len(data) == WORD_SIZE else None

    match rule.type:
        case "OFFSET":
            return word(cfa + rule.arg)
        case "VAL_OFFSET":
            return int(cfa + rule.arg & WORD)
        case "SAME_VALUE":
            return now
        case "VAL_EXPRESSION":  # ESP where an interrupt came: pushed, if CS is of ring 3
            code = bytes(rule.arg)
            top = cfa + (int.from_bytes(code[1:5], "little") if code[0] == CONST4U else 0)
            selector = word(top - 16)
            return word(top - 8) if selector is not None and selector & 3 else top - 8 & WORD
    return None
