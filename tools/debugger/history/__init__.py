"""History: every instruction of a run can be reached again, in both directions.

A run follows from where it began and from what came from outside.  So a history holds checkpoints and a list of what
came from outside; to reach a moment it restores the checkpoint before it and runs on.
"""

from callgate.tools.debugger.history.checkpoints import LEAST, Checkpoint, Checkpoints, Moment
from callgate.tools.debugger.history.history import BUDGET, History
from callgate.tools.debugger.history.interrupts import HistoryInterrupted

__all__ = [
    "BUDGET",
    "LEAST",
    "Checkpoint",
    "Checkpoints",
    "History",
    "HistoryInterrupted",
    "Moment",
]
