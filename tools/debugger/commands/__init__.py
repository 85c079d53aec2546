"""A command language over a workbench, for every front end.

Importing it makes the commands known: each module below adds its own.
"""

from callgate.tools.debugger.commands import asking, at_stops, frames, looking, moving, showing, stopping, tracing

__all__ = ["asking", "at_stops", "frames", "looking", "moving", "showing", "stopping", "tracing"]
