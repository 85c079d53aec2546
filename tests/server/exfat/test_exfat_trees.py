"""exFAT volumes compared with their writers and other readers: exfat-fuse, exfatprogs, sleuthkit."""

import mmap
import os
import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.disk.formatters.fat import Node
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode

RANDOM = random.Random(11)
FILES = {
    "README.TXT": b"hello\n" * 100,
    "EMPTY": b"",
    "whole": RANDOM.randbytes(3 * 4096),
    "docs/A long name with spaces and Ünïcødé \U0001f40d.text": RANDOM.randbytes(70_001),
    "docs/deep/er/" + "x" * 255: b"x",
    "big.bin": RANDOM.randbytes(700_003),
    **{f"many/file number {number}": b"%d" % number for number in range(300)},
}
LAYOUTS = {
    "consecutive": lambda _node: False,
    "scattered": lambda _node: True,
    "mixed": lambda node: len(node.name) % 2,
}


def tree_of(files: dict[str, bytes]) -> list[Node]:
    """Return the nodes of files by their paths."""
    root = Node("")
    for path, data in files.items():
        *folders, name = path.split("/")
        at = root
        for folder in folders:
            found = next((child for child in at.children if child.name == folder), None)
            if found is None:
                found = Node(folder, 1_700_000_001)
                at.children.append(found)
            at = found
        at.children.append(Node(name, 1_700_000_001, data))
    return root.children


def paths_below(served: Any, path: str = "") -> dict[str, int]:
    """Return every file's path and size."""
    found = {}
    for file in served.listing(path):
        inner = f"{path}/{file.name}".lstrip("/")
        if file.attributes & FileAttributes.DIRECTORY:
            found |= paths_below(served, inner)
        else:
            found[inner] = file.size
    return found


@contextmanager
def attached(image: Path, sector: int = 512) -> Iterator[str]:
    """Attach an image to a loop device with sectors of some size; skip where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    made = host_programs.attempt("losetup", "-b", sector, "-f", "--show", image)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.decode().strip()}")
    device = made.stdout.decode().strip()
    try:
        yield device
    finally:
        host_programs.run("losetup", "-d", device)


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[Path]:
    """Mount a device by exfat-fuse; skip where that cannot be done."""
    folder.mkdir()
    done = host_programs.attempt("mount.exfat-fuse", device, folder)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        host_programs.run("umount", folder)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("sector", [512, 1024, 2048, 4096])
def test_files_that_exfat_fuse_wrote_are_read_back(
    tmp_path: Path, exfat_client: Any, host_tool: Callable[..., str], sector: int
) -> None:
    image = tmp_path / "fuse.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    files = {name: data for name, data in FILES.items() if "\U0001f40d" not in name}
    with attached(image, sector) as device:
        host_tool("mkfs.exfat", "-L", "FUSE", device)
        with mounted(device, tmp_path / "mounted") as folder:
            fill(folder, files)
    served = exfat_client(image.read_bytes())
    assert served.server.take_reports() == []
    assert served.server.volume.layout.sector_bytes == sector
    assert paths_below(served) == {name: len(data) for name, data in files.items()}
    for name, data in files.items():
        assert served.contents(name) == data, name


def fill(folder: Path, files: dict[str, bytes]) -> None:
    """Write files into a mounted volume so that there are chains, deleted entries and a tail that was never written."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    # Holes make chains, and the entries of a deleted file remain.
    for number in range(0, 300, 2):
        (folder / f"many/file number {number}").unlink()
        del files[f"many/file number {number}"]
    (folder / "chained").write_bytes(FILES["big.bin"])
    files["chained"] = FILES["big.bin"]
    with (folder / "longer than written").open("wb") as file:
        file.write(b"written")
        file.truncate(20_000)
    files["longer than written"] = b"written".ljust(20_000, b"\0")


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("start", [0, 63])
def test_volumes_that_our_formatter_writes_are_read_by_callgate_and_others(
    exfat_image: Any, exfat_client: Any, host_tool: Callable[..., str], layout: str, start: int
) -> None:
    made = exfat_image(tree_of(FILES), scattered=LAYOUTS[layout])
    assert "clean" in host_tool("fsck.exfat", "-n", made.path)
    listed = dict(
        reversed(line.split(":\t"))
        for line in host_tool("fls", "-F", "-r", "-p", "-f", "exfat", made.path).splitlines()
    )
    served = exfat_client(bytes(start * 512) + made.image, start=start)
    assert served.server.take_reports() == []
    assert paths_below(served) == {name: len(data) for name, data in FILES.items()}
    for name, data in FILES.items():
        assert served.contents(name) == data, name
        if not name.startswith("many/") or name.endswith("7"):
            assert name in listed
    if start == 0:
        for name in ("big.bin", "README.TXT"):
            inode = listed[name].split()[-1]
            assert content_of(made.path, inode) == FILES[name]


def content_of(image: Path, inode: str) -> bytes:
    """Return a file as sleuthkit reads it."""
    return host_programs.run_binary("icat", "-f", "exfat", image, inode)


def test_label_serial_number_and_free_space_are_those_that_dump_exfat_shows(
    exfat_image: Any, exfat_client: Any, host_tool: Callable[..., str]
) -> None:
    made = exfat_image(tree_of(FILES), label="Läbel")
    served = exfat_client(made.image)
    volume = served.request(Operation.VOLUME)
    assert volume.data.decode() == "Läbel"
    assert volume.registers.eax == VolumeFlags.READ_ONLY
    text = host_tool("dump.exfat", made.path)
    number = {key: int(value, 0) for key, value in re.findall(r"^(.+?):\s+(0x[0-9a-f]+|\d+)\s*$", text, re.MULTILINE)}
    free = served.request(Operation.FREE_SPACE).registers
    assert volume.registers.ebx == number["Volume Serial"]
    assert (free.eax, free.esi, free.ecx) == tuple(
        number[key] for key in ("Free Clusters", "Total Clusters", "Cluster size")
    )


CLUSTER_SIZES = (512, 1024, 2048, 4096, 8192, 32 << 10, 128 << 10, 1 << 20, 4 << 20, 32 << 20)


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("cluster", CLUSTER_SIZES)
def test_every_size_of_cluster_that_mkfs_exfat_makes_is_read(
    tmp_path: Path, exfat_client: Any, host_tool: Callable[..., str], cluster: int
) -> None:
    """A file is added to its volume by hand; fsck.exfat says that it is sound, and sleuthkit reads the same."""
    image = tmp_path / "clusters.img"
    with image.open("wb") as file:
        file.truncate(max(16 << 20, 20 * cluster))
    host_tool("mkfs.exfat", "-L", "CLUSTERS", "-c", cluster, image)
    data = random.Random(cluster).randbytes(min(2 * cluster + 700, 3 << 20))
    with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        add_file(content, cluster, "By hand.bin", data)
        assert "clean. directories 1, files 1" in host_tool("fsck.exfat", "-n", image)
        listed = host_tool("fls", "-F", "-p", "-f", "exfat", image).splitlines()
        inode = next(line.split(":")[0].split()[-1] for line in listed if line.endswith("By hand.bin"))
        assert content_of(image, inode) == data
        with memoryview(content) as view:
            served = exfat_client(view)
            assert served.server.take_reports() == []
            assert paths_below(served) == {"By hand.bin": len(data)}
            assert served.contents("BY HAND.BIN") == data
            told = re.search(r"Free Clusters:\s+(\d+)", host_tool("dump.exfat", image))
            registers = served.request(Operation.FREE_SPACE).registers
            assert told is not None
            assert (registers.eax, registers.ecx) == (int(told[1]), cluster)
            served.rehearsal.image.release()


def add_file(volume: mmap.mmap, cluster: int, name: str, data: bytes) -> None:
    """Add a contiguous file to the root directory (exFAT specification, sections 7.1, 7.4, 7.6 and 7.7)."""
    heap, root = (int.from_bytes(volume[at : at + 4], "little") for at in (88, 96))

    def place(number: int) -> int:
        return heap * 512 + (number - 2) * cluster

    at = place(root)
    while volume[at]:
        if volume[at] == 0x81:
            bitmap = place(int.from_bytes(volume[at + 20 : at + 24], "little"))
        at += 32
    first = next(
        number for number in range(2, 1 << 20) if not volume[bitmap + (number - 2) // 8] >> (number - 2) % 8 & 1
    )
    for number in range(first, first + -(-len(data) // cluster)):
        volume[bitmap + (number - 2) // 8] |= 1 << (number - 2) % 8
    volume[place(first) : place(first) + len(data)] = data
    units = name.encode("utf-16-le")
    names = [units[i : i + 30].ljust(30, b"\0") for i in range(0, len(units), 30)]
    hashed = rotated_sum(name.upper().encode("utf-16-le"))
    stamp = struct.pack("<I", (2020 - 1980) << 25 | 9 << 21 | 13 << 16)
    entries = struct.pack("<BBHHH", 0x85, 1 + len(names), 0, 0x20, 0) + stamp * 3 + bytes(2) + b"\x80" * 3 + bytes(7)
    entries += struct.pack("<BBBBHHQIIQ", 0xC0, 3, 0, len(name), hashed, 0, len(data), 0, first, len(data))
    entries += b"".join(b"\xc1\0" + part for part in names)
    entries = entries[:2] + struct.pack("<H", rotated_sum(entries[:2] + entries[4:])) + entries[4:]
    volume[at : at + len(entries)] = entries


def rotated_sum(data: bytes) -> int:
    """Return the 16-bit sum of names and of entry sets: turn right by one, add a byte (7.4.1, 7.6.4)."""
    value = 0
    for byte in data:
        value = (value >> 1 | (value & 1) << 15) + byte & 0xFFFF
    return value


def test_names_are_compared_by_the_volumes_own_table(exfat_image: Any, exfat_client: Any) -> None:
    served = exfat_client(exfat_image(tree_of(FILES)).image)
    for spelling in ("readme.txt", "README.txt", "/ReadMe.Txt", "DOCS/../readme.TXT"):
        assert served.contents(spelling) == FILES["README.TXT"]
    name = "docs/A long name with spaces and Ünïcødé \U0001f40d.text"
    assert served.contents(name.upper()) == FILES[name]
    for path, error in (
        ("nosuch", ErrorCode.NOT_FOUND),
        ("README.TXT/x", ErrorCode.NOT_DIRECTORY),
        ("README.TXT/", ErrorCode.NOT_DIRECTORY),
        ("docs", ErrorCode.IS_DIRECTORY),
        ("y" * 256, ErrorCode.NAME_TOO_LONG),
    ):
        assert served.request(Operation.OPEN, path).error is error, path


def test_exfat_times_are_those_that_were_recorded(exfat_image: Any, exfat_client: Any) -> None:
    served = exfat_client(exfat_image(tree_of(FILES)).image)
    assert {file.modified for file in served.listing("")} == {1_700_000_001}


@pytest.mark.thorough(one_in=8)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("valid", [0, 1, 511, 512, 4096, 5000, 8191, 8192, 69_999, 70_000])
@pytest.mark.parametrize("start", [0, 3])
def test_parts_of_a_file_that_were_never_written_are_zeros_whatever_the_disk_holds(
    exfat_image: Any, exfat_client: Any, layout: str, valid: int, start: int
) -> None:
    data = random.Random(3).randbytes(70_000)
    made = exfat_image([Node("padded", 0, data), Node("next", 0, b"next")], scattered=LAYOUTS[layout])
    made.stream("padded", 8, valid.to_bytes(8, "little"))
    served = exfat_client(bytes(start * 512) + made.image, start=start)
    assert served.contents("padded") == data[:valid].ljust(70_000, b"\0")
    assert served.contents("padded", wanted=4096) == data[:valid].ljust(70_000, b"\0")
    number = served.request(Operation.OPEN, "padded").registers.eax
    for position in (0, valid, max(0, valid - 1), 33_333, 69_999):
        begin, got, _ = served.read_extract(number, position, 5000)
        assert got == data[:valid].ljust(70_000, b"\0")[begin : begin + len(got)]
        assert position >= 70_000 or begin <= position < begin + len(got)
    assert served.rehearsal.allocated() <= 16 << 12
