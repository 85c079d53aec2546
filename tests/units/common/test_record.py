"""Records against dataclasses: what is said of both must be the same, wherever records do not say otherwise."""

import copy
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from callgate.kernel.common.record import as_dict, record, replaced

Maker = Callable[..., Any]


def declared(make: Callable[[type], type]) -> Any:
    """Return a class with fields of each kind, and a method of its own."""

    class Entry:
        """An entry."""

        number: int
        name: str
        size: int = 512
        pages: list[int] = field(default_factory=list)

        @property
        def twice(self) -> int:
            return self.size * 2

    return make(Entry)


PLAIN = (declared(record), declared(dataclass(slots=True, eq=False)))
EQUAL = (declared(record(eq=True)), declared(dataclass(slots=True)))
FROZEN = (declared(record(frozen=True)), declared(dataclass(slots=True, frozen=True)))
PAIRS = pytest.mark.parametrize("pair", [PLAIN, EQUAL, FROZEN], ids=["plain", "equal", "frozen"])
CALLS = [
    ((1, "a"), {}),
    ((1,), {"name": "a"}),
    ((), {"name": "a", "number": 1, "pages": [3]}),
    ((1, "a", 9, [4]), {}),
    ((), {}),
    ((1,), {}),
    ((1, "a", 9, [4], 5), {}),
    ((1, "a"), {"number": 2}),
    ((1, "a"), {"other": 2}),
]


@dataclass(frozen=True)
class Outcome:
    """What making an object has come to."""

    values: tuple[object, ...] = ()
    error: type[Exception] | None = None


def outcome(make: Maker, arguments: tuple[object, ...], named: dict[str, object]) -> Outcome:
    try:
        made = make(*arguments, **named)
    except TypeError as error:
        return Outcome(error=type(error))
    return Outcome((made.number, made.name, made.size, made.pages, made.twice, repr(made).rpartition(".")[2]))


@PAIRS
@pytest.mark.parametrize(("arguments", "named"), CALLS)
def test_a_record_takes_and_shows_values_as_a_dataclass_does(
    pair: tuple[Maker, Maker], arguments: tuple[object, ...], named: dict[str, object]
) -> None:
    ours, theirs = (outcome(make, arguments, named) for make in pair)
    assert ours == theirs


@PAIRS
def test_records_are_equal_and_hashed_and_changed_as_dataclasses_are(pair: tuple[Maker, Maker]) -> None:
    def judged(make: Maker) -> list[object]:
        one, same, other = make(1, "a", 2, ()), make(1, "a", 2, ()), make(1, "b", 2, ())
        found: list[object] = [one == same, one == other, one == (1, "a", 2, ()), one == one]
        for act in (hash, lambda made: setattr(made, "size", 7), lambda made: delattr(made, "size")):
            try:
                act(one)
            except (TypeError, AttributeError) as error:
                found.append(isinstance(error, AttributeError))
            else:
                found.append("done")
        return found

    ours, theirs = map(judged, pair)
    assert ours == theirs
    with pytest.raises(AttributeError):
        pair[0](1, "a").unknown = 1


@PAIRS
def test_a_record_s_class_describes_itself_as_a_dataclass_does(pair: tuple[Any, Any]) -> None:
    ours, theirs = ((each.__slots__, each.__match_args__, each.__doc__, each.__name__) for each in pair)
    assert ours == theirs
    made = pair[0](5, "five")
    assert not hasattr(made, "__dict__")
    assert as_dict(made) == {"number": 5, "name": "five", "size": 512, "pages": []}
    assert as_dict(made)["pages"] is made.pages
    other = replaced(made, size=7)
    assert (type(other), repr(other)) == (type(made), repr(made).replace("512", "7"))
    with pytest.raises(TypeError):
        replaced(made, volume=7)


def test_each_record_has_lists_of_its_own() -> None:
    make = PLAIN[0]
    assert make(1, "a").pages is not make(1, "a").pages


@record
class Kept:
    """A record that can be pickled, for its class has a name."""

    number: int
    others: list["Kept"] = field(default_factory=list)


@record(frozen=True)
class KeptFrozen:
    """The same, and it does not change."""

    number: int
    name: str = ""


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_records_are_copied_and_pickled(duplicate: Callable[[Any], Any]) -> None:
    kept = Kept(1)
    kept.others.append(Kept(2))
    copied = duplicate(kept)
    assert (copied is not kept, copied.number, copied.others[0].number) == (True, 1, 2)
    assert duplicate(KeptFrozen(3, "c")) == KeptFrozen(3, "c") != KeptFrozen(3)


def test_methods_of_a_class_stay_when_it_becomes_a_record() -> None:
    @record(eq=True)
    class Own:
        low: int
        high: int

        def __init__(self, both: int) -> None:
            self.low = self.high = both

        def __repr__(self) -> str:
            return f"<own {self.low}>"

    assert (repr(Own(4)), Own(4) == Own(4), Own(4) == Own(5)) == ("<own 4>", True, False)


def test_a_field_without_a_default_after_one_that_has_one_is_refused() -> None:
    class Wrong:
        first: int = 1
        second: int

    for make in (record, dataclass):
        with pytest.raises(TypeError, match="default"):
            make(Wrong)


class Base:
    """A class that a record cannot be made from."""


@pytest.mark.parametrize(
    ("bases", "members", "problem"),
    [
        ((Base,), {}, "no base but object"),
        ((), {"__post_init__": print}, "__post_init__ of a record is not called"),
        ((), {"__annotations__": {"most": "ClassVar[int]"}, "most": 5}, "a ClassVar would be a field"),
        ((), {"__annotations__": {"most": ClassVar[int]}, "most": 5}, "a ClassVar would be a field"),
        ((), {"__annotations__": {"pages": list}, "pages": []}, "needs field(default_factory=...)"),
    ],
)
def test_what_a_record_would_do_otherwise_than_a_dataclass_is_refused(
    bases: tuple[type, ...], members: dict[str, Any], problem: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(problem)):
        record(type("Entry", bases, {"__annotations__": {}, **members}))


def test_frozen_records_of_two_classes_are_never_equal() -> None:
    @record(frozen=True)
    class Other:
        number: int
        name: str = ""

    assert Other(3) != KeptFrozen(3)
    assert len({Other(3), KeptFrozen(3), Other(3)}) == 2


def test_a_frozen_record_refuses_to_be_changed_and_keeps_its_values() -> None:
    @record(frozen=True)
    class Still:
        number: int

    still = Still(3)
    with pytest.raises(AttributeError, match=r"Still.number cannot be changed"):
        still.number = 4
    with pytest.raises(AttributeError, match=r"Still.number cannot be changed"):
        del still.number
    assert still.number == 3
