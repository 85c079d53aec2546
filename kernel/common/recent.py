"""What was used last, kept within bounds: blocks, directories, listings, parts of tables."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from callgate.kernel.common.counted import Counted

T = TypeVar("T")


class Recent(Counted, Generic[T]):
    """Values by key; the least recently used are forgotten when there are more than `count` or they weigh too much.

    One value is kept however heavy it is.  Values do not change while they are here.  Where a function alone makes the
    values, functools.lru_cache does this.
    """

    def __init__(self, count: int, weight: int = 0) -> None:
        """`count` is at least 1; `weight` bounds the sum of what `keep` is told, 0 if nothing is."""
        self.count = count
        self.weight = weight
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._total = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> T | None:
        """Return a value that is still there, which has now been used."""
        found = self._values.get(key)
        if found is None:
            return None
        if next(reversed(self._values)) != key:
            self.count_change()
            self._values.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: T, weight: int = 0) -> T:
        """Put a value in and return it; it replaces an earlier one of the same key."""
        old = self._values.pop(key, None)
        self._total += weight - (old[1] if old else 0)
        self._values[key] = (value, weight)
        while len(self._values) > 1 and (self._total > self.weight or len(self._values) > self.count):
            self._total -= self._values.popitem(last=False)[1][1]
        return value

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()
        self._total = 0
