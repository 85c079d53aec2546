"""What was used last, kept within bounds: blocks, directories, listings."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Immutable values by key; the least recently used go when ``weight`` or ``count`` is exceeded.

    One value is kept however heavy it is.
    """

    def __init__(self, weight: int, count: int) -> None:
        self.weight = weight
        self.count = count
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._total = 0

    def get(self, key: Hashable) -> T | None:
        """Return a value that is still there."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: T, weight: int) -> None:
        """Put a value in; a later one of the same key replaces it."""
        old = self._values.pop(key, None)
        self._total += weight - (old[1] if old else 0)
        self._values[key] = (value, weight)
        while len(self._values) > 1 and (self._total > self.weight or len(self._values) > self.count):
            self._total -= self._values.popitem(last=False)[1][1]
