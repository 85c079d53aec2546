"""Locked directories: the server's pages, mapped read-only into the processes that read them.

A version of a directory stays locked at its server while a process has it locked here, and for a while after: listing
it again takes no request, as long as the version is current. A server that publishes another version reports it
(DIRECTORY_CHANGED).  The root directory has no server: policy writes its page, one entry a volume.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field

from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, ListedFile, build_pages
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import DIRECTORIES_KEPT, DIRECTORIES_OF_PROCESS, DIRECTORY_PAGES_KEPT
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.common.record import record
from callgate.kernel.core.errors import CallerError, PolicyError, ServerFault
from callgate.kernel.core.records import DirectoryLock, Endpoints, EndpointState, Pin, Process, Version, WindowKind
from callgate.kernel.files.names import Names
from callgate.kernel.files.paths import listed, resolve
from callgate.kernel.ipc.deferred_releases import DeferredReleases
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.memory.windows import Source, Windows
from callgate.kernel.tasks.shares import Shares

VOLUME = FileAttributes.DIRECTORY | FileAttributes.READ_ONLY  # what an entry of the root directory is


@record
class DirectoriesState:
    """Records: current versions, least recently used first, and how many locks show each."""

    versions: OrderedDict[tuple[int, bytes], Version] = field(default_factory=OrderedDict)
    users: dict[int, int] = field(default_factory=dict)  # by the version's number, current or not; once it has had any
    next_number: int = 1

    def is_idle(self, version: Version) -> bool:
        """Whether no process has it locked."""
        return not self.users.get(version.number)


class Directories:
    """LOCK_DIRECTORY and UNLOCK_DIRECTORY; and READ_LINK."""

    def __init__(
        self,
        state: DirectoriesState,
        memory: PhysicalMemory,
        windows: Windows,
        names: Names,
        releases: DeferredReleases,
        shares: Shares,
        endpoints: Endpoints,
    ) -> None:
        self.state = state
        self.memory = memory
        self.windows = windows
        self.pins = windows.pins
        self.names = names
        self.releases = releases
        self.shares = shares
        self.endpoints = endpoints

    async def lock(self, process: Process, path: bytes, path_address: int) -> tuple[int, DirectoryLock]:
        """Lock the directory at an absolute path that also lies at kernel address `path_address`."""
        self.shares.check_lock(process)
        endpoint, rest = resolve(self.endpoints, path)
        if endpoint is None:
            lock = self._lock_root(process)
        else:
            version = await self._version(endpoint, rest, path_address + len(path) - len(rest))
            try:
                self.shares.check_lock(process)  # other threads may have locked some meanwhile
                lock = self._show(process, version)
            except PolicyError:
                if not version.current:  # this lock is its only one
                    self._drop(version)
                raise
        number = next(number for number in range(1, DIRECTORIES_OF_PROCESS + 1) if number not in process.locks)
        process.locks[number] = lock
        return number, lock

    async def link_target(self, path: bytes, names: bytes, path_address: int) -> bytes:
        """Return where the symbolic link at an absolute path leads, or links with `names` in the directory there.

        Both lie at kernel address `path_address`, one after the other; each name follows a zero byte.  1 to 4,048 bytes
        that the server has chosen, of several links as READ_LINKS has them; PolicyError, BAD_ARGUMENT without a link.
        """
        endpoint, rest = resolve(self.endpoints, path)
        if endpoint is None:
            raise CallerError(ErrorCode.BAD_ARGUMENT, "the root directory is not a symbolic link")
        where = path_address + len(path) - len(rest), len(rest) + len(names)
        reply = await self.names.ask(endpoint, Operation.READ_LINKS if names else Operation.READ_LINK, where)
        target = await reply.take_data()
        if not target:
            raise ServerFault(ErrorCode.BAD_REPLY, "no data, or another reply than data")
        return target

    def unlock(self, process: Process, number: int) -> None:
        """Unmap a locked directory; a version that is no longer needed is given back."""
        lock = process.locks.pop(number, None)
        if lock is None:
            raise CallerError(ErrorCode.BAD_HANDLE)
        self.windows.close(process, process.windows[lock.window])
        if lock.of is not None:
            self.state.users[lock.of.number] -= 1
            if self.state.is_idle(lock.of) and not lock.of.current:
                self._drop(lock.of)
        self._trim()

    def unlock_all(self, process: Process) -> None:
        """Unlock every directory of a process that ends."""
        for number in list(process.locks):
            self.unlock(process, number)

    def changed(self, endpoint: EndpointState, number: int) -> None:
        """DIRECTORY_CHANGED: a version of a directory is no longer current; 0 is one that is not locked."""
        self.names.changed(endpoint)
        for version in list(self.state.versions.values()):
            if version.server is endpoint and version.version == number:
                self._retire(version)

    def endpoint_died(self, endpoint: EndpointState, _code: ErrorCode) -> None:
        """The server of a volume is gone: none of its versions is current; processes keep those they have locked."""
        self.names.changed(endpoint)
        for version in list(self.state.versions.values()):
            if version.server is endpoint:
                self._retire(version)

    def _show(self, process: Process, version: Version) -> DirectoryLock:
        """Map a version's pages; the window holds each page once more."""
        self._check_window(process, len(version.frames))
        for frame in version.frames:
            self.memory.low.hold(frame)
        pins: list[Pin] = [("frame", frame, 0) for frame in version.frames]
        window = self.windows.open(process, WindowKind.DIRECTORY, Source([*version.frames], pins))
        users = self.state.users
        users[version.number] = users.get(version.number, 0) + 1
        return DirectoryLock(version, window.address, len(version.frames), version.entries, version.version)

    def _check_window(self, process: Process, pages: int) -> None:
        """NO_MEMORY if a process must not have this many more pages, and the page tables that show them."""
        self.shares.check_frames(process, pages + self.windows.tables_wanted(process, WindowKind.DIRECTORY, pages))

    async def _version(self, endpoint: EndpointState, rest: bytes, address: int) -> Version:
        """Return the current version of a directory; ask its server if it is not known here."""
        key = (endpoint.number, rest)
        versions = self.state.versions
        if key in versions:
            versions.move_to_end(key)
            return versions[key]
        where = address, len(rest)
        self.names.check(endpoint, Operation.LOCK_DIRECTORY, where)
        await self.releases.catch_up(endpoint)
        self.releases.check_room(endpoint)
        reply = await self.names.ask(endpoint, Operation.LOCK_DIRECTORY, where)
        self.releases.taken(endpoint)
        registers = reply.registers
        frames, pins = await reply.take_pages()
        number, self.state.next_number = self.state.next_number, self.state.next_number + 1
        version = Version(number, endpoint, rest, registers.edx, registers.ebx, registers.edi, frames, pins)
        if not frames:
            self._drop(version)
            raise ServerFault(ErrorCode.BAD_REPLY)
        if key in versions or endpoint.dead or not version.version:
            # Another thread was faster, the server died meanwhile, or does not vouch for it (version 0): this one
            # lives as long as its lock.
            version.current = False
        else:
            versions[key] = version
        return version

    def _retire(self, version: Version) -> None:
        version.current = False
        del self.state.versions[version.server.number, version.path]
        if self.state.is_idle(version):
            self._drop(version)

    def _trim(self) -> None:
        """Give back idle versions, least recently used first, down to as many as are kept."""
        idle = [version for version in self.state.versions.values() if self.state.is_idle(version)]
        pages = sum(len(version.frames) for version in idle)
        for number, version in enumerate(idle):
            if len(idle) - number <= DIRECTORIES_KEPT and pages <= DIRECTORY_PAGES_KEPT:
                return
            pages -= len(version.frames)
            self._retire(version)

    def reclaim(self) -> bool:
        """Give back the idle version that was used least recently, for its memory; False if there is none."""
        version = next(filter(self.state.is_idle, self.state.versions.values()), None)
        if version is None:
            return False
        self._retire(version)
        self.releases.send_now(version.server)
        return True

    def _drop(self, version: Version) -> None:
        self.state.users.pop(version.number, None)
        self.pins.release(version.pins)
        version.pins = ()
        if len(version.frames) > 1:
            self.releases.add(version.server, Operation.UNLOCK_DIRECTORY, version.server_lock)  # for its memory
        else:
            self.releases.add_unlock(version.server, version.server_lock)

    def _lock_root(self, process: Process) -> DirectoryLock:
        volumes = [ListedFile(endpoint.name, VOLUME) for endpoint in listed(self.endpoints)]
        self._check_window(process, 1)
        frame = self.memory.low.allocate()
        self.windows.guest.ram.view(frame, PAGE_SIZE)[:] = build_pages(volumes, 0)
        window = self.windows.open(process, WindowKind.DIRECTORY, Source([frame], [], [frame]))
        return DirectoryLock(None, window.address, 1, len(volumes), 0)
