"""Places in a deflate stream from which decompression can go on: sequential reading is linear, a jump is bounded.

A decompressor keeps its last 32 KiB of output and what it was fed and has not used, so a point costs about 100 KiB.
Each file has points at regular distances, and a few where reading stopped last; all together are bounded.
"""

import zlib
from collections import OrderedDict
from typing import Any, Final, NamedTuple

POINTS_LIMIT: Final = 192
PER_FILE: Final = 32  # regular points of one file
CURSORS: Final = 4  # points where reading stopped
DISTANCE: Final = 1 << 20  # least distance of regular points


class Point(NamedTuple):
    """A decompressor (never advanced, only copied) that has made ``position`` bytes of ``fed`` bytes of input."""

    position: int
    fed: int
    crc: int  # of what it has made
    stream: Any  # zlib's decompression object, whose class has no public name

    def copy(self) -> "Point":
        """Return the same point with a decompressor of its own."""
        return self._replace(stream=self.stream.copy())


def beginning() -> Point:
    """Return the point at the beginning of any raw deflate stream."""
    return Point(0, 0, 0, zlib.decompressobj(-zlib.MAX_WBITS))


class RestartPoints:
    """The points of all open files, by the file's number and their position."""

    def __init__(self, limit: int = POINTS_LIMIT) -> None:
        self.limit = limit
        self.inflated = 0  # bytes made by decompression so far, those on the way to a place included
        self._points: OrderedDict[tuple[int, int], Point] = OrderedDict()
        self._cursors: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._points)

    def best(self, file: int, position: int) -> Point:
        """Return a copy of the last point at or before ``position``, the beginning if there is none."""
        places = [place for number, place in self._points if number == file and place <= position]
        if not places:
            return beginning()
        key = (file, max(places))
        self._points.move_to_end(key)
        return self._points[key].copy()

    def keep(self, file: int, size: int, point: Point, *, cursor: bool) -> None:
        """Remember a point of a file of ``size`` bytes: one where reading stopped, or one on the way there."""
        key = (file, point.position)
        if not point.position or key in self._points:
            return
        if cursor:
            cursors = self._cursors.setdefault(file, [])
            cursors.append(point.position)
            if len(cursors) > CURSORS:
                self._points.pop((file, cursors.pop(0)), None)
        elif not self._is_due(file, size, point.position):
            return
        self._points[key] = point.copy()
        while len(self._points) > self.limit:
            self._points.popitem(last=False)

    def _is_due(self, file: int, size: int, position: int) -> bool:
        """Whether a regular point belongs here: none lies within the distance before it."""
        distance = max(DISTANCE, size // PER_FILE)
        cursors = self._cursors.get(file, [])
        return not any(
            number == file and position - distance < place <= position and place not in cursors
            for number, place in self._points
        )

    def forget(self, file: int) -> None:
        """Drop all points of a file that was closed."""
        self._cursors.pop(file, None)
        for key in [key for key in self._points if key[0] == file]:
            del self._points[key]
