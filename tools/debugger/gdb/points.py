"""Z and z: breakpoints and watchpoints of gdb, with conditions that are evaluated here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.tools.debugger.debuggee.breakpoints import Breakpoint, Condition
from callgate.tools.debugger.debuggee.watchpoints import Kind, Watchpoint
from callgate.tools.debugger.gdb.description import REGISTERS, RegisterFile
from callgate.tools.debugger.gdb.protocol.agent import BadExpression, Evaluation
from callgate.tools.debugger.gdb.protocol.errors import Refused, Unknown
from callgate.tools.debugger.gdb.protocol.ids import number

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee

SOFTWARE, HARDWARE, WRITE, READ, ACCESS = range(5)
KINDS = {WRITE: Kind.WRITE, READ: Kind.READ, ACCESS: Kind.ACCESS}
MOST_WATCHED = 4096  # bytes of one watchpoint
MOST_POINTS = 10_000
Key = tuple[int, int, int, int]  # type, address, kind or length, process


class Here:
    """What a condition may look at: registers and memory of the thread that the CPU executes."""

    def __init__(self, debuggee: Debuggee, registers: RegisterFile) -> None:
        self.debuggee = debuggee
        self.registers = registers

    def register(self, index: int) -> int:
        """Return a register by gdb's number; BadExpression if there is none, or none of 32 bits."""
        if not 0 <= index < len(REGISTERS) or REGISTERS[index].bits > 32:
            raise BadExpression(f"register {index}")
        value = self.registers.one(self.debuggee.threads.running(), index)
        return int.from_bytes(bytes.fromhex(value), "little")

    def memory(self, address: int, size: int) -> int:
        """Return a little-endian number; BadExpression if it is not mapped."""
        data = self.debuggee.memory.read(self.debuggee.threads.running().process, address, size)
        if len(data) < size:
            raise BadExpression(f"{address:#x} is not mapped")
        return int.from_bytes(data, "little")


class Points:
    """The points that gdb has inserted."""

    def __init__(self, debuggee: Debuggee, registers: RegisterFile) -> None:
        self.debuggee = debuggee
        self.here = Here(debuggee, registers)
        self.known: dict[Key, Breakpoint | Watchpoint] = {}

    def insert(self, text: str, process: Process) -> None:
        """Carry out `Ztype,address,kind[;X…]`; again for a point that there is, with other conditions.

        Refused if it cannot be, Unknown for a type that there is not.
        """
        place, *options = text.split(";")
        key = parse(place, process)
        kind, address, length, _ = key
        conditions = [self._condition(option) for option in split_conditions(options)]
        self._take_out(key)
        if len(self.known) >= MOST_POINTS:
            raise Refused(f"there are {MOST_POINTS} points")
        if kind in (SOFTWARE, HARDWARE):
            self.known[key] = self.debuggee.breakpoints.add(address, process, conditions)
            return
        if not 0 < length <= MOST_WATCHED:
            raise Refused(f"a watchpoint has 1 to {MOST_WATCHED} bytes, not {length}")
        self.known[key] = self.debuggee.watchpoints.add(KINDS[kind], address, length, process)

    def remove(self, text: str, process: Process) -> None:
        """Carry out `ztype,address,kind`; it is no error if there is no such point."""
        self._take_out(parse(text.partition(";")[0], process))

    def clear(self) -> None:
        """Remove them all."""
        for key in list(self.known):
            self._take_out(key)

    def kind_of(self, point: Breakpoint | Watchpoint, process: Process) -> int | None:
        """Return the type by which a point was inserted for a process; None for another process."""
        return next((key[0] for key, known in self.known.items() if known is point and key[3] == process.number), None)

    def covering(self, address: int, process: Process) -> int | None:
        """Return the type of a breakpoint that was inserted at an address for a process, if there is one."""
        return next(
            (
                key[0]
                for key in self.known
                if key[0] in (SOFTWARE, HARDWARE) and key[1] == address and key[3] == process.number
            ),
            None,
        )

    def _take_out(self, key: Key) -> None:
        point = self.known.pop(key, None)
        if isinstance(point, Breakpoint):
            self.debuggee.breakpoints.remove(point)
        elif point is not None:
            self.debuggee.watchpoints.remove(point)

    def _condition(self, code: bytes) -> Condition:
        def holds() -> bool:
            try:
                return bool(Evaluation(code, self.here).run())
            except BadExpression:
                return True  # gdb evaluates it again, and tells the user why it cannot

        return holds


def parse(text: str, process: Process) -> Key:
    """Read `type,address,kind`; Refused, or Unknown for another type."""
    fields = text.split(",")
    if len(fields) != 3:
        raise Refused(f"{text[:40]!r} is not type,address,kind")
    kind, address, length = map(number, fields)
    if not SOFTWARE <= kind <= ACCESS:
        raise Unknown
    if not 0 <= address < 1 << 32:
        raise Refused(f"{address:#x} is no address of 32 bits")
    # A watchpoint in the kernel's half is one for all; a breakpoint there is known by whom gdb has inserted it for.
    return kind, address, length, -1 if kind in KINDS and address >= KERNEL_BASE else process.number


def split_conditions(options: list[str]) -> list[bytes]:
    """Return the expressions of `X length,bytes` options, which may follow each other directly."""
    found: list[bytes] = []
    for option in options:
        if option.startswith("cmds:"):
            raise Refused("commands of breakpoints are not run here")
        rest = option
        while rest:
            if not rest.startswith("X"):
                raise Refused(f"{rest[:40]!r} is not a condition")
            size, comma, digits = rest[1:].partition(",")
            length = number(size)
            if not comma or not 0 <= length * 2 <= len(digits):
                raise Refused("a condition is cut off")
            try:
                found.append(bytes.fromhex(digits[: length * 2]))
            except ValueError:
                raise Refused("a condition is not hexadecimal") from None
            rest = digits[length * 2 :]
    return found
