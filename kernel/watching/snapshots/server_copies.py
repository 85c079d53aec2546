"""Copies of hosted servers for snapshots.

A server is a Python object of another package, made of plain data.  It is pickled, which is several times as fast as
`HostedServer.duplicate`.  Two things are left out: the memory that it works on, which is that of the process at each
restore, and values that return themselves from `__deepcopy__`, which are shared.  Servers that cannot be pickled (of a
class within a function, or with a `duplicate` of its own) are duplicated.
"""

from __future__ import annotations

import io
import pickle
from types import FunctionType
from typing import TYPE_CHECKING, Any

from callgate.server.hosted import HostedServer

if TYPE_CHECKING:
    from callgate.server.message import ServerMemory


class _Pickler(pickle.Pickler):
    """Leaves out the memory, and what is shared."""

    def __init__(self, file: io.BytesIO, memory: ServerMemory) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.left_out: list[object] = [memory]

    def reducer_override(self, thing: object) -> Any:
        """Have `left_out` called in the place of what is left out."""
        if thing is self.left_out[0]:
            return left_out, (0,)
        copy = getattr(type(thing), "__deepcopy__", None)
        if not isinstance(copy, FunctionType):  # of `array`, for one, it is not Python's
            return NotImplemented
        if copy(thing, {}) is not thing:
            raise pickle.PicklingError("it is copied in a way of its own")
        self.left_out.append(thing)
        return left_out, (len(self.left_out) - 1,)


class _Unpickler(pickle.Unpickler):
    """Puts back what was left out, with another memory."""

    def __init__(self, file: io.BytesIO, things: list[object]) -> None:
        super().__init__(file)
        self.things = things

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what puts a thing back, or a class by the names of its module and its own."""
        if (module_name, global_name) == (__name__, left_out.__name__):
            return self.things.__getitem__
        return super().find_class(module_name, global_name)


def left_out(_number: int) -> object:
    """Stand for something in what is pickled."""
    raise AssertionError("`_Unpickler` puts another function in its place")


class ServerCopy:
    """What a server was at a moment; `pickled` is b"" if it has been duplicated."""

    __slots__ = ("copy", "pickled", "shared", "size")

    def __init__(self, server: HostedServer) -> None:
        self.pickled, self.shared = pickled(server)
        self.copy = None if self.pickled else server.duplicate(server.memory)
        self.size = len(self.pickled)  # bytes

    def on(self, memory: ServerMemory) -> HostedServer:
        """Return a server that is what this one was, and works on `memory`."""
        if self.copy is not None:
            return self.copy.duplicate(memory)
        things = [memory, *self.shared]
        server: HostedServer = _Unpickler(io.BytesIO(self.pickled), things).load()  # pickled in this process
        return server


def pickled(server: HostedServer) -> tuple[bytes, list[object]]:
    """Return a server without its memory and what it shares, and that; b"" if it cannot be pickled."""
    if type(server).duplicate is not HostedServer.duplicate:
        return b"", []
    file = io.BytesIO()
    pickler = _Pickler(file, server.memory)
    try:
        pickler.dump(server)
    except (pickle.PicklingError, AttributeError, TypeError):
        return b"", []
    return file.getvalue(), pickler.left_out[1:]
