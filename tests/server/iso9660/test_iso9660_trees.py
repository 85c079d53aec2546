"""Volumes that genisoimage made, read back: names of every kind, links, deep trees, files byte for byte."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.iso9660.server import IsoServer

LONG = "a name of more than thirty-one characters, with spaces and 'quotes'.text"
DEEP = "/".join(f"level{number}" for number in range(1, 13))
STAMP = 1_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    generator = random.Random(4)
    for name, size in {
        "README.TXT": 700,
        "EMPTY.BIN": 0,
        "DIR/SECTOR.BIN": 2048,
        "DIR/BIG.BIN": 300_001,
        "DIR/SUB/X.Y": 5,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(generator.randbytes(size))
    for path in root.rglob("*"):
        os.utime(path, (STAMP, STAMP))
    return root


@pytest.fixture
def make(tmp_path: Path, folder: Path, host_tool: Callable[..., str]) -> Callable[..., bytes]:
    def make(*options: str) -> bytes:
        image = tmp_path / "cd.iso"
        host_tool("genisoimage", "-quiet", "-V", "MY_LABEL", *options, "-o", image, folder)
        return image.read_bytes()

    return make


def files_of(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def walk(served: Any, path: str = "") -> dict[str, Any]:
    found = {}
    for file in served.listing(path):
        found[f"{path}/{file.name}".lstrip("/")] = file
        if file.attributes & FileAttributes.DIRECTORY:
            found |= walk(served, f"{path}/{file.name}")
    return found


@pytest.mark.parametrize(
    ("options", "kind"), [((), "iso9660"), (("-J",), "joliet"), (("-R",), "rockridge"), (("-J", "-R"), "rockridge")]
)
def test_every_file_is_read_back_whichever_names_the_image_has(
    make: Any, folder: Path, iso_client: Any, options: tuple[str, ...], kind: str
) -> None:
    if kind != "iso9660":
        (folder / "DIR" / LONG).write_bytes(b"long")
        (folder / "größe").write_bytes(b"umlaut")
        options += ("-joliet-long", "-input-charset", "utf-8") if "-J" in options else ("-input-charset", "utf-8")
    image = make(*options)
    assert IsoServer.probe(image[:65536]) == kind
    served = iso_client(image)
    assert served.server.volume.kind == kind
    listed = walk(served)
    files = files_of(folder)
    assert {path for path, file in listed.items() if not file.attributes & FileAttributes.DIRECTORY} == set(files)
    for path, data in files.items():
        assert listed[path].size == len(data)
        assert served.contents(path) == data
    assert listed["README.TXT"].modified == STAMP
    assert served.server.take_reports() == []
    answer = served.request(Operation.VOLUME)
    assert answer.data == b"MY_LABEL"
    assert bool(answer.registers.eax & VolumeFlags.CASE_SENSITIVE) == (kind == "rockridge")
    free = served.request(Operation.FREE_SPACE).registers
    assert (free.eax, free.edx) == (0, 0)
    assert free.ecx * free.esi == len(image)


def test_plain_and_joliet_names_are_found_in_any_case_and_rock_ridge_names_are_not(make: Any, iso_client: Any) -> None:
    for option, code in (("-J", ErrorCode.OK), ("-l", ErrorCode.OK), ("-R", ErrorCode.NOT_FOUND)):
        assert iso_client(make(option)).request(Operation.OPEN, "readme.txt").error is code


def test_files_are_those_that_isoinfo_lists_and_lie_where_it_says(
    make: Any, tmp_path: Path, iso_client: Any, host_tool: Callable[..., str]
) -> None:
    served = iso_client(make("-R"))
    lines = host_tool("isoinfo", "-R", "-l", "-i", tmp_path / "cd.iso").splitlines()
    rows = {line.split("]")[1].split()[-1]: line for line in lines if line.startswith("-")}
    for path in ("README.TXT", "DIR/BIG.BIN", "DIR/SUB/X.Y"):
        row = rows[path.split("/")[-1]]
        assert int(row.split()[4]) == len(served.contents(path))
        opened = served.request(Operation.OPEN, path).registers
        assert opened.edi == int(row.split("[")[1].split()[0]) * 2
        _, _, answer = served.read_extract(opened.eax, 0, 1)
        assert answer.sectors[0][0] == int(row.split("[")[1].split()[0]) * 4


def test_rock_ridge_links_lead_to_their_targets_and_never_out_of_the_volume(
    make: Any, folder: Path, iso_client: Any
) -> None:
    (folder / ("n" * 90) / ("m" * 70)).mkdir(parents=True)
    for name, target in {
        "DIR/up": "../README.TXT",
        "absolute": "/DIR/up",
        "out": "../../../../README.TXT",
        "dangling": "nowhere",
        "to dir": "DIR/./SUB",
        "one": "two",
        "two": "one",
        "long": "n" * 90 + "/" + "m" * 70 + "/../../README.TXT",
    }.items():
        (folder / name).symlink_to(target)
    served = iso_client(make("-R"))
    readme = (folder / "README.TXT").read_bytes()
    for path in ("DIR/up", "absolute", "out", "long"):
        assert served.contents(path) == readme
    assert served.contents("to dir/X.Y") == (folder / "DIR/SUB/X.Y").read_bytes()
    for path in ("dangling", "one"):
        assert served.request(Operation.OPEN, path).error is ErrorCode.NOT_FOUND
    listed = {file.name: file for file in served.listing("")}
    assert all(listed[name].attributes & FileAttributes.SYMLINK for name in ("absolute", "one", "to dir"))
    assert not served.server.take_reports()


def test_a_tree_deeper_than_eight_is_whole_with_rock_ridge(make: Any, folder: Path, iso_client: Any) -> None:
    deep = folder / DEEP
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"deep down")
    served = iso_client(make("-R"))
    listed = walk(served)
    assert f"{DEEP}/bottom" in listed
    assert served.contents(f"{DEEP}/bottom") == b"deep down"
    assert [path for path in listed if "bottom" in path] == [f"{DEEP}/bottom"], "rr_moved lists it once more"


def test_names_that_need_continuation_areas_are_whole(make: Any, folder: Path, iso_client: Any) -> None:
    names = {f"{number}" + "n" * (240 + number) for number in range(10)}
    for name in names:
        (folder / "DIR" / name).write_text(name)
    served = iso_client(make("-R"))
    assert names < {file.name for file in served.listing("DIR")}
    assert all(served.contents(f"DIR/{name}") == name.encode() for name in names)


def test_a_directory_of_a_thousand_files_is_listed_whole(make: Any, folder: Path, iso_client: Any) -> None:
    for number in range(1000):
        (folder / "DIR/SUB" / f"file number {number}").write_text(str(number))
    served = iso_client(make("-R"))
    assert len(served.listing("DIR/SUB")) == 1001
    assert served.contents("DIR/SUB/file number 777") == b"777"


def test_executables_and_hard_links_of_an_iso_image_are_read(make: Any, folder: Path, iso_client: Any) -> None:
    (folder / "run").write_bytes(b"#!")
    (folder / "run").chmod(0o755)
    os.link(folder / "run", folder / "walk")
    served = iso_client(make("-R", "-cache-inodes"))
    opened = [served.request(Operation.OPEN, name).registers for name in ("run", "walk", "README.TXT", "EMPTY.BIN")]
    assert opened[0].ebx & FileAttributes.EXECUTABLE
    assert not opened[2].ebx & FileAttributes.EXECUTABLE
    assert opened[0].edi == opened[1].edi
    assert len({registers.edi for registers in opened[1:]}) == 3


def test_pieces_of_iso_files_never_cross_a_block_of_the_disk_wherever_the_partition_starts(
    make: Any, folder: Path, iso_client: Any
) -> None:
    image = make("-R")
    for start in (1, 2, 7, 63):
        served = iso_client(bytes(start * 512) + image, start=start)
        assert served.contents("DIR/BIG.BIN") == (folder / "DIR/BIG.BIN").read_bytes()


def record_of(image: bytearray, identifier: bytes) -> int:
    """Return the offset of the directory record with this identifier."""
    return image.index(bytes([len(identifier)]) + identifier) - 32


def test_a_file_of_several_extents_is_one_file(make: Any, folder: Path, iso_client: Any) -> None:
    first, second = random.Random(1).randbytes(3 * 2048), random.Random(2).randbytes(5000)
    (folder / "MULTI1").write_bytes(first)
    (folder / "MULTI2").write_bytes(second)
    image = bytearray(make())
    record = record_of(image, b"MULTI1.;1")
    image[record + 25] |= 0x80
    other = record_of(image, b"MULTI2.;1")
    image[other + 33 : other + 42] = b"MULTI1.;1"
    served = iso_client(image)
    assert served.contents("MULTI1") == first + second
    assert [file.size for file in served.listing("") if file.name == "MULTI1"] == [len(first + second)]
    number = served.request(Operation.OPEN, "MULTI1").registers.eax
    position, data, _ = served.read_extract(number, 4 * 2048 + 100, 600)
    assert data == (first + second)[position : position + len(data)]

    image[other + 33 : other + 42] = b"MULTI2.;1"
    served = iso_client(image)
    assert served.request(Operation.OPEN, "MULTI1").error is ErrorCode.NOT_SUPPORTED
    assert served.contents("MULTI2") == second
    assert any("last extent" in text for text in served.server.take_reports())


def test_interleaved_files_are_listed_and_refused_by_name(make: Any, iso_client: Any) -> None:
    image = bytearray(make())
    record = record_of(image, b"README.TXT;1")
    image[record + 26 : record + 28] = bytes((4, 2))
    served = iso_client(image)
    assert "README.TXT" in {file.name for file in served.listing("")}
    assert served.request(Operation.OPEN, "README.TXT").error is ErrorCode.NOT_SUPPORTED
    assert any("interleaved, 4 blocks and a gap of 2" in text for text in served.server.take_reports())


def test_fields_that_disagree_with_themselves_are_reported_and_the_little_endian_half_is_used(
    make: Any, folder: Path, iso_client: Any
) -> None:
    image = bytearray(make())
    record = record_of(image, b"README.TXT;1")
    image[record + 17] ^= 1
    image[32768 + 87] ^= 1
    served = iso_client(image)
    assert served.contents("README.TXT") == (folder / "README.TXT").read_bytes()
    reports = served.server.take_reports()
    assert any("data length is 700 in little-endian and 701 in big-endian" in text for text in reports)
    assert any("volume size" in text for text in reports)
    assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY
