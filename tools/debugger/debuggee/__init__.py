"""A booted system or a bare machine as debuggers see it: threads, registers, memory, stops, runs with a typed end.

Every front end is built on this room (gdb, the terminal, an editor, Python); nothing here knows one of them.
"""

from callgate.tools.debugger.debuggee.backwards import Backwards
from callgate.tools.debugger.debuggee.debuggee import Debuggee
from callgate.tools.debugger.debuggee.endings import Ending, Reason

__all__ = ["Backwards", "Debuggee", "Ending", "Reason"]
