"""Directory pages that clients hold locked: versions, lock counts, and a bounded cache of unlocked versions.

The pages lie in the server's own memory.  Each directory has at most one *current* version; a version
that is no longer current lives on while a client holds a lock on it.  It dies, and its memory is freed,
when it is neither current nor used (docs/design.md, "Directories").
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.common.counted import Counted
from callgate.server.errors import FileSystemError
from callgate.server.gate import LOW_DWORD, allocate, directory_changed, free
from callgate.server.message import Object, RegisterValues, ServerMemory

UNLISTED = 0  # in DIRECTORY_CHANGED: a directory of which no version is locked
LOCK_LIMIT = 4096  # locks that clients may hold at once, which bounds the memory that they can cost


class Version:
    """One version of a directory's pages in the server's memory."""

    __slots__ = ("address", "current", "entries", "key", "locks", "number", "size")

    def __init__(self, key: Hashable, number: int, address: int, size: int, entries: int) -> None:
        self.key = key
        self.number = number
        self.address = address
        self.size = size
        self.entries = entries
        self.locks = 0
        self.current = True


class Pages(NamedTuple):
    """The result of the builder of a version: the pages' bytes and the number of entries in them."""

    data: bytes
    entries: int


class DirectoryVersions(Counted):
    """All versions of one server.  ``cached_pages`` bounds the memory of current, unlocked ones."""

    def __init__(self, memory: ServerMemory, cached_pages: int = 256) -> None:
        self.memory = memory
        self.cached_pages = cached_pages
        self._current: OrderedDict[Hashable, Version] = OrderedDict()
        self._locks: dict[int, Version] = {}
        self._last_version = 0
        self._last_lock = 0

    @property
    def locks(self) -> int:
        """Number of locks that are held."""
        return len(self._locks)

    async def lock(self, key: Hashable, build: Callable[[int], Pages], *, lasting: bool = True) -> Object:
        """Lock the current version of directory ``key``; return the reply to LOCK_DIRECTORY.

        ``build`` is given a version number and returns the pages; it is called only when there is no
        current version.  The result is current from then on, unless it is not ``lasting`` (the disk failed,
        say, and may not do so again): then it serves this lock alone, and the kernel, told so by version 0, does
        not keep it either.
        """
        if len(self._locks) >= LOCK_LIMIT:
            raise FileSystemError(ErrorCode.NO_RESOURCES, f"{LOCK_LIMIT} directory locks are held already")
        known = self._current.get(key)
        version = known or await self._publish(key, build)
        # From here to the return nothing is awaited, so the version cannot die under us.
        version.locks += 1  # counted with the number of the lock
        if known is None and not lasting:
            version.current = False
            del self._current[key]
        else:
            self._current.move_to_end(key)
        lock = self._new_lock()
        self._locks[lock] = version
        return Object(
            version.address,
            version.size,
            RegisterValues(
                ebx=version.number if version.current else 0,
                ecx=version.size // PAGE_SIZE,
                edx=lock,
                edi=version.entries,
            ),
        )

    async def unlock(self, lock: int) -> None:
        """Give back a lock; FileSystemError(BAD_HANDLE) if there is none of that number."""
        version = self._locks.pop(lock, None)
        if version is None:
            raise FileSystemError(ErrorCode.BAD_HANDLE, f"no directory lock {lock}")
        self.count_change()
        version.locks -= 1
        if not version.current and not version.locks:
            await free(version.address)
        await self._trim(self.cached_pages)

    async def retire(self, key: Hashable) -> None:
        """Directory ``key`` has changed: its current version is current no more, here and in the kernel.

        The kernel is told of a directory without locks, too: it may know which names were not there.
        """
        version = self._current.pop(key, None)
        if version is None:
            await directory_changed(UNLISTED)
            return
        self.count_change()
        version.current = False
        if version.locks:
            await directory_changed(version.number)
        else:
            await directory_changed(UNLISTED)
            await free(version.address)

    async def _publish(self, key: Hashable, build: Callable[[int], Pages]) -> Version:
        self._last_version = self._last_version % LOW_DWORD + 1
        number = self._last_version
        pages = build(number)
        address = await self._allocate(len(pages.data))
        self.memory.write(address, pages.data)
        if key not in self._current:
            version = Version(key, number, address, len(pages.data), pages.entries)
            self._current[key] = version
            return version
        # Another thread published while we awaited memory: one current version is the rule.
        await free(address)
        return self._current.get(key) or await self._publish(key, build)

    async def _allocate(self, size: int) -> int:
        try:
            return await allocate(size)
        except FileSystemError as error:
            if error.code is not ErrorCode.NO_MEMORY:
                raise
        await self._trim(0)
        return await allocate(size)

    async def _trim(self, limit: int) -> None:
        """Free current versions without locks, least recently used first, down to ``limit`` pages; counted before."""
        idle = [version for version in self._current.values() if not version.locks]
        excess = sum(version.size for version in idle) // PAGE_SIZE - limit
        doomed = []
        for version in idle:
            if excess <= 0:
                break
            excess -= version.size // PAGE_SIZE
            version.current = False
            del self._current[version.key]
            doomed.append(version.address)
        for address in doomed:
            await free(address)

    def _new_lock(self) -> int:
        self._last_lock = self._last_lock % LOW_DWORD + 1
        while self._last_lock in self._locks:
            self._last_lock = self._last_lock % LOW_DWORD + 1
        return self._last_lock
