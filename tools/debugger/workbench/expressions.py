"""Expressions of commands: registers, memory, fields of structures, and the names of the ABI's numbers.

    eax == 5 and [esp+4] != 0          dword in memory; byte[…], word[…]
    operation == FREE_SPACE            fields of the event, or of the request of the running thread
    slot[5].client != 0                the 32 slots of its endpoint; endpoint[1].free for one by number

The grammar is Python's, of which only operators, names, attributes and subscripts are let in: nothing can be called.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

from callgate.kernel.abi.calls import Operation, ServerCall, SystemCall, WaitReason
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import ReplyType, SlotState
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.workbench.failure import CommandError

ENUMERATIONS: Final[tuple[type[IntEnum], ...]] = (
    *(Operation, ErrorCode, SlotState, ReplyType, WaitReason, SystemCall, ServerCall),
)
KINDS: Final[dict[str, tuple[type[IntEnum], ...]]] = {
    "call": (SystemCall, ServerCall),
    "op": (Operation,),
    "operation": (Operation,),
    "error": (ErrorCode,),
    "type": (ReplyType,),
    "reply": (ReplyType,),
    "state": (SlotState,),
    "wait_reason": (WaitReason,),
}
"""What numbers a field holds: LOCK_DIRECTORY is an operation and a system call, with another number each."""
SIZES: Final = {"byte": 1, "word": 2, "dword": 4, "qword": 8}
BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
COMPARED: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}
LONGEST_SHIFT: Final = 63
WHOLE: Final = "[]"  # at the end of a name: what has parts is meant, and no number of the same name
LABEL: Final = ":"  # at the end of a name: a label of a program is meant

Read = Callable[[int, int], bytes]
Names = Callable[[str], Any]


class UnknownName(CommandError):
    """A name of an expression that means nothing."""


class Several:
    """Things by number, one of which is meant where a number is wanted."""

    def meant(self) -> int:
        """Return the number of that one; CommandError if there is none."""
        raise NotImplementedError

    def number(self, name: str) -> int | None:
        """Return the number of the one that a name means; None if there is none."""
        del name
        return None

    def __getitem__(self, number: Any) -> Any:
        """Return the one with a number; CommandError."""
        raise NotImplementedError

    def each(self) -> Iterable[tuple[int, object]]:
        """Return all of them with their numbers."""
        raise NotImplementedError


class Expression:
    """A parsed expression."""

    def __init__(self, text: str) -> None:
        """CommandError if it is none."""
        self.text = text.strip()
        try:
            self.tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise CommandError(f"{self.text!r} is no expression; try: help expressions") from None
        for node in ast.walk(self.tree):
            if isinstance(node, ast.BinOp) and not isinstance(node.op, (*BINARY, ast.LShift, ast.RShift)):
                raise CommandError("operators are + - * // % & | ^ << >>, and comparisons")

    @cached_property
    def conjuncts(self) -> list[Expression]:
        """What all has to hold for it to hold."""
        if isinstance(self.tree, ast.BoolOp) and isinstance(self.tree.op, ast.And):
            return [Expression(ast.unparse(node)) for node in self.tree.values]
        return [self]

    def value(self, names: Names, read: Read) -> Any:
        """Return the value now; CommandError says what has none.

        `names` returns what a name means, LookupError if nothing; `read(linear, size)` returns memory.
        """
        try:
            return _Evaluation(names, read).of(self.tree)
        except (TypeError, IndexError, KeyError, AttributeError) as error:
            raise CommandError(f"{self.text}: {error.args[0] if error.args else error}") from None
        except ZeroDivisionError:
            raise CommandError(f"{self.text}: division by zero") from None
        except (PageFault, DmaError):
            raise CommandError(f"{self.text}: no memory is mapped there") from None
        except RecursionError:
            raise CommandError(f"{self.text[:40]}…: too deep") from None


class _Evaluation:
    def __init__(self, names: Names, read: Read) -> None:
        self.names = names
        self.read = read

    def of(self, node: ast.expr) -> Any:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise CommandError(f"{ast.unparse(node)}: not allowed here; try: help expressions")
        return method(node)

    def _constant(self, node: ast.Constant) -> Any:
        if not isinstance(node.value, int | str):
            raise CommandError(f"{ast.unparse(node)}: only whole numbers and texts are known")
        return node.value

    def _name(self, node: ast.Name) -> Any:
        try:
            return self.names(node.id)
        except LookupError:
            return constant_or_label(node.id, self.names)

    def _list(self, node: ast.List) -> int:
        if len(node.elts) != 1:
            raise CommandError("[ADDRESS] holds one address")
        return int.from_bytes(self.read(whole_number(node.elts[0], self.of), SIZES["dword"]), "little")

    def _subscript(self, node: ast.Subscript) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id in SIZES:
            return int.from_bytes(self.read(whole_number(node.slice, self.of), SIZES[node.value.id]), "little")
        whole = self._whole(node.value)
        if not isinstance(whole, Several | Sequence) or isinstance(whole, str):
            raise CommandError(f"{ast.unparse(node.value)} has no parts with numbers")
        named = whole.number(node.slice.id) if isinstance(whole, Several) and isinstance(node.slice, ast.Name) else None
        index = self.of(node.slice) if named is None else named
        if not isinstance(whole, Several) and not 0 <= index < len(whole):
            raise CommandError(f"no {ast.unparse(node.value)}[{index}]; there is 0 to {len(whole) - 1}")
        return whole[index]

    def _attribute(self, node: ast.Attribute) -> Any:
        if node.attr.startswith("_"):
            raise CommandError(f"{node.attr}: not a field")
        try:
            return self.names(ast.unparse(node) + LABEL)  # take_slot.retry
        except LookupError:
            base = one_of(self._whole(node.value))
        if isinstance(base, int):
            raise CommandError(f"{ast.unparse(node.value)} is a number: it has no field {node.attr!r}")
        return getattr(base, node.attr)

    def _whole(self, node: ast.expr) -> Any:
        """Return what a part is taken of: `slot[0]` is no part of the number that an event has in its field `slot`."""
        if isinstance(node, ast.Name):
            try:
                return self.names(node.id + WHOLE)
            except LookupError:
                pass
        return self.of(node)

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = plain(self.of(node.left)), plain(self.of(node.right))
        if not (isinstance(left, int) and isinstance(right, int)):
            raise CommandError(f"{ast.unparse(node)}: only numbers can be added, multiplied, and so on")
        if isinstance(node.op, ast.LShift | ast.RShift):
            if not 0 <= right <= LONGEST_SHIFT:
                raise CommandError(f"a shift is by 0 to {LONGEST_SHIFT} bits")
            return left << right if isinstance(node.op, ast.LShift) else left >> right
        return BINARY[type(node.op)](left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        return UNARY.get(type(node.op), lambda value: value)(self.of(node.operand))

    def _boolop(self, node: ast.BoolOp) -> bool:
        values = (bool(self.of(value)) for value in node.values)
        return all(values) if isinstance(node.op, ast.And) else any(values)

    def _compare(self, node: ast.Compare) -> bool:
        left = self._compared(node.left, node.comparators[0])
        before = node.left
        for kind, other in zip(node.ops, node.comparators, strict=True):
            right = self._compared(other, before)
            if type(kind) not in COMPARED:
                raise CommandError("comparisons are == != < <= > >=")
            for side_, value in ((before, left), (other, right)):
                if not isinstance(value, int | str):
                    raise CommandError(f"{ast.unparse(side_)} is no number that could be compared; name a field of it")
            if isinstance(left, str) is not isinstance(right, str):
                raise CommandError(f"{ast.unparse(node)}: a text cannot be compared with a number")
            before = other
            if not COMPARED[type(kind)](left, right):
                return False
            left = right
        return True

    def _compared(self, node: ast.expr, other: ast.expr) -> Any:
        """Return one side of a comparison: a name of the ABI means a number of what the other side is."""
        return plain(side(node, other, self.names, self.of))


def whole_number(node: ast.expr, value: Callable[[ast.expr], Any]) -> int:
    """Return the number that a part of an expression is; CommandError if it is none."""
    number = plain(value(node))
    if not isinstance(number, int):
        raise CommandError(f"{ast.unparse(node)} is no number")
    return int(number)


def plain(value: Any) -> Any:
    """Return a value, of several things the number of the one that is meant."""
    return value.meant() if isinstance(value, Several) else value


def side(node: ast.expr, other: ast.expr, names: Names, value: Callable[[ast.expr], Any]) -> Any:
    """Return the value of one side of a comparison; CommandError."""
    if isinstance(node, ast.Name):
        try:
            return names(node.id)
        except LookupError:
            return constant_or_label(node.id, names, KINDS.get(last_name(other), ENUMERATIONS))
    return value(node)


def one_of(value: Any) -> Any:
    """Return a value, of several things the one that is meant."""
    return value[value.meant()] if isinstance(value, Several) else value


def constant_or_label(name: str, names: Names, enumerations: tuple[type[IntEnum], ...] = ENUMERATIONS) -> int:
    """Return a number of the ABI, or if there is none the address of a label; CommandError names those like it."""
    try:
        return constant(name, enumerations)
    except UnknownName:
        with suppress(LookupError):
            return int(names(name + LABEL))
        raise


def error_name(value: int) -> str:
    """Return an ErrorCode by its name."""
    return ErrorCode(value).name if value in set(ErrorCode) else f"error {value:#x}"


def last_name(node: ast.expr) -> str:
    """Return the last name of `call`, `message.operation`, `endpoint[1].state[3]`; "" of others."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def constant(name: str, enumerations: tuple[type[IntEnum], ...] = ENUMERATIONS) -> int:
    """Return a number of the ABI by its name, in capitals or not; CommandError names those like it."""
    known: dict[str, int] = {}
    for enumeration in reversed(enumerations):
        known |= enumeration.__members__
    if name.upper() not in known:
        raise UnknownName(f"no register, field or number {name!r}; there is {those_like(name.upper(), known)}")
    return known[name.upper()]


def layered(*layers: Mapping[str, Any] | Names) -> Names:
    """Return a function that looks a name up in each layer in turn; LookupError if none has it."""

    def look(name: str) -> Any:
        for layer in layers:
            try:
                return layer(name) if callable(layer) else layer[name]
            except LookupError:
                continue
        raise LookupError(name)

    return look
