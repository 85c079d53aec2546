"""Images made wholly by other people's tools: every name is listed, every file comes out byte for byte.

mkfs.fat makes the file systems, mtools copies the files, sfdisk and sgdisk make the partition tables.  What
is compared with is the files themselves; no code of ours takes part in making an image or an expectation.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

Files = dict[str, bytes]
Tool = Callable[..., str]

SECTOR = 512
MIB = 1 << 20
DIR_LINE = re.compile(r"[-\d]{10} \d\d:\d\d (?: +(\d+)|      *(<DIR>)    )  (.*)")
GPT_BASIC_DATA = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
HOLES = 520


@dataclass(frozen=True)
class Fat:
    """A volume: place in MiB (or sectors), mkfs.fat's -F, -s and -S."""

    width: int
    mebibytes: int
    per_cluster: int
    sector: int = 512
    start: int = 0  # sectors of 512 bytes
    big: int = 60_000  # size of the largest file
    many: int = 40  # files in one directory

    @property
    def cluster(self) -> int:
        return self.per_cluster * self.sector

    def files(self) -> Files:
        """Return what to put in: other bytes in every volume."""
        chance = random.Random(self.width * 100_000 + self.start + self.cluster)
        files = {
            "README.TXT": b"made by somebody else\r\n",
            "EMPTY.DAT": b"",
            "lower.txt": b"a short name in lower case\n",
            "CLUSTER.BIN": chance.randbytes(self.cluster),
            "CLUSTER1.BIN": chance.randbytes(self.cluster + 1),
            "BIG.BIN": chance.randbytes(self.big),
            "A long name, with spaces; brackets (and) more.tar.gz": b"long\n",
            "x" * 251 + ".txt": b"255 UTF-16 units\n",
            "thirteen.char": b"no terminator in the record\n",
            "Füße und Ærø.txt": "grüß\n".encode(),
            "Ελληνικά и Кириллица.dat": chance.randbytes(700),
            "日本語のファイル.txt": "こんにちは\n".encode(),
            "one/two/three/four and a half/deep.bin": chance.randbytes(5_000),
            "one/two/EMPTY.TOO": b"",
            "ein Verzeichnis/日本/名前.txt": b"names below names\n",
        }
        return files | {f"many/file with number {i}.txt": b"%d\n" % i * i for i in range(self.many)}

    def make(self, tool: Tool, image: Path, folder: Path) -> Files:
        """Format the volume in its place in the image and fill it."""
        files = self.files()
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        options = ["-F", self.width, "-s", self.per_cluster, "-S", self.sector, "--invariant"]
        tool("mkfs.fat", *options, f"--offset={self.start * SECTOR // self.sector}", image, self.mebibytes * 1024)
        tool("mcopy", "-s", "-Q", "-i", f"{image}@@{self.start * SECTOR}", *sorted(folder.iterdir()), "::/")
        return files


def contents(boot: Any, image: Path, volume: str, files: Files, **options: object) -> None:
    """Print every file in one session and compare each with its source."""
    script = "".join(f'cat "/{volume}/{name}"\n' for name in files)
    run = typed(boot, image, script, **options)
    position = 0
    for name, data in files.items():
        assert run.output[position : position + len(data)] == data, f"/{volume}/{name} differs"
        position += len(data)
    assert run.output[position:] == b""


def listings(boot: Any, image: Path, volume: str, files: Files) -> None:
    """List every directory with `ls` and `dir` and compare names and sizes with the source."""
    directories = sorted({str(parent) for name in files for parent in PurePosixPath(name).parents})
    script = "".join(f'ls "/{volume}/{path}"\necho ===\ndir "/{volume}/{path}"\necho ===\n' for path in directories)
    parts = typed(boot, image, script).output.decode().split("===\n")
    assert parts.pop() == ""
    for path, listed, shown in zip(directories, parts[::2], parts[1::2], strict=True):
        expected = {PurePosixPath(name).name: str(len(data)) for name, data in files.items() if folder_of(name) == path}
        expected |= {PurePosixPath(d).name: "<DIR>" for d in directories if d != "." and folder_of(d) == path}
        assert sorted(listed.splitlines()) == sorted(expected), path
        entries = [match for line in shown.splitlines() if (match := DIR_LINE.fullmatch(line))]
        assert {match[3]: match[1] or match[2] for match in entries} == expected, path


def folder_of(path: str) -> str:
    return str(PurePosixPath(path).parent)


def typed(boot: Any, image: Path, script: str, **options: object) -> Any:
    """Boot with lines coming through a pipe; nothing may fail, nothing may be left held."""
    rest = script.encode()

    def source(size: int) -> bytes:
        nonlocal rest
        piece, rest = rest[:size], rest[size:]
        return piece

    run = boot(None, image, source=source, fuel=2_000_000_000, **options)
    assert (run.stop.reason, run.status) == ("exit", 0), (run.log, run.output[-300:])
    assert not [line for line in run.log if "problem" in line or "skipped" in line or "damaged" in line], run.log
    assert run.leaks() == []
    return run


def whole(boot: Any, tool: Tool, folder: Path, table: Callable[[Path], object], volumes: dict[str, Fat]) -> None:
    """Make an image with a table and volumes, then read all of it."""
    image = folder / "their.img"
    with image.open("wb") as file:
        file.truncate(max(fat.start * SECTOR + (fat.mebibytes + 1) * MIB for fat in volumes.values()))
    table(image)
    made = {name: fat.make(tool, image, folder / name) for name, fat in volumes.items()}
    run = boot("true", image)
    assert [line.split(",")[0] for line in run.log if line.startswith("/")] == [
        f"/{name}: fat{fat.width}" for name, fat in volumes.items()
    ]
    for name, files in made.items():
        contents(boot, image, name, files)
        listings(boot, image, name, files)


def by_sfdisk(tool: Tool, script: str) -> Callable[[Path], object]:
    """Return a function that writes the partition table of a script; to tell the kernel of it, sfdisk would wait."""
    return lambda image: tool("sfdisk", "-q", "--no-tell-kernel", image, text=script)


WHOLE = {
    "fat12, clusters of one sector": Fat(12, 2, 1),
    "fat12, clusters of 4 KiB": Fat(12, 12, 8, many=200),
    "fat12, clusters of 32 KiB": Fat(12, 24, 64),
    "fat12, sectors of 4096 bytes": Fat(12, 12, 1, 4096),
    "fat16, clusters of one sector": Fat(16, 8, 1, big=700_001, many=200),
    "fat16, clusters of 4 KiB and a file of 3 MiB": Fat(16, 32, 8, big=3 * MIB + 1),
    "fat16, clusters of 64 KiB": Fat(16, 300, 128),
    "fat16, sectors of 1024 bytes": Fat(16, 32, 2, 1024),
    "fat16, sectors of 4096 bytes": Fat(16, 64, 2, 4096),
    "fat32, clusters of one sector": Fat(32, 40, 1, big=700_001, many=200),
    "fat32, clusters of 4 KiB": Fat(32, 300, 8),
    "fat32, sectors of 2048 bytes": Fat(32, 200, 1, 2048),
    "fat32, sectors of 4096 bytes": Fat(32, 300, 1, 4096),
}


@pytest.mark.thorough(one_in=12)
@pytest.mark.parametrize("fat", WHOLE.values(), ids=WHOLE)
def test_a_volume_without_a_partition_table_is_read(boot: Any, host_tool: Tool, tmp_path: Path, fat: Fat) -> None:
    whole(boot, host_tool, tmp_path, lambda _image: None, {"d0": fat})


@pytest.mark.thorough(only=True)
def test_an_mbr_disk_of_sfdisk_with_primary_partitions_is_read(boot: Any, host_tool: Tool, tmp_path: Path) -> None:
    volumes = {
        "d0p1": Fat(12, 4, 4, start=2048),
        "d0p2": Fat(16, 16, 2, start=12288),
        "d0p3": Fat(32, 40, 1, start=49152),
    }
    kinds = {12: "1", 16: "e", 32: "c"}
    script = "label: dos\n" + "".join(
        f"start={fat.start}, size={fat.mebibytes * 2048}, type={kinds[fat.width]}\n" for fat in volumes.values()
    )
    whole(boot, host_tool, tmp_path, by_sfdisk(host_tool, script), volumes)


@pytest.mark.thorough(only=True)
def test_an_mbr_disk_of_sfdisk_with_logical_partitions_is_read(boot: Any, host_tool: Tool, tmp_path: Path) -> None:
    """The first partition starts at sector 63, as DOS had it: every page of file data has foreign edges."""
    volumes = {
        "d0p1": Fat(12, 4, 2, start=63),
        "d0p5": Fat(16, 16, 4, start=14336),
        "d0p6": Fat(12, 8, 8, start=53248),
    }
    script = "label: dos\nstart=63, size=8192, type=1\nstart=12288, size=57344, type=5\n"
    script += "start=14336, size=32768, type=6\nstart=53248, size=16384, type=1\n"
    whole(boot, host_tool, tmp_path, by_sfdisk(host_tool, script), volumes)


GPT_VOLUMES = {"d0p1": Fat(16, 16, 2, start=2048), "d0p2": Fat(32, 40, 1, start=40960)}


@pytest.mark.thorough(only=True)
def test_a_gpt_disk_of_sgdisk_is_read(boot: Any, host_tool: Tool, tmp_path: Path) -> None:
    options: list[str] = []
    for number, fat in enumerate(GPT_VOLUMES.values(), 1):
        place = f"{number}:{fat.start}:{fat.start + fat.mebibytes * 2048 - 1}"
        options += ["-n", place, "-t", f"{number}:0700", "-c", f"{number}:volume {number}"]
    whole(boot, host_tool, tmp_path, lambda image: host_tool("sgdisk", *options, image), GPT_VOLUMES)


@pytest.mark.thorough(only=True)
def test_a_gpt_disk_of_sfdisk_is_read(boot: Any, host_tool: Tool, tmp_path: Path) -> None:
    lines = [f"start={v.start}, size={v.mebibytes * 2048}, type={GPT_BASIC_DATA}\n" for v in GPT_VOLUMES.values()]
    script = "label: gpt\n" + "".join(lines)
    whole(boot, host_tool, tmp_path, by_sfdisk(host_tool, script), GPT_VOLUMES)


def test_a_foreign_image_on_ide_gives_the_same_bytes(boot: Any, host_tool: Tool, tmp_path: Path) -> None:
    image = tmp_path / "their.img"
    with image.open("wb") as file:
        file.truncate(17 * MIB)
    contents(boot, image, "d0", Fat(16, 16, 2).make(host_tool, image, tmp_path / "files"), ide=True)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("width", [12, 16, 32])
def test_a_file_in_the_holes_that_deleted_files_left_is_read(
    boot: Any, host_tool: Tool, tmp_path: Path, width: int
) -> None:
    """Clusters of 512 bytes, each apart from the next: no page of the file is one piece on the disk."""
    image, folder = tmp_path / "their.img", tmp_path / "fill"
    folder.mkdir()
    fillers = [folder / f"F{number}" for number in range(2 * HOLES)]
    for filler in fillers:
        filler.write_bytes(b"x")
    host_tool("mkfs.fat", "-F", width, "-s", 1, "-C", "--invariant", image, {12: 1440, 16: 8192, 32: 40960}[width])
    host_tool("mmd", "-i", image, "::/fill")
    host_tool("mcopy", "-Q", "-i", image, *fillers, "::/fill")
    host_tool("mdel", "-i", image, *(f"::/fill/{filler.name}" for filler in fillers[::2]))
    if width == 32:  # FSI_Nxt_Free: have mtools look for free clusters from the start
        with image.open("r+b") as file:
            file.seek(SECTOR + 492)
            file.write((2).to_bytes(4, "little"))
    files = {"BIG.BIN": random.Random(width).randbytes(HOLES * SECTOR)}
    (tmp_path / "BIG.BIN").write_bytes(files["BIG.BIN"])
    host_tool("mcopy", "-i", image, tmp_path / "BIG.BIN", "::/")
    assert host_tool("mshowfat", "-i", image, "::/BIG.BIN").count("<") > HOLES * 9 // 10
    contents(boot, image, "d0", files)
