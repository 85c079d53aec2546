"""The first and the last block of a partition: bytes beside it, or after the disk's end, are shown as zeros."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.memory import PAGE_SIZE, SECTOR_SIZE
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.servers import volumes
from callgate.server.errors import FileSystemError
from callgate.server.gate import lock_blocks, unlock_blocks

Arenas = Callable[..., Any]
POISON = b"NEIGHBOUR!" * 51 + b"\0\0"
OWN = b"own sector " * 46 + b"\0" * 6
SECTORS = 40
MEMORY = {"memory": 16 << 20, "high_memory": 4 << 20}  # little, because all of it is filled


class LocksEveryRun(synthetic.Synthetic):
    """Locks every run of its sectors of some lengths, and keeps all that the pages of the window show."""

    seen: ClassVar[dict[str, list[tuple[int, int, int, bytes]]]] = {}
    released: ClassVar[list[int]] = []

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "curious" if first.startswith((synthetic.MAGIC, OWN[:8])) else None

    async def start(self) -> None:
        seen = self.seen.setdefault(self.geometry.name, [])
        for first in range(self.geometry.sectors):
            for count in (1, 7, 8, 9, self.geometry.sectors - first):
                if first + count > self.geometry.sectors:
                    continue
                address = await lock_blocks(first, count)
                begin, end = address & -PAGE_SIZE, -(-(address + count * SECTOR_SIZE) // PAGE_SIZE) * PAGE_SIZE
                data = self.memory.read(begin, end - begin)
                seen.append((first, count, address - begin, data))
                await unlock_blocks(address)
        try:
            await lock_blocks(0, self.geometry.sectors + 1)
            seen.append((0, 0, 0, POISON))
        except FileSystemError:
            pass


def partitioned(starts: list[int], sectors: int = SECTORS, tail: int = 0) -> bytes:
    """Return a disk with partitions of OWN sectors at `starts`, all else POISON."""
    total = starts[-1] + sectors + tail
    image = bytearray(POISON * total)
    table = bytearray(512)
    for index, start in enumerate(starts):
        entry = bytes([0, 0, 0, 0, 0x7F, 0, 0, 0]) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
        table[446 + 16 * index : 462 + 16 * index] = entry
        image[start * 512 : (start + sectors) * 512] = OWN * sectors
    table[510:] = b"\x55\xaa"
    image[:512] = table
    return bytes(image)


def look(arena: Arenas, monkeypatch: pytest.MonkeyPatch, image: bytes, **options: Any) -> Any:
    """Boot a disk whose servers look at all they can, with poison in every frame that was never allocated."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [LocksEveryRun])
    LocksEveryRun.seen = {}
    made = arena(MemoryMedium(image), **MEMORY, **options)
    for pool in (made.kernel.memory.low, made.kernel.memory.high):
        view = made.system.machine.ram.view(pool.next, pool.limit - pool.next)
        view[:] = (POISON * (len(view) // 512 + 1))[: len(view)]
    made.victim()
    assert made.run().reason == "halt"
    return made


def check(start: int, sectors: int, image: bytes, seen: list[tuple[int, int, int, bytes]]) -> None:
    """What was shown is the partition's, sector by sector, and zeros where the partition is not."""
    assert seen
    for first, count, offset, data in seen:
        assert count
        assert data[offset : offset + count * 512] == image[(start + first) * 512 : (start + first + count) * 512]
        at = start + first - offset // 512
        for sector in range(len(data) // 512):
            lba, shown = at + sector, data[sector * 512 : sector * 512 + 512]
            inside = start <= lba < start + sectors
            assert shown == (image[lba * 512 : lba * 512 + 512] if inside else bytes(512)), (first, count, lba)


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("sectors", [8 * 5 + extra for extra in range(1, 8)])
def test_after_the_last_sector_of_a_disk_a_server_sees_zeros(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, sectors: int
) -> None:
    image = synthetic.disk(sectors)
    made = look(arena, monkeypatch, image)
    check(0, sectors, image, LocksEveryRun.seen["d0"])
    made.assert_unharmed()


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("start", [63, 64, 65, 66, 71])
@pytest.mark.parametrize("tail", [0, 5])
def test_beside_its_partition_a_server_sees_zeros(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, start: int, tail: int
) -> None:
    image = partitioned([start], tail=tail)
    made = look(arena, monkeypatch, image)
    check(start, SECTORS, image, LocksEveryRun.seen["d0p1"])
    made.assert_unharmed()


def test_each_of_two_partitions_in_one_block_shows_only_its_own_sectors(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = partitioned([63, 63 + SECTORS, 63 + 2 * SECTORS + 1], tail=3)
    made = look(arena, monkeypatch, image)
    for number, start in enumerate((63, 63 + SECTORS, 63 + 2 * SECTORS + 1), 1):
        check(start, SECTORS, image, LocksEveryRun.seen[f"d0p{number}"])
    assert made.system.machine.ledger.counts().cpu_file_bytes["kernel"] > 0
    made.assert_unharmed()


def test_a_partition_within_one_block_is_all_that_its_server_sees(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = partitioned([66], sectors=3, tail=9)
    made = look(arena, monkeypatch, image)
    check(66, 3, image, LocksEveryRun.seen["d0p1"])
    made.assert_unharmed()


def test_copies_of_edge_blocks_are_booked_as_bytes_touched_by_the_kernel(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = partitioned([64 + 3], sectors=8, tail=5)
    booked = []
    lock = LocksEveryRun.start

    async def once(self: LocksEveryRun) -> None:
        ledger = made[0].system.machine.ledger
        before = ledger.counts()
        address = await lock_blocks(0, 8)
        booked.append((ledger.counts() - before).cpu_file_bytes["kernel"])
        await unlock_blocks(address)

    monkeypatch.setattr(LocksEveryRun, "start", once)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [LocksEveryRun])
    made = [arena(MemoryMedium(image))]
    made[0].run()
    assert booked == [8 * 512]
    assert lock is not once


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("map_edges", [False, True])
@pytest.mark.parametrize("extra", [1, 4, 7])
def test_file_data_at_the_end_of_a_disk_shows_nothing_of_the_former_content_of_its_frame(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, extra: int, map_edges: bool
) -> None:
    """Even a machine that maps neighbours on purpose has nothing of another disk to show."""
    sectors = 64 + extra
    image = synthetic.disk(sectors)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    synthetic.Synthetic.files = {"f": synthetic.Layout((8 + extra) * 512, [(56, 8 + extra)])}
    made = arena(MemoryMedium(image), **MEMORY, map_edges=map_edges)
    for pool in (made.kernel.memory.low, made.kernel.memory.high):
        view = made.system.machine.ram.view(pool.next, pool.limit - pool.next)
        view[:] = (POISON * (len(view) // 512 + 1))[: len(view)]
    made.wanted.append(lambda: made.victims.append(made.start("whole_reader", b"/d0/f\0")))
    frames: list[bytes] = []
    drop = made.kernel.letting_go.drop

    def watched(file: Any, span: Any) -> None:
        frames.extend(made.system.machine.ram.read(frame, PAGE_SIZE, Account.KERNEL) for frame in span.frames)
        drop(file, span)

    made.kernel.letting_go.drop = watched
    assert made.run().reason == "halt"
    assert len(frames) >= 2
    assert frames[0] == image[56 * 512 : 64 * 512]
    assert frames[1] == image[64 * 512 :].ljust(PAGE_SIZE, b"\0")
    made.assert_unharmed()
