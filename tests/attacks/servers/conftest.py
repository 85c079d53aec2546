"""Systems with servers that break the rules: one native server and checking clients, or Python classes of a test."""

from ipc_rig import rig
from own_servers import served

__all__ = ["rig", "served"]
