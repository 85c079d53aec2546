"""What the debugger shows, as data: `views` prints it, and the panes of the screen lay it out."""

from callgate.tools.debugger.terminal.looks.code import CodeRow, code_around, disassembly, points, source
from callgate.tools.debugger.terminal.looks.state import (
    FLAGS,
    LEGEND,
    EndpointLook,
    Flag,
    Register,
    RegisterLook,
    ThreadLook,
    endpoint,
    endpoints,
    registers,
    threads,
)

__all__ = [
    "FLAGS",
    "LEGEND",
    "CodeRow",
    "EndpointLook",
    "Flag",
    "Register",
    "RegisterLook",
    "ThreadLook",
    "code_around",
    "disassembly",
    "endpoint",
    "endpoints",
    "points",
    "registers",
    "source",
    "threads",
]
