"""The helper that suggests the name that a user may have meant."""

import pytest
from callgate.kernel.common.near_miss import did_you_mean, nearest, those_like


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("mvo", ["mov", "mvn", "movs"], ["mov", "mvn"]),
        ("eex", ["edx", "ecx", "eax", "exec", "xe"], ["eax", "ecx", "edx"]),
        ("strat", {"start", "string", "stop"}, ["start"]),
        ("frist_use", ["first_use", "last_use"], ["first_use", "last_use"]),
        ("OPEN", ["open", "close"], ["open"]),
        ("xyz", ["open", "close"], []),
        ("open", [], []),
    ],
)
def test_names_are_near_by_letters_then_likeness_then_case(name: str, known: list[str], expected: list[str]) -> None:
    assert nearest(name, known) == expected
    assert did_you_mean(name, known) == (f"did you mean {expected[0]}?" if expected else "")


def test_the_order_of_the_known_names_decides_nothing_and_there_are_no_more_than_wanted() -> None:
    names = [f"label_{number}" for number in range(9)]
    assert nearest("label_x", names) == nearest("label_x", reversed(names)) == nearest("label_x", set(names))
    assert len(nearest("label_x", names)) == 3
    assert len(nearest("lable_1", names, 1)) == 1


def test_names_of_three_letters_may_differ_in_one_and_longer_ones_have_to_be_more_alike() -> None:
    assert nearest("eex", ["eax"]) == ["eax"]
    assert nearest("abcdef", ["abcxyf"]) == [], "two thirds of its letters"


def test_where_no_name_is_like_another_one_a_few_are_all_told_and_of_many_none() -> None:
    known = ["rom", "d0p1", "d0p2", *"abcdefgh"]
    assert those_like("network", known[:8]) == "rom, d0p1, d0p2, a, b, c, d, e"
    assert those_like("network", known[:9]) == "nothing like it"
    assert those_like("d0p3", known) == "d0p1, d0p2"
