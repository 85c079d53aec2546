"""Operands: registers, immediates, memory and far pointers, as values instead of text."""

import re
from dataclasses import dataclass, replace
from typing import Protocol

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.expressions import BinaryNumber, Linear, evaluate, evaluate_address
from callgate.asm.assembler.language.registers import REGISTERS, SEGMENTS

SIZES = {
    "byte": 8, "word": 16, "dword": 32, "qword": 64, "fword": 48, "far": 48, "xmmword": 128, "oword": 128,
    "tbyte": 80, "tword": 80,
}  # fmt: skip
PREFIX = re.compile(
    rf"\s*(?P<size>{'|'.join(SIZES)}|near|short)\b(?P<ptr>\s+ptr\b)?(?:\s+|(?=[\[(]))(?=[^\s+*/])", re.IGNORECASE
)
LEAD_END = re.compile(r"[\s\[(]")
OFFSET = re.compile(r"offset\b(?:\s+flat\s*:)?\s*", re.IGNORECASE)
FLOAT_REGISTER = re.compile(r"st\s*(?:\(\s*(?P<digit>[0-9]+)\s*\))?", re.IGNORECASE)
SEGMENT_PREFIX = re.compile(r"\s*(?P<segment>[c-gs]s)\s*:\s*", re.IGNORECASE)
SHIFT = 1 << 20  # how far a unit is moved to see what is an address
NAME = re.compile(r"[A-Za-z_.$]")
QUOTED = re.compile(r"""'(?:\\.|[^'\\])'|"(?:\\.|[^"\\])\"""")
FLAT = re.compile(r"\bflat\s*$", re.IGNORECASE)
NUMBERS = re.compile(r"\b[0-9]\w*")
NUMBERED_LABEL = re.compile(r"\b[0-9]+[bf]\b", re.IGNORECASE)
WORDED = re.compile(rf"\s*(?:{'|'.join(SIZES)})\s+ptr\b", re.IGNORECASE)
OUTSIDE = re.compile(r"\[[^\[\]]*\]")
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

    `bits` is the size given by a word in front of it, later the width of its field; `distance` is short, near,
    far or empty; `pointer` says that `ptr` followed the size word.
    """

    value: int
    bits: int = 0
    distance: str = ""
    pointer: bool = False


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


class Finder(Protocol):
    """Looks names up; `shifted` does so in a unit that lies somewhere else."""

    def __call__(self, name: str) -> int:
        """Return the value of a name."""
        ...

    def shifted(self, amount: int) -> "Finder":
        """Return a finder to which every address is larger by `shift` bytes."""
        ...


def parse_operand(text: str, place: Place, column: int, lookup: Finder) -> Operand:
    """Parse one operand."""
    column += len(text) - len(text.lstrip())
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
    lead = read_lead(body)
    rest = body[lead.end :]
    if "[" in QUOTED.sub("", body):
        offset = OFFSET.match(rest)
        number = parse_offset(rest, offset.end(), lead, place, column + lead.end, lookup) if offset else None
        return number or parse_memory(body, lead, place, column, lookup)
    if lead.pointer and not OFFSET.match(rest) and rest.lower() not in REGISTERS:
        return named_memory(rest, lead, place, column, lookup)
    return parse_number(rest, lead, place, column + lead.end, lookup)


@dataclass(frozen=True, slots=True)
class Lead:
    """The words in front of an operand; `pointer` means that `ptr` followed a size."""

    bits: int = 0
    distance: str = ""
    pointer: bool = False
    end: int = 0


NO_LEAD = Lead()


def read_lead(body: str) -> Lead:
    """Return the size and distance words that an operand begins with."""
    if body[0] == "[" or not LEAD_END.search(body):
        return NO_LEAD
    bits, distance, pointer, end = 0, "", False, 0
    while match := PREFIX.match(body, end):
        word = match["size"].lower()
        bits = SIZES[word] if word in SIZES and word != "far" else bits
        distance = word if word in ("short", "near", "far") else "far" if word == "fword" else distance
        pointer = pointer or (match["ptr"] is not None and word in SIZES)
        end = match.end()
    return Lead(bits, distance, pointer, end)


def parse_number(body: str, lead: Lead, place: Place, column: int, lookup: Finder) -> Operand:
    """Parse what has no brackets: a number, an address as a number, or selector:offset."""
    if body.lower() in REGISTERS:
        return sized_register(Register(body.lower()), lead.bits, lead.distance, place.at(column))
    if lead.bits not in (0, 8, 16, 32):
        word = "far" if lead.distance == "far" and lead.bits == 48 else f"{lead.bits} bits"
        raise AsmError(place.at(column), f"{body} is a number, and no number has {word}", bracket_hint(body))
    if match := OFFSET.match(body):
        column += match.end()
        body = body[match.end() :]
    far = FAR_POINTER.match(body)
    if far and "'" not in body and not FLAT.search(far["selector"]):
        if far["selector"].strip().lower() in SEGMENTS:
            hint = f"write {far['selector'].strip()}:[{far['offset'].strip()}]"
            raise AsmError(place.at(column), "an address stands in brackets", hint)
        selector = evaluate(far["selector"], place, column, lookup)
        offset = evaluate(far["offset"], place, column + far.start("offset"), lookup)
        return FarPointer(check_range(selector, 16, place, column), check_range(offset, 32, place, column))
    return Immediate(evaluate(body, place, column, lookup), lead.bits, lead.distance, lead.pointer)


def parse_offset(body: str, start: int, lead: Lead, place: Place, column: int, lookup: Finder) -> Immediate | None:
    """Parse `offset table[4]`, a number; None if a register stands in the brackets, which makes it memory."""
    value = evaluate_address(body[start:], place, column + start, lookup)
    if any(value.registers.values()):
        return None
    return Immediate(value.constant, lead.bits, lead.distance, lead.pointer)


def named_memory(body: str, lead: Lead, place: Place, column: int, lookup: Finder) -> Operand:
    """Parse `dword ptr label`: the memory at the label, as GNU as and MASM read it, or a number of that size.

    A constant in that place is a number to one of them and an address to the other, so it is an error.
    """
    segment = SEGMENT_PREFIX.match(body)
    unquoted = QUOTED.sub("", body)
    labels = any(is_label(token, lookup) for token in NUMBERED_LABEL.findall(unquoted))
    if segment is None and not labels and not NAME.search(NUMBERS.sub("", unquoted)):
        return parse_number(body, lead, place, column + lead.end, lookup)
    start = segment.end() if segment else 0
    column += lead.end + start
    value = evaluate(body[start:], place, column, lookup)
    if segment is None and evaluate(body, place, column, lookup.shifted(SHIFT)) - value != SHIFT:
        hint = f"write [{body}] for the memory there, or {body} alone for the number"
        raise AsmError(place.at(column), f"{body} after a size word can be read in two ways", hint)
    name = segment["segment"].lower() if segment else ""
    return Memory(lead.bits, name, "", "", 1, signed(check_range(value, 32, place, column)), lead.distance == "far")


def is_label(token: str, lookup: Finder) -> bool:
    """Whether `1b` is a label with a number; without such a label it is a binary number."""
    try:
        lookup(token)
    except BinaryNumber:
        return False
    except AsmError:
        pass  # reported when the operand is evaluated
    return True


def bracket_hint(body: str) -> str:
    """Return the bracketed form of an address."""
    return f"write [{body}] for the memory there"


def sized_register(register: Register, bits: int, distance: str, place: Place) -> Register:
    """Refuse a register after a size word that is not its own; `near` adds nothing."""
    if distance not in ("", "near") or bits not in (0, register.bits):
        raise AsmError(place, f"{register.name} is a register of {register.bits} bits", "leave the size word out")
    return register


def parse_memory(body: str, lead: Lead, place: Place, column: int, lookup: Finder) -> Memory:
    """Parse `size ptr seg:[expression]`, also with the segment inside, `table[ecx*4]` and `[ebx][ecx]`."""
    segment = ""
    position = lead.end
    match = SEGMENT_PREFIX.match(body, position)
    if match and match["segment"].lower() in SEGMENTS:
        segment = match["segment"].lower()
        position = match.end()
    rest = body[position:]
    if rest[:1] == "[" and rest[-1] == "]" and "[" not in (inner := rest[1:-1]):
        start = position + 1
        if ":" in inner or WORDED.match(inner):
            return parse_inner(inner, lead, segment, place, column + start, lookup)
    else:
        inner, start = rest, position
        if rest[:1] == "[" and whole_bracket(rest) and WORDED.match(rest[1:]):
            return parse_inner(rest[1:-1], lead, segment, place, column + start + 1, lookup)
        if not plausible(rest):
            raise AsmError(place.at(column + position), f"{body} is not a memory operand", memory_hint(body))
    if lead.distance == "short":
        raise AsmError(place.at(column), "short is for labels", "leave it out: the branch goes to what memory holds")
    value = evaluate_address(inner, place, column + start, lookup)
    base, index, scale = split_registers(value, place.at(column + start))
    displacement = signed(check_range(value.constant, 32, place, column + start))
    bits = 32 if lead.distance == "near" and not lead.bits else lead.bits
    return Memory(
        48 if lead.distance == "far" else bits, segment, base, index, scale, displacement, lead.distance == "far"
    )


def parse_inner(inner: str, lead: Lead, segment: str, place: Place, column: int, lookup: Finder) -> Memory:
    """Parse what stands in brackets with a segment (`[fs:ecx]`) or a size (`[dword ptr 8[ebp]]`) of its own."""
    body = inner.strip()
    column += len(inner) - len(inner.lstrip())
    if WORDED.match(body):
        own = read_lead(body)
        if lead.end and lead.bits != own.bits:
            raise AsmError(place.at(column), "two sizes are given", "leave the inner one out")
        if "[" in body[own.end :] or SEGMENT_PREFIX.match(body, own.end):
            return parse_memory(body, own, place, column, lookup)
        return parse_memory(f"{body[: own.end]}[{body[own.end :]}]", own, place, column - 1, lookup)
    match = SEGMENT_PREFIX.match(body)
    if match is None or match["segment"].lower() not in SEGMENTS or segment:
        raise AsmError(place.at(column), f"[{body}] is not a memory operand", "write size ptr segment:[address]")
    own = Lead(lead.bits, lead.distance, lead.pointer, 0)
    memory = parse_memory(f"[{body[match.end() :]}]", own, place, column + match.end() - 1, lookup)
    return replace(memory, segment=match["segment"].lower())


def plausible(text: str) -> bool:
    """Whether brackets are closed, and an expression, a sign or another bracket stands around each."""
    if text.count("[") != text.count("]") or ":" in text:
        return False
    before = text[: text.index("[")].strip().lower()
    outside = OUTSIDE.split(text)[1:]
    return before not in REGISTERS and all(not part.strip() or part.strip()[0] in "+-" for part in outside)


def whole_bracket(text: str) -> bool:
    """Whether the first bracket of a text is closed by its last character."""
    depth = 0
    for position, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if not depth:
            return position == len(text) - 1
    return False


def memory_hint(body: str) -> str:
    """Return what to write instead of something with a bracket that is not a memory operand."""
    before = body[: body.index("[")].strip()
    if body.count("[") != body.count("]"):
        return "close the bracket"
    if before.lower() in REGISTERS:
        return "is a comma missing?"
    return "write size ptr segment:[address]" if ":" in body else "write [address + number]"


def signed(value: int) -> int:
    """Return an unsigned number of 32 bits as a signed one."""
    return value - (1 << 32) if value >> 31 else value


def same_register(value: Linear, factor_of: tuple[str, int]) -> tuple[str, str, int] | None:
    """Return the parts of an address that has one register as base and index, as `[eax*3]` and `[eax + eax]`."""
    name, factor = factor_of
    if name == "esp" or not (factor in (3, 5, 9) or (factor == 2 and value.doubled == name)):
        return None
    return name, name, factor - 1


def split_registers(value: Linear, place: Place) -> tuple[str, str, int]:
    """Return base, index and scale of an address; an error if no addressing form has them."""
    factors = {name: factor for name, factor in value.registers.items() if factor}
    if not factors:
        return "", "", 1
    if len(factors) == 1 and (twice := same_register(value, *factors.items())):
        return twice
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
