"""Compressed images: data packed by the tools are read back, damage is reported, and no file is left."""

import bz2
import errno
import gzip
import lzma
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import container_files
import host_programs
import pytest
from callgate.disk.media import Image, ImageError, ImageFile, open_image, spool
from callgate.disk.media.containers import compressed

MIB = 1 << 20
DISK = random.Random(3).randbytes(70_000) + bytes(MIB) + b"the end".rjust(4000, b".") + bytes(240)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have temporary files in a folder of their own; it must be empty at any time, for they have no names."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    descriptors = container_files.open_files()
    yield folder
    assert list(folder.iterdir()) == []
    assert container_files.open_files() <= descriptors, "a file stays open"


def read(image: Image) -> bytes:
    buffer = bytearray(image.sector_count * 512)
    image.read_into(0, [memoryview(buffer)])
    return bytes(buffer)


def unpacked(path: Path) -> tuple[str, bytes, list[str]]:
    image = open_image(path)
    try:
        return image.format, read(image), image.warnings
    finally:
        image.close()


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2", "zstd"])
def test_images_that_each_tool_has_compressed_are_read(tmp_path: Path, kind: str) -> None:
    if kind == "zstd":
        container_files.need_zstd()
    path = tmp_path / "disk.img"
    path.write_bytes(host_programs.run_binary(kind, "-c", data=DISK))
    assert unpacked(path) == (kind, DISK, [])


def test_an_image_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "disk.img.gz"
    path.write_bytes(DISK)
    image = open_image(path)
    assert isinstance(image, ImageFile)
    assert (image.format, read(image)) == ("raw", DISK)
    image.close()


def test_zeros_of_an_unpacked_image_take_no_disk_space(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(DISK))
    image = open_image(path)
    assert isinstance(image, ImageFile)
    assert os.fstat(image.file.fd).st_blocks * 512 < MIB // 2
    image.close()


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_compressed_streams_that_follow_each_other_are_one_image(tmp_path: Path, kind: str) -> None:
    pack = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}[kind]
    path = tmp_path / "x"
    path.write_bytes(pack(DISK) + pack(b"") + bytes(1000) + pack(DISK[:512]) + bytes(2048))
    assert unpacked(path) == (kind, DISK + DISK[:512], [])
    path.write_bytes(pack(DISK) + b"something else")
    warning = f"{path}: 14 bytes after the {kind} data are no {kind} data and are ignored"
    assert unpacked(path) == (kind, DISK, [warning])


def test_a_message_comes_before_a_large_image_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(DISK))
    said: list[str] = []
    open_image(path, said.append).close()
    assert said == []
    monkeypatch.setattr("callgate.disk.media.opening.LONG", 1000)
    open_image(path, said.append).close()
    assert said == [f"{path}: gzip data, unpacked into a temporary file"]


def test_skippable_frames_of_zstd_are_skipped(tmp_path: Path) -> None:
    pack = container_files.need_zstd().compress
    path = tmp_path / "x"
    skipped = b"\x5e\x2a\x4d\x18\x04\0\0\0skip"
    path.write_bytes(pack(DISK) + skipped + pack(DISK[:512]) + skipped)
    assert unpacked(path) == ("zstd", DISK + DISK[:512], [])


def test_a_container_may_be_compressed(tmp_path: Path) -> None:
    path = tmp_path / "x.xz"
    data = container_files.qcow2(1024, {1: b"q" * 512})
    path.write_bytes(lzma.compress(data))
    assert unpacked(path) == ("xz, qcow2", bytes(512) + b"q" * 512, [])
    path.write_bytes(gzip.compress(lzma.compress(data)))
    assert unpacked(path)[0] == "gzip, xz, qcow2"
    path.write_bytes(gzip.compress(gzip.compress(lzma.compress(data))))
    with pytest.raises(ImageError, match="is compressed more than 2 times; unpack it"):
        open_image(path)


def test_a_compressed_vmdk_descriptor_is_refused_since_its_files_cannot_be_found(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    text = container_files.DESCRIPTOR.format(kind="custom", extents='RW 1 FLAT "x.flat" 0')
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(
        ImageError, match=r"is a VMDK descriptor; its data are in 'x\.flat'; give the descriptor's path"
    ):
        open_image(path)


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2", "zstd"])
def test_damaged_compressed_data_is_an_error_that_names_the_tool(tmp_path: Path, kind: str) -> None:
    pack = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}.get(kind)
    if pack is None:
        zstd = container_files.need_zstd()
        pack = zstd.compress
    path = tmp_path / "x"
    sound = pack(DISK)
    path.write_bytes(sound[: len(sound) // 2])
    tool = {"gzip": "gzip -d", "xz": "xz -d", "bzip2": "bzip2 -d", "zstd": "zstd -d"}[kind]
    with pytest.raises(ImageError, match=f"{path}: is cut short: its {kind} data end after .* bytes .*; try {tool}"):
        open_image(path)
    damaged = bytearray(sound)
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match=f"{path}: is (damaged|cut short): its {kind} data .*; try {tool}"):
        open_image(path)


@pytest.mark.parametrize("kind", compressed.COMPRESSED)
def test_garbage_after_the_magic_number_of_a_compressor_is_an_error(tmp_path: Path, kind: str) -> None:
    if kind == "zstd":
        container_files.need_zstd()
    path = tmp_path / "x"
    for seed in range(50):
        source = random.Random(seed)
        start = compressed.COMPRESSED[kind] + (b"91AY&SY" if kind == "bzip2" else b"")
        path.write_bytes(start + source.randbytes(source.randrange(2000)))
        with pytest.raises(ImageError, match=f"{path}: is (damaged|cut short|empty|.* bytes long)"):
            open_image(path)


def test_compressed_data_that_need_more_memory_than_allowed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.xz"
    path.write_bytes(lzma.compress(DISK[:512], preset=9))
    monkeypatch.setattr(compressed, "_XZ_MEMORY", 8 << 20)
    with pytest.raises(ImageError, match="its xz data need more than 8 MiB of memory to unpack; try xz -d"):
        open_image(path)


def test_an_image_that_is_too_large_when_unpacked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(5 * MIB)))
    monkeypatch.setattr(spool, "LIMIT", 4 * MIB)
    with pytest.raises(ImageError, match=r"bomb\.gz: has more than 0 GiB; unpack it: gzip -d"):
        open_image(path)
    monkeypatch.setattr(spool, "LIMIT", 5 * MIB)
    open_image(path).close()


def test_a_full_disk_while_unpacking_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(DISK))
    monkeypatch.setattr(os, "pwrite", full)
    hint = "set TMPDIR to a directory with room, or unpack it: gzip -d"
    with pytest.raises(ImageError, match=f"x.gz: does not fit into {tempfile.tempdir}; {hint}"):
        open_image(path)


def test_the_error_for_a_python_without_zstd_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    monkeypatch.setattr(compressed, "find_zstd", lambda: None)
    with pytest.raises(ImageError, match=r"this Python cannot unpack; unpack it: zstd -d, or install backports.zstd"):
        open_image(path)
