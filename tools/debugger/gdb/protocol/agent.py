"""Agent expressions: the bytecode by which gdb hands a breakpoint's condition to a stub (GDB manual, appendix F).

Values are 64 bits.  An expression comes from outside: its stack and its steps are bounded, and a mistake in it is a
BadExpression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

MASK: Final = (1 << 64) - 1
MOST_STEPS: Final = 10_000
MOST_STACK: Final = 256
WIDTHS: Final = {0x17: 1, 0x18: 2, 0x19: 4, 0x1A: 8}  # ref8, ref16, ref32, ref64
CONSTANTS: Final = {0x22: 1, 0x23: 2, 0x24: 4, 0x25: 8}  # const8 to const64


class BadExpression(Exception):
    """An expression that cannot be evaluated."""


class Context(Protocol):
    """What an expression may look at."""

    def register(self, number: int) -> int:
        """Return a register by gdb's number; BadExpression if there is none."""
        ...

    def memory(self, address: int, size: int) -> int:
        """Return a little-endian number of 1 to 8 bytes; BadExpression if it is not mapped."""
        ...


def signed(value: int) -> int:
    """Return a 64-bit value as a signed number."""
    return value - (1 << 64) if value >> 63 else value


def divide(left: int, right: int, *, remainder: bool) -> int:
    """Divide as C does: towards zero."""
    if not right:
        raise BadExpression("division by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return left - quotient * right if remainder else quotient


BINARY: Final[dict[int, Callable[[int, int], int]]] = {
    0x02: lambda a, b: a + b,
    0x03: lambda a, b: a - b,
    0x04: lambda a, b: a * b,
    0x05: lambda a, b: divide(signed(a), signed(b), remainder=False),
    0x06: lambda a, b: divide(a, b, remainder=False),
    0x07: lambda a, b: divide(signed(a), signed(b), remainder=True),
    0x08: lambda a, b: divide(a, b, remainder=True),
    0x09: lambda a, b: a << b if b < 64 else 0,
    0x0A: lambda a, b: signed(a) >> min(b, 63),
    0x0B: lambda a, b: a >> b if b < 64 else 0,
    0x0F: lambda a, b: a & b,
    0x10: lambda a, b: a | b,
    0x11: lambda a, b: a ^ b,
    0x13: lambda a, b: int(a == b),
    0x14: lambda a, b: int(signed(a) < signed(b)),
    0x15: lambda a, b: int(a < b),
}
UNARY: Final[dict[int, Callable[[int], int]]] = {0x0E: lambda a: int(not a), 0x12: lambda a: ~a}


class Evaluation:
    """One evaluation of an expression."""

    def __init__(self, code: bytes, context: Context) -> None:
        self.code = code
        self.context = context
        self.at = 0
        self.stack: list[int] = []

    def run(self) -> int:
        """Return the value on top of the stack at the end; BadExpression."""
        for _ in range(MOST_STEPS):
            operation = self._operand(1)
            if operation == 0x27:  # end
                return self._pop()
            self._execute(operation)
            if len(self.stack) > MOST_STACK:
                raise BadExpression("the stack overflows")
        raise BadExpression(f"no end after {MOST_STEPS} steps")

    def _execute(self, operation: int) -> None:
        if operation in BINARY:
            right, left = self._pop(), self._pop()
            self._push(BINARY[operation](left, right))
        elif operation in UNARY:
            self._push(UNARY[operation](self._pop()))
        elif operation in CONSTANTS:
            self._push(self._operand(CONSTANTS[operation]))
        elif operation in WIDTHS:
            self._push(self.context.memory(self._pop() & 0xFFFF_FFFF, WIDTHS[operation]))
        elif operation in (0x16, 0x2A):  # ext, zero_ext
            self._extend(self._operand(1), sign=operation == 0x16)
        elif operation in (0x20, 0x21):  # if_goto, goto
            target = self._operand(2)
            if operation == 0x21 or self._pop():
                self.at = target
        elif operation == 0x26:  # reg
            self._push(self.context.register(self._operand(2)))
        else:
            self._move(operation)

    def _move(self, operation: int) -> None:
        """Operations that only move values on the stack."""
        if operation == 0x28:  # dup
            self._pick(0)
        elif operation == 0x29:  # pop
            self._pop()
        elif operation == 0x2B:  # swap
            top, below = self._pop(), self._pop()
            self.stack += [top, below]
        elif operation == 0x32:  # pick
            self._pick(self._operand(1))
        elif operation == 0x33:  # rot: a b c => c a b
            top, middle, bottom = self._pop(), self._pop(), self._pop()
            self.stack += [top, bottom, middle]
        else:
            raise BadExpression(f"operation {operation:#x} is not known")

    def _extend(self, bits: int, *, sign: bool) -> None:
        if not 0 < bits <= 64:
            raise BadExpression(f"{bits} bits")
        value = self._pop() & (1 << bits) - 1
        self._push(value - (1 << bits) if sign and value >> bits - 1 else value)

    def _pick(self, depth: int) -> None:
        if depth >= len(self.stack):
            raise BadExpression("the stack is empty")
        self._push(self.stack[-1 - depth])

    def _operand(self, size: int) -> int:
        if self.at + size > len(self.code):
            raise BadExpression("the expression is cut off")
        value = int.from_bytes(self.code[self.at : self.at + size], "big")
        self.at += size
        return value

    def _push(self, value: int) -> None:
        self.stack.append(value & MASK)

    def _pop(self) -> int:
        if not self.stack:
            raise BadExpression("the stack is empty")
        return self.stack.pop()
