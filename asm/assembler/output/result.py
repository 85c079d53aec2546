"""A settled unit as a `Program`: sections, symbols, lines, probes."""

import re

from callgate.asm.assembler.encoding.layout import Layout, Placement
from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.expressions import evaluate
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.language.registers import GENERAL, REGISTERS, SEGMENTS
from callgate.asm.assembler.language.statements import Chunk, Reader, Statement
from callgate.asm.assembler.output.frame_sites import read_frames
from callgate.asm.assembler.output.program import Program
from callgate.asm.assembler.output.unit import EventSite, LedgerMark, Section, SourceLine, Symbol
from callgate.asm.assembler.output.variables import read_variables

PROBE = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\s*(?P<rest>.*)$", re.ASCII | re.DOTALL)
FIELD = re.compile(r"[\s,]*(?P<key>[A-Za-z_]\w*)\s*=\s*(?P<value>[^\s,=]+(?:\([^()]*\))?)", re.ASCII)


def make_program(reader: Reader, layout: Layout, placement: Placement, entry: str | None) -> Program:
    """Return the program; AsmErrors for probes and exports that name nothing."""
    chunks = [chunk for chunk in layout.chunks if size_of(chunk)]
    sections = [make_section(chunk, placement) for chunk in chunks]
    statements = (statement for chunk in layout.chunks for statement in chunk.statements)
    lines = sorted(map(make_line, (one for one in statements if one.kind == "code")), key=lambda line: line.address)
    program = Program(entry_address(layout, entry, chunks, placement), sections, make_symbols(layout), lines)
    starts = {line.address for line in lines}
    for chunk in layout.chunks:
        for statement in chunk.statements:
            if statement.kind == "mark":
                try:
                    add_probe(program, statement, layout, starts)
                except AsmError as error:
                    layout.errors.add(
                        error if error.place.file else AsmError(statement.line.place, error.message, error.hint)
                    )
    program.frame_sites = read_frames(layout)
    program.variables = read_variables(layout)
    program.events.sort(key=lambda site: site.address)
    program.marks.sort(key=lambda mark: mark.address)
    for name, statement in reader.exported.items():
        if not layout.names.defined(name):
            unknown = layout.names.unknown(name, name)
            layout.errors.add(AsmError(statement.line.place.at(statement.column), unknown.message, unknown.hint))
    layout.errors.check()
    return program


def size_of(chunk: Chunk) -> int:
    """Return the bytes that a section occupies in memory."""
    return sum(statement.size for statement in chunk.statements)


def make_section(chunk: Chunk, placement: Placement) -> Section:
    """Return a section with its bytes."""
    spec = placement.sections.get(chunk.name)
    load = chunk.address - placement.origin + placement.load
    if spec:
        load = chunk.address if spec.load is None else spec.load
    size = size_of(chunk)
    data = b"" if chunk.zero else b"".join(statement.data for statement in chunk.statements)
    return Section(chunk.name, chunk.address, load, data, size, chunk.writable, chunk.executable)


def entry_address(layout: Layout, entry: str | None, chunks: list[Chunk], placement: Placement) -> int:
    """Return where the program starts: at `entry`, by default at `start` or the first instruction."""
    label = layout.names.labels.get(entry or "start")
    if label is not None and label.address is not None:
        return label.address
    if entry not in (None, "start"):
        hint = layout.names.unknown(entry or "", "").hint or f"define {entry}: or name another entry"
        raise AsmError(Place(layout.first_place().file, 1), f"there is no label {entry} to start at", hint)
    return next((chunk.address for chunk in chunks if chunk.executable), placement.origin)


def make_symbols(layout: Layout) -> dict[str, Symbol]:
    """Return labels by address, then constants; a global label reaches to the next one of its section.

    Of two at one address the later one names what follows; the other marks an end.
    """
    following = {chunk.name: chunk.address + size_of(chunk) for chunk in layout.chunks}
    symbols: list[Symbol] = []
    labels = [label for label in layout.names.labels.values() if "#" not in label.name]
    ascending = sorted(labels, key=lambda item: item.address or 0)
    for label in reversed(ascending):
        address, size = label.address or 0, 0
        if not label.local:
            size = following[label.section] - address
            following[label.section] = address
        kind = "local" if label.local else "label"
        symbols.append(Symbol(label.name, address, label.section, label.place.file, label.place.line, size, kind))
    symbols.sort(key=lambda symbol: (symbol.address, symbol.name))
    constants = [constant for name, constant in layout.names.constants.items() if "#" not in name]
    constants += [values[-1] for values in layout.names.settings.values()]
    for constant in constants:
        try:
            value = layout.names.value_of(constant)
        except AsmError as error:
            layout.errors.add(error if error.place.file else AsmError(constant.place, error.message, error.hint))
            continue
        place = constant.place
        symbols.append(Symbol(constant.name, value, "", place.file, place.line, 0, "constant"))
    return {symbol.name: symbol for symbol in symbols}


def make_line(statement: Statement) -> SourceLine:
    """Return an instruction's line; inside macros it is that of the outermost call."""
    place = statement.line.place
    file, number = place.call or (place.file, place.line)
    return SourceLine(statement.address, statement.size, file, number, place.text)


def add_probe(program: Program, statement: Statement, layout: Layout, starts: set[int]) -> None:
    """Add the site that a `.event` or `.ledger` names."""
    place = statement.line.place.at(statement.column)
    match = PROBE.match(statement.rest)
    if match is None:
        hint = "write .event name key=register" if statement.word == ".event" else "write .ledger name"
        raise AsmError(place, f"{statement.word} wants a name", hint)
    if statement.address not in starts:
        hint = "write it directly before the instruction that it is about"
        raise AsmError(statement.line.place, f"no instruction follows this {statement.word}", hint)
    if statement.word == ".ledger":
        amount = split_arguments(match["rest"].removeprefix(","))[0] if match["rest"] else "1"
        program.marks.append(LedgerMark(statement.address, match["name"], number(amount, statement, layout)))
        return
    fields = event_fields(match["rest"], statement, layout, statement.column + match.start("rest"))
    program.events.append(EventSite(statement.address, match["name"], fields))


def event_fields(text: str, statement: Statement, layout: Layout, column: int) -> tuple[tuple[str, str], ...]:
    """Return the fields of an event: registers by name, everything else as a number."""
    fields: dict[str, str] = {}
    end = 0
    for match in FIELD.finditer(text):
        place = statement.line.place.at(column + match.start("key"))
        if text[end : match.start()].strip(" \t,") or match["key"] in fields:
            break
        value = match["value"].lower()
        if value in REGISTERS and value not in GENERAL and value not in SEGMENTS:
            raise AsmError(place, f"{value} cannot be recorded", "general and segment registers can")
        fields[match["key"]] = value if value in REGISTERS else str(number(match["value"], statement, layout))
        end = match.end()
    if text[end:].strip(" \t,"):
        place = statement.line.place.at(column + end)
        raise AsmError(place, "a field is written key=register, each key once", "for instance slot=ecx")
    return tuple(fields.items())


def number(text: str, statement: Statement, layout: Layout) -> int:
    """Return the value of an expression of a probe."""
    finder = layout.names.finder(statement.scope, statement.address)
    return evaluate(text, statement.line.place, statement.column, finder)
