"""Pickling hosted servers, and what they hold, without what is shared, counts its changes or belongs to a process."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from operator import methodcaller
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.common.counted import Counted

if TYPE_CHECKING:
    from callgate.server.message import ServerMemory

FAILURES: Final = (pickle.PicklingError, AttributeError, TypeError, RecursionError)


class _Ways(dict[type, Callable[[Any], Any]]):
    """How objects are pickled, by class: each class is looked at once, and its objects by no code in Python."""

    def __init__(self, shared: Callable[[Any], Any], part: Callable[[Any], Any] | None) -> None:
        """`shared` says what stands for an object that is shared, and raises PicklingError for one that is not.

        `part` says what stands for one that counts its changes; None: nothing does.
        """
        super().__init__()
        self.shared = shared
        self.part = part

    def __missing__(self, kind: type) -> Callable[[Any], Any]:
        copied = isinstance(getattr(kind, "__deepcopy__", None), FunctionType)  # that of `array`, for one, is none
        way = self.shared if copied else AS_USUAL
        if self.part is not None and issubclass(kind, Counted):
            way = self.part
        self[kind] = way
        return way


AS_USUAL: Final = methodcaller("__reduce_ex__", pickle.HIGHEST_PROTOCOL)


class ServerPickler:
    """Pickles servers, or what they hold, one after the other; it leaves out the memory, and what is shared."""

    def __init__(self, *, parts: bool = False) -> None:
        """`parts` says to leave out what counts its changes as well."""
        self.file = io.BytesIO()
        self.pickler = pickle.Pickler(self.file, pickle.HIGHEST_PROTOCOL)
        self.pickler.dispatch_table = self.ways = _Ways(self._shared, self._leave_out if parts else None)
        self.left_out: list[object] = []

    def pickled(self, thing: object, memory: ServerMemory) -> tuple[bytes, list[object]]:
        """Return a thing without a memory and what it shares, and that; b"" if it cannot be pickled."""
        self.left_out = [memory]
        self.ways[type(memory)] = self._memory
        self.file.seek(0)
        self.file.truncate()
        self.pickler.clear_memo()
        try:
            self.pickler.dump(thing)
        except FAILURES:
            return b"", []
        return self.file.getvalue(), self.left_out[1:]

    def _memory(self, memory: object) -> Any:
        """Have `left_out` called in the place of the memory."""
        return (left_out, (0,)) if memory is self.left_out[0] else AS_USUAL(memory)

    def _shared(self, thing: Any) -> Any:
        """Have it called in the place of what is shared."""
        if thing.__deepcopy__({}) is not thing:
            raise pickle.PicklingError("it is copied in a way of its own")
        return self._leave_out(thing)

    def _leave_out(self, thing: object) -> Any:
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


def unpickled(data: bytes, things: list[object]) -> Any:
    """Return what was pickled, with these things where something was left out."""
    return _Unpickler(io.BytesIO(data), things).load()  # pickled in this process
