"""`hexdump` of the shell against util-linux's `hexdump -C`."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image

RANDOM = random.Random(5)
FILES = {
    "EMPTY": b"",
    "ONE": b"x",
    "FULL": bytes(range(256)),
    "ODD": RANDOM.randbytes(70_001),
    "SAME": bytes(1000) + b"\1" + bytes(64) + b"y" * 100 + bytes(5),
    "TEXT": b"a line\twith a tab, \x7f and \xc3\xa9\n" * 300,
}
RANGES = [(0, None), (0, 1), (1, 16), (5, 33), (16, 15), (4090, 40), (3, None)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def reference(host_tool: Callable[..., str], path: Path, offset: int, length: int | None) -> str:
    """Return what `hexdump -C` prints."""
    limit = [] if length is None else ["-n", length]
    return host_tool("hexdump", "-C", "-s", offset, *limit, path)


def test_lines_of_hexdump_are_those_of_the_linux_command(
    boot: Any, image: Path, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    commands, expected = [], []
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
        for offset, length in RANGES:
            if offset >= len(data) or (name == "ODD" and length is None):
                continue
            numbers = f"{offset:#x}" + ("" if length is None else f" {length}")
            commands.append(f"hexdump {name} {numbers if offset or length else ''}")
            expected.append(reference(host_tool, tmp_path / name, offset, length))
    expected.append(reference(host_tool, tmp_path / "ODD", 0, None))
    run = boot("; ".join([*commands, "hexdump ODD"]), image)
    assert run.output.decode() == "".join(expected)
    assert run.status == 0
    assert run.leaks() == []


def test_hexdump_of_an_empty_range_shows_only_its_end(boot: Any, image: Path) -> None:
    run = boot("hexdump EMPTY; hexdump FULL 256; hexdump FULL 7 0; hexdump FULL 7 99999999999", image)
    lines = run.output.decode().splitlines()
    assert lines[:3] == ["00000000", "00000100", "00000007"]
    assert lines[-1] == "00000100"


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(
    ("command", "text", "status"),
    [
        ("hexdump", "usage: hexdump FILE [OFFSET [LEN]]", 2),
        ("hexdump FULL 1 2 3", "usage: hexdump FILE [OFFSET [LEN]]", 2),
        ("hexdump nosuch", "hexdump: nosuch: no such file or directory", 1),
        ("hexdump /d0", "hexdump: /d0: is a directory", 1),
        ("hexdump FULL 257", "hexdump: 257: lies past the end of the file", 1),
        ("hexdump FULL 18446744073709551615", "hexdump: 18446744073709551615: lies past the end of the file", 1),
        *(
            (f"hexdump FULL {word}", f"hexdump: {word}: is not a number of bytes; write 4096 or 0x1000", 2)
            for word in ("18446744073709551616", "0x", "x", "-1", "12a", "0x10000000000000000", "0xg")
        ),
        ("hexdump FULL 0 1k", "hexdump: 1k: is not a number of bytes; write 4096 or 0x1000", 2),
    ],
)
def test_mistaken_arguments_of_hexdump_are_named(boot: Any, image: Path, command: str, text: str, status: int) -> None:
    run = boot(command, image)
    assert (run.output.decode(), run.status) == (text + "\n", status)
    assert run.leaks() == []


def test_hexdump_offsets_above_four_gigabytes_have_more_digits(
    boot: Any, tmp_path: Path, host_tool: Callable[..., str]
) -> None:
    """A file with a hole of 5 GiB and 20 bytes after it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    far = (5 << 30) + 100
    with (folder / "far").open("wb") as file:
        file.seek(far)
        file.write(b"behind the large hole")
    image = tmp_path / "ext4.img"
    host_tool("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder, image, "16M")
    run = boot(f"hexdump far {far - 40}", image)
    assert run.output.decode() == reference(host_tool, folder / "far", far - 40, None)
    assert run.leaks() == []


@pytest.mark.thorough(only=True)
def test_a_disk_that_vanishes_during_hexdump_ends_the_command_and_not_the_shell(
    boot: Any, image: Path, find_leaks: Callable[..., list[str]]
) -> None:
    begun, ended = (boot(command, image).system.machine.clock.retired for command in ("true", "hexdump ODD"))
    for fuel in range(begun, ended, (ended - begun) // 5):
        run = boot("hexdump ODD; hello after", image, fuel=fuel)
        run.system.unplug(0)
        run.system.run(fuel=100_000_000)
        assert run.system.exit_code == 0, fuel
        assert find_leaks(run.system) == [], fuel
