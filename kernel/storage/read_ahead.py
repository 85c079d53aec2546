"""Reading ahead for small files that are opened in turn: they often lie one after the other on the disk.

`CacheState.ahead` has for each disk the block after those that were read last for a file's beginning, and how many of
them were read ahead of need.
"""

from __future__ import annotations

from collections.abc import Sequence

from callgate.kernel.storage.cache import Cache

AHEAD_MOST = 16  # blocks read together with those of a file's beginning


def read_ahead(cache: Cache, disk: int, numbers: Sequence[int], end: int) -> list[int]:
    """Return blocks to be read together with those of a file's beginning: what lies after them, up to `end`.

    There are none if the file does not lie where the blocks read before ended.  They end before one that is there
    already, and are not made out of the last quarter of the cache.
    """
    state = cache.state
    expected, before = state.ahead.get(disk, (-1, 0))
    after = number = numbers[-1] + 1
    count = min(AHEAD_MOST, max(2, 2 * before)) if numbers[0] == expected else 0
    while number < min(after + count, end):
        if (disk, number) in state.blocks or cache.high.available + state.blocks.uses.idle <= cache.share:
            break
        state.blocks.add((disk, number), cache.new_frame())
        number += 1
    state.ahead[disk] = number, number - after
    return list(range(after, number))
