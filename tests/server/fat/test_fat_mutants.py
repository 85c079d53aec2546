"""Hundreds of volumes with garbled metadata: never a fault, never a loop, never a byte from elsewhere."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import complete
from callgate.server.fat.consistency import check
from callgate.server.fat.volume import FatVolume
from damaged_volumes import MUTANTS, Damage, Region, explore_listed, outcomes_of

FORMATS = {
    12: (1440, "-F", "12", "-r", "32"),
    16: (8000, "-F", "16", "-s", "1", "-r", "32"),
    32: (36_000, "-F", "32", "-s", "1"),
}
VISITS = 60  # paths tried in one mutant
CALLS = 4000  # gate calls that one mutant may cost
REFUSALS = (ErrorCode.CORRUPT, ErrorCode.NOT_DIRECTORY, ErrorCode.NOT_FOUND)


@pytest.fixture(params=FORMATS)
def disk(request: pytest.FixtureRequest, fat_image: Callable[..., Any], patcher: Any) -> Any:
    image = fat_image(*FORMATS[request.param])
    image.put("A long file name.text", bytes(3000))
    image.put("FILE.BIN", bytes(9000))
    image.mkdir("DIR")
    image.mkdir("DIR/DEEPER")
    image.put("DIR/Another long file name.text", b"x" * 700)
    image.put("DIR/DEEPER/LAST.TXT", b"x" * 5000)
    disk = patcher(image.read())
    if disk.bits == 32:
        disk.image[6 * 512 : 7 * 512] = bytes(512)  # or the backup boot sector would save every mutant
    return disk


def explore(served: Any) -> int:
    errors = explore_listed(served, read_some, REFUSALS, visits=VISITS)
    complete(check(FatVolume(_Reader(served), served.server.volume.layout, served.rehearsal.geometry.sectors)))
    return errors


def read_some(served: Any, path: str) -> int:
    errors = 0
    opened = served.request(Operation.OPEN, path)
    if opened.error:
        assert opened.error in (ErrorCode.CORRUPT, ErrorCode.NOT_FOUND, ErrorCode.IS_DIRECTORY)
        return 1
    size = opened.registers.ecx
    for position in {0, size // 2, size - 1 if size else 0}:
        _, data, answer = served.read_extract(opened.registers.eax, position, 100_000)
        assert answer.error in (ErrorCode.OK, ErrorCode.CORRUPT)
        errors += answer.error is ErrorCode.CORRUPT
        layout = served.server.volume.layout
        read = [sector for first, count in answer.sectors for sector in range(first, first + count)]
        assert len(set(read)) == len(read), "the same sector twice in one file"
        assert all(layout.data_start <= sector < layout.sectors for sector in read)
        assert len(data) <= len(read) * 512
    assert served.request(Operation.CLOSE, eax=opened.registers.eax).error is ErrorCode.OK
    return errors


@pytest.mark.timeout(60)
def test_no_damaged_fat_volume_does_harm(disk: Any, client: Any) -> None:
    def link(generator: random.Random) -> None:
        disk.set_fat(generator.randrange(2, 40), generator.randrange(48), range(1))

    regions = [
        Region(0, 90, 2),  # the boot sector's fields
        Region(disk.fat_offset, 192, 4),
        Region(disk.root_offset, 512, 3),
        Region(disk.cluster_offset(disk.first_cluster(disk.record(b"DIR        "))), 512, 3),
    ]
    damage = Damage(disk.image, regions, link)
    outcomes = outcomes_of(damage, client, range(MUTANTS), explore, calls=CALLS, allocated=4 << 20)
    assert min(outcomes.values()) > MUTANTS // 30, outcomes  # the mutator must do all three


class _Reader:
    def __init__(self, served: Any) -> None:
        self.rehearsal = served.rehearsal

    async def read(self, sector: int, count: int) -> bytes:
        assert sector + count <= self.rehearsal.geometry.sectors
        data: bytes = self.rehearsal.read_sectors(sector, count)
        return data
