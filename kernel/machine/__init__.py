"""The computer: CPU, memory, clock, exceptions, buses and snapshots; it knows nothing of IPC or files."""

from callgate.kernel.machine.machine import Machine
from callgate.kernel.machine.observation.stop import Stop

__all__ = ["Machine", "Stop"]
