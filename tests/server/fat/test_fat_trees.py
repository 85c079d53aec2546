"""Whole trees: what mkfs.fat and mtools wrote comes back byte for byte through READ's sectors."""

import mmap
import random
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import complete, read_pages
from callgate.server.fat.consistency import check
from callgate.server.fat.tree import read_file, walk
from callgate.server.fat.volume import DIRECTORIES_KEPT, FatVolume
from callgate.server.open_files import OPEN_FILES_LIMIT

SIZES = (0, 1, 511, 512, 513, 4095, 4096, 4097, 20_000, 70_001)

VOLUMES = {
    "fat12 floppy": (1440, "-F", "12"),
    "fat12 of 4 KiB clusters": (4000, "-F", "12", "-s", "8"),
    "fat12 of 4 KiB sectors and 512 KiB clusters": (60_000, "-F", "12", "-S", "4096", "-s", "128"),
    "fat12 with one FAT": (1440, "-F", "12", "-f", "1", "-r", "64"),
    "fat16 of 512-byte clusters, unaligned": (5000, "-F", "16", "-s", "1", "-a"),
    "fat16 of 2 KiB sectors": (40_000, "-F", "16", "-S", "2048", "-s", "4"),
    "fat16 of 1 KiB sectors": (20_000, "-F", "16", "-S", "1024", "-s", "2"),
    "fat32 of 512-byte clusters": (36_000, "-F", "32", "-s", "1"),
    "fat32 of 64 KiB clusters": (4_300_000, "-F", "32", "-s", "128"),
    "fat32 of 4 KiB sectors": (300_000, "-F", "32", "-S", "4096", "-s", "1"),
}


def populate(image: Any) -> None:
    generator = random.Random(5)
    image.put_tree({f"size {size}.bin": generator.randbytes(size) for size in SIZES})
    image.mkdir("Sub Directory")
    image.mkdir("Sub Directory/DEEPER")
    image.put("Sub Directory/DEEPER/ünïcödé 日本語 with a rather long name.text", generator.randbytes(9000))
    image.put("Sub Directory/lower.txt", b"lower case by the NT bits\n")
    image.fragment("FRAGMENT.BIN", 60_000)


@pytest.fixture(params=VOLUMES.values(), ids=VOLUMES.keys())
def populated(request: pytest.FixtureRequest, fat_image: Callable[..., Any]) -> Any:
    kib, *options = request.param
    image = fat_image(kib, *options)
    populate(image)
    return image


class TestEveryKindOfVolume:
    @pytest.mark.thorough(one_in=2)
    def test_every_kind_of_fat_volume_shows_every_byte_name_and_free_cluster(self, populated: Any, client: Any) -> None:
        served = client(populated.view())
        for path, data in populated.files.items():
            assert served.contents(path) == data, path
        self.expect_fragments(served)
        self.compare_listing(populated, served)
        self.compare_free_space(populated, served)
        self.find_nothing_wrong(populated, served)
        assert served.server.take_reports() == []
        assert served.rehearsal.locks == {}

    def expect_fragments(self, served: Any) -> None:
        """Make sure that the fragmented file is one, or nothing here was tested."""
        number = served.request(Operation.OPEN, "FRAGMENT.BIN").registers.eax
        assert served.read_extract(number, 59_999, 1)[2].error is ErrorCode.OK
        runs = served.server.files.get(number).chain.runs()
        if served.server.volume.layout.cluster_bytes < 4096:
            assert len(runs) > 5, runs
        assert served.request(Operation.CLOSE, eax=number).error is ErrorCode.OK

    def compare_listing(self, image: Any, served: Any) -> None:
        listed = {
            path.removeprefix("::/") for path in image.run("mdir", "-/", "-b", "-i", image.path, "::").split("\n")
        }
        ours = set()
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for file in read_pages(served.request(Operation.LOCK_DIRECTORY, folder).memory):
                path = folder + file.name
                if file.attributes & FileAttributes.DIRECTORY:
                    path += "/"
                    waiting.append(path)
                else:
                    assert file.size == len(image.files[path])
                ours.add(path)
        assert ours == listed - {""}

    def compare_free_space(self, image: Any, served: Any) -> None:
        used, total = map(int, re.findall(r"files, (\d+)/(\d+) clusters", image.run("fsck.fat", "-n", image.path))[0])
        answer = served.request(Operation.FREE_SPACE).registers
        assert (answer.edx << 32 | answer.eax, answer.edi << 32 | answer.esi) == (total - used, total)
        assert answer.ecx == served.server.volume.layout.cluster_bytes

    def find_nothing_wrong(self, image: Any, served: Any) -> None:
        class Reader:
            async def read(self, sector: int, count: int) -> bytes:
                return served.rehearsal.read_sectors(sector, count)

        volume = complete(FatVolume.mount(Reader(), len(image.view()) // 512))
        report = complete(check(volume))
        assert report.problems == ()
        assert (report.files, report.directories) == (len(image.files), len(image.directories))
        tree = complete(walk(volume))
        assert {found.path[1:] for found in tree.found if not found.entry.is_directory} == set(image.files)
        assert complete(read_file(volume, "fragment.bin", 1000, 3000)) == image.files["FRAGMENT.BIN"][1000:4000]


@pytest.mark.parametrize("start", [0, 63, 2048, 2049, 2055])
def test_pieces_of_fat_files_never_cross_a_block_of_the_disk_wherever_the_partition_starts(
    start: int, fat_image: Callable[..., Any], client: Any
) -> None:
    image = fat_image(1440)
    image.fragment("FRAGMENT.BIN", 60_000)
    disk = bytes(start * 512) + image.read() + bytes(4096)
    served = client(disk, start, len(image.read()) // 512)
    assert served.contents("FRAGMENT.BIN") == image.files["FRAGMENT.BIN"]
    opened = served.request(Operation.OPEN, "FRAGMENT.BIN").registers
    _, _, answer = served.read_extract(opened.eax, 0, 60_000)
    for sector, count in answer.sectors:
        assert (start + sector) // 8 == (start + sector + count - 1) // 8
    assert sum(count for _, count in answer.sectors) == -(-60_000 // 512)


class TestRead:
    @pytest.fixture
    def served(self, fat_image: Callable[..., Any], client: Any) -> Any:
        image = fat_image(8000, "-F", "16", "-s", "1", "-a")
        image.put("BIG.BIN", random.Random(3).randbytes(3_000_001))
        served = client(image.view())
        served.data = image.files["BIG.BIN"]
        served.number = served.request(Operation.OPEN, "big.bin").registers.eax
        return served

    def test_read_rounds_the_position_down_to_a_sector(self, served: Any) -> None:
        position, data, answer = served.read_extract(served.number, 1000, 100)
        assert (position, len(data), answer.call) == (512, 1024, ServerCall.REPLY_SECTORS)
        assert data == served.data[512:1536]

    def test_read_covers_no_more_than_506_pieces(self, served: Any) -> None:
        _, data, answer = served.read_extract(served.number, 5, 0xFFFF_FFFF)
        assert len(answer.sectors) == 506
        assert 505 * 4096 < len(data) <= 506 * 4096
        assert data == served.data[: len(data)]

    def test_read_cuts_the_last_piece_at_the_end_of_the_file(self, served: Any) -> None:
        position, data, _ = served.read_extract(served.number, 2_999_999, 1 << 20)
        assert data == served.data[position:]

    def test_read_covers_nothing_at_or_past_the_end_and_for_zero_bytes(self, served: Any) -> None:
        for position, wanted in ((3_000_001, 5), (1 << 40, 5), (0xFFFF_FFFF_FFFF_FFFF, 0xFFFF_FFFF), (0, 0)):
            _, data, answer = served.read_extract(served.number, position, wanted)
            assert (data, answer.call, answer.error) == (b"", ServerCall.REPLY_REGISTERS, ErrorCode.OK)

    def test_read_makes_no_gate_call_for_a_part_of_the_chain_that_is_known(self, served: Any) -> None:
        served.read_extract(served.number, 2_900_000, 5)
        before = len(served.rehearsal.calls)
        generator = random.Random(9)
        for _ in range(200):
            at = generator.randrange(2_900_000)
            position, data, _ = served.read_extract(served.number, at, generator.randrange(1, 100_000))
            assert data == served.data[position : position + len(data)]
            assert position <= at < position + len(data)
        assert len(served.rehearsal.calls) == before

    def test_read_walks_no_further_along_the_chain_than_asked(self, served: Any) -> None:
        before = len(served.rehearsal.calls)
        served.read_extract(served.number, 0, 4096)
        assert len(served.rehearsal.calls) == before  # the first window of the FAT was read at start
        served.read_extract(served.number, 2_900_000, 5)
        assert len(served.rehearsal.calls) == before + 4  # two more windows: lock and unlock each

    def test_read_refuses_file_numbers_that_are_not_open(self, served: Any) -> None:
        assert served.read_extract(served.number + 1, 0, 1)[2].error is ErrorCode.BAD_HANDLE
        assert served.request(Operation.CLOSE, eax=served.number).error is ErrorCode.OK
        assert served.request(Operation.CLOSE, eax=served.number).error is ErrorCode.BAD_HANDLE
        assert served.read_extract(served.number, 0, 1)[2].error is ErrorCode.BAD_HANDLE


def test_attributes_times_and_labels_are_those_that_mtools_wrote(fat_image: Callable[..., Any], client: Any) -> None:
    image = fat_image(1440, "-n", "MY DISK", "-i", "CAFE1234")
    image.put("HIDDEN.SYS", b"x")
    image.run("mattrib", "+r", "+h", "+s", "-a", "-i", str(image.path), "::HIDDEN.SYS")
    served = client(image.view())
    (file,) = read_pages(served.request(Operation.LOCK_DIRECTORY, "/").memory)
    wanted = FileAttributes.READ_ONLY | FileAttributes.HIDDEN | FileAttributes.SYSTEM
    assert (file.attributes, file.modified) == (wanted, 1_700_000_000)
    volume = served.request(Operation.VOLUME)
    assert (volume.data, volume.registers.ebx, volume.registers.ecx) == (b"MY DISK", 0xCAFE1234, 7)


@pytest.mark.parametrize("width", [12, 16, 32])
def test_names_outside_the_basic_plane_are_what_sleuthkit_reads(
    tmp_path: Path, client: Any, host_tool: Callable[..., str], width: int
) -> None:
    """Surrogate pairs, also across two records of 13 units; mtools knows none."""
    names = [
        "A \U0001f40d.txt",
        "0123456789ab\U0001f40dcdefghijkl\U0001d518.txt",
        "\U0001d518" * 62 + "x",
        "日本語 Ærø.txt",
    ]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(name.encode("utf-16-le"))
    image = tmp_path / "names.img"
    create_image(image, folder, fs=f"fat{width}", size=40 << 20 if width == 32 else None)  # type: ignore[arg-type] # built from the width
    read = {line.split("\t", 1)[1] for line in host_tool("fls", "-F", "-f", f"fat{width}", image).splitlines()}
    served = client(image.read_bytes())
    assert {file.name for file in served.listing("")} == set(names)
    assert set(names) <= read
    for name in names:
        assert served.contents(name) == name.encode("utf-16-le")


CLUSTERS = {12: 2000, 16: 5000, 32: 66_000}  # of a volume of each width


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("sector", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("width", CLUSTERS)
def test_every_size_of_cluster_is_read(fat_image: Callable[..., Any], client: Any, width: int, sector: int) -> None:
    generator = random.Random(width + sector)
    for per_cluster in (1, 2, 4, 8, 16, 32, 64, 128):
        kib = CLUSTERS[width] * per_cluster * sector // 1024 + 2000
        if (width, sector, per_cluster) == (12, 512, 1):
            kib -= 1000  # more clusters than 4084 would not be FAT12
        image = fat_image(kib, "-F", str(width), "-S", str(sector), "-s", str(per_cluster))
        cluster = sector * per_cluster
        sizes = {"whole": cluster, "one more": cluster + 1, "four": 3 * cluster + 700}
        image.put_tree({name: generator.randbytes(size) for name, size in sizes.items()})
        served = client(image.view())
        assert served.server.volume.layout.bits == width
        assert served.request(Operation.FREE_SPACE).registers.ecx == cluster
        for name, data in image.files.items():
            assert served.contents(name) == data, (per_cluster, name)
        image.path.unlink()


def test_an_empty_volume_lists_one_page_without_entries(fat_image: Callable[..., Any], client: Any) -> None:
    served = client(fat_image(1440).view())
    answer = served.request(Operation.LOCK_DIRECTORY, "")
    assert (answer.call, len(answer.memory), answer.registers.edi) == (ServerCall.REPLY_OBJECT, 4096, 0)
    assert list(read_pages(answer.memory)) == []


@pytest.mark.thorough(only=True)
def test_a_directory_of_many_clusters_and_pages_is_listed_whole(fat_image: Callable[..., Any], client: Any) -> None:
    image = fat_image(36_000, "-F", "32", "-s", "1")
    names = {f"file number {i} with a long name.txt": b"" for i in range(500)}
    image.put_tree(names)
    served = client(image.view())
    answer = served.request(Operation.LOCK_DIRECTORY, "")
    assert {file.name for file in read_pages(answer.memory)} == set(names)
    assert answer.registers.ecx * 4096 == len(answer.memory) > 4096
    identifiers = {file.identifier for file in read_pages(answer.memory)}
    assert len(identifiers) == 500
    assert 0 not in identifiers


def test_a_file_of_4_gib_less_one_byte_is_read_to_its_end(
    fat_image: Callable[..., Any], patcher: Any, client: Any
) -> None:
    image = fat_image(4_300_000, "-F", "32", "-s", "128")
    image.put("HUGE.BIN", b"begin")
    with image.path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        disk = patcher(content)
        record = disk.record(b"HUGE    BIN")
        first = disk.first_cluster(record)
        links = array("I", [*range(first + 1, first + 65536), 0x0FFF_FFFF]).tobytes()
        for copy in range(disk.fats):
            offset = disk.fat_offset + copy * disk.fat_bytes + first * 4
            content[offset : offset + len(links)] = links
        disk.set_word(record + 28, 4, 0xFFFF_FFFF)
        last = disk.cluster_offset(first + 65535) + 65536 - 512
        content[last : last + 512] = bytes(range(256)) * 2
    served = client(image.view())
    opened = served.request(Operation.OPEN, "HUGE.BIN").registers
    assert (opened.edx, opened.ecx) == (0, 0xFFFF_FFFF)
    position, data, _ = served.read_extract(opened.eax, 0xFFFF_FFFE, 0xFFFF_FFFF)
    assert (position, data) == (0xFFFF_FE00, (bytes(range(256)) * 2)[:511])
    assert served.read_extract(opened.eax, 0xFFFF_FFFF, 1)[1] == b""
    assert served.read_extract(opened.eax, 0, 5)[1][:5] == b"begin"


def test_directories_are_forgotten_and_read_again(fat_image: Callable[..., Any], client: Any) -> None:
    image = fat_image(1440)
    for i in range(DIRECTORIES_KEPT + 8):
        image.mkdir(f"DIR{i}")
    served = client(image.view())
    for _ in range(2):
        for i in range(DIRECTORIES_KEPT + 8):
            answer = served.request(Operation.LOCK_DIRECTORY, f"DIR{i}")
            assert (answer.error, answer.registers.edi) == (ErrorCode.OK, 0)
            served.request(Operation.UNLOCK_DIRECTORY, edx=answer.registers.edx)
    assert len(served.server.volume._directories) == DIRECTORIES_KEPT


def test_open_files_are_bounded_and_closing_one_makes_room(fat_image: Callable[..., Any], client: Any) -> None:
    image = fat_image(1440)
    image.put("A.TXT", b"a")
    served = client(image.view())
    numbers = [served.request(Operation.OPEN, "A.TXT").registers.eax for _ in range(OPEN_FILES_LIMIT)]
    assert len(set(numbers)) == OPEN_FILES_LIMIT
    assert served.request(Operation.OPEN, "A.TXT").error is ErrorCode.NO_RESOURCES
    served.request(Operation.CLOSE, eax=numbers[7])
    assert served.contents("A.TXT") == b"a"


def test_a_walk_stops_at_its_limit_and_says_so(
    fat_image: Callable[..., Any], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = fat_image(1440)
    image.put_tree({f"F{i}": b"" for i in range(10)})
    served = client(image.view())
    monkeypatch.setattr("callgate.server.fat.tree.ENTRIES_LIMIT", 9)

    class Reader:
        async def read(self, sector: int, count: int) -> bytes:
            return served.rehearsal.read_sectors(sector, count)

    tree = complete(walk(FatVolume(Reader(), served.server.volume.layout, served.rehearsal.geometry.sectors)))
    assert (tree.found, tree.problems) == (
        [],
        ["directory / and what follows are left out: too many entries"],
    )
