"""Blocks of the disk cache that differ from the disk, or may at any moment: how many, and what becomes of them.

Nothing brings a changed block back, so it stays until its disk goes.  Half of the cache is all that changes get: the
rest serves those who read.  A block that is mapped to be written is counted as soon as it is, since the CPU asks
nobody, and once for each window, so that there are no more claims than blocks; one that has not been changed when it
leaves the window is counted no more.  A block that has been changed needs no claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from callgate.kernel.abi.limits import CHANGED_BLOCKS_PART
from callgate.kernel.storage.cache import SPARE_LEAST, Cache
from callgate.kernel.storage.disk_requests import Key


class ChangedBlocks:
    """The share of changed blocks, and the blocks that have it."""

    def __init__(self, cache: Cache) -> None:
        """Take the cache, in whose records `changed`, `claimed` and `lost` are kept here."""
        self.cache = cache
        self.state = cache.state

    @property
    def room(self) -> int:
        """How many more blocks may be mapped to be written: fewer in a small cache, or nothing could be read."""
        state, total = self.state, self.cache.high.total
        share = min(total // CHANGED_BLOCKS_PART, total - self.cache.share - SPARE_LEAST)
        return share - state.changed - state.claimed

    def claim(self, keys: Iterable[Key]) -> Iterator[bool]:
        """Claim blocks that are mapped to be written, as many of them, from the first on, as there is room for.

        False for one that needs no claim, because it has been changed.
        """
        state = self.state
        for key in keys:
            block = state.blocks[key]
            if not block.changed:
                if self.room <= 0:
                    return
                state.claimed += 1
                block.writers += 1
            yield not block.changed

    def disclaim(self, keys: Iterable[Key]) -> None:
        """Note that blocks that were claimed are no longer mapped so, or have been changed."""
        state = self.state
        for key in keys:
            state.blocks[key].writers -= 1
            state.claimed -= 1

    def keep(self, keys: Iterable[Key]) -> None:
        """Keep blocks that have been claimed and written to.  One whose disk has gone is lost."""
        state = self.state
        for key in keys:
            block = state.blocks[key]
            if block.changed:
                continue
            if block.doomed:
                state.lost += 1
                continue
            block.changed = True
            block.locks += 1
            state.changed += 1

    def lose(self, disk: int) -> int:
        """Forget that blocks of a disk that has gone were changed; return how many were."""
        state = self.state
        lost = [key for key, block in state.blocks.items() if key[0] == disk and block.changed]
        for key in lost:
            state.blocks[key].changed = False
        self.cache.unlock(lost)
        state.changed -= len(lost)
        state.lost += len(lost)
        return len(lost)
