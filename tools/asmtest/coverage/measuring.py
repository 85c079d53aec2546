"""Coverage of assembly: the instructions of each source line that tests executed, and directions of its jumps.

Cases, `bare_cpu` and booted systems are watched (`kernel.machine.executed`), each program by its instructions.  Two
programs that include the same file share its lines: an instruction is known by file, line, its number among the
line's instructions and its bytes' length, so that an instruction executed in one of them counts as executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from callgate.asm.assembler import Program
from callgate.asm.user import PROGRAMS
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.records import Process
from callgate.kernel.machine import Machine
from callgate.kernel.machine.engine.executed import PASSED, RAN, TAKEN, Executed, Sheet, watch
from callgate.kernel.programs.executable import Executable
from callgate.kernel.programs.images import program_file, program_image
from callgate.kernel.programs.kernel_labels import DIRECT_SWITCHES, SWITCH_RESUME
from callgate.kernel.system import System
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.coverage.watching import WATCHERS
from callgate.tools.asmtest.objects.linking import LinkedProgram

SWITCHES: Final = (SWITCH_RESUME, *DIRECT_SWITCHES)
"""Where a thread has been switched to: in turn with others, by a direct switch with a request, or with a reply."""
PREFIXES: Final = b"\x2e\x3e\x67\xf2\xf3"
Key = tuple[str, int, int, str]  # file, line, number among the line's instructions, mnemonic
Result = tuple[str, bool, int]  # its text, whether it is a conditional jump, RAN, TAKEN and PASSED


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a program: where it lies and is written; `jump` if it has two successors."""

    address: int
    key: Key
    text: str
    jump: bool


def jump_target(code: bytes, address: int) -> int:
    """Return where a conditional jump (Jcc, JECXZ, LOOPcc) leads; 0 for other instructions.  SDM vol. 2."""
    opcode = code.lstrip(PREFIXES)
    end = address + len(code)
    if len(opcode) == 2 and (0x70 <= opcode[0] <= 0x7F or 0xE0 <= opcode[0] <= 0xE3):
        return end + int.from_bytes(opcode[1:], "little", signed=True) & 0xFFFF_FFFF
    if len(opcode) == 6 and opcode[0] == 0x0F and 0x80 <= opcode[1] <= 0x8F:
        return end + int.from_bytes(opcode[2:], "little", signed=True) & 0xFFFF_FFFF
    return 0


class Watched:
    """One program under watch."""

    def __init__(self, program: Program, shift: int = 0) -> None:
        """`shift` is added to linear addresses: the kernel's first instructions run below 4 GiB - 1 GiB."""
        self.program = program
        self.instructions: list[Instruction] = []
        jumps: dict[int, int] = {}
        seen: Counter[tuple[str, int]] = Counter()
        for address, size, file, line, text in instructions_of(program):
            target = jump_target(program.code_at(address, size), address)
            both = target not in (0, address + size)  # a jump to the next instruction has one direction only
            if both:
                jumps[address + shift & 0xFFFF_FFFF] = target + shift & 0xFFFF_FFFF
            number = seen[file, line]
            seen[file, line] += 1
            key = file, line, number, mnemonic_of(text)
            self.instructions.append(Instruction(address + shift & 0xFFFF_FFFF, key, text, both))
        code = (section for section in program.sections if section.executable and section.size)
        runs = [(section.address + shift & 0xFFFF_FFFF, section.size) for section in code]
        self.sheet = Sheet(jumps, [range(start, start + size) for start, size in runs])

    def results(self) -> Iterator[tuple[Key, Result]]:
        """Yield the record of each instruction."""
        for item in self.instructions:
            yield item.key, (item.text, item.jump, self.sheet.flags(item.address))


def mnemonic_of(text: str) -> str:
    """Return the mnemonic: operands may hold numbers that the assembler chooses, different ones in each program."""
    words = text.partition(":")[2].split() or text.split()
    return words[0] if words else ""


def instructions_of(program: Program) -> Iterator[tuple[int, int, str, int, str]]:
    """Yield address, size, file, line and text of each instruction whose source is known."""
    if isinstance(program, LinkedProgram) and program.objects:
        yield from _decoded(program)
        return
    for line in program.lines:
        yield line.address, line.size, absolute(line.file), line.line, line.text.strip()


def _decoded(program: LinkedProgram) -> Iterator[tuple[int, int, str, int, str]]:
    """Yield the instructions of objects: a line of C has several, which only a decoder separates."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    program.read_lines()
    folder = program.objects[0].path.parent
    decoder = Cs(CS_ARCH_X86, CS_MODE_32)
    for line in program.lines:
        for address, size, mnemonic, operands in decoder.disasm_lite(
            program.code_at(line.address, line.size), line.address
        ):
            yield address, size, absolute(line.file, folder), line.line, f"{mnemonic} {operands}".strip()


def absolute(name: str, folder: Path | None = None) -> str:
    """Return a file's path as reports show it."""
    return str((folder or Path()).joinpath(name).absolute())


def own_program(image: bytes) -> Program | None:
    """Return our program that an ELF file was made of: it may have been made before watching began."""
    return next((program_image(name) for name in PROGRAMS if program_file(name) == image), None)


class Coverage:
    """The instructions that a run of tests has executed so far."""

    def __init__(self) -> None:
        self.watched: dict[int, Watched] = {}  # by id of the program, which `Watched` keeps alive
        self.aliases: dict[int, Watched] = {}
        self.images: dict[bytes, Program] = {}  # by digest of the ELF file that was made of them
        self.undo: Callable[[], None] = lambda: None
        self.found: dict[Key, Result] = {}  # of other processes

    def start(self) -> None:
        """Watch every bare CPU and every system that is made from now on."""
        BareCpu.watchers.append(self.watch_cpu)
        System.watchers.append(self.watch_system)
        WATCHERS.append(self.watch_machine)
        elf = Program.elf

        @wraps(elf)
        def remembered(program: Program, **options: bool) -> bytes:
            image = elf(program, **options)
            self.images[sha256(image).digest()] = program
            return image

        Program.elf = remembered  # type: ignore[method-assign,assignment]  # a loader is given the file only
        self.undo = lambda: setattr(Program, "elf", elf)

    def stop(self) -> None:
        """Watch no further ones."""
        BareCpu.watchers.remove(self.watch_cpu)
        System.watchers.remove(self.watch_system)
        WATCHERS.remove(self.watch_machine)
        self.undo()

    def of(self, program: Program) -> Watched:
        """Return the watched code of a program."""
        if id(program) not in self.watched:
            self.watched[id(program)] = Watched(program)
        return self.watched[id(program)]

    def watch_cpu(self, cpu: BareCpu) -> None:
        """Watch a bare CPU that has just been made."""
        executed = hook(cpu.machine)
        shown: list[Sheet] = []

        def changed(program: Program) -> None:
            for sheet in shown:
                executed.hide(sheet)
            shown[:] = [self.of(program).sheet]
            executed.show(shown[0])

        cpu.on_program = changed

    def watch_machine(self, machine: Machine, program: Program) -> None:
        """Watch a machine of a test's own, which will run a program at its addresses or below 4 GiB - 1 GiB."""
        executed = hook(machine)
        executed.show(self.of(program).sheet)
        if program.entry >= KERNEL_BASE:
            executed.show(self.alias_of(program).sheet)

    def watch_system(self, system: System) -> None:
        """Watch a system that has not run yet: its kernel, and the user program that is running."""
        executed, kernel = hook(system.machine), system.kernel
        executed.show(self.of(kernel.image).sheet)
        executed.show(self.alias_of(kernel.image).sheet)
        images: dict[int, bytes] = {}  # by number of the process
        load, scheduler = kernel.processes.load, kernel.scheduler
        shown: list[Sheet] = []

        def loaded(process: Process, program: Executable, arguments: bytes) -> int:
            digest = images[process.number] = sha256(program.image).digest()
            if digest not in self.images and (own := own_program(program.image)) is not None:
                self.images[digest] = own
            return load(process, program, arguments)

        def switched() -> None:
            program = self.images.get(images.get(scheduler.current.process.number, b""))
            sheets = [self.of(program).sheet] if program is not None else []
            if shown != sheets:
                for sheet in shown:
                    executed.hide(sheet)
                shown[:] = sheets
                for sheet in shown:
                    executed.show(sheet)

        kernel.processes.load = loaded  # type: ignore[method-assign]  # only while coverage is measured
        for place in SWITCHES:
            system.machine.probe(place, switched)

    def alias_of(self, program: Program) -> Watched:
        """Return the watched code of a kernel's first instructions, which run before paging is on."""
        if id(program) not in self.aliases:
            self.aliases[id(program)] = Watched(program, -KERNEL_BASE)
        return self.aliases[id(program)]

    # The outcome.

    def results(self) -> dict[Key, Result]:
        """Return the record of each instruction."""
        found = dict(self.found)
        for watched in (*self.watched.values(), *self.aliases.values()):
            merge(found, watched.results())
        return found

    def export(self) -> list[list[Any]]:
        """Return the results as plain data, for another process."""
        return [[*key, *result] for key, result in self.results().items()]

    def add(self, exported: list[list[Any]]) -> None:
        """Add the results of another process."""
        merge(
            self.found,
            (
                ((file, line, number, word), (text, jump, flags))
                for file, line, number, word, text, jump, flags in exported
            ),
        )


def merge(found: dict[Key, Result], results: Iterable[tuple[Key, Result]]) -> None:
    """Add results to those so far."""
    for key, (text, jump, flags) in results:
        before = found.get(key, (text, False, 0))
        found[key] = before[0], before[1] or jump, before[2] | flags


def hook(machine: Machine) -> Executed:
    """Return the hook of a machine that has executed nothing yet."""
    executed = watch(machine.handle.value, machine.state, native=machine.counter.native)
    machine.hooks.alive.append(executed)  # replacing the scheduler's observer drops the only other reference
    return executed


def missing(jump: bool, flags: int) -> list[str]:
    """Return, as text, what no test did with an instruction."""
    if not flags & RAN:
        return ["never executed"]
    ways = ((TAKEN, "never jumps"), (PASSED, "always jumps"))
    return [text for bit, text in ways if jump and not flags & bit]
