"""The names of a unit: labels, constants, and what the ABI and the caller define."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from callgate.asm.assembler.errors import AsmError, Place, near_miss
from callgate.asm.assembler.expressions import Unresolved, evaluate

NAME_SHOWN = 80
CHAIN_LIMIT = 100


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
            raise self.unknown(full, name)
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
        return AsmError(Place("", 0), f"{shown} is not defined", near_miss(full, self._candidates(full)))

    def _candidates(self, name: str) -> Iterable[str]:
        """Return names to compare with: those of the same structure or label first of all."""
        every = (*self.labels, *self.constants, *self.predefined)
        head, dot, _ = name.rpartition(".")
        family = [other for other in every if dot and other.startswith(head + ".")]
        return family or every
