"""Commands that show what has happened: requests, events, the disks' queues."""

from callgate.tools.debugger.commands.tracing.disks import disk_lines
from callgate.tools.debugger.commands.tracing.requests import line, phases, title

__all__ = ["disk_lines", "line", "phases", "title"]
