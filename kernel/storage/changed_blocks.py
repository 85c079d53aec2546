"""Blocks of the disk cache that differ from the disk, or may at any moment: their number, and their fate.

A changed block cannot be read again, so it stays until its disk is removed. Changes may take half of the cache: the
rest serves readers.  A family of programs has at most half of what the others have left of that, so that a program
that starts later can write too, also after the writer has ended.  A block is counted as soon as it is mapped writable,
since the CPU writes without a call, and once for each window, so that there are no more claims than blocks.  If it is
unchanged when it leaves the window, it is no longer counted.  A block that has been changed needs no claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from callgate.kernel.abi.limits import CHANGED_BLOCKS_OF_FAMILY_PART, CHANGED_BLOCKS_PART
from callgate.kernel.storage.cache import SPARE_LEAST, Cache
from callgate.kernel.storage.disk_requests import Key


class ChangedBlocks:
    """The share for changed blocks, and the blocks that use it."""

    def __init__(self, cache: Cache) -> None:
        """Take the cache, in whose records `changed`, `claimed` and `lost` are kept here."""
        self.cache = cache
        self.state = cache.state

    @property
    def share(self) -> int:
        """How many blocks may be changed or mapped to be written: fewer in a small cache, or nothing could be read."""
        total = self.cache.high.total
        return min(total // CHANGED_BLOCKS_PART, total - self.cache.share - SPARE_LEAST)

    def room(self, family: int) -> int:
        """Return how many more blocks may be mapped for a family to write to; less than one if there is none."""
        state = self.state
        mine = state.held[family]
        others = state.changed + state.claimed - mine
        return (self.share - others) // CHANGED_BLOCKS_OF_FAMILY_PART - mine

    def claim(self, keys: Iterable[Key], family: int) -> Iterator[bool]:
        """Claim blocks that are to be mapped writable, as many of them, from the first on, as there is room for.

        False for one that needs no claim, because it has been changed.
        """
        state = self.state
        for key in keys:
            block = state.blocks[key]
            if not block.changed:
                if self.room(family) <= 0:
                    return
                state.claimed += 1
                state.held[family] += 1
                block.writers += 1
            yield not block.changed

    def disclaim(self, keys: Iterable[Key], family: int) -> None:
        """Note that blocks that a family has claimed are no longer mapped so, or have been changed."""
        for key in keys:
            self.state.blocks[key].writers -= 1
            self.state.claimed -= 1
            self._let_go(family)

    def keep(self, keys: Iterable[Key], family: int) -> None:
        """Keep blocks that a family has claimed and written to.  One whose disk has gone is lost."""
        state = self.state
        for key in keys:
            block = state.blocks[key]
            if block.changed:
                continue
            if block.doomed:
                state.lost += 1
                continue
            block.changed = True
            block.family = family
            state.blocks.uses.locks[block.place] += 1
            state.changed += 1
            state.held[family] += 1

    def _let_go(self, family: int) -> None:
        self.state.held[family] -= 1
        if not self.state.held[family]:
            del self.state.held[family]

    def lose(self, disk: int) -> int:
        """Forget that blocks of a disk that has gone were changed; return how many were."""
        state = self.state
        lost = [key for key, block in state.blocks.items() if key[0] == disk and block.changed]
        for key in lost:
            state.blocks[key].changed = False
            self._let_go(state.blocks[key].family)
        self.cache.unlock(lost)
        state.changed -= len(lost)
        state.lost += len(lost)
        return len(lost)
