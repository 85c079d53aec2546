"""ISO 9660 volumes under partition tables, and archives: how a disk image is recognised."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.disk.media import MemoryMedium
from callgate.disk.partitioning.layout import DiskLayout
from callgate.kernel.servers.packages import installed_servers
from callgate.tools.inspection.mounting import read_layout
from callgate.tools.inspection.report import inspect_medium


def layout_of(image: bytes) -> DiskLayout:
    return read_layout(MemoryMedium(image), installed_servers())


@pytest.fixture
def volume(tmp_path: Path, host_tool: Callable[..., str]) -> bytearray:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"a")
    host_tool("genisoimage", "-quiet", "-V", "CD", "-o", tmp_path / "cd.iso", root)
    return bytearray((tmp_path / "cd.iso").read_bytes())


def with_table(image: bytearray, *entries: tuple[int, int, int]) -> bytes:
    """Return the image with a master boot record of (type, start, sectors)."""
    image = bytearray(image)
    for index, (kind, start, sectors) in enumerate(entries):
        struct.pack_into("<B3sB3sII", image, 446 + index * 16, 0x80, bytes(3), kind, bytes(3), start, sectors)
    image[510:512] = b"\x55\xaa"
    return bytes(image)


def test_a_volume_without_a_table_covers_the_disk_and_is_named(volume: bytearray) -> None:
    found = inspect_medium(MemoryMedium(volume), "x")
    assert found.scheme == "none"
    system = found.volumes[0].file_system
    assert (system.kind, system.label, system.problems) == ("iso9660", "CD", [])
    assert int(system.details["block_bytes"]) * int(system.details["blocks"]) == len(volume)
    (shorter,) = inspect_medium(MemoryMedium(volume[:-2048]), "x").volumes
    assert "the volume has" in shorter.file_system.problems[0]


@pytest.mark.parametrize(
    "entries",
    [
        [],  # a boot record without partitions
        [(0x17, 0, 600)],  # isohybrid's
        [(0xCD, 1, 600)],  # grub-mkrescue's
        [(0x00, 0, 600), (0xEF, 200, 64)],  # Debian's, whose first entry has no type
        [(0x83, 64, 536), (0xEF, 200, 64)],
        [(0xEE, 1, 600)],  # a protective entry without a GPT after it
    ],
)
def test_a_hybrid_image_is_the_volume_and_not_its_partitions(
    volume: bytearray, entries: list[tuple[int, int, int]]
) -> None:
    layout = layout_of(with_table(volume, *entries))
    assert layout.scheme == "none"
    assert [(partition.start, partition.sectors) for partition in layout.partitions] == [(0, len(volume) // 512)]
    assert layout.problems == []


def test_a_left_over_volume_descriptor_before_new_partitions_is_ignored(volume: bytearray) -> None:
    layout = layout_of(with_table(volume, (0x0C, 128, 400)))
    assert layout.scheme == "mbr"
    assert [partition.start for partition in layout.partitions] == [128]
    assert layout.problems == [
        "a whole-disk iso9660 volume also begins here, left over from before the disk was divided"
    ]


def test_an_archive_covers_the_disk_even_if_it_looks_like_a_boot_record() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", bytes(600))
    image = bytearray(buffer.getvalue().ljust(4096, b"\0"))
    image[510:512] = b"\x55\xaa"
    found = inspect_medium(MemoryMedium(image), "x")
    assert (found.scheme, found.problems, found.volumes[0].file_system.kind) == ("none", [], "zip")
