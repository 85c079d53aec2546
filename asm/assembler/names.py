"""The names of a unit: labels, constants, and what the ABI and the caller define."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from callgate.asm.assembler.errors import AsmError, Place, near_miss
from callgate.asm.assembler.expressions import Unresolved, evaluate

NAME_SHOWN = 80
FOREIGN_REGISTER = re.compile(
    r"r(?P<wide>[a-d]x|[sbi]p|[sd]i)|(?P<vector>[yz]mm\d+)|(r([89]|1[0-5])|xmm([89]|1[0-5]))[dwb]?|[sd]il|[sb]pl",
    re.IGNORECASE,
)
CHAIN_LIMIT = 100
DEFINE = "define it, or include what does"


@dataclass(slots=True)
class Label:
    """A label; `address` is None before the first layout."""

    name: str
    section: str
    place: Place
    address: int | None = None

    @property
    def local(self) -> bool:
        """Whether it belongs to the label before it."""
        return "." in self.name


@dataclass(slots=True)
class Constant:
    """A constant: its expression, the scope that local names in it have, and what `$` means in it."""

    name: str
    text: str
    place: Place
    scope: str
    here: int = 0


def foreign_register(name: str) -> str:
    """Return what to write instead of a register that this CPU does not have."""
    match = FOREIGN_REGISTER.fullmatch(name)
    if match is None:
        return ""
    if match["wide"]:
        return f"registers of 64 bits are for 64-bit code; write e{match['wide']}".lower()
    return "AVX is not supported; write xmm0 to xmm7" if match["vector"] else "it exists in 64-bit code only"


class Names:
    """Every name of a unit."""

    def __init__(self, predefined: Mapping[str, int]) -> None:
        self.predefined = predefined
        self.labels: dict[str, Label] = {}
        self.constants: dict[str, Constant] = {}
        self.evaluating: list[str] = []
        # Whether a value that the layout may still change has been handed out since this was cleared.
        self.moving = False

    def add_label(self, label: Label) -> None:
        """Define a label; AsmError if the name is taken."""
        self._refuse_taken(label.name, label.place)
        self.labels[label.name] = label

    def add_constant(self, constant: Constant) -> None:
        """Define a constant; AsmError if the name is taken, except by the ABI with the same value."""
        self._refuse_taken(constant.name, constant.place, constant)
        self.constants[constant.name] = constant

    def _refuse_taken(self, name: str, place: Place, constant: Constant | None = None) -> None:
        other = self.labels.get(name) or self.constants.get(name)
        if other is not None:
            where = f"{other.place.file}:{other.place.line}"
            raise AsmError(place, f"{name} is defined twice", f"the first time at {where}")
        value = self.predefined.get(name)
        if value is None or (constant is not None and self._same(constant, value)):
            return
        raise AsmError(place, f"{name} is predefined as {value:#x}", "choose another name, or leave this out")

    def _same(self, constant: Constant, value: int) -> bool:
        try:
            return self._evaluate(constant) == value
        except (AsmError, Unresolved):
            return False

    def lookup(self, name: str, scope: str, here: int) -> int:
        """Return what a name is worth now; Unresolved for a label without address, AsmError if unknown."""
        if name in ("$", "."):
            self.moving = True
            return here
        full = scope + name if name.startswith(".") else name
        label = self.labels.get(full)
        if label is not None:
            self.moving = True
            if label.address is None:
                raise Unresolved(full)
            return label.address
        constant = self.constants.get(full)
        if constant is not None:
            return self._evaluate(constant)
        value = self.predefined.get(full)
        if value is None:
            error = self.unknown(full, name)
            raise error if error.hint else AsmError(error.place, error.message, DEFINE)
        return value

    def _evaluate(self, constant: Constant) -> int:
        if constant.name in self.evaluating:
            raise AsmError(constant.place, f"{constant.name} is defined by itself", "a constant has one value")
        if len(self.evaluating) > CHAIN_LIMIT:
            raise AsmError(constant.place, f"{constant.name} hangs on more than {CHAIN_LIMIT} other names")
        self.evaluating.append(constant.name)
        place = constant.place
        try:
            return evaluate(constant.text, place, place.column, self.finder(constant.scope, constant.here))
        finally:
            self.evaluating.pop()

    def finder(self, scope: str, here: int) -> Callable[[str], int]:
        """Return a function that looks names up from a place."""
        return lambda name: self.lookup(name, scope, here)

    def unknown(self, full: str, written: str) -> AsmError:
        """Return the error for a name that nothing defines; whoever knows the place puts it in."""
        shown = written if len(written) <= NAME_SHOWN else written[:NAME_SHOWN] + "…"
        hint = foreign_register(written) or near_miss(full, self._candidates(full))
        return AsmError(Place("", 0), f"{shown} is not defined", hint)

    def _candidates(self, name: str) -> Iterable[str]:
        """Return names to compare with: those of the same structure or label first of all."""
        every = (*self.labels, *self.constants, *self.predefined)
        head, dot, _ = name.rpartition(".")
        family = [other for other in every if dot and other.startswith(head + ".")]
        return family or every
