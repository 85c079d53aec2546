"""Volumes that genisoimage and zip made, from switching on to `cat`: sectors and windows of a server's memory."""

import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.server.iso9660.server import IsoServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "dir").mkdir(parents=True)
    generator = random.Random(7)
    (root / "README.TXT").write_bytes(b"made by another tool\n")
    (root / "big").write_bytes(bytes(generator.choices(b"abcd \n", k=300_001)))
    (root / "dir/stored").write_bytes(generator.randbytes(70_001))
    (root / "dir/up").symlink_to("../README.TXT")
    return root


def test_a_cd_image_boots_without_partitions_and_its_files_are_read(
    boot: Any, tmp_path: Path, folder: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "cd.iso"
    host_tool("genisoimage", "-quiet", "-V", "CD", "-R", "-J", "-o", image, folder)
    run = boot("cat /d0/README.TXT; cat /d0/dir/up; cat /d0/big; cat /d0/dir/stored", image)
    data = [(folder / name).read_bytes() for name in ("README.TXT", "README.TXT", "big", "dir/stored")]
    assert run.output == b"".join(data), run.log
    assert run.status == 0
    assert any("rockridge, label CD" in line for line in run.log)
    assert run.leaks() == []


def test_rock_ridge_is_named_wherever_the_root_directory_lies(
    boot: Any, tmp_path: Path, folder: Path, host_tool: Callable[..., str]
) -> None:
    """UDF's structures stand before it: probing does not read that far, mounting does."""
    image = tmp_path / "cd.iso"
    host_tool("genisoimage", "-quiet", "-V", "FAR", "-R", "-udf", "-o", image, folder)
    assert IsoServer.probe(image.read_bytes()[:65536]) == "iso9660"
    run = boot("vol", image)
    assert any("/d0: rockridge, label FAR" in line for line in run.log), run.log
    assert run.output.endswith(b", file system rockridge\n")


def test_an_archive_boots_as_a_volume_and_its_files_are_read(
    boot: Any, tmp_path: Path, folder: Path, host_tool: Callable[..., str]
) -> None:
    archive = tmp_path / "a.zip"
    host_tool("zip", "-q", "-r", "-n", ".none", archive, "README.TXT", "big", "dir", folder=folder)
    host_tool("zip", "-q", "-0", archive, "dir/stored", folder=folder)
    run = boot("cat /d0/README.TXT; cat /d0/big; cat /d0/dir/stored; cat /d0/big", archive)
    data = [(folder / name).read_bytes() for name in ("README.TXT", "big", "dir/stored", "big")]
    assert run.output == b"".join(data), run.log
    assert run.status == 0
    assert run.leaks() == []


@pytest.mark.thorough(only=True)
def test_a_file_whose_windows_do_not_fit_in_memory_is_read(
    boot: Any, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    """The server makes 20 MiB of pages, and there are 16 MiB of memory: windows that are through are given back."""
    data = b"a line of a large file, the same again and again, as logs are\n" * 330_000
    (tmp_path / "large").write_bytes(data)
    host_tool("zip", "-q", "-j", tmp_path / "a.zip", tmp_path / "large")
    run = boot("crc32 /d0/large /d0/large", tmp_path / "a.zip", memory=16 << 20, fuel=2_000_000_000)
    assert run.output.decode() == f"{zlib.crc32(data):08x}  /d0/large\n" * 2
    assert run.leaks() == []


def test_the_last_part_of_a_split_archive_is_named_whatever_it_begins_with(
    boot: Any, tmp_path: Path, folder: Path, host_tool: Callable[..., str]
) -> None:
    host_tool("zip", "-q", "-r", "-s", "64k", tmp_path / "a.zip", folder)
    run = boot("ls /", tmp_path / "a.zip", tmp_path / "a.z01")
    part = "a part of a split ZIP archive; join the parts (zip -s 0 in.zip --out out.zip)"
    assert f"d0: {part}, skipped" in run.log
    assert f"/d1: server ended: {part}" in run.log
    assert run.output == b"rom\n"


def test_a_bad_sector_in_the_identifying_part_of_a_volume_costs_only_its_own_data(
    boot: Any, fat_image: Callable[..., Path]
) -> None:
    files = {"A": bytes(8192), "BAD.TXT": b"bad\n", "C": bytes(8192), "GOOD.TXT": b"good\n"}
    image = fat_image(files, width=12, mebibytes=1)
    content = image.read_bytes()
    bad = content.index(b"bad\n") // 512
    assert bad < 128
    run = boot("cat GOOD.TXT; cat BAD.TXT", FaultInjecting(MemoryMedium(content), bad=[bad]))
    assert run.output.decode() == "good\ncat: BAD.TXT: disk error\n", run.log
    assert run.leaks() == []
