"""Views of memory of which is noted what is written: none may be held beyond a snapshot.

A page is marked as a view of it is given out, and the marks are cleared as a snapshot is taken or restored.  What is
written later through the same view would be missing at the next way back, and nothing would say why.
"""

from __future__ import annotations

import ctypes
import weakref


class StaleView(RuntimeError):
    """A view is held beyond a snapshot, which would not hear of what is written through it."""


class LentViews:
    """The views of a region: those between two snapshots are of one object, which lives as long as they do."""

    def __init__(self, memory: ctypes.Array[ctypes.c_ubyte], marks: bytearray) -> None:
        """Take the region's memory, and its marks; of a region that has none there are no views."""
        self.memory = memory
        self.marks = marks
        self.all = memoryview(b"")
        self.lent: list[weakref.ref[object]] = []  # what views are of, if it lives, the present one last
        if marks:
            self._lend()

    def _lend(self) -> None:
        lent = type(self.memory).from_buffer(self.memory)
        self.lent.append(weakref.ref(lent))
        self.all = memoryview(lent).cast("B")

    def check(self) -> None:
        """StaleView if a view is held: called as a snapshot is about to be taken or restored.

        It may be left out where nothing has been marked since the last time and that has passed: no view has been given
        out.
        """
        before = self.all
        self._lend()  # first: whatever interrupts this, there are views to give out
        before.release()
        self.lent = [lent for lent in self.lent if lent() is not None]
        if len(self.lent) > 1:
            raise StaleView("a view of high memory that was taken before this snapshot is still held: release it")

    def lends(self, view: memoryview) -> bool:
        """Whether a view is one of these, and has not been released."""
        try:
            return any(view.obj is lent() for lent in self.lent)
        except ValueError:
            return False

    def close(self) -> None:
        """Give out no more, and hold the memory no longer."""
        self.all.release()
        del self.memory
