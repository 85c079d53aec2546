"""An observer of a session: it watches a run, and writes a report when it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from callgate.disk.media.medium import Image
    from callgate.kernel.system import System
    from callgate.tools.session.outputs import Report


class Observer(Protocol):
    """Watches a run and reports on it."""

    report: Report | None

    def open(self, images: list[Image], others: Sequence[Report]) -> None:
        """Open the file of the report, and check it against `others`; OutputRefused, OSError."""

    def begin(self, system: System) -> None:
        """Watch a system that has not run yet."""

    def end(self, system: System) -> None:
        """Write the report of a run that has ended, however it did; OSError."""
