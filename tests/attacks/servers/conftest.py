"""A system with one native server and checking clients; the servers that break the rules are in programs."""

from ipc_rig import rig

__all__ = ["rig"]
