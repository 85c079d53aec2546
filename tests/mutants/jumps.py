"""The conditional jumps of the kernel's machine code: their names, and how one is switched.

A jump is named by the label before it and its line, as `ipc_gate: jne .take`; one that a macro expands to by both
lines, as `ipc_gate: TAKE_FAST .take: jnc .take`; the second of the same name in a file ends with ` (2)`.  Assembled
bytes are switched in two ways: the jump is never taken (a NOP of its length), or always (JMP).
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from callgate.asm.assembler import Program, assembly, cache
from callgate.kernel.programs.images import kernel_image
from callgate.tools.asmtest.coverage.measuring import jump_target
from mutant_lists import ROOT

WAYS = ("never taken", "always taken")
MADE = re.compile(r"(?<=[a-z])\d+\b")  # the number that a macro gives its own label, as in `.answered4`
# One instruction each, as the jump is one: a budget of instructions must not notice. SDM vol. 2, NOP.
NOPS = {2: bytes.fromhex("6690"), 6: bytes.fromhex("660f1f440000")}
SHORT_JUMP, NEAR_JUMP = b"\xeb", b"\x3e\xe9"  # the prefix fills the second byte of a near Jcc's opcode


@dataclass(frozen=True, slots=True)
class Jump:
    """A conditional jump: its file from the project's root, its name there, its line, its number in that line."""

    file: str
    name: str
    line: int
    number: int  # among the instructions of the line: a macro has several

    @property
    def cases(self) -> list[str]:
        """The names of both ways to switch it."""
        return [f"{self.name}, {way}" for way in WAYS]


def numbered(program: Program) -> Iterator[tuple[int, int, str, int, int, str]]:
    """Yield address, size, file, line, number in the line, and text of each instruction."""
    seen: Counter[tuple[str, int]] = Counter()
    for address, size, file, line, text in program.lines:
        yield address, size, file, line, seen[file, line], text
        seen[file, line] += 1


def all_jumps() -> list[Jump]:
    """Return each conditional jump of the kernel, by file and line."""
    program = kernel_image()
    texts: dict[str, list[str]] = {}
    found = []
    for address, size, file, line, number, text in numbered(program):
        if jump_target(program.code_at(address, size), address):
            written = texts.setdefault(file, Path(file).read_text(encoding="utf-8").split("\n"))[line - 1]
            label = program.symbol_at(address).partition("+")[0]
            found.append((Path(file).resolve().relative_to(ROOT).as_posix(), line, number, label, names(written, text)))
    jumps = []
    seen: Counter[tuple[str, str]] = Counter()
    for file, line, number, label, text in sorted(found):
        name = f"{label}: {text}"
        seen[file, name] += 1
        many = seen[file, name]
        jumps.append(Jump(file, name if many == 1 else f"{name} ({many})", line, number))
    return jumps


def names(written: str, expanded: str) -> str:
    """Return a jump's line, or those of the macro and of the jump, without comments."""
    outer, inner = (" ".join(text.partition(";")[0].split()) for text in (written, expanded))
    return outer if outer.endswith(inner) else f"{outer}: {MADE.sub('', inner)}"


def switched(code: bytes, *, always: bool) -> bytes:
    """Return the instruction of the same length that a conditional jump becomes."""
    if not always:
        return NOPS[len(code)]
    return SHORT_JUMP + code[1:] if len(code) == len(NOPS[2]) else NEAR_JUMP + code[2:]


def patch(program: Program, jump: Jump, *, always: bool) -> Program:
    """Switch a jump in a program, if it has it; return the program."""
    path = ROOT / jump.file
    sources = program.sources or [str(path)]  # one that is being made does not name them yet
    if any(Path(name).name == path.name and Path(name).resolve() == path for name in sources):
        for address, size, file, line, number, _ in numbered(program):
            here = (line, number, Path(file).name) == (jump.line, jump.number, path.name)
            if here and Path(file).resolve() == path:
                put(program, address, switched(program.code_at(address, size), always=always))
    return program


def put(program: Program, address: int, code: bytes) -> None:
    """Put code in place of what a program has at an address."""
    for index, section in enumerate(program.sections):
        start = address - section.address
        if 0 <= start < len(section.data):
            data = section.data[:start] + code + section.data[start + len(code) :]
            program.sections[index] = section._replace(data=data)


def programs() -> list[Program]:
    """Return each program that there is in this process."""
    gc.unfreeze()
    found = [one for one in gc.get_objects() if isinstance(one, Program)]
    gc.freeze()
    return found


def switch(jump: Jump, there: Iterable[Program], *, always: bool) -> None:
    """Switch a jump in the programs that there are in this process, and in those that will be.

    From now on nothing is written into the cache of assembled programs: other processes would take it for what the
    sources say.
    """
    cache.write_checked = lambda _path, _content: None
    for program in there:
        patch(program, jump, always=always)
    modules: tuple[tuple[ModuleType, str], ...] = ((cache, "restore"), (assembly, "make_program"))
    for module, name in modules:
        setattr(module, name, patching(getattr(module, name), jump, always=always))


def patching(make: Callable[..., Program], jump: Jump, *, always: bool) -> Callable[..., Program]:
    """Return a function that makes programs with a jump switched."""

    @wraps(make)
    def made(*arguments: Any, **options: Any) -> Program:
        return patch(make(*arguments, **options), jump, always=always)

    return made
