"""`crc32` of the shell against zlib's."""

import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image

SIZES = [0, 1, 3, 511, 512, 4095, 4096, 4097, 70_001, 506 * 4096 + 5]


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    tree = tmp_path / "tree"
    tree.mkdir()
    files = {f"F{size}.BIN": random.Random(size).randbytes(size) for size in SIZES}
    for name, data in files.items():
        (tree / name).write_bytes(data)
    out = tmp_path / "out.img"
    create_image(out, tree, fs="fat16", size=16 << 20)
    return out, files


def test_crc32_is_zlib_s(boot: Callable[..., Any], image: tuple[Path, dict[str, bytes]]) -> None:
    out, files = image
    run = boot("crc32 *.BIN", out)
    assert run.status == 0
    lines = run.output.decode().splitlines()
    assert sorted(lines) == sorted(f"{zlib.crc32(data):08x}  {name}" for name, data in files.items())


def test_crc32_says_what_it_cannot_read_and_goes_on(
    boot: Callable[..., Any], image: tuple[Path, dict[str, bytes]]
) -> None:
    out, files = image
    run = boot("crc32 nosuch F3.BIN /d0; echo $?", out)
    expected = zlib.crc32(files["F3.BIN"])
    assert run.output.decode().splitlines() == [
        "crc32: nosuch: no such file or directory",
        f"{expected:08x}  F3.BIN",
        "crc32: /d0: is a directory",
        "1",
    ]


@pytest.mark.thorough(only=True)
def test_a_disk_that_vanishes_during_crc32_ends_the_command_and_not_the_shell(
    boot: Callable[..., Any], image: tuple[Path, dict[str, bytes]], find_leaks: Callable[..., list[str]]
) -> None:
    out, _ = image
    for fuel in range(200_000, 6_000_000, 700_000):
        run = boot("crc32 F2072581.BIN; hello after", out, fuel=fuel)
        run.system.unplug(0)
        run.system.run(fuel=100_000_000)
        assert run.system.exit_code == 0, fuel
        assert find_leaks(run.system) == [], fuel
