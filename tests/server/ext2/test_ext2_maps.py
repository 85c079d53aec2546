"""Block maps: holes, triple indirect blocks, extent trees of depth, extents without data, files beyond 4 GiB."""

import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode

KIB = 1024
#: With 1 KiB blocks: direct, single, double and triple indirect blocks, and beyond 4 GiB.
PLACES = (5 * KIB, 12 * KIB, 267 * KIB, 268 * KIB, 400 * KIB, 65_803 * KIB, 65_804 * KIB, 200_001 * KIB, 5 << 30)


def sparse(path: Path, size: int, places: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        for place, data in places.items():
            file.seek(place)
            file.write(data)
        file.truncate(size)


def read(served: Any, number: int, position: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        at = position + len(data)
        start, part, answer = served.read_extract(number, at, size - len(data))
        assert answer.error is ErrorCode.OK, served.server.take_reports()
        data += part[at - start :]
    return data[:size]


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("options", ["-t ext2 -b 1024", "-t ext3 -b 4096", "-t ext4 -b 1024"])
def test_the_ends_of_every_level_of_a_block_map_and_the_holes_between_are_read(
    options: str, ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = ext_image()
    generator = random.Random(7)
    data = {place: generator.randbytes(3000) for place in PLACES}
    size = PLACES[-1] + 5000
    sparse(image.folder / "far", size, data)
    served = ext_client(image.format("64M", *options.split()).view())
    opened = served.request(Operation.OPEN, "far").registers
    assert opened.edx << 32 | opened.ecx == size == served.listing("")[-1].size
    with (image.folder / "far").open("rb") as source:
        for place in (0, *PLACES):
            for begin in (max(place - 40_000, 0), max(place - 600, 0), place + 1, place + 2900):
                source.seek(begin)
                expected = source.read(50_000)
                assert read(served, opened.eax, begin, len(expected)) == expected, begin
    assert served.server.take_reports() == []


def test_a_hole_of_gigabytes_takes_a_few_replies_and_no_sector_of_the_disk(
    ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = ext_image()
    sparse(image.folder / "hole", 3 << 30, {})
    served = ext_client(image.format("2M").view())
    number = served.request(Operation.OPEN, "hole").registers.eax
    calls = len(served.rehearsal.calls)
    start, data, answer = served.read_extract(number, 1 << 30, 1 << 30)
    assert start == 1 << 30
    assert len(data) == 506 * 4096
    assert data.count(0) == len(data)
    assert {sector for sector, _ in answer.sectors} == {None}
    assert len(served.rehearsal.calls) == calls, "the map of a hole is in the inode"


@pytest.mark.parametrize(("pieces", "depth"), [(3, 0), (60, 1), (1500, 2)])
def test_extent_trees_of_every_depth_are_read(
    pieces: int, depth: int, ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = ext_image()
    generator = random.Random(pieces)
    sparse(image.folder / "comb", pieces * 5 * KIB, {n * 5 * KIB: generator.randbytes(2 * KIB) for n in range(pieces)})
    served = ext_client(image.format("32M", "-t", "ext4", "-b", "1024").view())
    assert f"/ {depth}" in image.debugfs("ex comb").splitlines()[1], "debugfs sees another depth"
    assert served.contents("comb") == (image.folder / "comb").read_bytes()
    assert served.contents("comb", 10_000) == (image.folder / "comb").read_bytes()


def test_extents_that_have_no_data_yet_read_as_zeros(ext_image: Callable[[], Any], ext_client: Any) -> None:
    image = ext_image()
    sparse(image.folder / "file", 40 * KIB, {0: b"a" * 3 * KIB, 30 * KIB: b"z" * KIB})
    image.format("4M", "-t", "ext4", "-b", "1024")
    # Free blocks must hold data, so that reading them is noticed.
    free = image.read()
    start = free.find(bytes(1 << 20))
    free[start : start + (1 << 20)] = b"\xee" * (1 << 20)
    image.path.write_bytes(free)
    image.change("fallocate file 3 29")
    assert "Uninit" in image.debugfs("ex file")
    served = ext_client(image.view())
    assert served.contents("file") == (image.folder / "file").read_bytes()
    number = served.request(Operation.OPEN, "file").registers.eax
    answer = served.request(Operation.READ, ebx=number, ecx=40 * KIB)
    assert sum(count for sector, count in answer.sectors if sector is None) == 36 * KIB // 512


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("options", ["-t ext3 -b 1024", "-t ext4 -b 4096"])
def test_a_file_in_the_gaps_between_others_is_read(options: str, ext_image: Callable[[], Any], ext_client: Any) -> None:
    image = ext_image()
    for number in range(400):
        (image.folder / f"filler {number}").write_bytes(b"x" * 5000)
    image.format("4M", *options.split())
    image.change(*(f'rm "filler {number}"' for number in range(0, 400, 2)))
    data = random.Random(3).randbytes(600_000)
    source = image.path.with_suffix(".source")
    source.write_bytes(data)
    image.change(f"write {source} scattered")
    pieces = re.findall(r"\(\d+(?:-\d+)?\):\d+", image.debugfs("stat scattered"))
    assert len(pieces) > 50, "debugfs did not scatter it"
    served = ext_client(image.view())
    assert served.contents("scattered") == data
    assert served.contents("scattered", 4096) == data


class TestDirectories:
    @pytest.mark.thorough(one_in=3)
    @pytest.mark.parametrize("options", ["-t ext2 -b 1024", "-t ext4 -b 1024", "-t ext4 -b 4096 -I 128"])
    def test_hashed_directories_are_read_like_any_other(
        self, options: str, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image()
        names = [f"file number {number} of a directory with an index" for number in range(1500)]
        (image.folder / "dir").mkdir()
        for name in names:
            (image.folder / "dir" / name).write_bytes(b"")
        image.format("8M", "-O", "dir_index", *options.split())
        image.run("e2fsck", "-fyD", str(image.path))
        assert "Number of entries" in image.debugfs("htree_dump dir")
        served = ext_client(image.view())
        assert sorted(file.name for file in served.listing("dir")) == sorted(names)
        assert served.contents(f"dir/{names[777]}") == b""
        assert served.server.take_reports() == []

    def test_a_directory_record_can_be_as_long_as_a_block_of_64_kib(
        self, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image()
        (image.folder / "dir").mkdir()
        for number in range(600):
            (image.folder / "dir" / f"{'name' * 40} {number:03}").write_bytes(b"")
        image.format("16M", "-t", "ext2", "-b", "65536", "-N", "2000")
        image.change(*(f'rm "dir/{"name" * 40} {number:03}"' for number in range(100, 600)))
        second = int(image.debugfs("bmap dir 1")) << 16
        image_bytes = image.read()
        assert image_bytes[second + 4 : second + 6] in (b"\0\0", b"\xff\xff"), "no record fills a block"
        served = ext_client(image.view())
        names = {f"{'name' * 40} {number:03}" for number in range(100)}
        assert {file.name for file in served.listing("dir")} == names
        assert served.server.take_reports() == []

    def test_names_that_are_not_utf_8_can_be_listed_and_opened(
        self, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image()
        raw = b"caf\xe9 " + b"\xff" * 250
        Path(os.fsdecode(os.fsencode(image.folder) + b"/" + raw)).write_bytes(b"latin 1\n")
        served = ext_client(image.format("2M").view())
        (name,) = [file.name for file in served.listing("") if file.name != "lost+found"]
        assert name == "caf%E9 " + "%FF" * 250
        assert served.contents(name) == b"latin 1\n"
        assert served.request(Operation.OPEN, "x" * 256).error is ErrorCode.NAME_TOO_LONG

    def test_the_largest_directories_are_listed_up_to_the_size_of_a_reply_and_every_file_can_be_opened(
        self, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image()
        count = 15_000
        (image.folder / "target").write_bytes(b"here\n")
        image.format("16M", "-t", "ext4", "-b", "4096")
        block = bytearray()
        inode = int(re.findall(r"Inode: (\d+)", image.debugfs("stat target"))[0])
        names = [f"{number:05}{'x' * 119}" for number in range(count)]
        for first in range(0, count, 31):
            part = b"".join(self.record(inode, name) for name in names[first : first + 31])
            last = len(self.record(inode, names[0]))
            block += part[:-last] + self.record(inode, names[min(first + 30, count - 1)], 4096 - len(part) + last)
        source = image.path.with_suffix(".source")
        source.write_bytes(block)
        image.change(f"write {source} big", "set_inode_field big mode 040755")
        served = ext_client(image.view())
        listed = served.listing("big")
        assert [file.name for file in listed] == names[: len(listed)]
        assert 506 * 24 < len(listed) < count
        assert served.server.take_reports() == [
            f"d0p1: directory /big: {len(listed)} of its {count} entries are listed"
        ]
        assert served.contents(f"big/{names[-1]}") == b"here\n"

    def record(self, inode: int, name: str, length: int = 0) -> bytes:
        size = length or -(-(8 + len(name)) // 4) * 4
        header = inode.to_bytes(4, "little") + size.to_bytes(2, "little") + bytes((len(name), 1))
        return (header + name.encode()).ljust(size, b"\0")
