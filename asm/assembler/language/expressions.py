"""Expressions: numbers, symbols, operators, and, in addresses, registers with a factor.

A value is `Linear`: a constant plus registers times factors.  Plain expressions must come out without
registers.  A symbol that is not known yet makes the whole expression unresolved, not wrong; the layout
asks again when it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.registers import GENERAL32, REGISTERS

TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[0-9][0-9A-Za-z_]*)
  | (?P<char>'(?:\\x[0-9a-fA-F]{2}|\\.|[^'\\])')
  | (?P<name>\.?[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*(?:@[A-Za-z]+)?|\$|\.)
  | (?P<op><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!()<>\[\]])
    )""",
    re.VERBOSE,
)
ESCAPES = {
    "n": 10, "r": 13, "t": 9, "0": 0, "e": 27, "b": 8, "a": 7, "f": 12, "v": 11, "\\": 92, '"': 34, "'": 39,
}  # fmt: skip
PRECEDENCE = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "[": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip
LOCAL_NUMBER = re.compile(r"[0-9]+[bf]", re.IGNORECASE)
BINARY_NUMBER = re.compile(r"[01]+b", re.IGNORECASE)
NAME_BEHIND = re.compile(r"@|\w*")
DEPTH_LIMIT = 64
VALUE_BITS = 128
NUMBER_SHOWN = 24


class Unresolved(Exception):
    """A symbol has no value yet."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class BinaryNumber(Exception):
    """A word like a label with a number (`1010b`) is a binary number: there is no such label."""


@dataclass(slots=True)
class Linear:
    """A constant plus registers times factors; `doubled` is a register that was added to itself."""

    constant: int
    registers: dict[str, int] = field(default_factory=dict)
    doubled: str = ""


Lookup = Callable[[str], int]


class Parser:
    """Recursive descent over one expression's text."""

    def __init__(self, text: str, place: Place, column: int, lookup: Lookup, *, brackets: bool = False) -> None:
        self.brackets = brackets
        self.text = text
        self.place = place
        self.column = column
        self.lookup = lookup
        self.position = 0
        self.depth = 0
        self.token = ""
        self.kind = ""
        self.start = 0
        self._advance()

    def fail(self, message: str, hint: str = "") -> AsmError:
        """Return an error at the current token."""
        return AsmError(self.place.at(self.column + self.start), message, hint)

    def _advance(self) -> None:
        rest = self.text[self.position :]
        if not rest.strip():
            self.token, self.kind, self.start = "", "end", len(self.text)
            return
        match = TOKEN.match(self.text, self.position)
        self.start = self.position + len(rest) - len(rest.lstrip())
        if match is None:
            self.token = self.text[self.start]
            raise self.stray()
        assert match.lastgroup is not None
        self.kind, self.token = match.lastgroup, match[match.lastgroup]
        if self.token in ("[", "]") and not self.brackets:
            raise self.stray()
        self.position = match.end()

    def stray(self) -> AsmError:
        """Return the error for a character that begins no token."""
        if self.token == "\\":
            word = NAME_BEHIND.match(self.text, self.start + 1)
            return self.fail(
                f"\\{word[0] if word else ''} is not a parameter of a macro here", "declare it after .macro"
            )
        if self.token == "'":
            return self.fail("the character constant does not end", "write one character between '…'")
        if self.token == '"':
            return self.fail("a string cannot stand in an expression", "write a character as 'A'")
        if ord(self.token) > 126:
            return self.fail(f"{self.token!r} can stand in comments and strings only", "names are ASCII")
        return self.fail(f"{self.token!r} cannot stand in an expression", "leave it out")

    def whole(self) -> Linear:
        """Parse all of the text."""
        value = self.binary(1)
        if self.kind != "end":
            hint = "an operator or a comma is missing before it" if self.kind in ("name", "number", "char") else ""
            raise self.fail(f"unexpected {self.token!r} after an expression", hint or "leave it out")
        return value

    def binary(self, floor: int) -> Linear:
        """Parse operators of at least precedence `floor`."""
        left = self.unary()
        while self.kind == "op" and PRECEDENCE.get(self.token, 0) >= floor:
            if self.token == "[":  # table[ecx*4], [ebx][ecx]
                left = self.combine("+", left, self.unary())
                continue
            operator = self.token
            self._advance()
            right = self.binary(PRECEDENCE[operator] + 1)
            left = self.combine(operator, left, right)
        return left

    def unary(self) -> Linear:
        """Parse signs, complements, parentheses and atoms."""
        self.depth += 1
        if self.depth > DEPTH_LIMIT:
            raise self.fail("the expression is nested too deeply")
        try:
            if self.kind == "op" and self.token in "+-~!([":
                return self._prefix()
            return self._atom()
        finally:
            self.depth -= 1

    def _prefix(self) -> Linear:
        operator = self.token
        self._advance()
        if operator in "([":
            value = self.binary(1)
            if self.token != (")" if operator == "(" else "]"):
                what = "parenthesis" if operator == "(" else "bracket"
                raise self.fail(f"a closing {what} is missing", "write )" if operator == "(" else "write ]")
            self._advance()
            return value
        value = self.unary()
        if operator == "-":
            return Linear(-value.constant, {name: -factor for name, factor in value.registers.items()})
        if operator == "+":
            return value
        number = self.plain(value)
        return Linear(~number if operator == "~" else int(not number))

    def _atom(self) -> Linear:
        kind, token = self.kind, self.token
        if kind == "number":
            number = self._number(token)
            self._advance()
            return Linear(number)
        if kind == "char":
            code = self._character(token)
            self._advance()
            return Linear(code)
        if kind != "name":
            if kind == "end":
                raise self.fail("an expression is missing", "write a number or a name")
            hint = "registers are written without %" if token == "%" else "a number or a name is missing before it"
            raise self.fail(f"unexpected {token!r}", hint)
        if token.lower() in GENERAL32:
            self._advance()
            return Linear(0, {token.lower(): 1})
        if token.lower() in REGISTERS:
            raise self.fail(
                f"register {token.lower()} cannot stand here", "addresses are made of 32-bit general registers"
            )
        return self._name(token)

    def _number(self, token: str) -> int:
        shown = token if len(token) <= NUMBER_SHOWN else token[:NUMBER_SHOWN] + "…"
        if LOCAL_NUMBER.fullmatch(token) and (address := self._local_number(token)) is not None:
            return address
        try:
            value = parse_number(token)
        except ValueError:
            if len(token) > VALUE_BITS:
                raise self.fail(f"{shown} is too large") from None
            hint = "write decimal, 0x, 0b, 0o, or hexadecimal with h after it"
            raise self.fail(f"{shown} is not a number", hint) from None
        if token.isdigit() and token[0] == "0" and value:
            hint = f"write {value} or 0o{token.lstrip('0')}"
            raise self.fail(f"{shown} is octal to some assemblers, decimal to others", hint)
        if value.bit_length() > VALUE_BITS:
            raise self.fail(f"{shown} is too large")
        return value

    def _local_number(self, token: str) -> int | None:
        """Return the address of the label before (`1b`) or after (`1f`); None if the token is a binary number."""
        try:
            return self.lookup(token)
        except BinaryNumber:
            return None
        except AsmError as error:
            raise self._placed(error, self.start) from None

    def _character(self, token: str) -> int:
        body = token[1:-1]
        if body[0] != "\\":
            # As many bytes as in a string, in the order of memory.
            return int.from_bytes(body.encode("utf-8", "surrogateescape"), "little")
        if len(body) == 4:
            return int(body[2:], 16)
        if body[1] not in ESCAPES:
            raise self.fail(f"{body} is not an escape", "write \\\\ for a backslash")
        return ESCAPES[body[1]]

    def _name(self, token: str) -> Linear:
        start = self.start
        self._advance()
        if token in ("lo16", "hi16", "sizeof") and self.token == "(":
            self._advance()
            if token == "sizeof":
                value = self._sizeof(start)
            else:
                number = self.plain(self.binary(1))
                value = number & 0xFFFF if token == "lo16" else number >> 16 & 0xFFFF
            if self.token != ")":
                raise self.fail("a closing parenthesis is missing", "write )")
            self._advance()
            return Linear(value)
        if token.lower() == "offset":
            if self.token.lower() == "flat" and self.text[self.position :].lstrip()[:1] == ":":
                self.position = self.text.index(":", self.position) + 1
                self._advance()
            return self.unary()
        try:
            return Linear(self.lookup(token))
        except AsmError as error:
            raise self._placed(error, start) from None

    def _sizeof(self, start: int) -> int:
        name = self.token
        if self.kind != "name":
            raise self.fail("sizeof wants the name of a structure", "write sizeof(Message)")
        self._advance()
        try:
            return self.lookup(f"sizeof({name})")
        except AsmError as error:
            raise self._placed(error, start) from None

    def _placed(self, error: AsmError, start: int) -> AsmError:
        """Return an error of a lookup; one that knows no place gets that of the name."""
        return error if error.place.file else AsmError(self.place.at(self.column + start), error.message, error.hint)

    def plain(self, value: Linear) -> int:
        """Return a value that must hold no register."""
        if value.registers:
            name = next(iter(value.registers))
            raise self.fail(
                f"register {name} cannot stand in this expression", f"an address is written [{name} + number]"
            )
        return value.constant

    def combine(self, operator: str, left: Linear, right: Linear) -> Linear:
        """Apply a binary operator."""
        if operator in "+-":
            sign = 1 if operator == "+" else -1
            registers = dict(left.registers)
            doubled = left.doubled or right.doubled
            for name, factor in right.registers.items():
                doubled = name if sign == factor == registers.get(name) == 1 else doubled
                registers[name] = registers.get(name, 0) + sign * factor
            return Linear(left.constant + sign * right.constant, registers, doubled)
        if operator == "*" and (left.registers or right.registers):
            if left.registers:
                left, right = right, left
            factor = self.plain(left)
            return Linear(right.constant * factor, {name: n * factor for name, n in right.registers.items()})
        return Linear(self._calculate(operator, self.plain(left), self.plain(right)))

    def _calculate(self, operator: str, left: int, right: int) -> int:
        if operator in "/%" and right == 0:
            raise self.fail("division by zero")
        if operator in ("<<", ">>") and not 0 <= right < 64:
            raise self.fail(f"cannot shift by {right}")
        operations: dict[str, Callable[[int, int], int]] = {
            "*": lambda a, b: a * b,
            "/": truncate_divide,
            "%": lambda a, b: a - b * truncate_divide(a, b),
            "<<": lambda a, b: a << b,
            ">>": lambda a, b: a >> b,
            "&": lambda a, b: a & b,
            "|": lambda a, b: a | b,
            "^": lambda a, b: a ^ b,
            "==": lambda a, b: int(a == b),
            "!=": lambda a, b: int(a != b),
            "<": lambda a, b: int(a < b),
            "<=": lambda a, b: int(a <= b),
            ">": lambda a, b: int(a > b),
            ">=": lambda a, b: int(a >= b),
            "&&": lambda a, b: int(bool(a and b)),
            "||": lambda a, b: int(bool(a or b)),
        }
        value = operations[operator](left, right)
        if value.bit_length() > VALUE_BITS:
            raise self.fail("the value is too large")
        return value


def truncate_divide(left: int, right: int) -> int:
    """Divide towards zero, as C does."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


# Most expressions are nothing but a number, in one of these two ways, of less than VALUE_BITS.
PLAIN = re.compile("0|[1-9][0-9]{0,9}|0x[0-9a-fA-F]{1,8}")


def parse_number(token: str) -> int:
    """Return the value of a number: decimal, 0x, 0b, 0o, `0ffh`, `1010b`; ValueError if it is none."""
    text = token.replace("_", "").lower()
    if len(text) > VALUE_BITS + 2:
        raise ValueError(token)
    if text[-1] == "h":
        return int(text[:-1], 16)
    if text[-1] == "b" and text[:2] != "0x" and text[:-1].isdigit():
        return int(text[:-1], 2)
    return int(text, 10 if text.isdigit() else 0)


def evaluate(text: str, place: Place, column: int, lookup: Lookup) -> int:
    """Return the value of a plain expression; Unresolved if a symbol has none yet."""
    if PLAIN.fullmatch(text):
        return int(text, 0)
    parser = Parser(text, place, column, lookup)
    return parser.plain(parser.whole())


def evaluate_address(text: str, place: Place, column: int, lookup: Lookup) -> Linear:
    """Return the value of an expression that may hold registers, and brackets, which add what they hold."""
    return Parser(text, place, column, lookup, brackets=True).whole()
