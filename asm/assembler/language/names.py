"""The names of a unit: labels, constants, and what the ABI and the caller define."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.expressions import BINARY_NUMBER, BinaryNumber, Unresolved, evaluate
from callgate.kernel.common.near_miss import did_you_mean

NAME_SHOWN = 80
FOREIGN_REGISTER = re.compile(
    r"r(?P<wide>[a-d]x|[sbi]p|[sd]i)|(?P<vector>[yz]mm\d+)|(r([89]|1[0-5])|xmm([89]|1[0-5]))[dwb]?|[sd]il|[sb]pl",
    re.IGNORECASE,
)
CHAIN_LIMIT = 100
DEFINE = "define it, or include what does"
UNIT_WIDE = ".L"  # labels of compilers, which are known in the whole unit
GLOBAL_OFFSET_TABLE = "_GLOBAL_OFFSET_TABLE_"
OFFSET_TABLE_LABEL = ".L.got"
OFFSET_TABLE_ENTRY = ".L.got."


@dataclass(frozen=True, slots=True)
class Scope:
    """Where in a unit a name is used: below which label, and after how many of those that may come again.

    `counts` has an entry for each numeric label (`1:`) and each symbol of `.set` that stands above.
    """

    label: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def behind(self, name: str) -> "Scope":
        """Return the scope after one more definition of a name."""
        return replace(self, counts={**self.counts, name: self.counts.get(name, 0) + 1})


@dataclass(slots=True)
class Label:
    """A label; `address` is None before the first layout; `local` if it belongs to the label before it."""

    name: str
    section: str
    place: Place
    address: int | None = None
    local: bool = False


@dataclass(slots=True)
class Constant:
    """A constant: its expression, the scope that names in it have, and what `$` means in it.

    `value` is known as soon as the expression names nothing that is further down or may move.
    """

    name: str
    text: str
    place: Place
    scope: Scope
    here: int = 0
    value: int | None = None


def foreign_register(name: str) -> str:
    """Return what to write instead of a register that this CPU does not have."""
    match = FOREIGN_REGISTER.fullmatch(name)
    if match is None:
        return ""
    if match["wide"]:
        return f"registers of 64 bits are for 64-bit code; write e{match['wide']}".lower()
    return "AVX is not supported; write xmm0 to xmm7" if match["vector"] else "it exists in 64-bit code only"


def full_name(name: str, scope: Scope) -> str:
    """Return a name as the whole unit knows it: that of a local label with the label before it."""
    return scope.label + name if name[0] == "." and not name.startswith(UNIT_WIDE) else name


class Names:
    """Every name of a unit."""

    def __init__(self, predefined: Mapping[str, int]) -> None:
        self.predefined = predefined
        self.labels: dict[str, Label] = {}
        self.constants: dict[str, Constant] = {}
        self.settings: dict[str, list[Constant]] = {}  # what .set has given a name, in order
        self.numbered: dict[str, list[Label]] = {}  # the labels 1:, in order
        self.evaluating: list[Constant] = []
        self.gnu_syntax = False  # `.intel_syntax` has been written
        # Whether a value that the layout may still change has been handed out since this was cleared.
        self.moving = False
        # Whether one of them is what a linker would put into a field of 32 bits, however small it is.
        self.relocated = False

    def add_label(self, label: Label) -> None:
        """Define a label; AsmError if the name is taken."""
        self._refuse_taken(label.name, label.place)
        self.labels[label.name] = label

    def add_constant(self, constant: Constant) -> None:
        """Define a constant; AsmError if the name is taken, except by the ABI with the same value."""
        self._refuse_taken(constant.name, constant.place, constant)
        self.constants[constant.name] = constant

    def add_setting(self, constant: Constant) -> None:
        """Give a name of `.set` another value; AsmError if it is something else already."""
        if constant.name not in self.settings:
            self._refuse_taken(constant.name, constant.place, constant)
        self.settings.setdefault(constant.name, []).append(constant)
        self.settle(constant)

    def settle(self, constant: Constant) -> None:
        """Note the value of a constant that will not change, so that long chains of `.set` need no recursion."""
        before, self.moving = self.moving, False
        try:
            value = self._evaluate(constant, 0)
            constant.value = None if self.moving else value
        except (AsmError, Unresolved):
            pass  # reported when the name is used
        self.moving = before

    def _refuse_taken(self, name: str, place: Place, constant: Constant | None = None) -> None:
        other = self.labels.get(name) or self.constants.get(name) or next(iter(self.settings.get(name, ())), None)
        if other is not None:
            where = f"the first time at {other.place.file}:{other.place.line}"
            again = "; what has several values is written .set name, value each time"
            twice = constant is not None and not isinstance(other, Label)
            raise AsmError(place, f"{name} is defined twice", where + again * twice)
        value = self.predefined.get(name)
        if value is None or (constant is not None and self._same(constant, value)):
            return
        raise AsmError(place, f"{name} is predefined as {value:#x}", "choose another name, or leave this out")

    def _same(self, constant: Constant, value: int) -> bool:
        try:
            return self._evaluate(constant, 0) == value
        except (AsmError, Unresolved):
            return False

    def lookup(self, name: str, scope: Scope, here: int, shift: int = 0) -> int:
        """Return the value of a name now; Unresolved for a label without address, AsmError if unknown.

        `shift` is added to every address.
        """
        if name in ("$", "."):
            self.moving = True
            return here + shift
        full = full_name(name, scope)
        label = self.labels.get(full)
        if label is not None:
            return self._address(label, shift)
        constant = self.constants.get(full)
        if constant is not None:
            return self._evaluate(constant, shift)
        value = self.predefined.get(full)
        return value if value is not None else self._rare(full, name, scope, here, shift)

    def _address(self, label: Label, shift: int) -> int:
        self.moving = True
        if label.address is None:
            raise Unresolved(label.name)
        return label.address + shift

    def _rare(self, full: str, name: str, scope: Scope, here: int, shift: int) -> int:
        """Look up a name whose value depends on the place: `.set`, `1b`, `x@GOTOFF`."""
        if full in self.settings:
            return self._evaluate(self._setting(full, scope), shift)
        if name[0].isdigit():
            return self._address(self._numbered(name, scope), shift)
        if name == GLOBAL_OFFSET_TABLE:
            self.relocated = True
            return self._address(self.labels[OFFSET_TABLE_LABEL], shift) - here - shift
        symbol, at, kind = name.partition("@")
        if at:
            return self._relocated(symbol, kind.upper(), scope, here, shift)
        error = self.unknown(full, name)
        raise error if error.hint else AsmError(error.place, error.message, DEFINE)

    def _setting(self, name: str, scope: Scope) -> Constant:
        known = self.settings[name]
        count = scope.counts.get(name, 0)
        if not count and len(known) > 1:
            first = known[0].place
            hint = f"its values begin at {first.file}:{first.line}; set it above"
            raise AsmError(Place("", 0), f"{name} has several values, and none yet", hint)
        return known[max(count, 1) - 1]

    def _numbered(self, name: str, scope: Scope) -> Label:
        number = str(int(name[:-1]))
        known = self.numbered.get(number, [])
        binary = BINARY_NUMBER.fullmatch(name)
        if binary and not known:
            raise BinaryNumber
        index = scope.counts.get(number, 0) - (name[-1] in "bB")
        if not 0 <= index < len(known):
            where = "above" if name[-1] in "bB" else "below"
            hint = f"the label is written {number}:, {number}b is the next one above, {number}f the next one below"
            raise AsmError(Place("", 0), f"there is no label {number} {where}", hint)
        if binary and len(name) > 2:
            hint = f"write 0b{name[:-1]} for the number, or call the label otherwise"
            raise AsmError(Place("", 0), f"{name} is a number, or the label {number}: above", hint)
        return known[index]

    def _relocated(self, symbol: str, kind: str, scope: Scope, here: int, shift: int) -> int:
        """Return the value of a name with a suffix of position-independent code (`@GOTOFF`)."""
        if kind == "PLT":
            return self.lookup(symbol, scope, here, shift)
        if kind in ("GOTOFF", "GOT"):
            what = symbol if kind == "GOTOFF" else OFFSET_TABLE_ENTRY + symbol
            base = self._address(self.labels[OFFSET_TABLE_LABEL], shift)
            self.relocated = True
            return self.lookup(what, scope, here, shift) - base
        hint = "@PLT, @GOT and @GOTOFF are; there is no thread-local storage and no dynamic linking"
        raise AsmError(Place("", 0), f"@{kind} is not supported", hint)

    def _evaluate(self, constant: Constant, shift: int) -> int:
        if constant.value is not None:
            return constant.value
        if any(constant is other for other in self.evaluating):
            raise AsmError(constant.place, f"{constant.name} is defined by itself", "a constant has one value")
        if len(self.evaluating) > CHAIN_LIMIT:
            raise AsmError(constant.place, f"{constant.name} depends on more than {CHAIN_LIMIT} other names")
        self.evaluating.append(constant)
        place = constant.place
        try:
            return evaluate(constant.text, place, place.column, self.finder(constant.scope, constant.here, shift))
        finally:
            self.evaluating.pop()

    def defined(self, name: str) -> bool:
        """Whether a unit defines a name itself."""
        return any(name in table for table in (self.labels, self.constants, self.settings))

    def value_of(self, constant: Constant) -> int:
        """Return the value of a constant now."""
        return self._evaluate(constant, 0)

    def finder(self, scope: Scope, here: int, shift: int = 0) -> Callable[[str], int]:
        """Return a function that looks names up from a place."""
        return lambda name: self.lookup(name, scope, here, shift)

    def unknown(self, full: str, written: str) -> AsmError:
        """Return the error for a name that nothing defines; the caller adds the place if it is not known."""
        shown = written if len(written) <= NAME_SHOWN else written[:NAME_SHOWN] + "…"
        hint = foreign_register(written) or did_you_mean(full, self._candidates(full))
        return AsmError(Place("", 0), f"{shown} is not defined", hint)

    def _candidates(self, name: str) -> Iterable[str]:
        """Return names to compare with: those of the same structure or label first of all."""
        every = [
            other for other in (*self.labels, *self.constants, *self.settings, *self.predefined) if "#" not in other
        ]
        head, dot, _ = name.rpartition(".")
        family = [other for other in every if dot and other.startswith(head + ".")]
        return family or every
