"""The trace of `callgate boot --trace`: every event as a line of text or of JSON, with names for numbers.

docs/trace.md lists the events and their fields.  The stream itself carries numbers, as the guest's registers hold
them; their meaning at that moment (the thread of a number, the volume of a selector) is looked up here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Literal

from callgate.disk.drives.ata import Code
from callgate.kernel.abi.calls import SERVER_CALL_NO_WAIT, HostCall, Operation, ServerCall, SystemCall, WaitReason
from callgate.kernel.abi.disks.disk import DiskStatus
from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT, VECTOR_IRQ
from callgate.kernel.core.log import printable
from callgate.kernel.machine.cpu.exceptions import name_of

if TYPE_CHECKING:
    from callgate.kernel.core.records import Thread
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System

TraceFormat = Literal["text", "jsonl"]
Value = int | str | tuple[int, str]  # a plain number, a name, or a thread: its number and its name

VECTORS: Final = 256
IRQS: Final = 16
TEXT_LINE: Final = re.compile(rb"[ \d]{11}\d [a-z]+(\.[a-z_]+)*( [a-z0-9_]+=\S*)*")
BLANKS: Final = re.compile(r"\s")


def is_trace(head: bytes) -> bool:
    """Whether a file that begins with `head` is a trace: its first line is one of a trace in either format."""
    line, newline, _ = head.partition(b"\n")
    if TEXT_LINE.fullmatch(line):
        return True
    if not newline:
        return False
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and list(entry)[:2] == ["clock", "event"]


class Trace:
    """Turns a system's events into lines."""

    def __init__(self, system: System, form: TraceFormat) -> None:
        self.state = system.kernel.state
        self.render = _text if form == "text" else _json
        self.threads: dict[int, Thread] = {}

    def line(self, event: Event) -> str:
        """Return the line of an event, with its end."""
        return self.render(event.clock, event.kind, self.fields(event)) + "\n"

    def fields(self, event: Event) -> dict[str, Value]:
        """Return the fields of an event, with names for numbers."""
        return {key: self._value(event, key, value) for key, value in event.fields.items()}

    def _value(self, event: Event, key: str, value: object) -> Value:
        if not isinstance(value, int):
            return str(value)
        if key == "thread":
            return self._thread(value)
        name = FIELDS.get((event.kind, key))
        if name is not None:
            return name(self, value)
        if (event.kind, key) == ("gate.host", "value"):
            return self._argument(event.fields.get("call"), value)
        return value

    def _thread(self, number: int) -> Value:
        """Name a thread by its number; 0 is the code before the first one."""
        thread = self.threads.get(number)
        if thread is None:
            # The kernel keeps threads by selector.  Numbers are not used again, so known names stay true.
            self.threads.update((thread.number, thread) for thread in self.state.tasks.threads.values())
            thread = self.threads.get(number)
        return (number, thread.name) if thread else number

    def _selector(self, selector: int) -> Value:
        """Name a thread by its selector; 0 is none."""
        thread = self.state.tasks.threads.get(selector & 0xFFFF)
        return (thread.number, thread.name) if thread else selector

    def _endpoint(self, selector: int) -> Value:
        endpoint = self.state.endpoints.by_number.get(selector // 8 - GDT_FIRST_ENDPOINT)
        return endpoint.name if endpoint else selector

    def _argument(self, call: object, value: int) -> Value:
        """Name the argument of a host call, where it has a name."""
        if call in SWITCHES:
            return self._selector(value & 0xFFFF)
        names = ARGUMENTS.get(call) if isinstance(call, int) else None
        return _name(names, value) if names else value


def _name(names: type[IntEnum], value: int) -> Value:
    try:
        return names(value).name
    except ValueError:
        return value


def _server_call(value: int) -> Value:
    """Name a function of the server gate, with the flag that may be added to it."""
    name = _name(ServerCall, value & ~SERVER_CALL_NO_WAIT)
    return f"{name}+NO_WAIT" if isinstance(name, str) and value & SERVER_CALL_NO_WAIT else name


def _vector(value: int) -> Value:
    """Name an exception by its mnemonic, a line of the interrupt controllers by its number."""
    if VECTOR_IRQ <= value < VECTOR_IRQ + IRQS:
        return f"IRQ{value - VECTOR_IRQ}"
    name = name_of(value)
    return name if name.startswith("#") else value


def _of(names: type[IntEnum]) -> Callable[[Trace, int], Value]:
    return lambda _trace, value: _name(names, value)


FIELDS: Final[dict[tuple[str, str], Callable[[Trace, int], Value]]] = {
    ("thread.switch", "to"): Trace._selector,
    ("fpu.switch", "from"): Trace._selector,
    ("fpu.switch", "to"): Trace._selector,
    ("ipc.take", "endpoint"): Trace._endpoint,
    ("ipc.fill", "operation"): _of(Operation),
    ("ipc.reply", "type"): lambda _trace, value: _server_call(value),
    ("ipc.bad_reply", "call"): lambda _trace, value: _server_call(value),
    ("gate.system", "call"): _of(SystemCall),
    ("gate.host", "call"): _of(HostCall),
    ("disk.command", "code"): _of(Code),
    ("disk.done", "status"): _of(DiskStatus),
    ("exception", "vector"): lambda _trace, value: _vector(value),
    ("interrupt", "vector"): lambda _trace, value: _vector(value),
}
SWITCHES: Final = (HostCall.WAKE, HostCall.HANDOFF)
ARGUMENTS: Final[Mapping[int, type[IntEnum]]] = {
    HostCall.SCHEDULE: WaitReason,
    HostCall.SYSTEM: SystemCall,
    HostCall.SERVER: ServerCall,
}


def _text(clock: int, kind: str, fields: Mapping[str, Value]) -> str:
    """Return clock, event and fields in columns: names as they are, other numbers in hexadecimal."""
    return " ".join([f"{clock:>12} {kind}", *(f"{key}={_shown(value)}" for key, value in fields.items())])


def _shown(value: Value) -> str:
    if isinstance(value, tuple):
        return f"{value[0]}:{_word(value[1])}"
    return _word(value) if isinstance(value, str) else f"{value:#x}"


def _word(text: str) -> str:
    """Return text as one word: blanks become `_`, control characters escapes."""
    return printable(BLANKS.sub("_", text))


def _json(clock: int, kind: str, fields: Mapping[str, Value]) -> str:
    """Return an object with clock, event and fields; a thread has its number, and its name under KEY_name."""
    entry: dict[str, int | str] = {"clock": clock, "event": kind}
    for key, value in fields.items():
        if isinstance(value, tuple):
            entry[key], entry[f"{key}_name"] = value
        else:
            entry[key] = value
    return json.dumps(entry, ensure_ascii=False)
