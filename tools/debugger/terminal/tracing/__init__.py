"""Commands that show what has happened: requests, events, the disks' queues."""

from callgate.tools.debugger.terminal.tracing.disks import disk_lines
from callgate.tools.debugger.terminal.tracing.requests import line, phases, title

__all__ = ["disk_lines", "line", "phases", "title"]
