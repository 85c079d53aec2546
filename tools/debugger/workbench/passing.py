"""The hits of a stop that end no run: `ignore N COUNT`."""

from __future__ import annotations

from typing import Final

from callgate.kernel.machine.observation.position import Position

MOST: Final = 1_000_000  # hits that a stop is passed at: each is remembered


class Passing:
    """How many hits of one stop are still to be passed, and where it has been passed.

    A hit is known by the position at which it comes.  It counts once, where the run first goes forward over it:
    wherever the run comes there again, forward or backward, it is passed again and does not count.
    """

    def __init__(self) -> None:
        self.left = 0
        self.earlier = 0  # hits that were passed before `begin`
        self.at: set[Position] = set()

    @property
    def hits(self) -> int:
        """How many hits have been passed."""
        return self.earlier + len(self.at)

    def begin(self, count: int) -> None:
        """Pass the next `count` hits, 0 to `MOST`, from now on; those passed up to now end runs again."""
        self.left, self.earlier = count, self.hits
        self.at.clear()

    def passes(self, here: Position, *, counts: bool) -> bool:
        """Whether a hit is to be passed; `counts`: the run goes forward, so that it may be one of those to come."""
        if here in self.at:
            return True
        if not counts or not self.left:
            return False
        self.left -= 1
        self.at.add(here)
        return True

    def forget_after(self, end: Position) -> None:
        """The run goes another way from a position on: what was passed after it is still to be passed."""
        gone = {here for here in self.at if here > end}
        self.left += len(gone)
        self.at -= gone

    def take_over(self, other: Passing) -> None:
        """Go on where the one of the same stop with another condition has come to."""
        self.left, self.earlier, self.at = other.left, other.earlier, other.at
