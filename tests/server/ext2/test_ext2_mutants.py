"""Hundreds of volumes with garbled metadata: never a fault, never a loop, never a sector from outside."""

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from damaged_volumes import MUTANTS, Damage, Region, explore_listed, outcomes_of

FORMATS = {
    "ext2": "-t ext2 -b 1024 -N 64",
    "ext3": "-t ext3 -b 1024 -N 64",
    "ext4": "-t ext4 -b 1024 -N 64",
    "ext4 with meta_bg": "-t ext4 -b 2048 -N 64 -O meta_bg,^resize_inode",
}
VISITS = 60  # directories tried in one mutant
CALLS = 4000  # gate calls that one mutant may cost
REFUSALS = (ErrorCode.CORRUPT, ErrorCode.NOT_FOUND, ErrorCode.NOT_SUPPORTED, ErrorCode.NAME_TOO_LONG)


def fill(folder: Any) -> None:
    generator = random.Random(11)
    (folder / "dir" / "deeper").mkdir(parents=True)
    (folder / "dir" / "deeper" / "last").write_bytes(generator.randbytes(5000))
    (folder / "dir" / "a rather long file name").write_bytes(b"x" * 700)
    (folder / "large").write_bytes(generator.randbytes(300_000))
    with (folder / "comb").open("wb") as file:
        for tooth in range(40):
            file.seek(tooth * 6000)
            file.write(b"tooth")
    (folder / "link").symlink_to("dir/deeper/last")
    (folder / "long link").symlink_to("dir/" + "./" * 60 + "deeper")
    (folder / "round").symlink_to("dir/../round")


class Volume:
    """An image and the places in it that say where things are; they come from debugfs."""

    def __init__(self, image: Any) -> None:
        self.image = image
        self.raw = image.read()
        self.size = 1024 << self.raw[1024 + 24]
        places = [
            Region(1024, 384, 2),  # the superblock
            Region(max(2048, self.size), 128, 2),  # group descriptors
            Region(self.inode("<2>"), 128, 1),
            *(Region(self.inode(path), 128, 2) for path in ("dir", "large", "comb", "link", "dir/deeper/last")),
            *(Region(self.block(path), 256, 3) for path in ("/", "dir", "dir/deeper")),
            Region(self.block("long link"), 128, 1),
        ]
        self.regions = places + [Region(block * self.size, 256, 3) for block in self.map_blocks()]
        # Without backups, or they would save many a mutant.
        for place in range(4096, len(self.raw), 1024):
            if self.raw[place + 56 : place + 58] == b"\x53\xef":
                self.raw[place + 56 : place + 58] = b"\0\0"

    def inode(self, path: str) -> int:
        block, offset = re.findall(r"block (\d+), offset 0x([0-9a-f]+)", self.image.debugfs(f'imap "{path}"'))[0]
        return int(block) * self.size + int(offset, 16)

    def block(self, path: str) -> int:
        return int(self.image.debugfs(f'bmap "{path}" 0')) * self.size

    def map_blocks(self) -> list[int]:
        """Return the blocks in which maps of files stand."""
        told = self.image.debugfs("stat large") + self.image.debugfs("stat comb")
        return [int(block) for block in re.findall(r"\((?:D?IND|ETB\d)\):(\d+)", told)]

    def write_plausible_number(self, generator: random.Random) -> None:
        """Write a number of a block or an inode that exists, or nearly, somewhere."""
        region = generator.choice(self.regions)
        value = generator.choice(
            (generator.randrange(80), generator.randrange(len(self.raw) // self.size + 40), 0xFFFF_FFFF)
        )
        size = generator.choice((2, 4))
        offset = region.start + generator.randrange(region.size // 4) * 4
        self.raw[offset : offset + size] = value.to_bytes(4, "little")[:size]


@pytest.fixture(params=FORMATS.values(), ids=FORMATS.keys())
def volume(request: pytest.FixtureRequest, ext_image: Callable[[], Any]) -> Volume:
    image = ext_image()
    fill(image.folder)
    return Volume(image.format("2M" if "ext3" not in request.param else "4M", *request.param.split()))


def explore(served: Any) -> int:
    refusals = (*REFUSALS, ErrorCode.NOT_DIRECTORY)
    errors = explore_listed(served, read_some, refusals, visits=VISITS, first=("", "long link"))
    return errors + len(served.server.take_reports())


def read_some(served: Any, path: str) -> int:
    errors = 0
    opened = served.request(Operation.OPEN, path)
    if opened.error:
        assert opened.error in (*REFUSALS, ErrorCode.IS_DIRECTORY, ErrorCode.NOT_DIRECTORY)
        return int(opened.error is ErrorCode.CORRUPT)
    size = opened.registers.edx << 32 | opened.registers.ecx
    for position in sorted({0, size // 2, max(size - 1, 0)}):
        start, data, answer = served.read_extract(opened.registers.eax, position, 100_000)
        assert answer.error in (ErrorCode.OK, ErrorCode.CORRUPT, ErrorCode.NOT_SUPPORTED)
        errors += answer.error is not ErrorCode.OK
        if size and not answer.error:
            assert start <= position < start + len(data) <= size
        limit = served.rehearsal.geometry.sectors
        assert all(sector is None or 2 < sector <= sector + count <= limit for sector, count in answer.sectors)
        assert len(data) <= sum(count for _, count in answer.sectors) * 512
    assert served.request(Operation.CLOSE, eax=opened.registers.eax).error is ErrorCode.OK
    return errors


@pytest.mark.timeout(600)
def test_no_damaged_ext_volume_does_harm(volume: Volume, ext_client: Any) -> None:
    damage = Damage(volume.raw, volume.regions, volume.write_plausible_number)
    seeds = range(15, 15 + MUTANTS)  # all three outcomes are among the first of these
    outcomes = outcomes_of(damage, ext_client, seeds, explore, calls=CALLS, allocated=4 << 20)
    assert min(outcomes.values()) > MUTANTS // 30, outcomes  # the mutator must do all three
