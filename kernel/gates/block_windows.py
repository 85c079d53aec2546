"""Windows through which a server sees blocks of its disk that it has locked: LOCK_BLOCKS and UNLOCK_BLOCKS."""

from __future__ import annotations

from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import BLOCK_WINDOWS_OF_SERVER, LOCK_BLOCKS_SECTORS
from callgate.kernel.abi.memory import SECTOR_SIZE, SECTORS_PER_PAGE
from callgate.kernel.core.errors import CallerError, PolicyError, Shortage
from callgate.kernel.core.records import EndpointState, Process, WindowKind
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.memory.windows import Source, Windows
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.cache_records import Locked
from callgate.kernel.tasks.shares import Shares


class BlockWindows:
    """Windows of servers on their partitions."""

    def __init__(self, cache: Cache, windows: Windows, shares: Shares) -> None:
        self.cache = cache
        self.windows = windows
        self.guest = windows.guest
        self.memory = windows.memory
        self.shares = shares

    async def lock(self, process: Process, endpoint: EndpointState, first: int, count: int) -> int:
        """Lock `count` sectors from sector `first` of the partition on; return the first one's address in the server.

        BAD_ARGUMENT outside the partition, NO_RESOURCES beyond the server's share, NO_MEMORY without memory for the
        window or its copies, and the errors of `Cache.read_locked`; then nothing is locked.
        """
        if not 0 < count <= LOCK_BLOCKS_SECTORS or first + count > endpoint.sectors or endpoint.disk < 0:
            raise CallerError(ErrorCode.BAD_ARGUMENT)
        lba = endpoint.start + first
        blocks = list(range(lba // SECTORS_PER_PAGE, (lba + count - 1) // SECTORS_PER_PAGE + 1))
        self._check_share(process, endpoint, len(blocks))
        endpoint.locked_blocks += len(blocks)
        try:
            locked = await self.cache.read_locked(endpoint.disk, blocks)
            source = self._own(process, endpoint, locked)
            window = self.windows.open(process, WindowKind.BLOCKS, source)
        except PolicyError:
            endpoint.locked_blocks -= len(blocks)
            raise
        window.owner = window.address + lba % SECTORS_PER_PAGE * SECTOR_SIZE
        return window.owner

    def _check_share(self, process: Process, endpoint: EndpointState, count: int) -> None:
        """Raise NO_RESOURCES if a server has locked as much as it may."""
        windows = sum(window.kind == WindowKind.BLOCKS for window in process.windows.values())
        if windows >= BLOCK_WINDOWS_OF_SERVER:
            raise Shortage(ErrorCode.NO_RESOURCES, f"{windows} pieces of the disk are locked")
        self.shares.check_blocks(endpoint, count)

    def _own(self, process: Process, endpoint: EndpointState, locked: Locked) -> Source:
        """Return the frames through which a server sees locked blocks: the blocks, or copies of its own sectors.

        A block at an edge of the partition also holds a neighbour's sectors, or ends after the disk: it is copied, and
        the rest of the copy is zeros (rule 7).
        """
        source = Source([], [])
        foreign = []
        try:
            for key, frame in zip(locked.keys, locked.frames, strict=True):
                begin = max(0, endpoint.start - key[1] * SECTORS_PER_PAGE)
                end = min(SECTORS_PER_PAGE, endpoint.start + endpoint.sectors - key[1] * SECTORS_PER_PAGE)
                if (begin, end) == (0, SECTORS_PER_PAGE):
                    source.frames.append(frame)
                    source.pins.append(("block", *key))
                    continue
                source.private.append(self._copy(process, frame, begin * SECTOR_SIZE, end * SECTOR_SIZE))
                source.frames.append(source.private[-1])
                foreign.append(key)
        except PolicyError:
            self.windows.drop(Source([], [("block", *key) for key in locked.keys], source.private))
            raise
        self.cache.unlock(foreign)
        return source

    def _copy(self, process: Process, frame: int, begin: int, end: int) -> int:
        """Return a new frame with bytes `begin` to `end` of a block, else zeros; book them as touched by the kernel."""
        self.shares.check_frames(process, 1)
        copy = self.memory.low.allocate()
        self.memory.tables.clear(copy)
        ram = self.guest.ram
        ram.write(copy + begin, ram.read(frame + begin, end - begin, Account.KERNEL))
        return copy

    def unlock(self, process: Process, address: int) -> None:
        """Unlock the sectors at an address that `lock` has returned; BAD_ADDRESS if it is not one."""
        window = next((w for w in process.windows.values() if w.kind == WindowKind.BLOCKS and w.owner == address), None)
        if window is None:
            raise CallerError(ErrorCode.BAD_ADDRESS)
        self.windows.close(process, window)
