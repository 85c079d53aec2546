"""The known names that are like one that is not known: for messages, the same in every run."""

from collections.abc import Iterable
from typing import Final

LIKENESS: Final = 0.7
"""How like a name must be (difflib's ratio, 0 to 1) to be named."""
SHORT: Final = 3
FEW: Final = 8  # names that are all told
LIKENESS_OF_SHORT: Final = 2 / 3
"""Of names with at most three letters, those with one other letter are alike: eex, eax."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` of the `known` names, the likeliest first; none if nothing is like it.

    First come names of the same letters in another order, then those that are alike, and if there are none,
    those that would be but for upper and lower case.
    """
    candidates = sorted(set(known))  # sets have another order in every process
    if len(name) > 2 * max(map(len, candidates), default=0):
        return []  # too long to be like any, and perhaps far too long to be compared
    least = LIKENESS if len(name) > SHORT else LIKENESS_OF_SHORT
    letters = sorted(name)
    swapped = [other for other in candidates if len(other) == len(letters) and sorted(other) == letters]  # mvo: mov
    found = alike(name, swapped, 0)
    found += [near for near in alike(name, candidates, least) if near not in found]
    if not found:
        folded = {candidate.lower(): candidate for candidate in candidates}
        found = [folded[near] for near in alike(name.lower(), folded, least)]
    return found[:most]


def alike(name: str, candidates: Iterable[str], least: float) -> list[str]:
    """Return the candidates that are as like a name as `least`, the likeliest first, equal ones in their order."""
    from difflib import SequenceMatcher

    matcher = SequenceMatcher(b=name)
    found: list[tuple[float, str]] = []
    for candidate in candidates:
        matcher.set_seq1(candidate)
        if matcher.quick_ratio() >= least and matcher.ratio() >= least:
            found.append((-matcher.ratio(), candidate))
    return [candidate for _, candidate in sorted(found)]


def those_like(name: str, known: Iterable[str]) -> str:
    """Return the likeliest of the known names, with commas between them.

    If none is like it, all of them where they are a few, else "nothing like it".
    """
    names = list(dict.fromkeys(known))
    found = nearest(name, names) or (names if len(names) <= FEW else [])
    return ", ".join(found) or "nothing like it"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" with the likeliest of the known names, or ""."""
    near = nearest(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""
