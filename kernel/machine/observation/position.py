"""Positions in a run: which of the boundaries between instructions, named so that they can be found again.

Two runs of the same machine with the same input pass the same positions in the same order, however the runs are cut
into pieces.  That is what lets a debugger go back: it restores an earlier state and runs up to a position.
"""

from __future__ import annotations

from typing import NamedTuple


class Position(NamedTuple):
    """A boundary between two instructions; positions are ordered as the run passes them.

    `retired` instructions have retired since power-on, and `delivered` exceptions and interrupts have been delivered
    since the last of them.  `clock` is the virtual time in ns, which passes at one boundary while the CPU halts.

    At a position everything that devices do at that time has been done.  An interrupt that waits has not been
    delivered: that is the next position.
    """

    retired: int
    delivered: int = 0
    clock: int = 0

    def __str__(self) -> str:
        text = f"instruction {self.retired:,}"
        return f"{text}, delivery {self.delivered}" if self.delivered else text


class Deliveries:
    """How many exceptions and interrupts have been delivered since an instruction retired."""

    def __init__(self) -> None:
        self.number = 0
        self.at = 0  # instructions retired when the last one was delivered
        self.clock = 0  # virtual time then

    def count(self, retired: int, clock: int) -> None:
        """Count one."""
        self.number = self.number + 1 if retired == self.at else 1
        self.at, self.clock = retired, clock

    def uncount(self) -> None:
        """Forget the last one, which could not be made."""
        self.number -= 1

    def since(self, retired: int) -> int:
        """Return how many there have been since the instruction with this number retired."""
        return self.number if retired == self.at else 0

    def save(self) -> tuple[int, int, int]:
        """Return the state for a snapshot."""
        return self.number, self.at, self.clock

    def load(self, state: tuple[int, int, int]) -> None:
        """Go back to a saved state."""
        self.number, self.at, self.clock = state
