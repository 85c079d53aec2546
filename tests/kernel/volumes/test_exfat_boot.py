"""exFAT from switching on to `cat`: consecutive and chained files, and bytes that were never written."""

import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.formatters import exfat
from callgate.disk.formatters.exfat_entries import set_checksum
from callgate.disk.formatters.fat import Node, Target
from callgate.disk.images.builder import create_image

RANDOM = random.Random(21)
FILES = {
    "README.TXT": b"hello\n",
    "EMPTY": b"",
    "docs/Ünïcødé name.text": RANDOM.randbytes(5000),
    "docs/big": RANDOM.randbytes(900_001),
}


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(("scheme", "ide"), [(None, False), ("mbr", False), ("gpt", False), ("mbr", True)])
def test_every_byte_of_an_exfat_volume_is_read(boot: Any, tmp_path: Path, scheme: Any, ide: bool) -> None:
    folder = tmp_path / "folder"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    create_image(tmp_path / "disk.img", folder, fs="exfat", scheme=scheme, label="SCHEMES")
    run = boot("cat readme.txt DOCS/*text; crc32 docs/* EMPTY", tmp_path / "disk.img", ide=ide)
    sums = [(f"docs/{name}", FILES[f"docs/{name}"]) for name in ("big", "Ünïcødé name.text")] + [("EMPTY", b"")]
    expected = "".join(f"{zlib.crc32(data):08x}  {name}\n" for name, data in sums)
    assert run.output == FILES["README.TXT"] + FILES["docs/Ünïcødé name.text"] + expected.encode()
    assert any("exfat, label SCHEMES" in line for line in run.log)
    assert run.leaks() == []


def test_an_aligned_file_is_mapped_as_it_is(boot: Any, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "whole").write_bytes(RANDOM.randbytes(1 << 20))
    create_image(tmp_path / "disk.img", folder, fs="exfat")
    run = boot("crc32 whole", tmp_path / "disk.img")
    counts = run.system.machine.ledger.counts()
    assert counts.cpu_file_bytes["kernel"] == counts.cpu_file_bytes["server"] == 0
    assert counts.cpu_file_bytes["client"] == 1 << 20


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("start", [0, 3])
def test_bytes_that_were_never_written_are_zeros(
    boot: Any, tmp_path: Path, scattered: bool, start: int, find_leaks: Callable[..., list[str]]
) -> None:
    """A client reads the one sector that its server has made, between sectors and holes of the same file."""
    data = RANDOM.randbytes(30_000)
    geometry = exfat.plan(4096)
    valid = {"a": 0, "b": 1, "c": 5000, "d": 8191, "e": 12_288, "f": 29_999}
    path = tmp_path / "disk.img"
    with path.open("wb+") as file:
        file.truncate((start + 4096) * 512)
        nodes = [Node(name, 0, data) for name in valid]
        exfat.ExfatWriter(Target(file.fileno(), start), geometry, "V", scattered=lambda _node: scattered).write(nodes)
    image = bytearray(path.read_bytes())
    for name, size in valid.items():
        at = image.index(b"\xc1\0" + name.encode("utf-16-le").ljust(30, b"\0")) - 64
        image[at + 40 : at + 48] = size.to_bytes(8, "little")
        image[at + 2 : at + 4] = set_checksum(bytes(image[at : at + 96])).to_bytes(2, "little")
    if start:
        image[:512] = partition_table(start, 4096)
    path.write_bytes(image)
    volume = "/d0p1" if start else "/d0"
    run = boot(f"crc32 {volume}/*; cat {volume}/c; crc32 {volume}/b {volume}/b", path)
    wanted = {name: data[:size].ljust(30_000, b"\0") for name, size in valid.items()}
    lines = "".join(f"{zlib.crc32(content):08x}  {volume}/{name}\n" for name, content in wanted.items())
    again = f"{zlib.crc32(wanted['b']):08x}  {volume}/b\n" * 2
    assert run.output == lines.encode() + wanted["c"] + again.encode()
    assert run.leaks() == []


def partition_table(start: int, sectors: int) -> bytes:
    entry = bytes((0, 0, 0, 0, 7, 0, 0, 0)) + start.to_bytes(4, "little") + sectors.to_bytes(4, "little")
    return (bytes(446) + entry).ljust(510, b"\0") + b"\x55\xaa"
