"""Partition tables: tables of sfdisk and sgdisk are read as they mean them; damage is reported, never fatal."""

import random
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.disk.images.tables import Planned, gpt, mbr
from callgate.disk.media import FaultInjecting, MemoryMedium
from callgate.disk.partitioning.partitions import DiskLayout, Partition, ReadError, run_sync, scan
from callgate.kernel.servers.packages import installed_servers
from callgate.tools.inspection.mounting import read_layout
from callgate.tools.inspection.report import as_dict, inspect_image, inspect_medium, render
from hypothesis import given, settings
from hypothesis import strategies as st

Tool = Callable[..., str]
MIB = 1 << 20


def layout_of(data: bytes | bytearray) -> DiskLayout:
    return read_layout(MemoryMedium(data), installed_servers())


def numbers(layout: DiskLayout) -> list[tuple[int, int, int]]:
    return [(item.number, item.start, item.sectors) for item in layout.partitions]


def disk(sectors: int, table: list[tuple[int, bytes]]) -> bytearray:
    data = bytearray(sectors * 512)
    for lba, content in table:
        data[lba * 512 : lba * 512 + len(content)] = content
    return data


def entry(kind: int, start: int, size: int, status: int = 0) -> bytes:
    return struct.pack("<B3sB3sII", status, b"", kind, b"", start, size)


def record(*entries: bytes) -> bytes:
    return (bytes(446) + b"".join(entries)).ljust(510, b"\0") + b"\x55\xaa"


def by_sfdisk(tool: Tool, path: Path, script: str) -> list[tuple[int, int, int]]:
    """Write a table with sfdisk and return it as sfdisk itself lists it, extended partitions left out."""
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    tool("sfdisk", "-q", "--no-tell-kernel", path, data=script.encode())
    found = []
    for line in tool("sfdisk", "-d", path).splitlines():
        match = re.search(r"img(\d+) : start= *(\d+), size= *(\d+), type=([0-9a-fA-F-]+)", line)
        if match and match[4] not in ("5", "f", "85"):
            found.append((int(match[1]), int(match[2]), int(match[3])))
    return found


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize(
    "script",
    [
        "label: dos\n,8M,e\n,8M,c\n,,83\n",
        "label: dos\n,8M,e\n,30M,5\n,8M,e\n,8M,6\n,8M,c\n",
        "label: dos\n,4M,1\n,4M,4\n,4M,6\n,40M,f\n,4M,e\n,4M,e\n,4M,e\n,4M,e\n",
        "label: gpt\n,8M,,\n,8M,L,\nstart=60000,size=2000,name=third\n",
    ],
    ids=["primary", "logical", "four and logical", "gpt"],
)
def test_partition_tables_are_read_as_sfdisk_reads_them(tmp_path: Path, tool: Tool, script: str) -> None:
    path = tmp_path / "disk.img"
    expected = by_sfdisk(tool, path, script)
    layout = layout_of(path.read_bytes())
    assert layout.problems == []
    assert numbers(layout) == expected
    assert len(expected) >= 3


def test_names_and_gaps_in_a_gpt_are_kept(tmp_path: Path, tool: Tool) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    tool("sgdisk", "-n", "1:2048:+4M", "-n", "7:20480:+4M", "-c", "7:Größe", "-t", "7:8300", path)
    layout = layout_of(path.read_bytes())
    assert layout.scheme == "gpt"
    assert numbers(layout) == [(1, 2048, 8192), (7, 20480, 8192)]
    assert layout.partitions[1].name == "Größe"
    assert layout.partitions[1].kind == "0fc63daf-8483-4772-8e79-3d69d8477de4"


TWO = [Planned(2048, 2048, 16, "first"), Planned(8192, 4096, 32, "second")]


def test_a_boot_reads_a_damaged_gpt_from_its_backup() -> None:
    for place, message in ((512, "no GPT header"), (540, "wrong checksum"), (1030, "entries with a wrong checksum")):
        data = disk(32768, gpt(TWO, 32768))
        data[place] ^= 0xFF
        layout = layout_of(data)
        assert numbers(layout) == [(1, 2048, 2048), (2, 8192, 4096)]
        assert len(layout.problems) == 1
        assert layout.problems[0].startswith("sector 1: ")
        assert message in layout.problems[0]


def test_a_gpt_without_a_good_copy_has_no_partitions_and_two_problems() -> None:
    data = disk(32768, gpt(TWO, 32768))
    data[512] ^= 1
    data[-512] ^= 1
    layout = layout_of(data)
    assert (layout.scheme, layout.partitions, len(layout.problems)) == ("gpt", [], 2)


def test_a_gpt_header_copied_to_another_place_is_not_believed() -> None:
    table = gpt(TWO, 32768)
    data = disk(32768, [table[0], (1, table[4][1])])
    assert "says it lies at sector 32767" in layout_of(data).problems[0]


def test_a_gpt_of_a_disk_with_4096_byte_sectors_is_recognised() -> None:
    entries = struct.pack("<16s16sQQQ72s", b"kind" * 4, b"guid" * 4, 256, 1279, 0, "big".encode("utf-16-le"))
    entries = entries.ljust(128 * 128, b"\0")

    def header(checksum: int) -> bytes:
        head = struct.pack("<8sIIIIQQQQ16sQ", b"EFI PART", 0x10000, 92, checksum, 0, 1, 4095, 6, 4090, b"", 2)
        return head + struct.pack("<III", 128, 128, zlib.crc32(entries))

    table = [(0, record(entry(0xEE, 1, 4095))), (8, header(zlib.crc32(header(0)))), (16, entries)]
    layout = layout_of(disk(4096 * 8, table))
    assert numbers(layout) == [(1, 2048, 8192)]
    assert layout.problems == []


@pytest.mark.parametrize(
    ("entries", "kept", "message"),
    [
        (
            [(0x0C, 2048, 1 << 31)],
            [1],
            "partition 1 (sectors 2048 to 2147485695) passes the end of the disk of 32768 sectors",
        ),
        ([(0x0C, 0, 100)], [], "partition 1 is empty or starts at sector 0"),
        ([(0x0C, 2048, 0)], [], "partition 1 is empty"),
        ([(0x0C, 2048, 4096), (0x0C, 6143, 100)], [1], "partition 2 (sectors 6143 to 6242) overlaps partition 1"),
        ([(0x0C, 40000, 1), (0x0C, 2048, 4096)], [2], "partition 1 (sectors 40000 to 40000) lies outside"),
        ([(0x05, 32768, 1 << 20)], [], "extended partition 1 is empty or lies outside"),
        ([(0x05, 2048, 4096)], [], "sector 2048: no extended boot record (signature missing)"),
    ],
)
def test_an_unusable_partition_is_named_and_the_others_are_kept(
    entries: list[tuple[int, int, int]], kept: list[int], message: str
) -> None:
    layout = layout_of(disk(32768, [(0, record(*(entry(*item) for item in entries)))]))
    assert [item.number for item in layout.partitions] == kept
    assert len(layout.problems) == 1
    assert message in layout.problems[0]


def test_an_entry_with_an_impossible_status_is_garbage() -> None:
    layout = layout_of(disk(32768, [(0, record(entry(0x0C, 2048, 100, 0x41)))]))
    assert layout.partitions == []
    assert "status 0x41" in layout.problems[0]
    layout = layout_of(disk(32768, [(0, record(entry(0x0C, 1 << 30, 100, 0x41)))]))
    assert numbers(layout) == [(0, 0, 32768)], "these are no entries, but a boot sector's code"
    assert layout.problems == []


def chain(*records: tuple[int, bytes]) -> bytearray:
    return disk(32768, [(0, record(entry(0x0F, 2048, 20000))), *records])


def test_a_loop_of_extended_boot_records_ends() -> None:
    layout = layout_of(
        chain(
            (2048, record(entry(6, 1, 100), entry(5, 1000, 200))),
            (3048, record(entry(6, 1, 100), entry(5, 1000, 200))),
        )
    )
    assert numbers(layout) == [(5, 2049, 100), (6, 3049, 100)]
    assert layout.problems == ["sector 3048: the chain of extended boot records does not end"]


def test_a_very_long_chain_of_extended_boot_records_ends() -> None:
    records = [(2048 + 4 * i, record(entry(6, 1, 2), entry(5, 4 * i + 4, 4))) for i in range(200)]
    layout = layout_of(chain(*records))
    assert len(layout.partitions) == 60
    assert "does not end" in layout.problems[0]


@pytest.mark.parametrize("offset", [0, 20000, 0xFFFF_FFFF])
def test_a_link_out_of_the_extended_partition_is_not_followed(offset: int) -> None:
    layout = layout_of(chain((2048, record(entry(6, 1, 100), entry(5, offset, 200)))))
    assert numbers(layout) == [(5, 2049, 100)]
    assert layout.problems == ["sector 2048: the next extended boot record lies outside"]


def test_a_logical_partition_that_leaves_its_extended_one_is_kept_and_reported() -> None:
    layout = layout_of(
        chain(
            (2048, record(entry(6, 1, 25000), entry(5, 1000, 200))),
            (3048, record(entry(6, 0, 100), entry(5, 2000, 200))),
            (4048, record(entry(6, 1, 100))),
        )
    )
    assert numbers(layout) == [(5, 2049, 25000)]
    said = ["leaves the extended", "contains the record", "overlaps partition 5"]
    assert [text in problem for text, problem in zip(said, layout.problems, strict=True)] == [True] * 3


def test_an_extended_partition_that_passes_the_end_of_the_disk_is_kept_up_to_there() -> None:
    table = record(entry(0x0C, 64, 100), entry(0x0F, 2048, 60000))
    data = disk(
        32768,
        [
            (0, table),
            (2048, record(entry(6, 1, 100), entry(5, 1000, 30000))),
            (3048, record(entry(6, 1, 40000), entry(5, 50000, 200))),
        ],
    )
    layout = layout_of(data)
    assert numbers(layout) == [(1, 64, 100), (5, 2049, 100), (6, 3049, 32768 - 3049)]
    assert [problem.partition(": ")[2][:42] for problem in layout.problems] == [
        "extended partition 2 (sectors 2048 to 6204",
        "partition 6 (sectors 3049 to 43048) passes",
        "the next extended boot record lies past th",
    ]


def test_a_gpt_partition_that_passes_the_end_of_the_disk_is_kept_up_to_there() -> None:
    """The image of a disk that was not copied to its end has the first copy of the table, and not the backup."""
    layout = layout_of(disk(32768, gpt(TWO, 32768))[: 10000 * 512])
    assert numbers(layout) == [(1, 2048, 2048), (2, 8192, 10000 - 8192)]
    (problem,) = layout.problems
    assert problem.startswith("sector 1: partition 2 (sectors 8192 to 12287) passes the end of the disk of 10000 ")
    assert problem.endswith(" sectors (a truncated image?); the first 1808 are used")


def test_a_gpt_without_its_protective_record_is_read_and_that_is_reported() -> None:
    data = disk(32768, gpt(TWO, 32768))
    data[510:512] = bytes(2)
    layout = layout_of(data)
    assert [partition.number for partition in layout.partitions] == [1, 2]
    assert layout.problems == ["sector 0: no protective master boot record before the GPT"]


def test_a_bad_sector_in_the_chain_of_extended_boot_records_costs_only_the_partitions_after_it() -> None:
    data = chain(
        (2048, record(entry(6, 1, 100), entry(5, 1000, 200))),
        (3048, record(entry(6, 1, 100))),
    )
    found = inspect_medium(FaultInjecting(MemoryMedium(data), bad=[3048]), "x")
    assert [volume.partition.number for volume in found.volumes] == [5]
    assert "sector 3048" in found.problems[0]
    assert "unrecoverable" in found.problems[0]


def test_an_unreadable_sector_zero_is_a_problem_not_a_crash() -> None:
    found = inspect_medium(FaultInjecting(MemoryMedium(bytes(4096)), bad=[0]), "x")
    assert found.volumes == []
    assert "cannot be read" in found.problems[0]
    assert "problem" in render(found)


async def unclaimed(partition: Partition) -> None:
    """Claim nothing."""


def test_a_reader_that_returns_too_little_is_an_error() -> None:
    async def read(lba: int, count: int) -> bytes:
        return b"short"

    with pytest.raises(ReadError, match="5 bytes instead of 512"):
        run_sync(scan(read, 100, unclaimed))


def test_a_disk_without_a_table_is_one_volume() -> None:
    layout = layout_of(bytes(51200))
    assert layout.scheme == "none"
    assert numbers(layout) == [(0, 0, 100)]


def test_a_boot_sector_with_absurd_numbers_is_still_a_volume_and_the_number_is_named() -> None:
    boot = bytearray(record())
    boot[:3], boot[38], boot[54:62] = b"\xeb\x3c\x90", 0x29, b"FAT16   "
    found = inspect_medium(MemoryMedium(boot + bytes(51200)), "x")
    assert found.scheme == "none"
    (problem,) = found.volumes[0].file_system.problems
    assert problem.startswith("cannot be mounted: boot sector, offset 11: BPB_BytsPerSec is 0 (0x0); expected 512")


def test_partition_tables_that_callgate_makes_depend_only_on_their_content() -> None:
    assert gpt(TWO, 32768) == gpt(TWO, 32768)
    assert mbr(TWO)[440:444] != mbr(TWO[:1])[440:444]


@pytest.mark.parametrize("kind", ["fat12", "fat16", "fat32", "ext2", "ext3", "ext4", "iso9660"])
def test_file_systems_that_other_tools_made_are_recognised(tmp_path: Path, tool: Tool, kind: str) -> None:
    path = tmp_path / "disk.img"
    if kind == "iso9660":
        (tmp_path / "source").mkdir()
        tool("genisoimage", "-quiet", "-V", "LABELLED", "-o", path, tmp_path / "source")
    else:
        with path.open("wb") as file:
            file.truncate((2 if kind == "fat12" else 64) * MIB)
        if kind.startswith("fat"):
            cluster = ["-s", "1"] if kind == "fat32" else []
            tool("mkfs.fat", "-F", kind[3:], "-n", "LABELLED", "-i", "12345678", *cluster, path)
        else:
            tool(f"mkfs.{kind}", "-q", "-L", "LABELLED", path)
    found = inspect_image(path)
    volume = found.volumes[0].file_system
    assert (volume.kind, volume.label, volume.problems) == (kind, "LABELLED", [])
    if kind.startswith("fat"):
        assert volume.details["serial"] == "1234-5678"
        report = tool("fsck.fat", "-n", "-v", path)
        assert f"{volume.details['clusters']} data clusters" in report
        assert f"{volume.details['cluster_bytes']} bytes per cluster" in report
    assert kind in render(found)
    assert as_dict(found)["volumes"][0]["file_system"]["label"] == "LABELLED"


BASES = {
    "gpt": disk(2048, gpt([Planned(64, 200, 16, "a"), Planned(300, 400, 32, "b")], 2048)),
    "mbr": disk(
        2048,
        [
            (0, record(entry(0x0C, 8, 50), entry(5, 64, 1000))),
            (64, record(entry(6, 1, 100), entry(5, 200, 300))),
            (264, record(entry(6, 1, 100))),
        ],
    ),
}


@pytest.mark.thorough(only=True)
@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    base=st.sampled_from(sorted(BASES)),
    changes=st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 511), st.integers(0, 255)), max_size=12),
    fix=st.booleans(),
)
def test_no_damaged_byte_makes_inspection_fail(base: str, changes: list[tuple[int, int, int]], *, fix: bool) -> None:
    data = bytearray(BASES[base])
    for lba, offset, value in changes:
        where = {"gpt": [0, 1, 2, 2047, 2015], "mbr": [0, 64, 264, 8, 265]}[base][lba % 5]
        data[where * 512 + offset] = value
    if fix:
        # With right checksums, the fields themselves are judged.
        data[512 + 88 : 512 + 92] = struct.pack("<I", zlib.crc32(data[1024 : 1024 + 16384]))
        data[512 + 16 : 512 + 20] = bytes(4)
        data[512 + 16 : 512 + 20] = struct.pack("<I", zlib.crc32(data[512 : 512 + 92]))
    check(data)


def test_seeded_garbage_never_makes_inspection_fail(some_of: Callable[[range, int], list[int]]) -> None:
    for seed in some_of(range(300), 10):
        generator = random.Random(seed)
        data = bytearray(generator.randbytes(512) + bytes(40960))
        data[510:512] = b"\x55\xaa"
        if generator.random() < 0.5:
            data[11:13] = generator.choice([b"\0\x02", b"\0\x08", b"\0\x10"])
            data[13], data[16], data[21], data[0] = generator.choice([1, 2, 64, 128]), 2, 0xF8, 0xE9
        check(data)


def check(data: bytearray) -> None:
    found = inspect_medium(MemoryMedium(data), "x")
    end = 0
    for volume in sorted(found.volumes, key=lambda item: item.partition.start):
        assert volume.partition.sectors > 0
        assert end <= volume.partition.start
        end = volume.partition.end
    assert end <= len(data) // 512
    assert render(found)
    assert as_dict(found)["sectors"] == len(data) // 512
