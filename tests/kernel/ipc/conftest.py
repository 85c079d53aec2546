"""A system with one native server and checking clients."""

from ipc_rig import rig

__all__ = ["rig"]
