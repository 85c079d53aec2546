"""Bytes of data directives: numbers, strings, space, files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from callgate.asm.assembler.encoding.floats import float_bytes
from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.expressions import ESCAPES
from callgate.asm.assembler.language.macros import split_arguments
from callgate.asm.assembler.language.source import Sources, unquote
from callgate.asm.assembler.language.statements import DATA_SIZES, Chunk, Statement

SIZE_LIMIT = 64 << 20
ALIGNMENT_LIMIT = 1 << 20
ALIGNMENTS = (".align", ".balign", ".p2align")
FILL_UNIT_LIMIT = 8
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)
# Recommended multi-byte NOPs (Intel SDM vol. 2, NOP, table 4-12), by length.
NOPS = tuple(
    bytes.fromhex(code)
    for code in (
        "", "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000",
        "0f1f840000000000", "660f1f840000000000",
    )
)  # fmt: skip


class Values(Protocol):
    """Evaluates expressions of a statement."""

    def __call__(self, text: str, column: int) -> int:
        """Return the value of the expression at a column."""
        ...

    def is_address(self, text: str, column: int) -> bool:
        """Whether the value moves as the unit does."""
        ...


@dataclass(slots=True)
class Context:
    """What a directive needs to know: its section, and the value of an expression at a column."""

    chunk: Chunk
    sources: Sources
    value: "Values"
    is_final: Callable[[], bool]

    @property
    def final(self) -> bool:
        """Whether the values asked for so far are final, so that they must be right."""
        return self.is_final()


def numbers(statement: Statement, context: Context) -> bytes:
    """`.byte .word .long .quad`: numbers, and strings in `.byte`."""
    size = DATA_SIZES[statement.word]
    out = bytearray()
    for part, column in arguments(statement):
        if part.startswith('"'):
            if size != 1:
                hint = "use .ascii, or .byte for strings among numbers"
                raise AsmError(statement.line.place.at(column), f"{statement.word} holds numbers", hint)
            out += string_bytes(part, statement.line.place.at(column))
        else:
            out += pack(context.value(part, column), size, statement.line.place.at(column), final=context.final)
    return bytes(out)


def pack(value: int, size: int, place: Place, *, final: bool) -> bytes:
    """Return a number of `size` bytes; AsmError if it fits neither signed nor unsigned."""
    bits = 8 * size
    if final and not -(1 << bits - 1) <= value < 1 << bits:
        hint = "use a larger directive, or lo16 and hi16"
        raise AsmError(place, f"{value:#x} does not fit {bits} bits", hint)
    return (value & (1 << bits) - 1).to_bytes(size, "little")


def floats(statement: Statement, context: Context) -> bytes:
    """`.float .double .tfloat`: numbers of 32, 64 and 80 bits."""
    out = bytearray()
    for part, column in arguments(statement):
        place = statement.line.place.at(column)
        if "/" in part or "%" in part:
            hint = "write the quotient with a point: .float 0.5"
            raise AsmError(place, f"{part} would be divided as whole numbers are", hint)
        try:
            code = float_bytes(part, statement.word) or float_bytes(str(context.value(part, column)), statement.word)
        except OverflowError:
            raise AsmError(place, f"{part} is too large for {statement.word}", "use .double or .tfloat") from None
        assert code is not None
        out += code
    return bytes(out)


def texts(statement: Statement, _context: Context) -> bytes:
    """`.ascii .asciz .string`: strings, without and with a zero after each."""
    out = bytearray()
    for part, column in arguments(statement):
        out += string_bytes(part, statement.line.place.at(column))
        out += b"" if statement.word == ".ascii" else b"\0"
    return bytes(out)


def arguments(statement: Statement) -> list[tuple[str, int]]:
    """Return the arguments with their columns; AsmError if there are none."""
    if not statement.rest:
        raise AsmError(
            statement.line.place.at(statement.column), f"{statement.word} has no argument", "write one after it"
        )
    result = []
    position = 0
    for part in split_arguments(statement.rest):
        # The parts are the text itself without the blanks at their ends.
        position = statement.rest.find(part, position)
        result.append((part, statement.column + position))
        position += len(part) + 1
    return result


def space(statement: Statement, context: Context) -> bytes:
    """`.space .fill .align .org .incbin`."""
    if statement.word == ".incbin":
        return incbin(statement, context)
    parts = arguments(statement)
    most = 3 if statement.word in (".fill", *ALIGNMENTS) else 2
    if len(parts) > most:
        raise AsmError(
            statement.line.place.at(parts[most][1]),
            f"{statement.word} takes at most {most} arguments",
            "leave the others out",
        )
    place = statement.line.place.at(parts[0][1])
    if statement.word in ALIGNMENTS:
        given = [context.value(part, column) if part else None for part, column in parts]
        return alignment(statement, given, context, place)
    values = [context.value(part, column) for part, column in parts]
    if statement.word == ".fill":
        return fill(values, context, place)
    count = values[0]
    if statement.word == ".org":
        at = statement.address - context.chunk.address
        if context.value.is_address(*parts[0]):
            count -= context.chunk.address
        if not at <= count <= SIZE_LIMIT and context.final:
            problem = "cannot go back to" if 0 <= count < at else "cannot go to"
            raise AsmError(
                place, f".org {problem} offset {count:#x}", f"{context.chunk.name} is at offset {at:#x} here"
            )
        count -= at
    filler = values[1] if len(values) > 1 else 0
    return repeated(pack(filler, 1, place, final=context.final), count, context, place)


def repeated(unit: bytes, count: int, context: Context, place: Place) -> bytes:
    """Return a filling; before the layout is final a count out of range counts as 0."""
    if 0 <= count * len(unit) <= SIZE_LIMIT:
        return unit * count
    if not context.final:
        return b""
    raise AsmError(place, f"{count} is not a valid size", f"write 0 to {SIZE_LIMIT}")


def fill(values: list[int], context: Context, place: Place) -> bytes:
    """`.fill count[, size[, value]]`."""
    size = values[1] if len(values) > 1 else 1
    if not 1 <= size <= FILL_UNIT_LIMIT:
        raise AsmError(place, f".fill cannot repeat numbers of {size} bytes", "write 1 to 8")
    unit = pack(values[2] if len(values) > 2 else 0, size, place, final=context.final)
    return repeated(unit, values[0], context, place)


def alignment(statement: Statement, values: list[int | None], context: Context, place: Place) -> bytes:
    """`.align bytes[, filling[, most]]`: NOPs in code, zeros elsewhere; `.p2align` takes the exponent.

    If more than `most` bytes were skipped, none are.
    """
    boundary = values[0] or 1
    filler = values[1] if len(values) > 1 else None
    most = values[2] if len(values) > 2 else None
    if statement.word == ".p2align" and 0 <= boundary < 32:
        boundary = 1 << boundary
    if not 1 <= boundary <= ALIGNMENT_LIMIT or boundary & boundary - 1:
        raise AsmError(place, f"{boundary} is not an alignment", f"write a power of two up to {ALIGNMENT_LIMIT:#x}")
    context.chunk.alignment = max(context.chunk.alignment, boundary)
    count = -statement.address % boundary
    if most is not None and count > most:
        return b""
    if filler is not None or not context.chunk.executable:
        return pack(filler or 0, 1, place, final=context.final) * count
    whole, rest = divmod(count, len(NOPS) - 1)
    return NOPS[-1] * whole + NOPS[rest]


def incbin(statement: Statement, context: Context) -> bytes:
    """`.incbin "file"[, offset[, length]]`."""
    (name, column), *rest = arguments(statement)
    place = statement.line.place.at(column)
    path = context.sources.find(unquote(name, place), place, Path(place.file))
    values = [context.value(part, column) for part, column in rest]
    try:
        content = context.sources.read(path)
    except OSError as error:
        raise AsmError(place, f"{path} cannot be read: {error.strerror or error}") from None
    start = values[0] if values else 0
    end = start + values[1] if len(values) > 1 else len(content)
    if len(values) > 2 or not 0 <= start <= end <= len(content):
        hint = "correct offset and length"
        raise AsmError(place, f"{name} has {len(content)} bytes, not {start} to {end}", hint)
    return content[start:end]


def string_bytes(text: str, place: Place) -> bytes:
    r"""Return the bytes of a quoted string: UTF-8; \n \r \t \0 \e \a \b \f \v \\ \" \' \xHH and octal digits."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        hint = 'close it with "' if text.startswith('"') else 'write "…"'
        raise AsmError(place, "a string in double quotes is expected", hint)
    out = bytearray()
    body = text[1:-1]
    end = 0
    for match in ESCAPE.finditer(body):
        out += utf8(body[end : match.start()], place)
        out.append(escape(match, place.at(place.column + 1 + match.start())))
        end = match.end()
    if body[end:].endswith("\\") or '"' in ESCAPE.sub("", body):
        raise AsmError(place, "the string does not end where the statement does", 'write \\" for " and \\\\ for \\')
    return bytes(out + utf8(body[end:], place))


def escape(match: re.Match[str], place: Place) -> int:
    """Return the byte of an escape."""
    hexadecimal, octal, char = match.groups()
    if char is not None and char not in ESCAPES:
        raise AsmError(place, f"\\{char} is not an escape", "write \\\\ for a backslash")
    value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else ESCAPES[str(char)]
    if value > 255:
        raise AsmError(place, f"\\{octal} is more than a byte", "write \\0 to \\377")
    return value


def utf8(text: str, place: Place) -> bytes:
    """Return UTF-8; bytes of the source that were not UTF-8 are kept."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise AsmError(place, "the string holds half a surrogate pair") from None
