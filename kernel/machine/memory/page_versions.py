"""Versions of the pages of RAM: what each page held at each of many moments of one run.

A moment costs what has been written since the one before.  RAM is a private mapping of a memory file, so the host
knows the pages that were written since the file was mapped: its own copies of them.  They are compared with what they
were at the moment before, and those that differ are noted.  The file stays what it is, that of an earlier moment, up to
`COPIES` of them: comparing more takes longer than to write them to the file and drop them, after which the next write
to each page makes another copy.  Of high memory it is known which pages were written since the moment before; only
these are compared, so there may be more: `MARKED_COPIES`.  To go to another moment, the copies are dropped, and the
pages that differ between the moment of the file and that one are written to it.

A copy that is no longer written is compared again and again.  So the file is written as well when `IN_VAIN` copies have
been compared that did not differ.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.memory.page_code import Found, LastPages
from callgate.kernel.machine.memory.page_store import NO_PAGE, PageStore, content, differ
from callgate.kernel.machine.memory.ram import Backing, Ram, Region

COPIES: Final = 128  # pages: beyond this many copies the file is written
MARKED_COPIES: Final = 2048  # of high memory: more of them would make the first way back long
IN_VAIN: Final = 1024  # pages, which takes about as long as to write the file and make the copies in use once more
MOST_TO_SORT: Final = 32  # moments, after which what they noted is sorted by pages in a millisecond
Key = Any  # of a moment: anything that is ordered as the run is


@dataclass(slots=True)
class Versions:
    """The contents of one page: `kept[i]` of a `PageStore` from the moment `keys[i]` on; zeros before the first."""

    keys: list[Key] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def at(self, key: Key) -> int:
        """Return the content at a moment."""
        index = bisect_right(self.keys, key)
        return self.kept[index - 1] if index else NO_PAGE

    def append(self, key: Key, page: int) -> None:
        """Set the content from a moment on that comes after all that are noted, or is noted already."""
        keys, kept = self.keys, self.kept
        if not keys or keys[-1] != key:
            kept[len(keys) :] = (page,)
            keys.append(key)  # only now it is noted: an interrupt comes before that or after it

    def having(self, key: Key, page: int) -> Versions:
        """Return these and the content from a moment on, up to the next one that is noted."""
        index = bisect_left(self.keys, key)
        keys, kept = self.keys, self.kept[: len(self.keys)]
        return Versions([*keys[:index], key, *keys[index:]], [*kept[:index], page, *kept[index:]])

    def without(self, key: Key) -> Versions:
        """Return these but for what was noted at a moment, if anything was."""
        index = bisect_left(self.keys, key)
        after = index + (self.keys[index : index + 1] == [key])
        return Versions(self.keys[:index] + self.keys[after:], self.kept[:index] + self.kept[after : len(self.keys)])


NEVER: Final = Versions()  # of a page that has always been zeros


class Noted(NamedTuple):
    """Pages that differ at a moment from the one before, which come after all other moments then."""

    key: Key
    base: int  # physical address of their region
    found: Found


class PageVersions:
    """The pages of one machine's RAM, by physical address."""

    def __init__(self, ram: Ram, key: Key) -> None:
        """Note the present content as that of the first moment, `key`."""
        self.ram = ram
        self.store = PageStore()
        self.pages: dict[int, Versions] = {}
        self.to_sort: list[Noted] = []  # what is in `pages` and `changed` not yet
        self.last = [LastPages(self.store, region.address, region.size) for region in ram.regions]
        self.keys: list[Key] = [key]
        self.changed: dict[Key, set[int]] = {key: set()}  # pages whose content differs from the moment before
        self.current = key  # the last one that RAM was at
        self.filed = [key for _ in ram.regions]  # what its file holds: `current`, or one from which the run has come
        self.torn: list[list[tuple[int, int]]] = [[] for _ in ram.regions]  # where it may hold that of a later one
        self.in_vain = [0 for _ in ram.regions]  # copies that were compared and did not differ since that was written
        self.stored = 0  # bytes in all versions
        self.backings: list[Backing] = []
        for region in ram.regions:
            self.backings.append(region.freeze())
            for offset in region.pages_in_use():
                self._note(key, region.base + offset, self.store.put(region.address + offset))

    def keep(self, key: Key) -> None:
        """Note the present content as that of the moment `key`, which comes after the one that RAM was last at.

        ValueError if that moment has been noted.  If it fails otherwise or is interrupted, either nothing has been
        noted or all (`has`); OSError and MemoryError if the host has no memory.
        """
        current = self.current
        if key in self.changed or key < current:
            raise ValueError(f"{key} does not come after {current}")
        later = None if key > self.keys[-1] else self.keys[bisect_right(self.keys, key)]
        of_later = None if later is None else {*self.changed_at(later)}
        try:
            many = self._keep(key, later)
            self.current = key
        except BaseException:
            self.current = current
            self._take_back(key, later, of_later)
            raise
        for number in many:
            self._file(key, number)
        if len(self.to_sort) >= MOST_TO_SORT:
            self._by_page()

    def has(self, key: Key) -> bool:
        """Whether a moment has been noted."""
        return key in self.changed

    def changed_at(self, key: Key) -> set[int]:
        """Return the pages, by physical address, whose content at a moment differs from the one before."""
        self._by_page()
        return self.changed[key]

    def _keep(self, key: Key, later: Key | None) -> list[int]:
        """Note what differs from the moment before; return the numbers of the regions whose file is to be written."""
        regions, backings = self.ram.regions, self.backings
        self.changed[key] = set()
        if later is None:
            self.keys.append(key)
        else:
            insort(self.keys, key)
        mapped = True
        for region, backing in zip(regions, backings, strict=True):
            mapped = mapped and region.backing is backing
        many: list[int] = []
        for number, region in enumerate(regions):
            if later is None and mapped:
                count = self._keep_last(key, number)
            else:
                count = self._keep_all(key, later, number)
            most = MARKED_COPIES if region.marks else COPIES
            if not mapped or count > most or self.in_vain[number] > IN_VAIN:
                many.append(number)
        return many

    def _file(self, key: Key, number: int) -> None:
        """Write what a region holds now, that of the moment `key`, to its file, and map it."""
        region, backing = self.ram.regions[number], self.backings[number]
        runs = self._copies(region, backing)
        self.torn[number] = runs + self.torn[number]
        file_copies(region, backing, runs)
        self.filed[number] = key
        self.torn[number] = []
        self.in_vain[number] = 0

    def _take_back(self, key: Key, later: Key | None, of_later: set[int] | None) -> None:
        """Forget what has been noted of the moment `key`, and so of `later`, at which the pages `of_later` differed."""
        self.to_sort = [noted for noted in self.to_sort if noted.key != key]
        pages = self._by_page()
        for physical, versions in pages.items():
            pages[physical] = versions.without(key)
            if of_later is not None and physical not in of_later:
                pages[physical] = pages[physical].without(later)
        if of_later is not None:
            self.changed[later] = of_later
        self.changed.pop(key, None)
        self.keys = [known for known in self.keys if known != key]
        used = [page for versions in pages.values() for page in versions.kept if page != NO_PAGE]
        self.stored = len(used) * PAGE_SIZE
        self.store.keep_only(used)
        for last, region in zip(self.last, self.ram.regions, strict=True):
            last.forget()
            region.mark_again()
        for physical, versions in pages.items():
            self._set_last(physical, versions.kept[-1] if versions.kept else NO_PAGE)

    def _keep_last(self, key: Key, number: int) -> int:
        """Note those copies of pages that differ from the moment before `key`, the last; return how many there are."""
        region, last = self.ram.regions[number], self.last[number]
        if region.marks:
            runs = region.newly_marked()
            if not runs:
                return 0
            found, count = last.keep(runs), region.marked_before.count(1) - 1
        else:
            found, count = last.keep_copies(region.page_map) or self._keep_written(region, last)
            self.in_vain[number] += count - len(found.numbers)
        self._note_last(key, region, found)
        return count

    def _keep_written(self, region: Region, last: LastPages) -> tuple[Found, int]:
        runs = region.written()
        return last.keep(runs), pages_in(runs)

    def _keep_all(self, key: Key, later: Key | None, number: int) -> int:
        """Do the same where RAM has been mapped to another file since, or for a moment before `later`."""
        region = self.ram.regions[number]
        runs = self._copies(region, self.backings[number])
        if later is None:
            self._note_last(key, region, self.last[number].keep(runs))
        else:
            self._keep_between(key, later, region, runs)
        return pages_in(runs)

    def _note_last(self, key: Key, region: Region, found: Found) -> None:
        if found.numbers:
            self.stored += (len(found.kept) - found.kept.count(NO_PAGE)) * PAGE_SIZE
            self.to_sort.append(Noted(key, region.base, found))

    def _by_page(self) -> dict[int, Versions]:
        """Return the versions of each page; what was noted since it was last asked for is put there now."""
        pages, waiting = self.pages, self.to_sort
        for key, base, (numbers, kept) in waiting:
            changed = [base + (number << PAGE_SHIFT) for number in numbers]
            for physical, page in zip(changed, kept, strict=True):
                versions = pages.get(physical)
                if versions is None:
                    versions = pages[physical] = Versions()
                versions.append(key, page)
            self.changed[key].update(changed)
        self.to_sort = []
        return pages

    def _keep_between(self, key: Key, later: Key, region: Region, runs: list[tuple[int, int]]) -> None:
        """Note the pages of runs that differ from the moment before `key`, if it comes before `later`."""
        pages = [offset for start, end in runs for offset in range(start, end, PAGE_SIZE)]
        for offset in pages:
            if differ(region.address + offset, self._at(key, region.base + offset), PAGE_SIZE):
                self._insert_page(key, later, region.base + offset, region.address + offset)

    def _insert_page(self, key: Key, later: Key, physical: int, address: int) -> None:
        """Note a page that differs from the moment before `key`, and from then on up to the moment `later` at most."""
        if physical not in self.changed_at(later):  # it changes and changes back between the two
            old = self._at(key, physical)
            self._note(later, physical, self.store.put(old))
        self._note(key, physical, self.store.put(address))

    def _copies(self, region: Region, backing: Backing) -> list[tuple[int, int]]:
        """Return (start, end) offsets of pages that may differ from the file of `filed`."""
        if region.backing is backing:
            return region.written()
        offsets = {physical - region.base for physical in self._by_page() if self._region(physical) is region}
        offsets.update(region.pages_in_use())  # another snapshot was restored: anything may differ
        return [(offset, offset + PAGE_SIZE) for offset in sorted(offsets)]

    def _region(self, physical: int) -> Region:
        return next(region for region in self.ram.regions if 0 <= physical - region.base < region.size)

    def _note(self, key: Key, physical: int, page: int) -> None:
        pages = self._by_page()
        versions = pages[physical] = pages.get(physical, NEVER).having(key, page)
        if key == versions.keys[-1]:
            self._set_last(physical, page)
        self.changed[key].add(physical)
        if page != NO_PAGE:
            self.stored += PAGE_SIZE

    def _set_last(self, physical: int, page: int) -> None:
        """Set the content of a page at the last moment at which it differs from the one before."""
        region = self._region(physical)
        self.last[self.ram.regions.index(region)].kept[physical - region.base >> PAGE_SHIFT] = page

    def _between(self, key: Key, number: int) -> set[int]:
        """Return the pages of a region that may differ between a moment and the one that its file holds."""
        low, high = sorted((self.filed[number], key))
        moments = self.keys[bisect_right(self.keys, low) : bisect_right(self.keys, high)]
        self._by_page()
        pages = set[int]().union(*(self.changed[moment] for moment in moments))
        region = self.ram.regions[number]
        return {page for page in pages if 0 <= page - region.base < region.size} | self._torn(number)

    def _torn(self, number: int) -> set[int]:
        """Return the pages of a region whose content in its file is not known: writing it has failed."""
        base = self.ram.regions[number].base
        return {base + page for start, end in self.torn[number] for page in range(start, end, PAGE_SIZE)}

    def differing(self, key: Key) -> set[int]:
        """Return the pages, by physical address, that may differ between a moment and what RAM holds now."""
        pages = set[int]()
        for number, (region, backing) in enumerate(zip(self.ram.regions, self.backings, strict=True)):
            pages |= self._between(key, number)
            runs = region.written() if region.backing is backing else [(0, region.size)]
            for start, end in runs:
                pages.update(range(region.base + start, region.base + end, PAGE_SIZE))
        return pages

    def go(self, key: Key) -> None:
        """Give RAM the content of a moment that was noted."""
        for number, (region, backing) in enumerate(zip(self.ram.regions, self.backings, strict=True)):
            if region.backing is not backing:
                region.rebase(backing)
            else:
                region.drop_each(region.written())
            self._write_differing(key, number, backing)
            self.filed[number] = key
            self.torn[number] = []
        self.current = key

    def _write_differing(self, key: Key, number: int, backing: Backing) -> None:
        """Write to a region's file what the moment `key` has and the one of the file has not."""
        filed, pages, base = self.filed[number], self._by_page(), self.ram.regions[number].base
        torn, differing = self._torn(number), sorted(self._between(key, number))
        self.torn[number] = [(physical - base, physical - base + PAGE_SIZE) for physical in differing]
        run: list[bytes] = []  # pages side by side, which are written at once
        begin = end = base
        for physical in differing:
            versions = pages.get(physical, NEVER)
            page = versions.at(key)
            if page == versions.at(filed) and physical not in torn:
                continue
            if physical != end:
                backing.write(begin - base, b"".join(run))
                run, begin = [], physical
            run.append(content(page))
            end = physical + PAGE_SIZE
        backing.write(begin - base, b"".join(run))

    def page(self, key: Key, physical: int) -> bytes:
        """Return the content of a page at a moment."""
        return content(self._at(key, physical))

    def _at(self, key: Key, physical: int) -> int:
        known = self._by_page().get(physical)
        return NO_PAGE if known is None else known.at(key)

    def in_use(self, key: Key) -> bool:
        """Whether a moment is the first, the one that RAM was last at, or that of the files."""
        return key in (self.keys[0], self.current, *self.filed)

    def drop(self, key: Key) -> None:
        """Forget a moment; ValueError for one in use."""
        if self.in_use(key):
            raise ValueError(f"{key} is in use")
        index = bisect_left(self.keys, key)
        later = self.keys[index + 1] if index + 1 < len(self.keys) else None
        del self.keys[index]
        pages = self._by_page()
        for physical in self.changed.pop(key):
            page = pages[physical].at(key)
            versions = pages[physical].without(key)
            if later is not None and physical not in self.changed[later]:
                pages[physical] = versions.having(later, page)
                self.changed[later].add(physical)
                continue
            pages[physical] = versions
            if later is None:
                self._set_last(physical, versions.kept[-1] if versions.kept else NO_PAGE)
            if page != NO_PAGE:
                self.store.drop(page)
                self.stored -= PAGE_SIZE


def pages_in(runs: list[tuple[int, int]]) -> int:
    """Return how many pages (start, end) offsets span."""
    return sum(end - start for start, end in runs) // PAGE_SIZE


def file_copies(region: Region, backing: Backing, runs: list[tuple[int, int]]) -> None:
    """Write pages to a file and map it, so that RAM is what it was and has no copies."""
    for start, end in runs:
        backing.write(start, bytes(region.view[start:end]))
    region.rebase(backing)
