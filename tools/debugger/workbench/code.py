"""Code where the CPU stands: symbols, source lines and instructions of the process that is mapped."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from posixpath import normpath
from typing import TYPE_CHECKING, Final

from callgate.asm.assembler import Program, SourceLine
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.cpu.translations import decoder
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.workbench.failure import CommandError

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.tools.debugger.debuggee import Debuggee

LONGEST: Final = 15  # bytes of an instruction
CALLS: Final = ("call", "lcall", "int", "syscall", "sysenter")
RETURNS: Final = ("ret", "retf", "iretd", "iret")


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction: where it lies, its length in bytes, and its text."""

    address: int
    size: int
    mnemonic: str
    operands: str

    @property
    def calls(self) -> bool:
        """Whether the code after it goes on when something else has returned."""
        return self.mnemonic.split()[-1] in CALLS or self.mnemonic.startswith("rep")

    @property
    def returns(self) -> bool:
        """Whether it leaves its routine."""
        return self.mnemonic in RETURNS

    def __str__(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


class Code:
    """The code of a system under a debugger."""

    def __init__(self, debuggee: Debuggee) -> None:
        self.debuggee = debuggee
        self.machine = debuggee.machine
        self.lines: dict[int, tuple[list[int], list[SourceLine]]] = {}  # by the identity of a program, by address

    def _lines(self, image: Program) -> tuple[list[int], list[SourceLine]]:
        if id(image) not in self.lines:
            lines = sorted(image.lines, key=lambda line: line.address)
            self.lines[id(image)] = [line.address for line in lines], lines
        return self.lines[id(image)]

    def _linked(self, address: int, process: Process) -> int:
        """Return the address that the assembler knows code by."""
        return self.debuggee.world.linked(address, process)

    def image(self, address: int, process: Process) -> Program | None:
        """Return the program that an address belongs to; None for code of which nothing is known."""
        return self.debuggee.world.image(address, process)

    def name(self, address: int, process: Process | None = None) -> str:
        """Return an address in hex, and after it its symbol if it has one."""
        symbol = self.symbol(address, process)
        return f"{address:#010x}" + (f" <{symbol}>" if symbol else "")

    def symbol(self, address: int, process: Process | None = None) -> str:
        """Return an address as a symbol and the distance from it; "" if there is none."""
        process = process or self.debuggee.threads.running().process
        image = self.image(address, process)
        if image is not None:
            symbol = image.symbol_at(self._linked(address, process))
        else:
            symbol = self._named(address)
        return "" if symbol.startswith("0x") else symbol

    def _named(self, address: int) -> str:
        """Return what Python has said that addresses of a machine without a kernel are called; "" if nothing."""
        named = None if self.debuggee.target.has_kernel else self.machine.symbols
        return "" if named is None else named(address)

    def line(self, address: int, process: Process) -> SourceLine | None:
        """Return the source line that an instruction was made of."""
        image = self.image(address, process)
        if image is None:
            return None
        addresses, lines = self._lines(image)
        address = self._linked(address, process)
        index = bisect_right(addresses, address) - 1
        if index < 0 or not lines[index].address <= address < lines[index].address + max(lines[index].size, 1):
            return None
        return lines[index]

    def source_name(self, line: SourceLine) -> str:
        """Return a line's file and number; files of callgate's own sources begin with `asm/`."""
        _, found, rest = line.file.rpartition("/asm/")
        return f"{normpath('asm/' + rest) if found else line.file}:{line.line}"

    def instructions(self, address: int, count: int, process: Process | None = None) -> list[Instruction]:
        """Return instructions from a linear address of a process on, or of the running one, as far as it is mapped."""
        if process is not None and process is not self.debuggee.threads.running().process:
            data = self.debuggee.memory.read(process, address, count * LONGEST)
            return [Instruction(*found) for found in decoder().disasm_lite(data, address, count)]
        data = b""
        try:
            while len(data) < count * LONGEST:
                data += self.machine.paging.read_linear(address + len(data), 16)
        except (PageFault, DmaError):
            pass
        return [Instruction(*found) for found in decoder().disasm_lite(data, address, count)]

    def earlier(self, address: int, count: int) -> int:
        """Return where the code begins that is at most `count` source lines before an address; the address if unknown.

        Code has no marks where instructions begin: only what the assembler has noted can be read from before.
        """
        process = self.debuggee.threads.running().process
        image = self.image(address, process)
        linked = self._linked(address, process)
        if image is None or self.line(address, process) is None:
            return address
        addresses, lines = self._lines(image)
        here = index = bisect_right(addresses, linked) - 1
        while index and here - index < count:
            before = lines[index - 1]
            if before.address + before.size != lines[index].address and before.address != lines[index].address:
                break
            index -= 1
        return addresses[index] - linked + address

    def current(self) -> Instruction | None:
        """Return the instruction that is next; None where nothing can be fetched."""
        cpu = self.machine.cpu
        found = self.instructions(cpu.eip + cpu.segment_base("cs") & 0xFFFF_FFFF, 1)
        return found[0] if found else None

    def address_of(self, place: str, others: Iterable[str] = ()) -> tuple[int, Process | None]:
        """Return what a name means: `take_slot`, `shell:main`, `0x400012`, or FILE:LINE; CommandError.

        `others` are names that would do as well where there is no such symbol.  The process is None for memory that all
        processes share: the kernel's half, or that of a bare machine.
        """
        number = number_of(place.removeprefix("*"))  # gdb: break *0xc0101000
        if number is not None:
            shared = self.debuggee.world.shared(number)
            return number, None if shared else self.debuggee.threads.running().process
        program, colon, rest = place.rpartition(":")
        if colon and rest.isdigit():
            return self._by_line(program, int(rest))
        if colon:
            return self._in_program(program, rest)
        if place in self.machine.addresses:
            return self.machine.addresses[place], None
        running = self.debuggee.threads.running().process
        image = self.image(0, running)
        if running.number and image is not None and place in image.symbols:
            return image.symbols[place].address, running
        names = [*self.machine.addresses, *(image.symbols if image is not None else ()), *others]
        raise CommandError(f"no symbol {place!r}; there is {those_like(place, names)}")

    def _in_program(self, program: str, name: str) -> tuple[int, Process]:
        process = self._process(program)
        images = self.debuggee.world.images(process)
        for image in images:
            if name in image.symbols:
                return image.symbols[name].address, process
        known = those_like(name, [symbol for image in images for symbol in image.symbols])
        raise CommandError(f"no symbol {name!r} in {program}; there is {known}")

    def _process(self, program: str) -> Process:
        processes = self.debuggee.threads.processes()
        for process in processes:
            if program in (process.name, process.program, str(process.number)):
                return process
        raise CommandError(f"no process {program!r}; there is {those_like(program, [p.name for p in processes])}")

    def _by_line(self, file: str, number: int) -> tuple[int, Process | None]:
        """Return the address of a line, or of the next one in its file that has an instruction, as gdb does."""
        best: tuple[int, int] | None = None
        where: Process | None = None
        for process in self.debuggee.threads.processes():
            for line in self._lines_of(process):
                place = line.line, line.address
                if line.line >= number and names_file(file, line.file) and (best is None or place < best):
                    best, where = place, process if process.number else None
        if best is not None:
            return best[1], where
        known = {line.file for process in self.debuggee.threads.processes() for line in self._lines_of(process)}
        if any(names_file(file, path) for path in known):
            raise CommandError(f"{file}:{number}: no instruction comes from this line or a later one of the file")
        near = those_like(file, sorted({path.rpartition("/")[2] for path in known}))
        raise CommandError(f"no file {file!r} in a program that runs; there is {near}")

    def _lines_of(self, process: Process) -> Iterator[SourceLine]:
        for image in self.debuggee.world.images(process):
            yield from image.lines


def names_file(name: str, path: str) -> bool:
    """Whether a name means a file: `slots.asm`, `ipc/slots.asm` or its whole path."""
    return path == name or path.endswith(f"/{name}")


def number_of(text: str) -> int | None:
    """Return a number as programmers write it, None if it is none: 12, 0x0c, 0b1100, 0ch."""
    try:
        return int(text[:-1], 16) if text[-1:] in "hH" and text[:1].isdigit() else int(text, 0)
    except ValueError:
        return None
