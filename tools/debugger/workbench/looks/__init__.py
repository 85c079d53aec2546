"""What the debugger shows, as data: `views` prints it, and the panes of the screen lay it out."""

from callgate.tools.debugger.workbench.looks.code import CodeRow, code_around, disassembly, points, source, source_at
from callgate.tools.debugger.workbench.looks.state import (
    FLAGS,
    LEGEND,
    EndpointLook,
    Flag,
    FrameLook,
    Register,
    RegisterLook,
    ThreadLook,
    backtrace,
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
    "FrameLook",
    "Register",
    "RegisterLook",
    "ThreadLook",
    "backtrace",
    "code_around",
    "disassembly",
    "endpoint",
    "endpoints",
    "points",
    "registers",
    "source",
    "source_at",
    "threads",
]
