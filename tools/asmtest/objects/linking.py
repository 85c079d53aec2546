"""Object files in memory: sections placed, names joined, relocations applied (Intel386 psABI, table 4.9).

Relocatable code and data lie at `OBJECTS`, code first, then read-only data, then data, each on pages of its own with
the rights that a loader would give. The test must give each name that no file defines: a value, or a Python function,
whose address is a RET in `STUBS` at which the function is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from callgate.asm.assembler import Program, Section, SourceLine, Symbol
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.tools.asmtest.board.board import MEMORY, ORIGIN
from callgate.tools.asmtest.objects.relocatable import NOT_LOADED, Named, ObjectError, ObjectFile, Part, Relocation

OBJECTS: Final = ORIGIN
SOURCE_ORIGIN: Final = 0x70_0000  # of the test's own source beside objects
STUBS: Final = 0x7F_0000
STUB_BYTES: Final = 16
STUB: Final = b"\xc3"  # RET
STUBS_END: Final = 0x7F_8000
FRAMES: Final = (0x10_0000, 0x3F_0000)  # memory of programs linked to run beyond the board's 8 MiB
PIECES: Final = {  # bytes of a relocated field, and whether its value counts from the field's own address
    "R_386_32": (4, False), "R_386_PC32": (4, True), "R_386_PLT32": (4, True),
    "R_386_16": (2, False), "R_386_PC16": (2, True), "R_386_8": (1, False), "R_386_PC8": (1, True),
}  # fmt: skip
TABLE_PAGES: Final = 16  # of FRAMES, for page tables
CALLS: Final = ("R_386_PC32", "R_386_PLT32")
GOT_BASE: Final = "R_386_GOTPC"
GOT: Final = ("R_386_GOT32", "R_386_GOT32X", "R_386_GOTOFF")
IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
External = int | str | Callable[..., int | None]  # a value, a label of the test's own source, a function


@dataclass
class LinkedProgram(Program):
    """Objects, and the test's own source beside them, ready to run.

    `rights` by page: r or rw; `stubs` are the addresses of names that Python functions answer; `frames` holds the
    physical page of each page that is linked beyond memory.
    """

    objects: list[ObjectFile] = field(default_factory=list)
    rights: dict[int, str] = field(default_factory=dict)
    stubs: dict[str, int] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)
    complete: bool = False

    def line_at(self, address: int) -> SourceLine | None:
        """Return the source line of an address; debugging sections are read when the first one is asked for."""
        self.read_lines()
        return super().line_at(address)

    def read_lines(self) -> None:
        """Add the lines of the objects' debugging sections."""
        if self.complete:
            return
        from callgate.tools.asmtest.objects.debug_lines import lines_of

        self.complete = True
        found = [line for item in self.objects for line in lines_of(item)]
        self.lines = sorted([*self.lines, *found], key=lambda line: line.address)


class Linker:
    """Object files that are being linked to one program."""

    def __init__(self, objects: Sequence[ObjectFile]) -> None:
        """Place them; ObjectError if they do not fit or define a name twice."""
        self.objects = objects
        self.groups: dict[str, ObjectFile] = {}
        self.dropped: set[int] = set()  # parts of COMDAT groups that another file has, by id
        self.globals: dict[str, tuple[Named, ObjectFile]] = {}
        self.commons: dict[str, int] = {}
        self.data_end = OBJECTS
        self._choose_groups()
        self._define()
        self._place()

    def _choose_groups(self) -> None:
        for item in self.objects:
            for part in item.parts:
                if part.group and self.groups.setdefault(part.group, item) is not item:
                    self.dropped.add(id(part))

    def _define(self) -> None:
        for item in self.objects:
            for symbol in item.symbols:
                if symbol.local or symbol.undefined or not symbol.name or id(symbol.part) in self.dropped:
                    continue
                known = self.globals.get(symbol.name)
                if known is None or (known[0].weak and not symbol.weak) or (known[0].common and not symbol.common):
                    self.globals[symbol.name] = symbol, item
                elif not (symbol.weak or symbol.common or known[0].weak):
                    raise ObjectError(f"{symbol.name} is defined by {known[1].name} and by {item.name}")
                elif symbol.common > known[0].common > 0:
                    self.globals[symbol.name] = symbol, item  # the largest of several counts

    def parts(self) -> Iterable[Part]:
        """Yield the parts that take memory."""
        for item in self.objects:
            for part in item.parts:
                if part.loaded and part.size and id(part) not in self.dropped:
                    yield part

    def _place(self) -> None:
        position = OBJECTS
        for wanted in ((True, False), (False, False), (False, True), (True, True)):
            position = _up(position, PAGE_SIZE)
            for part in self.parts():
                if not part.fixed and (part.executable, part.writable) == wanted:
                    part.address = position = _up(position, part.align)
                    position += part.size
        position = _up(position, PAGE_SIZE)
        for name, (symbol, _) in self.globals.items():
            if symbol.common:
                position = _up(position, symbol.value)
                self.commons[name] = position
                position += symbol.common
        self.data_end = position
        if position > SOURCE_ORIGIN:
            size, room = position - OBJECTS, SOURCE_ORIGIN - OBJECTS
            raise ObjectError(f"the objects take {size >> 10} KiB, and there is room for {room >> 10}")

    def address(self, symbol: Named) -> int:
        """Return where a symbol that an object defines lies."""
        if symbol.common:
            return self.commons[symbol.name]
        return symbol.value + (symbol.part.address if symbol.part is not None else 0)

    def definitions(self) -> dict[str, int]:
        """Return the addresses of global names, for the test's own source."""
        found = {name: self.address(symbol) for name, (symbol, _) in self.globals.items()}
        return {name: address for name, address in found.items() if IDENTIFIER.fullmatch(name)}

    def missing(self) -> list[str]:
        """Return the names that files use and none defines."""
        return list(
            dict.fromkeys(
                relocation.symbol.name
                for part in self.parts()
                for relocation in part.relocations
                if self._undefined(relocation.symbol) and relocation.kind != GOT_BASE
            )
        )

    def _undefined(self, symbol: Named) -> bool:
        return symbol.undefined and symbol.name not in self.globals

    def link(self, source: Program, external: Mapping[str, External]) -> LinkedProgram:
        """Return the program; `external` are values and functions for names that no object defines.

        A label of `source`, the test's own, comes before it.  ObjectError names what is missing or impossible.
        """
        missing = self.missing()
        for name in external:
            if name not in missing:
                used = ", ".join(missing) or "none"
                raise ObjectError(f"no object needs {name} from elsewhere; what they need: {used}")
        values = {name: value for name, value in external.items() if isinstance(value, int)}
        labels = {name: symbol.address for name, symbol in source.symbols.items() if symbol.kind == "label"}
        for name, label in external.items():
            if isinstance(label, str) and label not in labels:
                raise ObjectError(
                    f"{name} = {label} names no label of the test's own source, and no fixture: "
                    "a fixture that returns a function answers calls, a number is an address"
                )
            if isinstance(label, str):
                values[name] = labels[label]
        values |= {name: labels[name] for name in missing if name in labels and name not in values}
        stubs = {
            name: STUBS + STUB_BYTES * index
            for index, name in enumerate(name for name in missing if name not in values)
        }
        for item in self.objects:
            for part in item.parts:
                if part.relocations and id(part) not in self.dropped and part.name != NOT_LOADED:
                    self._relocate(item, part, values, stubs, external)
        return self._program(source, stubs)

    def _relocate(
        self,
        item: ObjectFile,
        part: Part,
        values: Mapping[str, int],
        stubs: Mapping[str, int],
        external: Mapping[str, External],
    ) -> None:
        data, kinds = bytearray(part.data), {relocation.kind for relocation in part.relocations}
        for relocation in part.relocations:
            where = f"{item.name}: {part.name}+{relocation.offset:#x}"
            if not part.loaded and relocation.kind not in PIECES:
                continue  # a debugger's business
            _check_kind(relocation, sorted(kinds.intersection(GOT)), where)
            target = self._value(relocation, part, values, stubs, external)
            _patch(data, relocation, part.address, target, where)
        part.data = bytes(data)

    def _value(
        self,
        relocation: Relocation,
        part: Part,
        values: Mapping[str, int],
        stubs: Mapping[str, int],
        external: Mapping[str, External],
    ) -> int:
        """Return the value of a relocation's symbol."""
        symbol = relocation.symbol
        if not self._undefined(symbol):
            return self._defined(symbol)
        if symbol.name in values or symbol.name not in stubs:
            return values.get(symbol.name, 0)
        if symbol.name in external:
            return stubs[symbol.name]
        if symbol.weak:
            return 0  # gABI, "Symbol Table": an undefined weak symbol is zero
        if relocation.kind not in CALLS and part.loaded:
            raise ObjectError(
                f"{part.name}+{relocation.offset:#x} holds the address of {symbol.name}, which no object defines: give "
                f"it with ;@ extern {symbol.name} = VALUE, in Python with extern={{{symbol.name!r}: value}}"
            )
        return stubs[symbol.name]

    def _defined(self, symbol: Named) -> int:
        if not symbol.local and symbol.name in self.globals:
            symbol = self.globals[symbol.name][0]
        if symbol.part is not None and not symbol.part.loaded:
            return symbol.value  # an offset in a debugging section
        return self.address(symbol)

    # The outcome.

    def _program(self, source: Program, stubs: Mapping[str, int]) -> LinkedProgram:
        sections = [_section(part) for part in self.parts()]
        if self.commons:
            start = min(self.commons.values())
            sections.append(Section("COMMON", start, start, b"", self.data_end - start, True, False))
        if stubs:
            code = b"".join(STUB.ljust(STUB_BYTES, b"\xcc") for _ in stubs)
            sections.append(Section("extern", STUBS, STUBS, code, len(code), False, True))
        sections += source.sections
        _check_places(sections)
        program = LinkedProgram(
            self.objects[0].entry, sections, self._symbols(sections, stubs) | source.symbols, list(source.lines),
            source.events, source.marks, [*source.sources, *(str(item.path) for item in self.objects)],
        )  # fmt: skip
        program.objects, program.stubs = list(self.objects), dict(stubs)
        set_rights(program, self.parts())
        return program

    def _symbols(self, sections: list[Section], stubs: Mapping[str, int]) -> dict[str, Symbol]:
        found: dict[str, Symbol] = {}
        for item in self.objects:
            for symbol in item.symbols:
                if symbol.undefined or symbol.kind in ("STT_SECTION", "STT_FILE") or not symbol.name:
                    continue
                if id(symbol.part) in self.dropped or (symbol.part is not None and not symbol.part.loaded):
                    continue
                if symbol.name in found and symbol.local:
                    continue  # of two static routines of a name the first one, and never before a global one
                address = self.address(symbol)
                section = next((s.name for s in sections if s.address <= address < s.address + s.size), "")
                kind = "label" if section else "constant"
                found[symbol.name] = Symbol(symbol.name, address, section, item.name, 0, symbol.size, kind)
        for name, address in stubs.items():
            found.setdefault(name, Symbol(name, address, "extern", "", 0, STUB_BYTES))
        return dict(sorted(found.items(), key=lambda pair: pair[1].address))


def _check_kind(relocation: Relocation, used: list[str], where: str) -> None:
    """Refuse relocations of position-independent code, except the unused base of a table.

    gcc that makes such code by default computes the base in every function at -O0.
    """
    kind, name = relocation.kind, relocation.symbol.name
    if kind in GOT or (kind == GOT_BASE and used):
        raise ObjectError(
            f"{where}: {kind} ({GOT_BASE} with {', '.join(used)}) is position-independent code, which reaches "
            f"{name} through a table: compile with -fno-pie"
        )
    if kind not in PIECES and kind not in (GOT_BASE, "R_386_NONE"):
        raise ObjectError(f"{where}: {kind}, for {name}, cannot be applied: compile with -fno-pie and without TLS")


def placed(program: Program) -> LinkedProgram:
    """Return an assembled program that is linked beyond memory as one that the board maps; all of it is writable."""
    fields = (program.sections, program.symbols, program.lines, program.events, program.marks, program.sources)
    linked = LinkedProgram(program.entry, *fields, complete=True)
    set_rights(linked, [Part(s.name, s.data, s.size, writable=True, address=s.address) for s in program.sections])
    return linked


def set_rights(program: LinkedProgram, parts: Iterable[Part]) -> None:
    """Give each page of some parts its rights, and a physical page where it lies beyond memory."""
    for part in parts:
        for page in range(part.address // PAGE_SIZE, (part.address + part.size - 1) // PAGE_SIZE + 1):
            if program.rights.get(page) != "rw":
                program.rights[page] = "rw" if part.writable else "r"
    beyond = sorted(page for page in program.rights if page >= MEMORY // PAGE_SIZE)
    room = (FRAMES[1] - FRAMES[0]) // PAGE_SIZE - TABLE_PAGES
    if len(beyond) > room:
        size = len(beyond) * PAGE_SIZE >> 10
        raise ObjectError(f"{size} KiB are linked beyond {MEMORY >> 20} MiB, and there is room for {room * 4}")
    program.frames = {page: FRAMES[0] // PAGE_SIZE + index for index, page in enumerate(beyond)}


def _section(part: Part) -> Section:
    return Section(part.name, part.address, part.address, part.data, part.size, part.writable, part.executable)


def _check_places(sections: list[Section]) -> None:
    """ObjectError if two sections overlap, or one lies on memory that the board needs."""
    from callgate.tools.asmtest.board.board import FIRST_FREE, RETURN

    taken = sorted(sections, key=lambda section: section.address)
    for before, after in pairwise(taken):
        if before.address + before.size > after.address:
            raise ObjectError(f"{before.name} and {after.name} overlap at {after.address:#x}")
    for section in taken:
        end = section.address + section.size
        if section.address < PAGE_SIZE or (section.address < FIRST_FREE and end > RETURN):
            raise ObjectError(
                f"{section.name} lies at {section.address:#x} to {end:#x}: page 0 is not mapped, and "
                f"{RETURN:#x} to {FIRST_FREE:#x} are the test's own tables"
            )
        if section.address < MEMORY < end or (section.address < MEMORY and end > STUBS_END):
            raise ObjectError(f"{section.name} reaches over {STUBS_END:#x}, where memory for programs ends")


def _patch(data: bytearray, relocation: Relocation, base: int, target: int, where: str) -> None:
    """Apply one relocation; the addend is what the field holds."""
    if relocation.kind == "R_386_NONE":
        return
    size, relative = PIECES.get(relocation.kind, (4, True))  # GOTPC, whose value is not used, counts from the field
    at = relocation.offset
    if at + size > len(data):
        raise ObjectError(f"{where}: the relocated field lies outside its section")
    value = target + int.from_bytes(data[at : at + size], "little", signed=True) - (base + at if relative else 0)
    if size < 4 and not -(1 << 8 * size - 1) <= value < 1 << 8 * size:
        raise ObjectError(f"{where}: {relocation.symbol.name or relocation.kind} does not fit into {size * 8} bits")
    data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _up(address: int, align: int) -> int:
    return -(-address // max(align, 1)) * max(align, 1)
