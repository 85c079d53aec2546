"""Reading files by the library: every way gives the same bytes, and nothing stays held."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.errors import ErrorCode

Sessions = Callable[..., Any]
SIZES = [1, 511, 512, 513, 4095, 4096, 4097, 12_288, 100_000, 506 * 4096 + 1]
WAYS = "rptb"
LARGE = 500_000


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {f"F{size}.BIN": content(size) for size in SIZES}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=24 << 20)
    return out


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_reading_gives_the_same_file(
    session: Sessions, image: Path, files: dict[str, bytes], way: str
) -> None:
    for name, data in files.items():
        if len(data) > LARGE and way in "tb":
            continue  # every byte goes through the serial port
        made = session(image, programs=[("reader", f"{way}/d0/{name}")])
        assert made.run().reason == "halt"
        assert made.codes == [0], (name, made.log)
        assert made.output == data, name
        assert made.unaccounted() == [], name


def start_from(session: Sessions, tmp_path: Path, arguments: bytes) -> Any:
    """Run `starter` on a file with a path, and arguments that begin 8 bytes before the file's third page."""
    folder = tmp_path / "tree"
    folder.mkdir()
    text = b"/rom/hello".ljust(8192 - 8, b"\0") + arguments
    (folder / "START.BIN").write_bytes(text)
    create_image(tmp_path / "disk.img", folder, fs="fat16", size=8 << 20)
    made = session(tmp_path / "disk.img", programs=[("starter", "/d0/START.BIN")])
    assert made.run().reason == "halt"
    return made


def test_the_kernel_reads_arguments_from_file_pages_that_are_not_yet_in_memory(
    session: Sessions, tmp_path: Path
) -> None:
    made = start_from(session, tmp_path, b"from a file\0")
    assert (made.codes, made.output) == ([0], b"hello from ring 3, arguments: from a file\n")
    assert made.unaccounted() == []


def test_arguments_past_the_end_of_a_file_are_a_bad_address(session: Sessions, tmp_path: Path) -> None:
    made = start_from(session, tmp_path, b"no end..")
    assert made.codes == [100 + ErrorCode.BAD_ADDRESS]
    assert made.unaccounted() == []
