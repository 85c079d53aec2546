"""Archives that keep to the letter of the specification loosely, as other people's programs write them."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.directory import FileAttributes
from callgate.server import MountError
from callgate.server.zip_archive.server import ZipServer

END = struct.Struct("<4s4H2IH")


def padded(archive: bytes) -> bytes:
    return archive.ljust(-(-len(archive) // 512) * 512, b"\0")


def archive_of(*entries: zipfile.ZipInfo | str) -> bytearray:
    """Return an archive in which each entry holds its own name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for entry in entries:
            archive.writestr(entry, entry if isinstance(entry, str) else entry.filename)
    return bytearray(buffer.getvalue())


def with_count(archive: bytearray, count: int) -> bytes:
    """Return the archive with another number of entries in its end record."""
    struct.pack_into("<2H", archive, len(archive) - END.size + 8, count, count)
    return padded(bytes(archive))


class TestTheEndRecordsCount:
    """16 bits, and writers without ZIP64 let it wrap: 66,000 entries are 464 by it."""

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_an_end_record_that_counts_too_few_entries_hides_none(self, zip_client: Any, count: int) -> None:
        served = zip_client(with_count(archive_of("a", "b", "c"), count))
        assert [file.name for file in served.listing("")] == ["a", "b", "c"]
        assert served.contents("c") == b"c"
        said = f"d0p1: the end record counts {count} entries, the central directory has 3"
        assert served.server.take_reports() == [said]

    def test_an_end_record_that_counts_too_many_entries_is_reported(self, zip_client: Any) -> None:
        served = zip_client(with_count(archive_of("a", "b", "c"), 5))
        assert [file.name for file in served.listing("")] == ["a", "b", "c"]
        said = "d0p1: central directory of 5 entries: damaged after 3 of them"
        assert served.server.take_reports() == [said]

    @pytest.mark.thorough(only=True)
    def test_an_entry_count_that_has_wrapped_hides_none_of_66000_entries(self, zip_client: Any) -> None:
        names = [f"d{number % 50}/{number}" for number in range(66_000)]
        data = bytes(archive_of(*names))
        end = data.rindex(b"PK\5\6")
        directory = data[: data.rindex(b"PK\6\6")]  # without the records of ZIP64
        _, _, _, _, _, size, offset, _ = END.unpack_from(data, end)
        plain = directory + END.pack(b"PK\5\6", 0, 0, 464, 464, size, offset, 0)
        served = zip_client(padded(plain))
        assert sum(len(served.listing(f"d{number}")) for number in range(50)) == 66_000
        assert "counts 464 entries, the central directory has 66000" in served.server.take_reports()[0]


@pytest.mark.parametrize("prefix", [b"MZ", b"Cr24", b"\x89PNG\r\n\x1a\n", b"#!/bin/sh\n", b"\0"])
@pytest.mark.parametrize("size", [600, 100_001])
def test_an_archive_is_recognised_by_its_end_after_a_prefix_of_any_length(
    zip_client: Any, prefix: bytes, size: int
) -> None:
    image = padded(prefix.ljust(size, b"\x90") + archive_of("a", "b"))
    assert ZipServer.probe_end(image[-65536:]) == "zip"
    served = zip_client(image)
    assert served.contents("b") == b"b"
    assert served.server.take_reports() == [f"d0p1: {size} bytes stand before the archive"]


@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK\5\6 and more".ljust(40, b".")])
def test_an_end_record_is_found_before_any_comment_and_only_at_the_end(comment: bytes) -> None:
    record = END.pack(b"PK\5\6", 0, 0, 0, 0, 0, 0, len(comment)) + comment
    assert ZipServer.probe_end(bytes(600) + record + bytes(300)) == "zip"
    assert ZipServer.probe_end(bytes(600) + record + b"behind") is None
    for length in range(len(record) - len(comment)):
        assert ZipServer.probe_end(b"\1" * 600 + record[:length]) is None


def test_the_mark_of_an_archive_that_was_to_be_split_is_skipped(zip_client: Any) -> None:
    image = padded(b"PK00" + archive_of("a"))
    assert ZipServer.probe(image[:65536]) == "zip"
    assert zip_client(image).contents("a") == b"a"


def test_names_that_begin_with_dot_slash_are_read_without_a_report(zip_client: Any) -> None:
    folder = zipfile.ZipInfo("./", (2001, 2, 3, 4, 5, 6))
    served = zip_client(padded(archive_of(folder, "./a", "./sub/./b", "././sub/c", "d/.")))
    assert sorted(file.name for file in served.listing("")) == ["a", "d", "sub"]
    assert served.contents("sub/c") == b"././sub/c"
    assert served.server.take_reports() == []


@pytest.mark.parametrize("system", [3, 19])
def test_a_unix_mode_makes_a_directory_without_a_slash(zip_client: Any, system: int) -> None:
    entry = zipfile.ZipInfo("folder")
    entry.create_system, entry.external_attr = system, 0o040755 << 16
    served = zip_client(padded(archive_of(entry, "folder/a")))
    (found,) = served.listing("")
    assert found.attributes & FileAttributes.DIRECTORY
    assert served.contents("folder/a") == b"folder/a"


@pytest.mark.parametrize(("double_seconds", "second"), [(29, 58), (30, 59), (31, 59)])
def test_a_time_with_sixty_seconds_is_the_last_second_of_its_minute(
    zip_client: Any, double_seconds: int, second: int
) -> None:
    archive = archive_of(zipfile.ZipInfo("a", (2020, 5, 6, 12, 10, 0)))
    at = archive.index(b"PK\1\2") + 12
    archive[at] = archive[at] & ~31 | double_seconds
    (found,) = zip_client(padded(archive)).listing("")
    assert found.modified == 1_588_767_000 + second


@pytest.mark.parametrize("time", [-86_400, -(2**31), 2**31 - 1])
def test_an_extended_timestamp_has_a_sign(zip_client: Any, time: int) -> None:
    entry = zipfile.ZipInfo("a")
    entry.extra = struct.pack("<HHBi", 0x5455, 5, 1, time)
    (found,) = zip_client(padded(archive_of(entry))).listing("")
    assert found.modified == time


def test_times_before_1970_are_those_that_zip_stored(
    tmp_path: Path, zip_client: Any, host_tool: Callable[..., str]
) -> None:
    (tmp_path / "old").write_bytes(b"old")
    host_tool("touch", "-d", "1950-02-28 13:14:15 UTC", tmp_path / "old")
    host_tool("zip", "-q", "-j", tmp_path / "a.zip", tmp_path / "old")
    (found,) = zip_client(padded((tmp_path / "a.zip").read_bytes())).listing("")
    assert found.modified == -626_093_145


def test_names_that_are_not_the_utf_8_they_claim_stay_apart_and_can_be_opened(zip_client: Any) -> None:
    archive = archive_of("ü1", "ü2")  # Python sets the flag for UTF-8
    for old, new in (("ü1".encode(), b"a\xff1"), ("ü2".encode(), b"a\xfe1")):
        assert archive.count(old) == 3
        at = archive.index(old)
        while at >= 0:
            archive[at : at + 3] = new
            at = archive.find(old, at)
    for at in (archive.index(b"PK\3\4"), archive.rindex(b"PK\3\4")):  # their content was their names
        struct.pack_into("<I", archive, at + 14, zlib.crc32(archive[at + 33 : at + 36]))
    at = archive.index(b"PK\1\2")
    for _ in range(2):
        struct.pack_into("<I", archive, at + 16, zlib.crc32(b"a\xff1" if archive[at + 47] == 0xFF else b"a\xfe1"))
        at = archive.find(b"PK\1\2", at + 4)
    served = zip_client(padded(archive))
    names = [file.name for file in served.listing("")]
    assert names == ["a%FF1", "a%FE1"]
    assert [served.contents(name) for name in names] == [b"a\xff1", b"a\xfe1"]


def test_a_program_whose_archive_is_cut_off_is_refused_by_name(zip_client: Any) -> None:
    with pytest.raises(MountError, match="no end of central directory record"):
        zip_client(padded(b"MZ" + bytes(100) + archive_of("a")[:40] + b"\x90" * 70_000))
