"""exFAT images of `callgate disk create`, as exfatprogs and sleuthkit see them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.formatters.exfat_entries import up_case_table
from callgate.disk.images.builder import create_image
from callgate.disk.images.tree import BuildError
from callgate.server.exfat.upcase import parse_up_case
from callgate.tools.inspection.report import inspect_image

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "docs/deep").mkdir(parents=True)
    (root / "README.TXT").write_bytes(b"hello\n")
    (root / "docs/deep/big").write_bytes(random.Random(1).randbytes(3_000_000))
    for number in range(200):
        (root / f"docs/a file with a number {number}").write_bytes(bytes(number))
    return root


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("size", [None, 8 * MIB, 600 * MIB])
def test_exfat_images_of_any_size_are_sound_to_fsck_and_sleuthkit(
    folder: Path, tmp_path: Path, host_tool: Callable[..., str], size: int | None
) -> None:
    built = create_image(tmp_path / "out.img", folder, fs="exfat", size=size, label="Größe", date=1_700_000_000)
    assert built.file_system == "exfat"
    assert "clean. directories 3, files 202" in host_tool("fsck.exfat", "-n", built.path)
    names = {line.split("\t")[1] for line in host_tool("fls", "-F", "-r", "-p", "-f", "exfat", built.path).splitlines()}
    assert {"README.TXT", "docs/deep/big", "docs/a file with a number 199"} <= names
    (volume,) = inspect_image(built.path).volumes
    assert (volume.file_system.kind, volume.file_system.problems) == ("exfat", [])
    assert volume.file_system.details["cluster_bytes"] == built.cluster


@pytest.mark.parametrize("scheme", ["mbr", "gpt"])
def test_partitions_of_exfat_images_have_the_right_type(
    folder: Path, tmp_path: Path, host_tool: Callable[..., str], scheme: Any
) -> None:
    image = tmp_path / "out.img"
    create_image(image, folder, fs="exfat", scheme=scheme)
    text = host_tool("sfdisk", "-d", image)
    assert ("type=7" if scheme == "mbr" else "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7") in text
    (volume,) = inspect_image(image).volumes
    assert volume.file_system.kind == "exfat"
    assert volume.aligned


def test_the_same_tree_gives_the_same_bytes_of_exfat(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        create_image(tmp_path / name, folder, fs="exfat", date=0)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("name", "size", "label", "text"),
    [
        ("a*b", None, "OK", "exFAT names cannot hold '*'"),
        ("fine", 512 * 1024, "OK", "takes 1024 KiB or more"),
        ("fine", 2 * MIB, "OK", "clusters of 4096 bytes are needed"),
        ("fine", None, "a label of many characters", "at most 11 characters"),
        ("fine", 1000, "OK", "a multiple of 512"),
    ],
)
def test_a_tree_that_exfat_cannot_hold_is_refused(
    folder: Path, tmp_path: Path, name: str, size: int | None, label: str, text: str
) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(BuildError) as error:
        create_image(tmp_path / "out.img", folder, fs="exfat", size=size, label=label)
    assert text in str(error.value)
    assert not (tmp_path / "out.img").exists()


def test_exfat_names_that_differ_in_case_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "readme.txt").write_bytes(b"x")
    with pytest.raises(BuildError, match="in other letters"):
        create_image(tmp_path / "out.img", folder, fs="exfat")


def test_the_up_case_table_agrees_with_python() -> None:
    """Ours is compressed; expanded it has each character in upper case, where that is one character."""
    table = parse_up_case(up_case_table())
    for character in map(chr, [*range(0xD800), *range(0xE000, 0x1_0000)]):
        upper = character.upper()
        wanted = ord(upper) if len(upper) == 1 and ord(upper) < 0x1_0000 else ord(character)
        assert table.fold(character) == (wanted,), character
