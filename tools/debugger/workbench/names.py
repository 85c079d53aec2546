"""What a name means in an expression: where the system stands now."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.abi.selectors import SLOTS
from callgate.kernel.common.near_miss import those_like
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.observation.structures import Structure
from callgate.kernel.watching.requests import SlotView, request_of
from callgate.tools.debugger.target import NoKernel
from callgate.tools.debugger.workbench.expressions import (
    ENUMERATIONS,
    LABEL,
    WHOLE,
    Expression,
    Several,
    UnknownName,
    layered,
    one_of,
    plain,
    side,
    whole_number,
)
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.selection import OF_CPU

if TYPE_CHECKING:
    from callgate.asm.assembler import Symbol
    from callgate.kernel.core.records import EndpointState
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.workbench.selection import Selected

REGISTERS: Final = (
    *("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags"),
    *("cs", "ss", "ds", "es", "fs", "gs", "cr0", "cr2", "cr3", "cr4", "cpl"),
)
FIELDS: Final = (
    *("slot", "endpoint", "operation", "linear", "message", "handler", "type", "call", "value", "to", "from"),
    *("length", "frame", "vector", "error", "eip", "cr2", "request", "disk", "slots", "port", "channel", "device"),
    *("code", "lba", "task_file", "reason", "status", "thread"),
)
"""Fields of events (docs/trace.md)."""
OTHERS: Final = ("op", "message", "request", "slot", "endpoint", "thread", "process", "clock", "retired")
OF_KERNEL: Final = ("op", "operation", "message", "request", "slot", "endpoint")
"""Names that mean nothing on a machine without a kernel, unless an event has a field of the name."""
SIZES: Final = ("byte", "word", "dword", "qword")
SIZE_OF_DWORD: Final = 4


class Endpoints(dict[int, Structure], Several):
    """The endpoints by number; as a number, it is that of the running thread's request."""

    def __init__(self, blocks: dict[int, Structure], present: Callable[[], int], names: dict[str, int]) -> None:
        super().__init__(blocks)
        self.meant = present  # type: ignore[method-assign]
        self.names = names

    def number(self, name: str) -> int | None:
        """Return the number of an endpoint by its name."""
        return self.names.get(name)

    def each(self) -> Iterable[tuple[int, Structure]]:
        """Return them by number."""
        return sorted(self.items())

    def __missing__(self, number: object) -> NoReturn:
        known = ", ".join(str(known) for known in sorted(self))
        raise CommandError(f"no endpoint {number}; there is {known or 'none yet'}")


class Slots(list[Structure], Several):
    """The slot records of an endpoint by number; as a number, it is that of the running thread's request."""

    def __init__(self, records: list[Structure], present: int) -> None:
        super().__init__(records)
        self.present = present

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, int) and not 0 <= number < len(self):
            raise CommandError(f"no slot {number}; there is 0 to {len(self) - 1}")
        return super().__getitem__(number)

    def meant(self) -> int:
        """Return the index of the request's slot."""
        return self.present

    def each(self) -> Iterable[tuple[int, Structure]]:
        """Return them by number."""
        return enumerate(self)


class Meanings:
    """What names mean in one system."""

    def __init__(self, debuggee: Debuggee) -> None:
        self.debuggee = debuggee
        self.machine = debuggee.machine
        self.special: dict[str, Callable[[], Any]] = {
            "op": lambda: self._message().operation,
            "operation": lambda: self._message().operation,
            "message": self._message,
            "request": self._request,
            "slot": self._slots,
            "endpoint": self._endpoints,
            "thread": lambda: debuggee.threads.running().number,
            "process": lambda: debuggee.threads.running().process.number,
            "clock": lambda: self.machine.clock.now,
            "retired": lambda: self.machine.clock.retired,
        }

    def check(self, expression: Expression, *, event: bool) -> None:
        """CommandError for a name that can never mean anything: it would make a condition that never holds."""
        known = {*REGISTERS, *OTHERS, *self.special, *SIZES, *(FIELDS if event else ())}
        known |= {name for enumeration in ENUMERATIONS for name in enumeration.__members__}
        known |= {*self.machine.addresses, *self._labels_of_program(), *self._endpoint_names()}
        for node in ast.walk(expression.tree):
            if isinstance(node, ast.Name) and node.id in OF_KERNEL and not (event and node.id in FIELDS):
                if not self.debuggee.target.has_kernel:
                    raise CommandError(f"{node.id}: {NoKernel()}")
            if isinstance(node, ast.Name) and not {node.id, node.id.upper()} & known:
                raise CommandError(f"no register, field or number {node.id!r}; there is {those_like(node.id, known)}")

    def value(
        self, expression: Expression, fields: Mapping[str, object] | None = None, frame: Selected | None = None
    ) -> Any:
        """Return an expression's value now, at an event with these fields, or in a frame; CommandError.

        A frame says what registers mean, and which memory is read; all else is the running thread's.
        """
        register = self._register if frame is None else partial(_register_of, frame, self._register)
        names = layered(fields or {}, register, self._special, self._labels(), self._label)
        read = partial(self.machine.paging.read_linear, account=Account.OBSERVER) if frame is None else frame.read
        try:
            return expression.value(names, read)
        except UnknownName:
            self.check(expression, event=fields is not None)  # it knows more names that one may be like
            raise

    def number(self, expression: Expression) -> int:
        """Return the number that an expression is now; CommandError if it is none."""
        return whole_number(expression.tree, lambda _node: self.value(expression))

    def other_side(self, comparison: ast.Compare) -> int:
        """Return the number on the right of a comparison, a name of the ABI as what the left side is; CommandError."""
        names = layered(self._register, self._special, self._labels(), self._label)
        value = side(
            comparison.comparators[0],
            comparison.left,
            names,
            lambda node: self.value(Expression(ast.unparse(node))),
        )
        if not isinstance(plain(value), int):
            raise CommandError(f"{ast.unparse(comparison.comparators[0])} is not a number")
        return int(plain(value))

    def holds(self, expression: Expression, fields: Mapping[str, object] | None = None) -> bool:
        """Whether a condition holds; CommandError if that cannot be told: no part is false, and one has no value.

        So `op == OPEN and thread == 12` is false for thread 8, which may have no request.
        """
        problem: CommandError | None = None
        for part in expression.conjuncts:
            try:
                value = self.value(part, fields)
                if not isinstance(value, int):
                    raise CommandError(f"{part.text} is no number: it neither holds nor does not")
                if not value:
                    return False
            except CommandError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return True

    def may_hold(self, expression: Expression, fields: Mapping[str, object]) -> bool:
        """Whether a condition may hold at an event with these fields, whatever registers and memory are then."""

        def named(name: str) -> object:
            if name not in fields and (name in REGISTERS or name in self.special):
                raise CommandError(f"{name} is not known")
            return fields[name]

        def read(_linear: int, _size: int) -> bytes:
            raise CommandError("memory is not known")

        for part in expression.conjuncts:
            try:
                if not part.value(named, read):
                    return False
            except CommandError:
                continue
        return True

    def _register(self, name: str) -> int:
        if name not in REGISTERS:
            raise LookupError(name)
        return int(getattr(self.machine.cpu, name))

    def _special(self, name: str) -> Any:
        meaning = self.special[name.removesuffix(WHOLE)]
        try:
            return meaning()
        except NoKernel as error:
            raise CommandError(f"{name}: {error}") from None

    def _labels(self) -> Mapping[str, int]:
        """Return the addresses of labels; of a kernel's none, since they would hide names of the ABI's numbers."""
        return {} if self.debuggee.target.has_kernel else self.machine.addresses

    def _label(self, name: str) -> int:
        """Return the address of a label of the kernel or of the running program, `NAME:`; LookupError."""
        if not name.endswith(LABEL):
            raise LookupError(name)
        label = name.removesuffix(LABEL)
        known = self.machine.addresses
        return known[label] if label in known else self._labels_of_program()[label].address

    def _labels_of_program(self) -> Mapping[str, Symbol]:
        running = self.debuggee.threads.running().process
        image = self.debuggee.world.image(0, running) if running.number else None
        return {} if image is None else image.symbols

    def _endpoint_names(self) -> list[str]:
        if not self.debuggee.target.has_kernel:
            return []
        return [endpoint.name for endpoint in self._known().values()]

    def _request(self) -> SlotView:
        kernel = self.debuggee.kernel
        record = self.debuggee.threads.running().record
        request = request_of(kernel, record) if record is not None else None
        if request is None:
            raise CommandError("the running thread has no request: it neither makes, awaits nor serves one")
        return request

    def _message(self) -> Structure:
        message = self._request().message
        if message is None:
            raise CommandError("the request is not filled yet: go on to ipc.fill")
        return message

    def _slots(self) -> Slots:
        request = self._request()
        endpoint = next(e for e in self._known().values() if e.name == request.endpoint)
        records: list[Structure] = self._block(endpoint).slots
        assert len(records) == SLOTS
        return Slots(records, request.index)

    def _endpoints(self) -> Endpoints:
        blocks = {number: self._block(endpoint) for number, endpoint in self._known().items()}
        names = {endpoint.name: number for number, endpoint in self._known().items()}
        return Endpoints(blocks, self._endpoint_of_request, names)

    def _endpoint_of_request(self) -> int:
        name = self._request().endpoint
        return next(number for number, endpoint in self._known().items() if endpoint.name == name)

    def _known(self) -> dict[int, EndpointState]:
        return self.debuggee.kernel.state.endpoints.by_number

    def _block(self, endpoint: EndpointState) -> Structure:
        data = self.machine.ram.read(endpoint.block, PAGE_SIZE)
        return Structure(Endpoint, data, KERNEL_BASE + endpoint.block)

    def place(self, expression: Expression) -> tuple[int, int]:
        """Return the linear address and the size of what an expression names in memory; CommandError if nothing.

        `[ADDRESS]`, `byte[ADDRESS]`, `slot[5].client`, `endpoint[0].free`, or a number: a dword there.
        """
        node = expression.tree
        if isinstance(node, ast.Name) and node.id in REGISTERS:
            raise CommandError(f"{node.id} is a register; [{node.id}] is the memory at the address in it")
        if isinstance(node, ast.Name | ast.Attribute):
            with suppress(LookupError):
                return self._label(ast.unparse(node) + LABEL), SIZE_OF_DWORD
        if isinstance(node, ast.Name) and isinstance(plain(self.value(expression)), int):
            raise CommandError(f"{node.id} is a number, and no place in memory; [{node.id}] is the memory at it")
        if isinstance(node, ast.Attribute):
            return self._field(node)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            return self._element(node, node.value)
        if isinstance(node, ast.List) and len(node.elts) == 1:
            return self.number(Expression(ast.unparse(node.elts[0]))), SIZE_OF_DWORD
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in SIZES:
            return self.number(Expression(ast.unparse(node.slice))), 1 << SIZES.index(node.value.id)
        value = self.value(expression)
        if isinstance(value, Structure) or not isinstance(value, int):
            raise CommandError(f"{expression.text}: name a field, or an address in brackets")
        return value, 4

    def _field(self, node: ast.Attribute) -> tuple[int, int]:
        if node.attr.startswith("_"):
            raise CommandError(f"{node.attr}: not a field")
        base = one_of(self.value(Expression(ast.unparse(node.value))))
        if not isinstance(base, Structure):
            known = "message, slot[N] and endpoint[N] have some"
            raise CommandError(f"{ast.unparse(node)} is no field in memory; {known}")
        try:
            return base.place(node.attr)
        except AttributeError as error:
            raise CommandError(str(error)) from None

    def _element(self, node: ast.Subscript, field: ast.Attribute) -> tuple[int, int]:
        """Return where a part of an array lies: `endpoint[1].state[3]`."""
        address, size = self._field(field)
        items = self.value(Expression(ast.unparse(field)))
        self.value(Expression(ast.unparse(node)))  # CommandError for what it does not have
        index = self.number(Expression(ast.unparse(node.slice)))
        return address + index * (size // len(items)), size // len(items)


def _register_of(frame: Selected, otherwise: Callable[[str], int], name: str) -> int:
    """Return a register in a frame; CommandError if it is not known there, LookupError for what is no register."""
    if name not in REGISTERS or name in OF_CPU:
        return otherwise(name)
    value = frame.register(name)
    if value is None:
        raise CommandError(f"{name} is not known in frame {frame.index}: nothing has saved it; frame 0 has it")
    return value
