"""Operands: registers, immediates, memory and far pointers, as values instead of text."""

import re
from dataclasses import dataclass

from callgate.asm.assembler.errors import AsmError, Place
from callgate.asm.assembler.expressions import Linear, Lookup, evaluate, evaluate_address
from callgate.asm.assembler.registers import REGISTERS, SEGMENTS

SIZES = {
    "byte": 8, "word": 16, "dword": 32, "qword": 64, "fword": 48, "far": 48, "xmmword": 128, "oword": 128,
    "tbyte": 80, "tword": 80,
}  # fmt: skip
PREFIX = re.compile(rf"\s*(?P<size>{'|'.join(SIZES)})\b(?:\s+ptr\b)?\s*(?=[\[a-z])", re.IGNORECASE)
NUMBER_PREFIX = re.compile(r"(?P<word>byte|word|dword|short|near|far|offset)\b(?:\s+ptr\b)?\s*", re.IGNORECASE)
FLOAT_REGISTER = re.compile(r"st\s*(?:\(\s*(?P<digit>[0-9]+)\s*\))?", re.IGNORECASE)
SEGMENT_PREFIX = re.compile(r"\s*(?P<segment>[c-gs]s)\s*:\s*(?=\[)", re.IGNORECASE)
QUOTED = re.compile(r"""'(?:\\.|[^'\\])'|"(?:\\.|[^"\\])\"""")
FAR_POINTER = re.compile(r"^(?P<selector>[^:\[\]]+):(?P<offset>[^:\[\]]+)$")


@dataclass(frozen=True, slots=True)
class Register:
    """A register by name."""

    name: str

    @property
    def bits(self) -> int:
        """Size in bits."""
        return REGISTERS.get(self.name, 80)


@dataclass(frozen=True, slots=True)
class Immediate:
    """A number.

    `bits` is what a size word in front of it said, later the width of its field; `distance` is short, near,
    far or empty.
    """

    value: int
    bits: int = 0
    distance: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory operand; `bits` 0 = not said; `displacement` is signed."""

    bits: int
    segment: str
    base: str
    index: str
    scale: int
    displacement: int
    far: bool = False

    @property
    def default_segment(self) -> str:
        """The segment that is used without an override (Intel SDM vol. 1, 3.7.4)."""
        return "ss" if self.base in ("esp", "ebp") else "ds"


@dataclass(frozen=True, slots=True)
class FarPointer:
    """selector:offset."""

    selector: int
    offset: int


Operand = Register | Immediate | Memory | FarPointer


def parse_operand(text: str, place: Place, column: int, lookup: Lookup) -> Operand:
    """Parse one operand."""
    lead = len(text) - len(text.lstrip())
    column += lead
    body = text.strip()
    if not body:
        raise AsmError(place.at(column), "an operand is missing", "write one between the commas, or one comma less")
    if body.lower() in REGISTERS:
        return Register("st(0)" if body.lower() == "st" else body.lower())
    match = FLOAT_REGISTER.fullmatch(body)
    if match:
        if not match["digit"] or int(match["digit"]) > 7:
            raise AsmError(place.at(column), f"there is no register {body}", "write st(0) to st(7)")
        return Register(f"st({match['digit']})")
    if "[" in QUOTED.sub("", body):
        return parse_memory(body, place, column, lookup)
    bits, distance = 0, ""
    while match := NUMBER_PREFIX.match(body):
        word = match["word"].lower()
        bits = SIZES.get(word, bits) if word != "far" else bits
        distance = word if word in ("short", "near", "far") else distance
        column += match.end()
        body = body[match.end() :]
    if body.lower() in REGISTERS:
        return sized_register(Register(body.lower()), bits, distance, place.at(column))
    far = FAR_POINTER.match(body)
    if far and "'" not in body:
        if far["selector"].strip().lower() in SEGMENTS:
            hint = f"write {far['selector'].strip()}:[{far['offset'].strip()}]"
            raise AsmError(place.at(column), "an address stands in brackets", hint)
        selector = evaluate(far["selector"], place, column, lookup)
        offset = evaluate(far["offset"], place, column + far.start("offset"), lookup)
        return FarPointer(check_range(selector, 16, place, column), check_range(offset, 32, place, column))
    return Immediate(evaluate(body, place, column, lookup), bits, distance)


def sized_register(register: Register, bits: int, distance: str, place: Place) -> Register:
    """Refuse a register behind a size word that is not its own."""
    if distance or bits not in (0, register.bits):
        raise AsmError(place, f"{register.name} is a register of {register.bits} bits", "leave the size word out")
    return register


def parse_memory(body: str, place: Place, column: int, lookup: Lookup) -> Memory:
    """Parse `size ptr seg:[expression]`, also with the segment inside the brackets."""
    size, far, segment = 0, False, ""
    match = PREFIX.match(body)
    position = 0
    if match:
        word = match["size"].lower()
        size, far = SIZES[word], word in ("far", "fword")
        position = match.end()
    match = SEGMENT_PREFIX.match(body, position)
    if match:
        segment = match["segment"].lower()
        position = match.end()
    if body[position : position + 1] != "[" or not body.endswith("]"):
        raise AsmError(place.at(column + position), f"{body} is no memory operand", memory_hint(body))
    inner = body[position + 1 : -1]
    inside = re.match(r"\s*([c-gs]s)\s*:", inner, re.IGNORECASE)
    start = position + 1
    if inside and inside[1].lower() in SEGMENTS:
        segment = inside[1].lower()
        start += inside.end()
        inner = inner[inside.end() :]
    value = evaluate_address(inner, place, column + start, lookup)
    base, index, scale = split_registers(value, place.at(column + start))
    displacement = check_range(value.constant, 32, place, column + start)
    signed = displacement - (1 << 32) if displacement >> 31 else displacement
    return Memory(size, segment, base, index, scale, signed, far)


def memory_hint(body: str) -> str:
    """Return what to write instead of something with a bracket that is no memory operand."""
    before = body[: body.index("[")].strip() if "[" in body else ""
    if not body.endswith("]"):
        return "close the bracket" if body.count("[") > body.count("]") else "nothing may stand behind the bracket"
    if before.lower() in REGISTERS:
        return "is a comma missing?"
    return f"write [{before} + register]" if before else "write size ptr segment:[address]"


def split_registers(value: Linear, place: Place) -> tuple[str, str, int]:
    """Return base, index and scale of an address; an error if no addressing form has them."""
    factors = {name: factor for name, factor in value.registers.items() if factor}
    if not factors:
        return "", "", 1
    if len(factors) == 1:
        name, factor = next(iter(factors.items()))
        if factor in (3, 5, 9) and name != "esp":
            return name, name, factor - 1
    ones = [name for name, factor in factors.items() if factor == 1]
    others = [name for name, factor in factors.items() if factor != 1]
    if len(others) > 1 or len(factors) > 2 or any(factors[name] not in (2, 4, 8) for name in others):
        raise AsmError(place, "no addressing form has these registers", "use base + index * 1, 2, 4 or 8")
    if others:
        index = others[0]
        if index == "esp":
            raise AsmError(place, "esp cannot be an index", "let it be the base, or use another register")
        return (ones[0] if ones else ""), index, factors[index]
    if len(ones) == 1:
        return ones[0], "", 1
    base, index = ones
    if index == "esp":
        base, index = index, base
    if index == "esp":
        raise AsmError(place, "esp cannot be an index", "let it be the base, or use another register")
    return base, index, 1


def check_range(value: int, bits: int, place: Place, column: int) -> int:
    """Return a value as unsigned; an error if it fits `bits` neither as signed nor as unsigned."""
    if not -(1 << bits - 1) <= value < 1 << bits:
        hint = f"write {-(1 << bits - 1):#x} to {(1 << bits) - 1:#x}"
        raise AsmError(place.at(column), f"{value:#x} does not fit {bits} bits", hint)
    return value & (1 << bits) - 1
