"""exFAT volumes, read-only: consecutive files and chains, up-case tables, valid data lengths."""

from callgate.server.exfat.server import ExfatServer

__all__ = ["ExfatServer"]
