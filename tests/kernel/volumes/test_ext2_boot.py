"""Volumes that mke2fs made, from switching on to `cat`: every byte through the kernel, holes and links included."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import ImageFile
from callgate.disk.media.faults import FaultInjecting

MIB = 1 << 20
START = 2048  # sectors before the second disk's partition


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "dir").mkdir(parents=True)
    generator = random.Random(2)
    (folder / "README").write_bytes(b"made by mke2fs\n")
    (folder / "big").write_bytes(generator.randbytes(700_001))
    with (folder / "sparse").open("wb") as file:
        for place in (70_000, 2_500_000):
            file.seek(place)
            file.write(generator.randbytes(5000))
        file.truncate(3_000_001)
    (folder / "dir" / "up").symlink_to("../README")
    (folder / "absolute").symlink_to("/dir/up")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "to dir").symlink_to("dir")
    return folder


@pytest.fixture
def disks(tmp_path: Path, folder: Path, host_tool: Callable[..., str]) -> list[Path]:
    """Return a disk that is an ext2 volume of 1 KiB blocks, and one with an ext4 volume in a partition."""
    plain, parted = tmp_path / "plain.img", tmp_path / "parted.img"
    host_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-L", "PLAIN", "-d", folder, plain, "8M")
    with parted.open("wb") as file:
        file.truncate(START * 512 + 16 * MIB)
    host_tool("sfdisk", "-q", "--no-tell-kernel", parted, text=f"label: dos\nstart={START}, type=83\n")
    offset = f"offset={START * 512}"
    host_tool("mke2fs", "-q", "-F", "-t", "ext4", "-L", "PARTED", "-E", offset, "-d", folder, parted, "16M")
    return [plain, parted]


def test_both_ext_volumes_are_mounted_with_their_labels(boot: Any, disks: list[Path]) -> None:
    run = boot("true", *disks)
    assert [line for line in run.log if line.startswith("/d")] == [
        "/d0: ext2, label PLAIN",
        "/d1p1: ext4, label PARTED",
    ]
    assert run.leaks() == []


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("volume", ["d0", "d1p1"])
def test_every_byte_of_the_ext_volumes_is_read(boot: Any, disks: list[Path], folder: Path, volume: str) -> None:
    names = {"README": "README", "big": "big", "sparse": "sparse"}
    names |= dict.fromkeys(("dir/up", "absolute", "to dir/up"), "README")
    run = boot("; ".join(f'cat "/{volume}/{name}"' for name in names), *disks)
    assert run.output == b"".join((folder / source).read_bytes() for source in names.values()), run.log
    assert run.status == 0
    assert run.leaks() == []


def test_directories_are_listed_and_unreadable_parts_are_reported(boot: Any, disks: list[Path]) -> None:
    run = boot('dir /d0; dir "/d1p1/to dir"; cat /d0/dangling; cat /d0/dir; cat /d1p1/nothing', *disks)
    text = run.output.decode()
    for name in ("README", "big", "sparse", "dangling", "lost+found", "up"):
        assert re.search(rf"^.* {re.escape(name)}$", text, re.MULTILINE), text
    assert re.search(r" 700,?001 +big$", text, re.MULTILINE), text
    assert text.count("no such file or directory") == 2
    assert "is a directory" in text
    assert run.leaks() == []


def test_an_unknown_feature_of_ext4_is_named_and_the_machine_boots_on(
    boot: Any, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "inline.img"
    host_tool("mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data", image, "4M")
    run = boot("echo still here", image)
    assert run.output == b"still here\n"
    assert any("needs feature inline_data, which callgate does not know" in line for line in run.log), run.log


def test_a_volume_without_a_label_is_logged_without_one(
    boot: Any, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    image = tmp_path / "plain.img"
    host_tool("mke2fs", "-q", "-F", image, "4M")
    assert boot("vol", image).output.startswith(b"volume /d0, no label\nserial number ")


class Healing(FaultInjecting):
    """A medium whose bad sectors become good when a certain sector is read."""

    def __init__(self, medium: Any, bad: range, healer: int) -> None:
        super().__init__(medium, bad=bad)
        self.healer = healer

    def read_into(self, lba: int, views: Any) -> None:
        super().read_into(lba, views)
        if lba <= self.healer < lba + sum(map(len, views)) // 512:
            self.bad = frozenset()


def test_a_directory_that_was_listed_in_part_is_listed_whole_when_the_disk_recovers(
    boot: Any, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    """Neither the server nor the kernel keeps what a failing disk left of it."""
    folder, image = tmp_path / "many", tmp_path / "many.img"
    names = [f"a file with the number {number:03}" for number in range(200)]
    (folder / "dir").mkdir(parents=True)
    for name in names:
        (folder / "dir" / name).touch()
    (folder / "healer").write_bytes(b"better now\n")
    host_tool("mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096", "-d", folder, image, "4M")
    second, healer = (int(host_tool("debugfs", "-R", f"bmap {place}", image)) * 8 for place in ("/dir 1", "/healer 0"))
    medium = Healing(ImageFile(image), range(second, second + 8), healer)
    run = boot("ls dir; cat healer; ls dir; ls dir", medium)
    part, whole = run.output.decode().split("better now\n")
    assert 10 < len(part.splitlines()) < 190
    assert whole.splitlines() == names * 2
    assert any("directory /dir is damaged" in line for line in run.log), run.log
    assert run.leaks() == []


def test_ls_marks_symbolic_links(boot: Any, tmp_path: Path, host_tool: Callable[..., str]) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("file\n")
    (tmp_path / "tree" / "link").symlink_to("file")
    host_tool("mke2fs", "-q", "-t", "ext2", "-d", tmp_path / "tree", tmp_path / "e.img", "1M")
    run = boot("ls -l file link lost+found/..", tmp_path / "e.img")
    lines = [line.partition(" -> ")[0].split() for line in run.output.decode().splitlines()]
    letters = {words[-1]: words[0] for words in lines if len(words) > 3}
    assert (letters["file"], letters["link"], letters["lost+found"]) == ("-----", "l----", "d----")
