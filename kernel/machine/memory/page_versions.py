"""Versions of the pages of RAM: what each page held at each of many moments of one run.

A moment costs what has been written since the one before.  RAM is a private mapping of a memory file, so the host
knows the pages that were written: its own copies of them.  They are noted, written to the file, and dropped, which
makes the file the content at that moment.  To go to another moment, the pages that differ are written to the file, and
the host's copies are dropped again.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.memory.ram import ZEROS, Backing, Ram, Region

Key = Any  # of a moment: anything that is ordered as the run is


@dataclass(slots=True)
class Versions:
    """The contents of one page: `data[i]` from the moment `keys[i]` on; zeros before the first."""

    keys: list[Key] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)

    def at(self, key: Key) -> bytes:
        """Return the content at a moment."""
        index = bisect_right(self.keys, key)
        return self.data[index - 1] if index else ZEROS

    def put(self, key: Key, data: bytes) -> None:
        """Set the content from a moment on, up to the next one that is noted."""
        index = bisect_left(self.keys, key)
        self.keys.insert(index, key)
        self.data.insert(index, data)

    def take(self, key: Key) -> bytes:
        """Forget what was noted at a moment, and return it."""
        index = bisect_left(self.keys, key)
        del self.keys[index]
        return self.data.pop(index)


class PageVersions:
    """The pages of one machine's RAM, by physical address."""

    def __init__(self, ram: Ram, key: Key) -> None:
        """Note the present content as that of the first moment, `key`."""
        self.ram = ram
        self.pages: dict[int, Versions] = {}
        self.keys: list[Key] = [key]
        self.changed: dict[Key, set[int]] = {key: set()}  # pages whose content differs from the moment before
        self.current = key  # what the files hold
        self.stored = 0  # bytes in all versions
        self.backings: list[Backing] = []
        for region in ram.regions:
            self.backings.append(region.freeze())
            for offset in region.pages_in_use():
                self._note(key, region.base + offset, bytes(region.view[offset : offset + PAGE_SIZE]))

    def keep(self, key: Key) -> None:
        """Note the present content as that of the moment `key`, which comes after the one that RAM was last at.

        ValueError if that moment has been noted.
        """
        if key in self.changed or key < self.current:
            raise ValueError(f"{key} does not come after {self.current}")
        insort(self.keys, key)
        self.changed[key] = set()
        for region, backing in zip(self.ram.regions, self.backings, strict=True):
            for start, data in self._written(region, backing):
                backing.write(start, data)
                region.drop_copies(start, start + len(data))
                for offset in range(0, len(data), PAGE_SIZE):
                    self._keep_page(key, region.base + start + offset, data[offset : offset + PAGE_SIZE])
        self.current = key

    def _keep_page(self, key: Key, physical: int, data: bytes) -> None:
        old = self.page(key, physical)
        if data == old:
            return
        later = self._after(key)
        if later is not None and physical not in self.changed[later]:
            self._note(later, physical, old)  # it changes and changes back between the two
        self._note(key, physical, data)

    def _written(self, region: Region, backing: Backing) -> Iterator[tuple[int, bytes]]:
        """Yield offset and content of runs of pages that may differ from the file."""
        if region.backing is backing:
            for start, end in region.written():
                yield start, bytes(region.view[start:end])
            return
        offsets = {physical - region.base for physical in self.pages if self._region(physical) is region}
        offsets.update(region.pages_in_use())  # another snapshot was restored: anything may differ
        contents = [(offset, bytes(region.view[offset : offset + PAGE_SIZE])) for offset in sorted(offsets)]
        region.rebase(backing)
        yield from contents

    def _region(self, physical: int) -> Region:
        return next(region for region in self.ram.regions if 0 <= physical - region.base < region.size)

    def _note(self, key: Key, physical: int, data: bytes) -> None:
        if data == ZEROS:
            data = ZEROS
        self.pages.setdefault(physical, Versions()).put(key, data)
        self.changed[key].add(physical)
        self.stored += 0 if data is ZEROS else PAGE_SIZE

    def _after(self, key: Key) -> Key | None:
        index = bisect_right(self.keys, key)
        return self.keys[index] if index < len(self.keys) else None

    def _between(self, key: Key) -> set[int]:
        """Return the pages that may differ between a moment and the one that the files hold."""
        low, high = sorted((self.current, key))
        moments = self.keys[bisect_right(self.keys, low) : bisect_right(self.keys, high)]
        return set().union(*(self.changed[moment] for moment in moments))

    def differing(self, key: Key) -> set[int]:
        """Return the pages, by physical address, that may differ between a moment and what RAM holds now."""
        pages = self._between(key)
        for region, backing in zip(self.ram.regions, self.backings, strict=True):
            runs = region.written() if region.backing is backing else [(0, region.size)]
            for start, end in runs:
                pages.update(range(region.base + start, region.base + end, PAGE_SIZE))
        return pages

    def go(self, key: Key) -> None:
        """Give RAM the content of a moment that was noted."""
        for region, backing in zip(self.ram.regions, self.backings, strict=True):
            if region.backing is not backing:
                region.rebase(backing)
                continue
            for start, end in region.written():
                region.drop_copies(start, end)
        current, pages = self.current, self.pages
        run: list[bytes] = []  # pages side by side, which are written at once
        begin = end = 0
        for physical in sorted(self._between(key)):
            versions = pages[physical]
            data = versions.at(key)
            if data is versions.at(current):
                continue
            if physical != end:
                self._write(begin, run)
                run, begin = [], physical
            run.append(data)
            end = physical + PAGE_SIZE
        self._write(begin, run)
        self.current = key

    def _write(self, physical: int, pages: list[bytes]) -> None:
        """Write pages side by side to a file."""
        if pages:
            region = self._region(physical)
            self.backings[self.ram.regions.index(region)].write(physical - region.base, b"".join(pages))

    def page(self, key: Key, physical: int) -> bytes:
        """Return the content of a page at a moment."""
        known = self.pages.get(physical)
        return ZEROS if known is None else known.at(key)

    def drop(self, key: Key) -> None:
        """Forget a moment: neither the first nor the one that RAM was last at."""
        if key == self.keys[0] or key == self.current:
            raise ValueError(f"{key} is in use")
        later = self._after(key)
        self.keys.remove(key)
        for physical in self.changed.pop(key):
            data = self.pages[physical].take(key)
            if later is not None and physical not in self.changed[later]:
                self.pages[physical].put(later, data)
                self.changed[later].add(physical)
            elif data is not ZEROS:
                self.stored -= PAGE_SIZE
