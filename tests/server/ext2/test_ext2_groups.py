"""Block groups in number, copies of their descriptors wherever the features put them, and inodes' times."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.server.ext2.groups import BITMAPS_COUNTED

KIB = 1024


def numbers(image: Any) -> dict[str, int]:
    """Return what dumpe2fs says in numbers."""
    said = re.findall(r"^(\w[\w ]+): +(\d+)$", image.run("dumpe2fs", "-h", str(image.path)), re.MULTILINE)
    return {name: int(value) for name, value in said}


def descriptor_blocks(image: Any, group: int) -> list[int]:
    """Return the blocks with group descriptors that dumpe2fs sees in a group."""
    text = image.run("dumpe2fs", str(image.path))
    part = re.split(r"^Group (\d+):", text, flags=re.MULTILINE)[2 * group + 2]
    found = re.search(r"Group descriptors? at (\d+)(?:-(\d+))?", part)
    if found is None:
        return []
    return list(range(int(found[1]), int(found[2] or found[1]) + 1))


class TestManyGroups:
    @pytest.fixture
    def image(self, ext_image: Callable[[], Any]) -> Any:
        image = ext_image()
        for number in range(300):
            (image.folder / f"dir{number}").mkdir()
            (image.folder / f"dir{number}" / "file").write_bytes(b"%d\n" % number)
        return image.format("160M", "-t", "ext2", "-b", "1024", "-g", "512", "-N", "2560")

    def test_free_blocks_of_many_groups_are_counted_by_their_descriptors(self, image: Any, ext_client: Any) -> None:
        said = numbers(image)
        assert said["Block count"] // 512 > BITMAPS_COUNTED
        served = ext_client(image.view())
        assert served.request(Operation.FREE_SPACE).registers.eax == said["Free blocks"]
        assert len(served.rehearsal.calls) < 100
        assert served.server.take_reports() == []

    def test_inodes_of_every_group_are_found(self, image: Any, ext_client: Any) -> None:
        served = ext_client(image.view())
        inodes = {file.identifier for file in served.listing("")}
        assert len({(inode - 1) // 8 for inode in inodes}) > 20, "mke2fs put them all together"
        for number in range(300):
            assert served.contents(f"dir{number}/file") == b"%d\n" % number


class TestCopiesOfDescriptors:
    @pytest.mark.thorough(one_in=2)
    @pytest.mark.parametrize(
        "options",
        [
            "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode",
            "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode,^64bit -I 128",
            "-t ext4 -b 1024 -g 1024 -O ^resize_inode",
            "-t ext2 -b 2048 -g 1024 -O ^sparse_super,^resize_inode",
            "-t ext4 -b 1024 -O bigalloc,^resize_inode -C 4096",
            "-t ext4 -b 1024 -g 1024 -O sparse_super2,^resize_inode",
        ],
    )
    def test_copies_of_descriptors_are_used_where_the_first_is_garbage(
        self, options: str, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        image = ext_image()
        (image.folder / "file").write_bytes(b"text\n")
        image.format("48M", *options.split())
        raw = image.read()
        size = KIB << raw[1024 + 24]
        first = descriptor_blocks(image, 0)[0]
        copy = descriptor_blocks(image, 1)[0]
        assert raw[first * size + 8 : first * size + 12] == raw[copy * size + 8 : copy * size + 12] != bytes(4)
        raw[first * size : first * size + 32] = b"\xff" * 32
        served = ext_client(raw)
        assert served.contents("file") == b"text\n"
        (report,) = served.server.take_reports()
        assert report.startswith(f"d0p1: descriptor of group 0, block {first}, offset 0: its inode table of ")
        assert report.endswith(f"; the backup in block {copy} is used instead")

    def test_copies_of_descriptors_of_later_meta_groups_are_found(
        self, ext_image: Callable[[], Any], ext_client: Any
    ) -> None:
        """With 1 KiB blocks and 64-byte descriptors, 16 groups share a block of descriptors."""
        image = ext_image()
        image.format("48M", "-t", "ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode")
        raw = image.read()
        free = numbers(image)["Free blocks"]
        for group in (16, 32):
            first = descriptor_blocks(image, group)[0]
            raw[first * KIB : (first + 1) * KIB] = b"\xff" * KIB
        served = ext_client(raw)
        assert served.request(Operation.FREE_SPACE).registers.eax == free
        (report,) = served.server.take_reports()
        assert report.endswith(f"; the backup in block {descriptor_blocks(image, 17)[0]} is used instead")


@pytest.mark.parametrize(
    ("size", "time", "expected"),
    [
        (256, 1_700_000_000, 1_700_000_000),
        (256, 0x7FFF_FFFF, 0x7FFF_FFFF),
        (256, 0x8000_0000, 0x8000_0000),
        (256, 5_000_000_000, 5_000_000_000),
        (256, 0x2_0000_0001, 0x2_0000_0001),
        (256, -100, -100),
        (128, 0x7FFF_FFFF, 0x7FFF_FFFF),
        (128, -100, -100),
    ],
)
def test_times_are_as_wide_as_the_inode_has_room_for(
    size: int, time: int, expected: int, ext_image: Callable[[], Any], ext_client: Any
) -> None:
    image = ext_image()
    (image.folder / "file").write_bytes(b"")
    image.format("2M", "-t", "ext4", "-I", str(size))
    image.change(f"set_inode_field file mtime @{time}")
    (found,) = [file for file in ext_client(image.view()).listing("") if file.name == "file"]
    assert found.modified == expected
