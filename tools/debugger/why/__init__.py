"""Where a value comes from: the instruction, the device or the host call that wrote it, and the chain back from there.

It is found by running the past again, so nothing has to be set up beforehand and nothing is slower until it is asked.
"""

from callgate.tools.debugger.why.chain import Chain
from callgate.tools.debugger.why.links import Link, Writer
from callgate.tools.debugger.why.locations import InMemory, InRegister, Location

__all__ = ["Chain", "InMemory", "InRegister", "Link", "Location", "Writer"]
