"""qcow2, VHD, VMDK and VDI as media: images that QEMU writes are read alike, and no number in them is trusted."""

import random
from pathlib import Path
from typing import Any

import container_files
import pytest
from callgate.disk.media import Image, MediumError, open_image
from container_files import MADE, MIB, noise, read

# What QEMU writes.

QEMU = {
    "qcow2": ("qcow2", "x.qcow2", []),
    "qcow2 version 2": ("qcow2", "x.qcow2", ["-o", "compat=0.10"]),
    "qcow2 with small clusters": ("qcow2", "x.qcow2", ["-o", "cluster_size=512"]),
    "qcow2 with large clusters": ("qcow2", "x.qcow2", ["-o", "cluster_size=2M"]),
    "qcow2 compressed": ("qcow2", "x.qcow2", ["-c"]),
    "qcow2 compressed by zstd": ("qcow2", "x.qcow2", ["-c", "-o", "compression_type=zstd"]),
    "qcow2 with subclusters": ("qcow2", "x.qcow2", ["-o", "extended_l2=on"]),
    "qcow2 preallocated": ("qcow2", "x.qcow2", ["-o", "preallocation=metadata"]),
    "dynamic VHD": ("vpc", "x.vhd", []),
    "dynamic VHD of its exact size": ("vpc", "x.vhd", ["-o", "force_size=on"]),
    "fixed VHD": ("vpc", "x.vhd", ["-o", "subformat=fixed"]),
    "sparse VMDK": ("vmdk", "x.vmdk", []),
    "sparse VMDK with grains of zeros": ("vmdk", "x.vmdk", ["-o", "zeroed_grain=on"]),
    "flat VMDK": ("vmdk", "x.vmdk", ["-o", "subformat=monolithicFlat"]),
    "stream-optimised VMDK": ("vmdk", "x.vmdk", ["-o", "subformat=streamOptimized"]),
    "VMDK in several sparse files": ("vmdk", "x.vmdk", ["-o", "subformat=twoGbMaxExtentSparse"]),
    "VMDK in several flat files": ("vmdk", "x.vmdk", ["-o", "subformat=twoGbMaxExtentFlat"]),
    "dynamic VDI": ("vdi", "x.vdi", []),
    "fixed VDI": ("vdi", "x.vdi", ["-o", "static=on"]),
}


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("form", "name", "options"), QEMU.values(), ids=QEMU)
def test_a_disk_that_qemu_has_converted_reads_as_the_raw_one(
    tool: Any, tmp_path: Path, form: str, name: str, options: list[str]
) -> None:
    if "compression_type=zstd" in options:
        container_files.need_zstd()
    disk = noise(3 * MIB)
    raw, path = tmp_path / "raw.img", tmp_path / name
    raw.write_bytes(disk)
    tool("qemu-img", "convert", "-f", "raw", "-O", form, *options, raw, path)
    image = open_image(path)
    assert image.format.lower() == {"vpc": "vhd"}.get(form, form)
    assert image.read_only
    assert image.warnings == []
    assert len(disk) // 512 <= image.sector_count <= len(disk) // 512 + 1000  # VHD: whole cylinders
    assert read(image, 0, len(disk) // 512) == disk
    source = random.Random(2)
    for _ in range(30):
        scattered(image, disk, source)
    image.close()
    with pytest.raises(MediumError):
        read(image, 0, 1)


def scattered(image: Image, disk: bytes, source: random.Random) -> None:
    """Read somewhere into views of odd sizes, and compare."""
    lba = source.randrange(len(disk) // 512)
    buffer = memoryview(bytearray(min(source.randrange(1, 500) * 512, len(disk) - lba * 512)))
    views, at = [], 0
    while at < len(buffer):
        size = source.choice([1, 511, 4096, 70_000])
        views.append(buffer[at : at + size])
        at += size
    image.read_into(lba, views)
    assert bytes(buffer) == disk[lba * 512 : lba * 512 + len(buffer)]


# Small ones made by hand.


@pytest.mark.parametrize("name", MADE)
def test_data_stored_in_a_container_are_read_back_and_all_else_is_zeros(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(MADE[name][1]())
    image = open_image(path)
    assert image.sector_count * 512 == len(MADE[name][2])
    assert read(image, 0, image.sector_count) == MADE[name][2]
    for lba in range(image.sector_count):
        assert read(image, lba, 1) == MADE[name][2][lba * 512 : lba * 512 + 512]
        if image.sector_count > 100 and lba > 50:
            break
    image.close()


@pytest.mark.parametrize("name", MADE)
def test_qemu_reads_the_containers_of_these_tests_as_callgate_does(tool: Any, tmp_path: Path, name: str) -> None:
    path, raw = tmp_path / "x.img", tmp_path / "raw.img"
    path.write_bytes(MADE[name][1]())
    tool("qemu-img", "convert", "-f", MADE[name][0], "-O", "raw", path, raw)
    assert raw.read_bytes() == MADE[name][2]


@pytest.mark.parametrize("name", MADE)
def test_a_container_is_not_written_to_and_is_not_read_past_its_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(before := bytes(MADE[name][1]()))
    image = open_image(path)
    with pytest.raises(MediumError, match="Read-only"):
        image.write_from(0, [memoryview(bytes(512))])
    with pytest.raises(MediumError, match="leave the medium"):
        read(image, image.sector_count, 1)
    image.flush()
    image.close()
    assert path.read_bytes() == before


def test_a_container_may_be_larger_than_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.img"
    size = 8 << 40
    with path.open("wb") as file:
        file.truncate(size)
        file.write(b"disk begins here")
        file.seek(size)
        file.write(container_files.vhd_footer(size, 2, (1 << 64) - 1))
    image = open_image(path)
    assert (image.format, image.sector_count) == ("VHD", size // 512)
    assert read(image, 0, 1)[:16] == b"disk begins here"
    assert read(image, image.sector_count - 8, 8) == bytes(4096)
