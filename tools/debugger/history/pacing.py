"""How often a history takes checkpoints: dense enough to go back quickly, seldom enough not to slow the run.

These decide nothing that a guest can see, so they may depend on the host's clock.
"""

from typing import Final

PIECE_SECONDS: Final = 0.01  # of the host's CPU time in which a piece of a way back runs
LONG_PIECE_SECONDS: Final = 0.05  # of a piece forward, which ends after a host call as soon as a checkpoint is due
CHECKPOINT_SECONDS: Final = 0.025  # at least from one checkpoint to the next
SHARE: Final = 20  # of the time between two checkpoints, taking one is about a 20th
LONGEST_SECONDS: Final = 0.06  # from one to the next, however long the last one took: it may have been the exception
FIRST_PIECE, SHORTEST, LONGEST = 500_000, 500, 50_000_000  # instructions
FAR: Final = 100_000  # instructions before a moment in the past, from which on the way to it has checkpoints
NEAR: Final = 1_500  # instructions before it, where there is to be one
CLOSE: Final = 8 * NEAR  # unless the checkpoint before is as near as that
FIRST_PIECE_BACK: Final = 5_000
SEARCH_SECONDS: Final = 0.008  # of CPU time from one checkpoint to the next on the way of a search


def pause_after(cost: float) -> float:
    """Return the seconds of CPU time from a checkpoint to the next one; taking it has cost `cost` seconds."""
    return min(max(CHECKPOINT_SECONDS, SHARE * cost), LONGEST_SECONDS)


def piece_after(instructions: int, spent: float, piece: int, seconds: float = PIECE_SECONDS) -> int:
    """Return how many instructions to run next, so that a piece takes `seconds` or so, whatever the guest does.

    `instructions` took `spent` seconds; the piece before was `piece`.  A piece ends in the middle of a block of code as
    a rule, of which the engine has to make two parts then: 0.1 ms, so they should be few.
    """
    wanted = int(instructions * seconds / max(spent, 1e-6))
    return max(SHORTEST, min(wanted, 2 * piece, LONGEST))
