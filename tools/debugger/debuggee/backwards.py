"""What a front end asks of a history, if there is one: going backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from callgate.tools.debugger.debuggee.endings import Ending


class Backwards(Protocol):
    """A kept history of the run.  Each method ends at an instruction; at the oldest kept one, `Reason.BEGIN`."""

    def step_back(self) -> Ending:
        """Go back to the moment before the last instruction."""
        ...

    def back_to_previous(self, wanted: Callable[[], bool]) -> Ending:
        """Go back to the last moment at which a breakpoint or watchpoint of the debuggee would have ended a run.

        `wanted` is asked now and then whether the search is to end where it is.
        """
        ...

    def restart(self) -> None:
        """Go to the oldest moment and begin another run there."""
        ...
