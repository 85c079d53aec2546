"""exFAT volumes that are damaged in one place each: the reports, and the files that can still be read."""

import random
from typing import Any

import pytest
from callgate.disk.formatters.fat import Node
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import MountError

BIG = random.Random(4).randbytes(40_000)


@pytest.fixture
def made(exfat_image: Any) -> Any:
    nodes = [
        Node("chained", 0, BIG),
        Node("whole", 0, BIG),
        Node("DIR", 0, None, [Node("inner", 0, b"inner")]),
        Node("other", 0, b"other"),
    ]
    return exfat_image(nodes, scattered=lambda node: node.name in ("chained", "DIR"))


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


@pytest.mark.parametrize(
    ("offset", "data", "text"),
    [
        (11, b"\1", "MustBeZero is not zero"),
        (80, little(23, 4), "FatOffset is 23, within the boot regions"),
        (84, little(1, 4), "a FAT of 1 sectors is too small"),
        (88, little(33, 4), "ClusterHeapOffset is 33, within the FATs"),
        (92, little(0, 4), "ClusterCount is 0"),
        (92, little(0xFFFF_FFF6, 4), "ClusterCount is 4294967286"),
        (92, little(1022, 4), "1022 clusters end at sector"),
        (96, little(1, 4), "the root directory begins at 1, which is not a cluster"),
        (96, little(0xFFFF_FFFF, 4), "the root directory begins at 4294967295, which is not a cluster"),
        (104, little(0x200, 2), "FileSystemRevision is 2.0"),
        (108, b"\x08", "BytesPerSectorShift is 8"),
        (108, b"\x0d", "BytesPerSectorShift is 13"),
        (109, b"\x11", "SectorsPerClusterShift is 17"),
        (110, b"\0", "NumberOfFats is 0"),
        (110, b"\x03", "NumberOfFats is 3"),
        (88, little(1 << 24, 4), "clusters end at sector"),
    ],
)
def test_absurd_numbers_in_the_exfat_boot_sector_are_named(
    made: Any, exfat_client: Any, offset: int, data: bytes, text: str
) -> None:
    with pytest.raises(MountError, match=text):
        exfat_client(made.boot(offset, data).image)


def test_a_damaged_exfat_boot_region_is_named_and_its_backup_is_used(made: Any, exfat_client: Any) -> None:
    for offset in (3, 100, 510, 600, 11 * 512):
        image = bytearray(made.image)
        image[offset] ^= 1
        served = exfat_client(image)
        (report,) = served.server.take_reports()
        assert "the backup in disk sector 12 is used instead" in report
        assert served.contents("whole") == BIG
        assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY
        image[12 * 512 + offset] ^= 1
        with pytest.raises(MountError, match="boot"):
            exfat_client(image)


def test_fields_that_change_while_a_volume_is_used_are_not_in_the_checksum(made: Any, exfat_client: Any) -> None:
    made.image[106] |= 2
    made.image[112] = 77
    served = exfat_client(made.image)
    assert served.server.take_reports() == []
    assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.DIRTY


def test_a_truncated_exfat_volume_is_read_as_far_as_it_goes(made: Any, exfat_client: Any) -> None:
    end = (made.geometry.heap + (made.first_cluster("whole") - 2 + 3) * 8) * 512
    served = exfat_client(made.image[:end])
    assert "the partition" in served.server.take_reports()[0]
    assert served.contents("chained") == BIG
    number = served.request(Operation.OPEN, "whole").registers.eax
    assert served.read_extract(number, 0, 40_000)[1] == BIG[: 3 * 4096]
    answer = served.read_extract(number, 3 * 4096, 4096)[2]
    assert answer.error is ErrorCode.CORRUPT
    assert "its 10 clusters from" in served.server.take_reports()[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "marked as free"),
        (0xFFFF_FFF7, "marked as bad"),
        (1, "followed by 1, which is not a cluster"),
        (0xFFFF_FFF8, "which is not a cluster"),
        (0xFFFF_FFFF, "its chain ends after 3 clusters"),
    ],
)
def test_exfat_chains_that_break_off_are_read_up_to_there(made: Any, exfat_client: Any, value: int, text: str) -> None:
    first = made.first_cluster("chained")
    served = exfat_client(made.fat(first + 4, value).image)
    number = served.request(Operation.OPEN, "chained").registers.eax
    begin, data, _ = served.read_extract(number, 0, 40_000)
    assert (begin, data) == (0, BIG[: len(data)])
    assert len(data) in (2 * 4096, 3 * 4096)
    assert served.read_extract(number, 3 * 4096, 4096)[2].error is ErrorCode.CORRUPT
    assert text in served.server.take_reports()[-1]
    assert served.contents("whole") == BIG


def test_an_exfat_chain_that_closes_to_a_loop_ends_there(made: Any, exfat_client: Any) -> None:
    first = made.first_cluster("chained")
    served = exfat_client(made.fat(first + 4, first).image)
    number = served.request(Operation.OPEN, "chained").registers.eax
    assert served.read_extract(number, 0, 40_000)[1] == BIG[: 3 * 4096]
    assert served.read_extract(number, 5 * 4096, 4096)[2].error is ErrorCode.CORRUPT
    assert "comes back to cluster" in served.server.take_reports()[-1]


@pytest.mark.parametrize("cluster", [0, 1, 5000, 0xFFFF_FFFF])
@pytest.mark.parametrize("name", ["chained", "whole"])
def test_an_invalid_first_cluster_is_an_error_of_its_file_alone(
    made: Any, exfat_client: Any, name: str, cluster: int
) -> None:
    served = exfat_client(made.stream(name, 20, little(cluster, 4)).image)
    number = served.request(Operation.OPEN, name).registers.eax
    assert served.read_extract(number, 0, 4096)[2].error is ErrorCode.CORRUPT
    assert served.contents("other") == b"other"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda made, at: made.image.__setitem__(at + 20, 9), "has the checksum"),
        (lambda made, at: (made.image.__setitem__(at + 1, 1), made.mend(at)), "has 1 secondary entries"),
        (lambda made, at: (made.image.__setitem__(at + 1, 255), made.mend(at)), "more than the directory holds"),
        (lambda made, at: (made.image.__setitem__(at + 32, 0xC1), made.mend(at)), "no stream extension"),
        (lambda made, at: (made.image.__setitem__(at + 35, 0), made.mend(at)), "a name of 0 characters"),
        (lambda made, at: (made.image.__setitem__(at + 35, 16), made.mend(at)), "a name of 16 characters"),
        (lambda made, at: (made.image.__setitem__(at + 64, 0xE0), made.mend(at)), "type 0xe0 in its name"),
        (lambda made, at: (made.image.__setitem__(at + 66, ord("/")), made.mend(at)), "which no path can hold"),
    ],
)
def test_a_damaged_entry_set_is_left_out_and_named(made: Any, exfat_client: Any, change: Any, text: str) -> None:
    change(made, made.entry_set("other"))
    served = exfat_client(made.image)
    reports = served.server.take_reports()
    assert any(text in report and "the root directory: entry" in report for report in reports), reports
    assert [file.name for file in served.listing("")] == ["DIR", "chained", "whole"]
    assert served.contents("whole") == BIG


def test_an_exfat_directory_that_contains_itself_is_an_error(made: Any, exfat_client: Any) -> None:
    made.stream("inner", 20, little(made.first_cluster("DIR"), 4))
    made.stream("inner", 24, little(4096, 8))
    made.image[made.entry_set("inner") + 4] = 0x10
    served = exfat_client(made.mend(made.entry_set("inner")).image)
    answer = served.request(Operation.LOCK_DIRECTORY, "DIR/inner/inner")
    assert answer.error is ErrorCode.CORRUPT
    assert "directory loop" in served.server.take_reports()[-1]
    assert [file.name for file in served.listing("DIR")] == ["inner"]


def test_an_exfat_directory_that_is_shorter_than_its_length_is_listed_up_to_there(made: Any, exfat_client: Any) -> None:
    made.stream("DIR", 24, little(3 * 4096, 8))
    made.stream("DIR", 8, little(3 * 4096, 8))
    served = exfat_client(made.image)
    assert [file.name for file in served.listing("DIR")] == ["inner"]
    assert "it has 1 clusters, and 12288 bytes take 3" in served.server.take_reports()[-1]


def test_a_valid_length_beyond_the_file_length_is_named_and_bounded(made: Any, exfat_client: Any) -> None:
    served = exfat_client(made.stream("other", 8, little(1 << 40, 8)).image)
    assert "has 1099511627776 valid bytes of 5" in served.server.take_reports()[0]
    assert served.contents("other") == b"other"


def test_without_its_up_case_table_only_letters_of_ascii_are_the_same(made: Any, exfat_client: Any) -> None:
    table = made.image.index(b"\x82\0\0\0")
    for offset, data, text in (
        (0, b"\x03", "names no up-case table"),
        (4, b"\0\0\0\0", "should have 0x00000000"),
        (20, little(1, 4), "its first cluster is 1"),
        (24, little(1 << 30, 8), "has 1073741824 bytes"),
        (24, little(3, 8), "the up-case table has the checksum"),
    ):
        image = bytearray(made.image)
        image[table + offset : table + offset + len(data)] = data
        served = exfat_client(image)
        (report,) = served.server.take_reports()
        assert text in report, report
        assert "only letters of ASCII" in report
        assert served.contents("WHOLE") == BIG


def test_without_a_bitmap_free_space_is_not_known(made: Any, exfat_client: Any) -> None:
    bitmap = made.image.index(b"\x81\0\0\0")
    for offset, data, text in (
        (0, b"\x01", "names no allocation bitmap"),
        (20, little(1, 4), "its first cluster is 1"),
        (24, little(3, 8), "the allocation bitmap has 3 bytes"),
    ):
        image = bytearray(made.image)
        image[bitmap + offset : bitmap + offset + len(data)] = data
        served = exfat_client(image)
        (report,) = served.server.take_reports()
        assert text in report, report
        assert served.request(Operation.VOLUME).registers.eax & VolumeFlags.NO_FREE_SPACE
        assert served.contents("whole") == BIG


def test_sizes_that_no_disk_holds_cost_no_memory_or_time(made: Any, exfat_client: Any) -> None:
    huge = little((1 << 63) - 1, 8)
    for name in ("chained", "whole", "DIR"):
        made.stream(name, 8, huge)
        made.stream(name, 24, huge)
    served = exfat_client(made.image)
    for name in ("chained", "whole"):
        opened = served.request(Operation.OPEN, name).registers
        assert opened.edx << 32 | opened.ecx == (1 << 63) - 1
        assert served.read_extract(opened.eax, 0, 4096)[1] == BIG[:4096]
        assert served.read_extract(opened.eax, 1 << 62, 4096)[2].error is ErrorCode.CORRUPT
    assert served.request(Operation.LOCK_DIRECTORY, "DIR").error is ErrorCode.OK
    assert served.contents("other") == b"other"
