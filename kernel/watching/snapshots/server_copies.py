"""Copies of hosted servers for snapshots.

A server is a Python object of another package, made of plain data.  It is pickled, which is several times as fast as
`HostedServer.duplicate`.  Two things are left out: the memory that it works on, which is that of the process at each
restore, and values that return themselves from `__deepcopy__`, which are shared.  Servers that cannot be pickled (of a
class within a function, or with a `duplicate` of its own) are duplicated.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from operator import methodcaller
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from callgate.server.hosted import HostedServer

if TYPE_CHECKING:
    from callgate.server.message import ServerMemory


class _Ways(dict[type, Callable[[Any], Any]]):
    """How objects are pickled, by class: each class is looked at once, and its objects by no code in Python."""

    def __init__(self, leave_out: Callable[[Any], Any]) -> None:
        """`leave_out` says what stands for an object that is shared, and raises PicklingError for one that is not."""
        super().__init__()
        self.leave_out = leave_out

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        copied = isinstance(getattr(kind, "__deepcopy__", None), FunctionType)  # that of `array`, for one, is none
        way = self[kind] = self.leave_out if copied else AS_USUAL
        return way


AS_USUAL: Final = methodcaller("__reduce_ex__", pickle.HIGHEST_PROTOCOL)


class ServerPickler:
    """Pickles servers one after the other; it leaves out the memory, and what is shared."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.pickler = pickle.Pickler(self.file, pickle.HIGHEST_PROTOCOL)
        self.pickler.dispatch_table = self.ways = _Ways(self._shared)
        self.left_out: list[object] = []

    def pickled(self, server: HostedServer) -> tuple[bytes, list[object]]:
        """Return a server without its memory and what it shares, and that; b"" if it cannot be pickled."""
        if type(server).duplicate is not HostedServer.duplicate:
            return b"", []
        self.left_out = [server.memory]
        self.ways[type(server.memory)] = self._memory
        self.file.seek(0)
        self.file.truncate()
        self.pickler.clear_memo()
        try:
            self.pickler.dump(server)
        except (pickle.PicklingError, AttributeError, TypeError):
            return b"", []
        return self.file.getvalue(), self.left_out[1:]

    def _memory(self, memory: object) -> Any:
        """Have `left_out` called in the place of the memory."""
        return (left_out, (0,)) if memory is self.left_out[0] else AS_USUAL(memory)

    def _shared(self, thing: Any) -> Any:
        """Have it called in the place of what is shared."""
        if thing.__deepcopy__({}) is not thing:
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

    def __init__(self, server: HostedServer, pickler: ServerPickler) -> None:
        self.pickled, self.shared = pickler.pickled(server)
        self.copy = None if self.pickled else server.duplicate(server.memory)
        self.size = len(self.pickled)  # bytes

    def on(self, memory: ServerMemory) -> HostedServer:
        """Return a server that is what this one was, and works on `memory`."""
        if self.copy is not None:
            return self.copy.duplicate(memory)
        things = [memory, *self.shared]
        server: HostedServer = _Unpickler(io.BytesIO(self.pickled), things).load()  # pickled in this process
        return server
