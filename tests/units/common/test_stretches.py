"""Stretches of numbers that follow each other."""

import random
from itertools import pairwise

import pytest
from callgate.kernel.common.stretches import stretches


@pytest.mark.parametrize(
    ("values", "step", "expected"),
    [
        ([], 1, []),
        ([7], 8, [(0, 1)]),
        ([7, 15, 23], 8, [(0, 3)]),
        ([0, 2, 1, 3], 1, [(0, 1), (1, 2), (2, 3), (3, 4)]),  # as far apart at its ends as a stretch would be
        ([5, 5, 6], 1, [(0, 1), (1, 3)]),
        ([1, 2, 9, 10, 11, 3], 1, [(0, 2), (2, 5), (5, 6)]),
    ],
)
def test_numbers_that_follow_each_other_are_one_stretch(
    values: list[int], step: int, expected: list[tuple[int, int]]
) -> None:
    assert stretches(values, step) == stretches(tuple(values), step) == expected


def test_a_range_is_one_stretch_if_its_step_is_asked_for() -> None:
    assert stretches(range(3, 9), 1) == [(0, 6)]
    assert stretches(range(0, 6, 2), 1) == [(0, 1), (1, 2), (2, 3)]


def test_stretches_cover_all_numbers_and_are_as_long_as_can_be() -> None:
    chance = random.Random(3)
    for _ in range(100):
        values = sorted(chance.sample(range(40), chance.randrange(1, 30)))
        found = stretches(values, 1)
        assert [index for begin, end in found for index in range(begin, end)] == list(range(len(values)))
        assert all(values[end - 1] - values[begin] == end - 1 - begin for begin, end in found)
        assert all(values[end] != values[end - 1] + 1 for (_, end), _ in pairwise(found))
