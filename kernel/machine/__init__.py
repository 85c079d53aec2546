"""The computer: CPU, memory, clock, exceptions, buses and snapshots; it knows nothing of IPC or files.

`Machine` and `Stop` are imported when they are first asked for: policy needs tables and layouts of this package, and
can be imported, and tested, without the emulator.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.kernel.machine.machine import Machine
    from callgate.kernel.machine.observation.stop import Stop

__all__ = ["Machine", "Stop"]


def __getattr__(name: str) -> object:
    """Return what is exported; AttributeError for any other name."""
    if name == "Machine":
        from callgate.kernel.machine.machine import Machine

        return Machine
    if name == "Stop":
        from callgate.kernel.machine.observation.stop import Stop

        return Stop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
