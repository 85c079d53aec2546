"""The memory that snapshots take together, of which they share most.

What a copy takes is found when the sum is asked for, or when many have been made.  Then they are measured one after the
other by code that is in the CPU's caches, which it is not as a copy is made.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 256  # copies that are not measured yet
LARGE: Final = 16 << 10  # bytes: more by far than what a copy takes on average


class Total:
    """The bytes of all copies that there are, whatever snapshots share them."""

    __slots__ = ("measured", "unmeasured")

    def __init__(self) -> None:
        self.measured = 0
        self.unmeasured: list[Sized] = []

    def add(self, *copies: Sized) -> None:
        """Count copies that have been made, each for as long as something refers to it."""
        self.unmeasured += copies
        if len(self.unmeasured) > MOST:
            self._measure()

    @property
    def bytes(self) -> int:
        """The sum, about."""
        if self.unmeasured:
            self._measure()
        return self.measured

    @property
    def most(self) -> int:
        """Bytes that they do not exceed, unless the last ones are exceptionally large; nothing is measured for it."""
        return self.measured + LARGE * len(self.unmeasured)

    def _measure(self) -> None:
        copies, self.unmeasured = self.unmeasured, []
        for copy in copies:
            copy.size = size = copy.measure()
            self.measured += size


class Sized:
    """A copy that is counted in a total, to which it is added once it is made."""

    __slots__ = ("size", "total")
    total: Total
    size: int  # bytes, about; 0 until it is measured

    def measure(self) -> int:
        """Return about how many bytes it takes."""
        raise NotImplementedError

    def __del__(self) -> None:
        try:
            self.total.measured -= self.size
        except AttributeError:  # it was interrupted as it was made: Python would say so on standard error
            return
