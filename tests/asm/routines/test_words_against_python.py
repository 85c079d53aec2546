"""The shell's pattern matcher against `fnmatch`, and its slips of a word against Damerau-Levenshtein as defined."""

import fnmatch
import random
from itertools import product

import pytest

SOURCES = '        .include "text.asm"\n        .include "pattern.asm"\n        .include "shell_suggest.asm"\n'
REST = """
        .struct Command
        .field  name, 4
        .ends
commands:
        .long   0
put_string:
put_line:
        ret
"""
FIRST, SECOND = 0x20000, 0x21000
ANY_STRING, ANY_CHARACTER = 0xFF, 0xFE
LETTERS = "abAB.ä日"


@pytest.fixture
def words(bare_cpu):
    bare_cpu.load(SOURCES + REST)
    return bare_cpu


def matches(cpu, pattern: str, name: str) -> bool:
    data = pattern.encode().replace(b"*", bytes([ANY_STRING])).replace(b"?", bytes([ANY_CHARACTER]))
    cpu.write(FIRST, data + b"\0")
    cpu.write(SECOND, name.encode() + b"*")
    result = cpu.call("match_name", esi=FIRST, edi=SECOND, ecx=len(name.encode()))
    return bool(result.ZF)


def fold_ascii(text: str) -> str:
    """Fold ASCII letters only: other equal letters are decided by the volume's server."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("exact", [0, 1])
def test_patterns_match_what_fnmatch_says(words, exact: int, some_of) -> None:
    words.write("match_case", bytes([exact]))
    dice = random.Random(2026)
    outcomes = []
    for _ in some_of(range(1500), 3):
        name = "".join(dice.choices(LETTERS, k=dice.randrange(9)))
        pattern = "".join(dice.choices([*LETTERS, "*", "*", "*", "?", "?"], k=dice.randrange(8)))
        if dice.random() < 0.5:
            # One that may well match: the name with pieces replaced.
            pattern = "".join(dice.choice([letter, letter, "?", "*", letter.swapcase()]) for letter in name)
        if pattern == "*.*":
            continue
        same = str if exact else fold_ascii
        expected = fnmatch.fnmatchcase(same(name), same(pattern))
        assert matches(words, pattern, name) == expected, (pattern, name)
        outcomes.append(expected)
    assert min(outcomes.count(True), outcomes.count(False)) > len(outcomes) // 5


def test_a_pattern_of_many_stars_takes_no_longer_than_its_lengths_multiplied(words) -> None:
    words.write(FIRST, bytes([ANY_STRING, ord("a")]) * 20 + b"b\0")
    words.write(SECOND, b"a" * 200)
    result = words.call("match_name", esi=FIRST, edi=SECOND, ecx=200)
    assert not result.ZF
    assert result.instructions < 40 * 41 * 200


def words_one_slip_away(word: str, letters: str) -> set[str]:
    """Return every word that is at most one slip away."""
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    found = {word}
    found |= {left + right[1:] for left, right in cuts if right}
    found |= {left + letter + right for left, right in cuts for letter in letters}
    found |= {left + letter + right[1:] for left, right in cuts if right for letter in letters}
    found |= {left + right[1] + right[0] + right[2:] for left, right in cuts if len(right) > 1}
    return found


def test_words_are_near_exactly_when_one_typing_error_turns_one_into_the_other(words) -> None:
    every = ["".join(letters) for size in range(4) for letters in product("ab", repeat=size)]
    every += ["".join(letters) for letters in product("abc", repeat=4)][::5]
    for first, second in product(every, repeat=2):
        words.write(FIRST, first.upper().encode() + b"\0")
        words.write(SECOND, second.encode() + b"\0")
        near = bool(words.call("near_word", esi=FIRST, edi=SECOND).ZF)
        assert near == (second in words_one_slip_away(first, "abc")), (first, second)
