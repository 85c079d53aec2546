"""What `break slot N` and `break state NAME` watch: memory of the endpoints that there are, and of those that come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import BOOT_INFORMATION, KERNEL_BASE
from callgate.kernel.watching.requests import slots
from callgate.tools.debugger.workbench.facts import Change, Waiting, there_is

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.core.records import EndpointState
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.watchpoints import Access, Watchpoint

NEVER_WRITTEN: Final = (KERNEL_BASE + BOOT_INFORMATION, BOOT_INFORMATION, 4)
"""Memory that is watched so that host calls are followed, by which endpoints come."""


class AtEndpoints:
    """The watchpoints of one stop."""

    def __init__(self, debuggee: Debuggee, waiting: Waiting, holds: Callable[[], bool]) -> None:
        """`holds` says whether the condition of the stop does."""
        self.debuggee = debuggee
        self.waiting = waiting
        self.holds = holds
        self.known: dict[tuple[int, int], list[Watchpoint]] = {}  # by number and block of the endpoint
        self.beacon: Watchpoint | None = None
        self.seen: set[tuple[int, int]] = set()  # those that were there before the last host call

    def put(self) -> AtEndpoints:
        """Put them into the system."""
        points = self.debuggee.watchpoints
        self.beacon = points.add_fixed([NEVER_WRITTEN], lambda _access: False)
        points.renewed.append(self.update)
        self.update()
        return self

    def take(self, _what: object) -> None:
        """Take them out."""
        points = self.debuggee.watchpoints
        if self.beacon is not None:
            points.renewed.remove(self.update)
            points.remove(self.beacon)
            self.beacon = None
        for point in [point for mine in self.known.values() for point in mine]:
            points.remove(point)
        self.known.clear()

    def reports(self, detail: object) -> bool:
        """Whether one of them is what the machine reports."""
        return any(detail is point for mine in self.known.values() for point in mine)

    def in_words(self, point: object) -> str:
        """Return what has come to be: one of them has ended a run."""
        (number, _), *_ = (place for place, mine in self.known.items() if any(point is one for one in mine))
        kernel = self.debuggee.kernel
        endpoint = kernel.state.endpoints.by_number[number]
        slot = self.waiting.slot
        state = "" if slot is None else f": {slots(kernel, endpoint)[slot].state.name.lower()}"
        return f"{self.waiting.what} of {endpoint.name}{state}"

    def update(self) -> None:
        """Watch the endpoints that have come; what has been written before that is no change of theirs.

        Those that were watched stay known where the run has gone back to before they came: there they are not seen.
        """
        names = self.waiting.names
        known = self.debuggee.kernel.state.endpoints.by_number.values()
        present = [endpoint for endpoint in known if names is None or endpoint.name in names]
        self.seen = {(endpoint.number, endpoint.block) for endpoint in present}
        for endpoint in present:
            if (endpoint.number, endpoint.block) not in self.known:
                mine = self.known[endpoint.number, endpoint.block] = []
                for change in self.waiting.changes(endpoint):
                    condition = self._begins(endpoint, change)
                    mine.append(self.debuggee.watchpoints.add_fixed(change.pieces, condition))

    def _begins(self, endpoint: EndpointState, change: Change) -> Callable[[Access], bool]:
        there, key = there_is(self.debuggee, endpoint), (endpoint.number, endpoint.block)

        def condition(access: Access) -> bool:
            before, after = (int.from_bytes(data, "little") for data in (access.before, access.after))
            return change.begins(before, after) and key in self.seen and there() and self.holds()

        return condition
