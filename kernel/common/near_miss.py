"""The known names that are like one that is not known: for messages, the same in every run."""

from collections.abc import Iterable
from typing import Final

LIKENESS: Final = 0.7
"""How like a name must be (difflib's ratio, 0 to 1) to be named."""


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return up to `most` of the `known` names, the likeliest first; none if nothing is like it.

    First come names of the same letters in another order, then those that are alike, and if there are none,
    those that would be but for upper and lower case.
    """
    from difflib import get_close_matches

    candidates = sorted(set(known))  # sets have another order in every process
    letters = sorted(name)
    swapped = [other for other in candidates if len(other) == len(letters) and sorted(other) == letters]  # mvo: mov
    found = get_close_matches(name, swapped, n=most, cutoff=0)
    found += [near for near in get_close_matches(name, candidates, n=most, cutoff=LIKENESS) if near not in found]
    if not found:
        folded = {candidate.lower(): candidate for candidate in candidates}
        found = [folded[near] for near in get_close_matches(name.lower(), folded, n=most, cutoff=LIKENESS)]
    return found[:most]


def those_like(name: str, known: Iterable[str]) -> str:
    """Return the likeliest of the known names, with commas between them, or "nothing like it"."""
    return ", ".join(nearest(name, known)) or "nothing like it"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …?" with the likeliest of the known names, or ""."""
    near = nearest(name, known, 1)
    return f"did you mean {near[0]}?" if near else ""
