"""Sector 0 of images that other people's tools made: a partition table, a volume's boot sector, or both."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.disk.media import MemoryMedium
from callgate.tools.inspection.report import Inspection, inspect_medium

Tool = Callable[..., str]
MIB = 1 << 20
LEFT_OVER = "a whole-disk fat16 volume also begins here, left over from before the disk was divided"


@pytest.fixture
def formatted(tmp_path: Path, tool: Tool) -> Callable[..., bytearray]:
    """Return a function that makes a volume: `formatted("mkfs.fat", "-F", 16, mib=16)`."""

    def make(program: str, *options: object, mib: int, label: str = "LABEL") -> bytearray:
        path = tmp_path / "volume.img"
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(mib * MIB)
        tool(program, *options, "-n" if program == "mkfs.fat" else "-L", label, path)
        return bytearray(path.read_bytes())

    return make


def with_entry(image: bytearray, kind: int, start: int, sectors: int, *, number: int = 0, status: int = 0) -> None:
    """Write an entry of a partition table into sector 0."""
    entry = struct.pack("<B3sB3sII", status, b"", kind, b"", start, sectors)
    image[446 + 16 * number : 462 + 16 * number] = entry
    image[510:512] = b"\x55\xaa"


def kinds(found: Inspection) -> list[tuple[int, str, str]]:
    return [(each.partition.number, each.file_system.kind, each.file_system.label) for each in found.volumes]


@pytest.mark.parametrize(
    ("offset", "change"),
    [
        (0, b"\0\0\0"),  # no jump
        (0, b"\xeb\0\0"),
        (0, b"\xfa\x33\xc0"),  # code at once
        (510, b"\0\0"),  # no signature, as early DOS formatted
        (446, b"loader  0123456789abcdef" * 2),  # code where a table has entries
    ],
)
def test_a_fat_volume_covers_the_disk_whatever_its_boot_sector_begins_and_ends_with(
    formatted: Callable[..., bytearray], offset: int, change: bytes
) -> None:
    image = formatted("mkfs.fat", mib=1)
    image[offset : offset + len(change)] = change
    found = inspect_medium(MemoryMedium(image), "x")
    assert (found.scheme, kinds(found), found.problems) == ("none", [(0, "fat12", "LABEL")], [])


def test_a_fat_volume_with_neither_jump_nor_signature_is_known_by_its_fat(formatted: Callable[..., bytearray]) -> None:
    image = formatted("mkfs.fat", mib=1)
    image[0:3], image[510:512] = bytes(3), bytes(2)
    assert kinds(inspect_medium(MemoryMedium(image), "x")) == [(0, "fat12", "LABEL")]
    image[512:515] = bytes(3)
    assert kinds(inspect_medium(MemoryMedium(image), "x")) == [(0, "", "")]


def test_an_ext4_volume_with_a_boot_sector_covers_the_disk(formatted: Callable[..., bytearray]) -> None:
    image = formatted("mke2fs", "-q", "-t", "ext4", mib=4)
    image[0:510], image[510:512] = b"\xeb\x63\x90" + b"GRUB " * 101 + b"\0\0", b"\x55\xaa"
    found = inspect_medium(MemoryMedium(image), "x")
    assert (found.scheme, kinds(found), found.problems) == ("none", [(0, "ext4", "LABEL")], [])


def test_the_partitions_of_a_table_win_over_a_boot_sector_that_is_left_over(
    formatted: Callable[..., bytearray],
) -> None:
    disk, new = formatted("mkfs.fat", "-F", 16, mib=16, label="OLD"), formatted("mkfs.fat", mib=2, label="NEW")
    disk[2048 * 512 : 2048 * 512 + len(new)] = new
    with_entry(disk, 0x01, 2048, 2 * MIB // 512)
    with_entry(disk, 0x83, 16384, 4096, number=1)  # no server recognises its content
    found = inspect_medium(MemoryMedium(disk), "x")
    assert (found.scheme, kinds(found)) == ("mbr", [(1, "fat12", "NEW"), (2, "", "")])
    assert found.problems == [LEFT_OVER]


def test_a_volume_wins_over_partitions_that_no_server_recognises(formatted: Callable[..., bytearray]) -> None:
    disk = formatted("mkfs.fat", "-F", 16, mib=16)
    with_entry(disk, 0x83, 4096, 4096)
    found = inspect_medium(MemoryMedium(disk), "x")
    assert (found.scheme, kinds(found)) == ("none", [(0, "fat16", "LABEL")])
    (problem,) = found.problems
    assert problem.startswith("sector 0 also has a partition table, and no server knows what is in 1: the fat16 ")


def test_a_volume_wins_over_a_partition_that_lies_outside_the_disk(formatted: Callable[..., bytearray]) -> None:
    disk = formatted("mkfs.fat", "-F", 16, mib=16)
    with_entry(disk, 0x83, 1 << 30, 4096)
    found = inspect_medium(MemoryMedium(disk), "x")
    assert (found.scheme, kinds(found), found.problems) == ("none", [(0, "fat16", "LABEL")], [])


def test_a_partition_that_passes_the_end_of_the_image_is_mounted(formatted: Callable[..., bytearray]) -> None:
    """A disk's image that ends a sector too early is what some tools for copying make."""
    disk = bytearray(2048 * 512) + formatted("mkfs.fat", mib=2)
    with_entry(disk, 0x01, 2048, 2 * MIB // 512 + 1)
    found = inspect_medium(MemoryMedium(disk), "x")
    assert kinds(found) == [(1, "fat12", "LABEL")]
    assert found.volumes[0].file_system.problems == []
    (problem,) = found.problems
    assert problem.endswith("passes the end of the disk of 6144 sectors (a truncated image?); the first 4096 are used")
