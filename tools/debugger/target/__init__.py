"""What is debugged: a booted system, or a machine without a kernel.

A history and a debuggee are made of either.  What only a kernel has is asked of `system`, which a machine without one
refuses by name: `NoKernel`.
"""

from callgate.tools.debugger.target.bare_machine import BareMachine
from callgate.tools.debugger.target.booted import Booted, Subject, target_of
from callgate.tools.debugger.target.target import NoKernel, Once, Target

__all__ = ["BareMachine", "Booted", "NoKernel", "Once", "Subject", "Target", "target_of"]
