"""What an editor shows of a system that stands: threads, stacks, variables, instructions, memory."""

from __future__ import annotations

from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.message import SlotState
from callgate.kernel.core.records import Process
from callgate.kernel.machine.observation.structures import Structure
from callgate.kernel.watching.requests import SlotView, request_of, slots
from callgate.tools.debugger.commands import views
from callgate.tools.debugger.dap.protocol import RequestError
from callgate.tools.debugger.debuggee.frames import Frame, frames
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.looks import FLAGS

if TYPE_CHECKING:
    from callgate.tools.debugger.dap.sources import Sources
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.workbench.workbench import Workbench

Variables = list[dict[str, Any]]
MOST_READ: Final = 1 << 20  # bytes at once
MOST_INSTRUCTIONS: Final = 4096
LONGEST: Final = 15  # bytes of an instruction


class Views:
    """Views of one system.  Their numbers are good until it moves."""

    def __init__(self, bench: Workbench, sources: Sources) -> None:
        self.bench = bench
        self.sources = sources
        self.frames: list[tuple[DebugThread, Frame]] = []
        self.groups: list[tuple[Callable[[], Variables], str]] = []  # with a prefix by which `set` knows its variables

    def forget(self) -> None:
        """The system has moved."""
        self.frames.clear()
        self.groups.clear()

    def threads(self) -> Variables:
        """Return the threads, each with its state in words."""
        known = self.bench.debuggee.threads
        return [{"id": thread.number, "name": f"{thread.name}: {known.state(thread)}"} for thread in known]

    def stack(self, number: int, first: int, count: int) -> dict[str, Any]:
        """Return frames of a thread, the innermost first; RequestError."""
        thread = self.bench.debuggee.threads.by_number(number)
        if thread is None:
            raise RequestError(f"there is no thread {number}")
        try:
            found = frames(self.bench.debuggee, thread)
        except LookupError as error:
            raise RequestError(str(error)) from None
        shown = found[first : first + count] if count else found[first:]
        return {"stackFrames": [self._frame(thread, frame) for frame in shown], "totalFrames": len(found)}

    def _frame(self, thread: DebugThread, frame: Frame) -> dict[str, Any]:
        self.frames.append((thread, frame))
        name = self.bench.code.name(frame.code, thread.process)
        body = {
            "id": len(self.frames),
            "name": name.partition(" <")[2].rstrip(">") or name,
            "line": 0,
            "column": 0,
            "instructionPointerReference": f"{frame.eip:#x}",
        }
        line = self.bench.code.line(frame.code, thread.process)
        return (
            body
            if line is None
            else body
            | {
                "line": line.line,
                "column": 1,
                "source": self.sources.described(line),
            }
        )

    def frame(self, number: int) -> tuple[DebugThread, Frame]:
        """Return a frame; RequestError if the system has moved since."""
        if not 1 <= number <= len(self.frames):
            raise RequestError("the frame is of an earlier stop: the system has moved since")
        return self.frames[number - 1]

    def scopes(self, number: int) -> Variables:
        """Return what there is to see in a frame."""
        thread, frame = self.frame(number)
        running = thread == self.bench.debuggee.threads.running()
        live = running and not frame.called
        scopes = [self._scope("Registers", lambda: self._registers(frame), "registers", "" if live else "-")]
        if frame.values.get("eflags") is not None:
            scopes.append(self._scope("Flags", lambda: flags(frame.values["eflags"] or 0)))
        request = None if thread.record is None else request_of(self.bench.system.kernel, thread.record)
        if request is not None and request.message is not None:
            message = request.message
            prefix = "message." if running else "-"
            scopes.append(self._scope("Message", lambda: self._fields(message, "message."), prefix=prefix))
            scopes.append(self._scope("Slot", lambda: self._fields(request.record, f"slot[{request.index}].")))
            scopes.append(self._scope(f"Endpoint {request.endpoint}", lambda: self._endpoint(request)))
        return scopes

    def _scope(self, name: str, group: Callable[[], Variables], hint: str = "", prefix: str = "-") -> dict[str, Any]:
        scope = {"name": name, "variablesReference": self._group(group, prefix), "expensive": False}
        return scope | ({"presentationHint": hint} if hint else {})

    def _group(self, group: Callable[[], Variables], prefix: str = "-") -> int:
        self.groups.append((group, prefix))
        return len(self.groups)

    def variables(self, number: int) -> Variables:
        """Return the variables of a scope, or of one that has parts; RequestError."""
        if not 1 <= number <= len(self.groups):
            raise RequestError("the variables are of an earlier stop: the system has moved since")
        return self.groups[number - 1][0]()

    def settable(self, number: int, name: str) -> str:
        """Return what `set` calls a variable; RequestError if it cannot be changed."""
        prefix = self.groups[number - 1][1] if 1 <= number <= len(self.groups) else "-"
        if prefix == "-" or (not prefix and name not in views.CHANGEABLE):
            raise RequestError(f"{name} cannot be changed here")
        return prefix + name

    def _registers(self, frame: Frame) -> Variables:
        return [
            {"name": name, "variablesReference": 0, "type": "register", "evaluateName": name}
            | ({"value": "unknown"} if value is None else {"value": f"{value:#x}", "memoryReference": f"{value:#x}"})
            for name, value in frame.values.items()
        ]

    def _fields(self, structure: Structure, prefix: str) -> Variables:
        found = []
        for name in structure:
            value = getattr(structure, name)
            parts = self._group(partial(items, value)) if isinstance(value, list) else 0
            shown = views.symbol_or_number(self.bench, value) if isinstance(value, int) else brief(value)
            entry = {"name": name, "value": shown, "variablesReference": parts, "evaluateName": f"{prefix}{name}"}
            found.append(entry)
        return found

    def _endpoint(self, request: SlotView) -> Variables:
        kernel = self.bench.system.kernel
        state = next(e for e in kernel.state.endpoints.by_number.values() if e.name == request.endpoint)
        known = self.bench.meanings.value(Expression("endpoint"))
        used = [slot for slot in slots(kernel, state) if slot.state is not SlotState.FREE]
        shown: Variables = [
            {"name": f"slot {slot.index}", "value": repr(slot), "variablesReference": 0} for slot in used
        ]
        return shown + self._fields(known[state.number], f"endpoint[{state.number}].")

    def evaluated(self, text: str) -> str:
        """Return the value of an expression, in words; RequestError."""
        try:
            return views.symbol_or_number(self.bench, self.bench.meanings.value(Expression(text)))
        except CommandError as error:
            raise RequestError(str(error)) from None

    # Memory.

    def _process(self) -> Process:
        return self.bench.debuggee.threads.running().process

    def memory(self, address: int, count: int) -> dict[str, Any]:
        """Return bytes by linear address of the running thread."""
        if not 0 <= count <= MOST_READ:
            raise RequestError(f"count: 0 to {MOST_READ} bytes at once")
        data = self.bench.debuggee.memory.read(self._process(), address, count)
        return {"address": f"{address:#x}", "data": b64encode(data).decode(), "unreadableBytes": count - len(data)}

    def write(self, address: int, text: str) -> dict[str, Any]:
        """Write bytes there; RequestError if not all are mapped."""
        try:
            data = b64decode(text, validate=True)
        except ValueError:
            raise RequestError("data is not in base 64") from None
        if not self.bench.debuggee.memory.write(self._process(), address, data):
            raise RequestError(f"{address:#010x}: no memory is mapped there")
        return {"bytesWritten": len(data)}

    def disassembled(self, address: int, offset: int, count: int) -> Variables:
        """Return `count` instructions, from `offset` instructions after an address on; before it with our sources."""
        if not 0 <= count <= MOST_INSTRUCTIONS or abs(offset) > MOST_INSTRUCTIONS:
            raise RequestError(f"at most {MOST_INSTRUCTIONS} instructions at once")
        before = self._starts_before(address, max(-offset, 0))
        found: Variables = [
            {"address": f"{max(address - missing, 0):#x}", "instruction": "??", "presentationHint": "invalid"}
            for missing in range(-offset, len(before), -1)
        ]
        start = before[0] if before else address
        wanted = max(count - len(found), 0) + max(offset, 0)
        decoded = self.bench.code.instructions(start, wanted)
        found += [self._instruction(item.address, item.size, str(item)) for item in decoded][max(offset, 0) :]
        last = decoded[-1].address + decoded[-1].size if decoded else address
        while len(found) < count:
            found.append({"address": f"{last & 0xFFFF_FFFF:#x}", "instruction": "??", "presentationHint": "invalid"})
            last += 1
        return found[:count]

    def _starts_before(self, address: int, count: int) -> list[int]:
        """Return where up to `count` instructions begin that lead to an address without a gap."""
        image = self.bench.code.image(address, self._process())
        if image is None or not count:
            return []
        starts = sorted({line.address for line in image.lines})
        index = bisect_left(starts, address)
        near = [*starts[max(index - count, 0) : index], address]
        first = max((at for at, (a, b) in enumerate(pairwise(near), 1) if b - a > LONGEST), default=0)
        return near[first:-1]

    def _instruction(self, address: int, size: int, text: str) -> dict[str, Any]:
        process = self._process()
        data = self.bench.debuggee.memory.read(process, address, size)
        found: dict[str, Any] = {"address": f"{address:#x}", "instructionBytes": data.hex(" "), "instruction": text}
        name = self.bench.code.name(address, process).partition("<")[2].rstrip(">")
        if name and "+" not in name:
            found["symbol"] = name
        line = self.bench.code.line(address, process)
        return found if line is None else found | {"location": self.sources.described(line), "line": line.line}


def flags(value: int) -> Variables:
    """Return the flags of EFLAGS, one by one."""
    shown = {name: value >> bit & 1 for bit, name in FLAGS.items()} | {"IOPL": value >> 12 & 3}
    return [{"name": name, "value": str(bit), "variablesReference": 0} for name, bit in shown.items()]


def items(values: list[Any]) -> Variables:
    """Return the items of an array."""
    return [{"name": f"[{at}]", "value": brief(value), "variablesReference": 0} for at, value in enumerate(values)]


def brief(value: object) -> str:
    """Return a value in a line."""
    if isinstance(value, bytes):
        return value[:32].hex(" ")
    if isinstance(value, list):
        return f"{len(value)} items"
    return f"{value:#x}" if isinstance(value, int) else repr(value)
