"""Versions of the pages of RAM: what each page held at each of many moments of one run.

A moment costs what has been written since the one before.  RAM is a private mapping of a memory file, so the host
knows the pages that were written since the file was mapped: its own copies of them.  They are compared with what they
were at the moment before, and those that differ are noted.  The file stays what it is, that of an earlier moment, up to
`COPIES` of them: comparing more takes longer than to write them to the file and drop them, after which the next write
to each page makes another copy.  To go to another moment, the copies are dropped, and the pages that differ
between the moment of the file and that one are written to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Any, Final

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine.memory.ram import ZEROS, Backing, Ram, Region

COPIES: Final = 128  # pages: beyond this many copies the file is written
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
        if not self.keys or key > self.keys[-1]:
            self.keys.append(key)
            self.data.append(data)
            return
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
        self.current = key  # the last one that RAM was at
        self.filed = key  # what the files hold: `current`, or one before from which the run has come there
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
        regions = list(zip(self.ram.regions, self.backings, strict=True))
        mapped = all(region.backing is backing for region, backing in regions)
        copies = [self._copies(region, backing) for region, backing in regions]
        for region, runs in zip(self.ram.regions, copies, strict=True):
            self._keep_pages(key, region, runs)
        pages = sum(end - start for runs in copies for start, end in runs) // PAGE_SIZE
        if pages > COPIES or not mapped:
            for (region, backing), runs in zip(regions, copies, strict=True):
                file_copies(region, backing, runs)
            self.filed = key
        self.current = key

    def _keep_pages(self, key: Key, region: Region, runs: list[tuple[int, int]]) -> None:
        """Note those pages of runs that differ from the moment before `key`."""
        base, view, pages, later = region.base, region.view, self.pages, self._after(key)
        for start, end in runs:
            for offset in range(start, end, PAGE_SIZE):
                data = bytes(view[offset : offset + PAGE_SIZE])
                versions = pages.get(base + offset)
                if later is not None:
                    self._insert_page(key, later, base + offset, data)
                elif data != (versions.data[-1] if versions is not None and versions.data else ZEROS):
                    self._note(key, base + offset, data)

    def _insert_page(self, key: Key, later: Key, physical: int, data: bytes) -> None:
        """Note a page that differs from the moment before `key`, and from then on up to the moment `later` at most."""
        old = self.page(key, physical)
        if data == old:
            return
        if physical not in self.changed[later]:
            self._note(later, physical, old)  # it changes and changes back between the two
        self._note(key, physical, data)

    def _copies(self, region: Region, backing: Backing) -> list[tuple[int, int]]:
        """Return (start, end) offsets of pages that may differ from the file of `filed`."""
        if region.backing is backing:
            return region.written()
        offsets = {physical - region.base for physical in self.pages if self._region(physical) is region}
        offsets.update(region.pages_in_use())  # another snapshot was restored: anything may differ
        return [(offset, offset + PAGE_SIZE) for offset in sorted(offsets)]

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
        low, high = sorted((self.filed, key))
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
        filed, pages = self.filed, self.pages
        run: list[bytes] = []  # pages side by side, which are written at once
        begin = end = 0
        for physical in sorted(self._between(key)):
            versions = pages[physical]
            data = versions.at(key)
            if data is versions.at(filed):
                continue
            if physical != end:
                self._write(begin, run)
                run, begin = [], physical
            run.append(data)
            end = physical + PAGE_SIZE
        self._write(begin, run)
        self.current = self.filed = key

    def _write(self, physical: int, pages: list[bytes]) -> None:
        """Write pages side by side to a file."""
        if pages:
            region = self._region(physical)
            self.backings[self.ram.regions.index(region)].write(physical - region.base, b"".join(pages))

    def page(self, key: Key, physical: int) -> bytes:
        """Return the content of a page at a moment."""
        known = self.pages.get(physical)
        return ZEROS if known is None else known.at(key)

    def in_use(self, key: Key) -> bool:
        """Whether a moment is the first, the one that RAM was last at, or that of the files."""
        return key in (self.keys[0], self.current, self.filed)

    def drop(self, key: Key) -> None:
        """Forget a moment; ValueError for one in use."""
        if self.in_use(key):
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


def file_copies(region: Region, backing: Backing, runs: list[tuple[int, int]]) -> None:
    """Write pages to a file and map it, so that RAM is what it was and has no copies."""
    for start, end in runs:
        backing.write(start, bytes(region.view[start:end]))
    region.rebase(backing)
