"""Counts each guest instruction by the stack of routines that it is executed in.

A code hook of its own is called before instructions, after the counting hook, wherever the stack may change.  What the
ledger's clock has advanced by from one change to the next was retired in between; an instruction that faulted is not
in it.  So the counts add up to the ledger's exactly.

The stack of a thread is kept by what instructions do: CALL (far calls through gates included) and deliveries of
exceptions and interrupts push the routine that follows; RET, RETF and IRETD pop; any other way to another routine
replaces the one on top.  Routines are those that labels name.  After a return to a routine that is not the next one on
the stack, but deeper, the stack is cut down to it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.symbols import symbol_of
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.tools.pictures.flame.hook import NEVER, Hook, Places

if TYPE_CHECKING:
    from callgate.kernel.core.records import Thread
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.system import System

Stack = tuple[str, ...]  # the process, then routines from the outermost
BOOT: Final = "boot"
UNKNOWN: Final = "?"  # code without symbols
PLAIN, CALL, RETURN = range(3)  # what an instruction does to the stack
PREFIXES: Final = b"\x2e\x36\x3e\x26\x64\x65\x66\x67\xf2\xf3"
CALLS: Final = (0xE8, 0x9A)
RETURNS: Final = (0xC2, 0xC3, 0xCA, 0xCB, 0xCF)
INDIRECT: Final = 0xFF  # /2 and /3 are calls
LONGEST: Final = 15  # bytes of an instruction
MOST: Final = 64  # routines of a stack; deeper ones are counted for the last


class Line:
    """The stack of one thread."""

    __slots__ = ("frames", "process")

    def __init__(self, process: str) -> None:
        self.process = process
        self.frames: list[str] = []

    def follow(self, kind: int, routine: str) -> None:
        """Go on in `routine` after an instruction of a kind."""
        frames = self.frames
        if kind == CALL:
            if len(frames) < MOST:
                frames.append(routine)
                return
        elif kind == RETURN:
            if len(frames) > 1:
                frames.pop()
        if not frames:
            frames.append(routine)
        elif frames[-1] != routine:
            self._mend(kind, routine)

    def _mend(self, kind: int, routine: str) -> None:
        """Put `routine` on top: cut the stack down to it after a return, else replace what is there."""
        frames = self.frames
        if kind == RETURN and routine in frames:
            del frames[len(frames) - frames[::-1].index(routine) :]
        else:
            frames[-1] = routine


class Profile:
    """The counts of one system, from the moment it is made."""

    def __init__(self, system: System, *, native: bool = True) -> None:
        """Hook an engine that has executed nothing yet; in host code, if `native` and possible."""
        self.system = system
        self.machine = system.machine
        self.clock = system.machine.counter.state
        self.counts: Counter[tuple[Stack, int]] = Counter()  # by stack and ring
        self.numbers: dict[tuple[str, int], int] = {}  # (routine, ring) -> its number, from 1
        self.routines: list[tuple[str, int]] = [("", 0)]  # by number
        self.places: dict[int, Places] = {}  # by process
        self.lines: dict[int, Line] = {}  # by thread
        self.line, self.process = Line(BOOT), -1
        self.key: tuple[Stack, int] | None = None  # the stack that is counted for
        self.since = 0  # the clock when counting for it began
        self.delivered = False
        assert self.machine.handle is not None
        self.hook = Hook(self.machine.handle.value, self.clock, self._look_safely, native=native)
        self.hook.show(self._places())
        system.machine.stream.subscribe(self._switched, ["thread.switch"])
        system.machine.stream.subscribe(self._delivered, ["interrupt", "exception", "int"])

    def finish(self) -> Counter[tuple[Stack, int]]:
        """Return the counts up to now."""
        self._settle(self.clock.count)
        return self.counts

    def _look_safely(self, address: int) -> None:
        try:
            self._look(address)
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.machine.counter.sites.fail(error)

    def _look(self, address: int) -> None:
        """Go on at an address where the routine may have changed."""
        places = self.places[self.process]
        entry = places[address]
        if not entry:
            entry = places[address] = self._entry(address)
        kind = CALL if self.delivered else self.hook.state.kind
        self.delivered = False
        routine, ring = self.routines[entry // 4]
        frames = self.line.frames
        if kind != PLAIN or not frames or frames[-1] != routine or self.key is None or self.key[1] != ring:
            self._settle(self.clock.count - 1)  # the counting hook has counted this instruction already
            self.line.follow(kind, routine)
            self.key = ((self.line.process, *frames), ring)
        self.hook.note(entry)

    def _settle(self, count: int) -> None:
        """Count what has been retired since the last change for the stack as it was."""
        if count != self.since and self.key is not None:
            self.counts[self.key] += count - self.since
        self.since = count

    def _entry(self, address: int) -> int:
        """Return the number of the routine at an address, with what its instruction does in the lowest bits."""
        image = self.system.kernel.image
        if address >= KERNEL_BASE or self.process < 0:  # before paging, code lies below where it is linked
            found = (image.symbol_at(address | KERNEL_BASE).partition("+")[0], 0)
        else:
            symbols = self.system.kernel.scheduler.current.process.symbols
            found = (symbol_of(symbols, address).partition("+")[0].partition(".")[0] or UNKNOWN, 3)
        number = self.numbers.setdefault(found, len(self.routines))
        if number == len(self.routines):
            self.routines.append(found)
        return number * 4 | self._kind(address)

    def _kind(self, address: int) -> int:
        try:
            code = self.machine.paging.read_linear(address, 1)
            for longer in range(2, LONGEST + 1):
                if code.lstrip(PREFIXES)[1:2]:
                    break
                code = self.machine.paging.read_linear(address, longer)
        except PageFault:
            pass
        return kind_of(code)

    def _places(self) -> Places:
        return self.places.setdefault(self.process, Places())

    def _switched(self, event: Event) -> None:
        number = event.fields["thread"]
        assert isinstance(number, int)
        thread: Thread = self.system.kernel.scheduler.current
        self._settle(self.clock.count)  # events come before their instruction is counted
        line = self.lines.get(number)
        if line is None:
            name = f"{thread.process.name} ({thread.process.number})" if thread.process.number else thread.process.name
            line = self.lines[number] = Line(name)
        self.line, self.process, self.key = line, thread.process.number, None
        self.hook.state.kind = PLAIN
        self.hook.show(self._places())

    def _delivered(self, event: Event) -> None:
        if "thread" not in event.fields:  # the CPU delivers; the kernel's own event comes later
            self.delivered = True
            self.hook.state.routine = NEVER


def kind_of(code: bytes) -> int:
    """Return what an instruction does to the stack of routines: CALL, RETURN or PLAIN (SDM vol. 2)."""
    opcode = code.lstrip(PREFIXES)
    if not opcode:
        return PLAIN
    if opcode[0] in CALLS or (opcode[0] == INDIRECT and opcode[1:] and opcode[1] >> 3 & 7 in (2, 3)):
        return CALL
    return RETURN if opcode[0] in RETURNS else PLAIN
