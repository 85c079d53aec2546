"""Archives that zipfile and zip made, as volumes: sectors where possible, windows of memory elsewhere."""

import io
import random
import struct
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import MountError
from callgate.server.zip_archive import Zip, end_record, file, restart

WINDOW = 506 * 4096
MIB = 1 << 20
PERIOD = 1_000_003  # bytes after which a text comes again: a prime, and more than deflate looks back


def padded(archive: bytes, sectors: int = 0) -> bytes:
    """Return an image: the archive with zeros to a whole number of sectors, and `more` further sectors of them."""
    return archive.ljust(-(-len(archive) // 512) * 512 + sectors * 512, b"\0")


def archive_of(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, **options) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40)), data, method)
    return buffer.getvalue()


@cache
def text(size: int, seed: int = 1) -> bytes:
    generator = random.Random(seed)
    words = [generator.randbytes(generator.randrange(2, 9)) for _ in range(500)]
    piece = b"".join(generator.choices(words, k=min(size, PERIOD) // 4))[:PERIOD]
    return (piece * (size // len(piece) + 1))[:size]


FILES = {
    "README.TXT": b"hello\n" * 100,
    "empty": b"",
    "dir/sub/deep.bin": text(300_001),
    "dir/page": text(4096),
    "größe ☃": b"utf-8",
    "big": text(5 * MIB + 17),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("sectors", [0, 1, 5000])
def test_archives_that_zipfile_wrote_are_read_back(zip_client: Any, method: int, sectors: int) -> None:
    image = padded(archive_of(FILES, method), sectors)
    assert Zip.probe(image[:65536]) == "zip"
    served = zip_client(image)
    for name, data in FILES.items():
        assert served.contents(name) == data
        assert sectors or served.contents(name, 10_000 if len(data) < MIB else MIB // 2) == data
    assert served.rehearsal.allocated() == 0
    assert {file.name: file.size for file in served.listing("dir")} == {"sub": 0, "page": 4096}
    assert next(file.modified for file in served.listing("dir") if file.name == "page") == 1_600_000_000
    assert served.server.take_reports() == []


@pytest.mark.parametrize("options", [(), ("-0",), ("-9",), ("-fz",)])
def test_archives_that_zip_wrote_are_read_back(
    tmp_path: Path, zip_client: Any, host_tool: Callable[..., str], options: tuple[str, ...]
) -> None:
    root = tmp_path / "tree"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    (root / "run").write_bytes(b"#!/bin/sh")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("run")
    host_tool("zip", "-q", "-r", "-y", *options, "../a.zip", ".", folder=root)
    served = zip_client(padded((tmp_path / "a.zip").read_bytes()))
    for name, data in FILES.items():
        assert served.contents(name) == data
    names = {file.name: file for file in served.listing("")}
    assert names["run"].attributes & FileAttributes.EXECUTABLE
    assert names["link"].attributes & FileAttributes.SYMLINK
    assert names["dir"].attributes & FileAttributes.DIRECTORY
    assert served.contents("link") == served.contents("run")


def test_stored_data_that_begin_with_a_sector_are_sectors_and_cost_no_memory(zip_client: Any) -> None:
    data = text(100_000)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        info = zipfile.ZipInfo("data")
        info.extra = struct.pack("<HH", 0xFFFF, 512 - 30 - 4 - 4) + bytes(512 - 30 - 4 - 4)
        archive.writestr(info, data)
    served = zip_client(bytes(512) * 3 + padded(buffer.getvalue()), start=3)
    number = served.request(Operation.OPEN, "data").registers.eax
    _, got, answer = served.read_extract(number, 0, 100_000)
    assert answer.sectors[0] == (1, 4), "pieces are cut where blocks of the disk begin"
    assert got == data
    assert answer.registers.edi == 0
    assert served.contents("data") == data


def test_a_window_of_decompressed_data_lives_until_it_is_released(zip_client: Any) -> None:
    data = text(3 * MIB)
    served = zip_client(padded(archive_of({"a": data})))
    number = served.request(Operation.OPEN, "a").registers.eax
    answers = [served.request(Operation.READ, ebx=number, eax=at, ecx=1 << 31) for at in (0, 5000)]
    assert [answer.registers.ecx for answer in answers] == [0, 4096]
    assert [answer.registers.eax for answer in answers] == [WINDOW, WINDOW]
    assert served.rehearsal.allocated() == 2 * WINDOW
    for answer, at in zip(answers, (0, 4096), strict=True):
        assert answer.memory[:WINDOW] == data[at : at + WINDOW]
        assert answer.registers.edi
        assert served.request(Operation.RELEASE, eax=answer.registers.edi).error is ErrorCode.OK
        assert served.request(Operation.RELEASE, eax=answer.registers.edi).error is ErrorCode.BAD_HANDLE
    assert served.rehearsal.allocated() == 0


def test_missing_memory_is_an_error_of_the_zip_server_and_not_a_crash(zip_client: Any) -> None:
    served = zip_client(padded(archive_of({"a": text(3 * MIB)})))
    served.rehearsal.memory_limit = MIB
    number = served.request(Operation.OPEN, "a").registers.eax
    assert served.request(Operation.READ, ebx=number, ecx=2 * MIB).error is ErrorCode.NO_MEMORY
    assert served.request(Operation.READ, ebx=number, ecx=4096).error is ErrorCode.OK


def test_reading_on_costs_no_more_than_what_is_read_and_a_jump_is_bounded(
    zip_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    step = file._Inflation._step

    async def counted(self: Any, point: Any, limit: int) -> Any:
        nonlocal made
        point, data = await step(self, point, limit)
        made += len(data)
        return point, data

    monkeypatch.setattr(file._Inflation, "_step", counted)
    data = text(8 * MIB)
    served = zip_client(padded(archive_of({"a": data})))
    number = served.request(Operation.OPEN, "a").registers.eax
    for at in range(0, len(data), 64 * 1024):
        start, got, _ = served.read_extract(number, at, 64 * 1024)
        assert got == data[start : start + len(got)]
    assert made == len(data)
    for at in random.Random(1).sample(range(len(data)), 40):
        made = 0
        start, got, _ = served.read_extract(number, at, 4096)
        assert got == data[start : start + len(got)]
        assert made <= restart.DISTANCE + 3 * 256 * 1024
    assert len(served.server.points) <= restart.PER_FILE + restart.CURSORS + 1
    served.request(Operation.CLOSE, eax=number)
    assert len(served.server.points) == 0


def test_a_zip_bomb_costs_one_window_and_a_jump_into_it_is_refused_by_its_limit(zip_client: Any) -> None:
    archive = bytearray(archive_of({"bomb": bytes(4 * MIB)}))
    central = archive.index(b"PK\1\2")
    archive[central + 24 : central + 28] = (0xFFFF0000).to_bytes(4, "little")
    served = zip_client(padded(bytes(archive)))
    opened = served.request(Operation.OPEN, "bomb").registers
    assert opened.ecx == 0xFFFF0000
    assert served.read_extract(opened.eax, 0, 1 << 31)[1] == bytes(WINDOW)
    answer = served.request(Operation.READ, ebx=opened.eax, eax=0xF0000000, ecx=4096)
    assert answer.error is ErrorCode.NO_RESOURCES
    answer = served.request(Operation.READ, ebx=opened.eax, eax=4 * MIB + 8192, ecx=4096)
    assert answer.error is ErrorCode.CORRUPT
    assert any("it has 4194304 bytes and should have 4294901760" in line for line in served.server.take_reports())
    assert served.rehearsal.allocated() == 0


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_changed_byte_of_an_archive_is_found_by_the_checksum(zip_client: Any, method: int) -> None:
    archive = bytearray(archive_of({"a": b"some text, and some more text", "b": b"fine"}, method))
    central = archive.index(b"PK\1\2")
    archive[central + 16] ^= 1
    served = zip_client(padded(bytes(archive)))
    number = served.request(Operation.OPEN, "a").registers.eax
    assert served.request(Operation.READ, ebx=number, ecx=100).error is ErrorCode.CORRUPT
    assert any("a: its CRC-32 is" in line for line in served.server.take_reports())
    assert served.contents("b") == b"fine"


def test_files_before_the_damage_of_an_archive_can_be_read(zip_client: Any) -> None:
    data = random.Random(3).randbytes(200_000)
    archive = bytearray(archive_of({"a": data}))
    archive[100_000:100_100] = b"\xff" * 100
    served = zip_client(padded(bytes(archive)))
    number = served.request(Operation.OPEN, "a").registers.eax
    _, got, answer = served.read_extract(number, 0, 200_000)
    assert answer.error in (ErrorCode.OK, ErrorCode.CORRUPT)
    _, got, answer = served.read_extract(number, 0, 60_000)
    assert answer.error is ErrorCode.OK
    assert got[:60_000] == data[:60_000]


@pytest.mark.thorough(only=True)
def test_zip64_numbers_are_read(zip_client: Any) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a", "w", force_zip64=True) as out:
        out.write(b"text" * 1000)
    many = {f"d{number % 50}/{number}": b"" for number in range(66_000)}
    assert zip_client(padded(buffer.getvalue())).contents("a") == b"text" * 1000
    served = zip_client(padded(archive_of(many)))
    assert len(served.listing("")) == 50
    assert len(served.listing("d7")) == 1320


def test_bytes_before_an_archive_shift_its_offsets(zip_client: Any) -> None:
    archive = archive_of({"inner": b"x", "first": b"first"})
    served = zip_client(padded(b"PK\3\4" + bytes(996) + archive))
    assert served.contents("first") == b"first"
    assert any("1000 bytes stand before" in line for line in served.server.take_reports())


def test_harmful_names_in_archives_are_made_harmless_and_reported(zip_client: Any) -> None:
    served = zip_client(padded(archive_of({"../../up": b"1", "/abs/x": b"2", "a//b/./c": b"3", "..": b"4"})))
    assert served.contents("up") == b"1"
    assert served.contents("abs/x") == b"2"
    assert served.contents("a/b/c") == b"3"
    reports = served.server.take_reports()
    assert len(reports) == 5
    assert any("entry 1 '../../up': shown as 'up'" in line for line in reports)


def test_names_with_backslashes_are_paths_all_the_same(zip_client: Any) -> None:
    """They break the specification, and no path of a client could hold them."""
    served = zip_client(padded(archive_of({"dir\\sub\\file.txt": b"1", "C:\\win": b"2", "empty\\": b""})))
    assert served.contents("dir/sub/file.txt") == b"1"
    assert served.contents("C:/win") == b"2"
    assert [file.name for file in served.listing("")] == ["dir", "C:", "empty"]
    assert served.listing("empty") == []
    assert any("shown as 'dir/sub/file.txt'" in line for line in served.server.take_reports())


@pytest.mark.parametrize("program", [b"#!/usr/bin/env python3\n", b"MZ" + bytes(30_000), b"\x7fELF" + bytes(900)])
def test_a_self_extracting_program_is_read_as_an_archive(zip_client: Any, program: bytes) -> None:
    image = padded(program + archive_of({"__main__.py": b"print('hello')\n"}))
    assert Zip.probe(image[:65536]) == Zip.probe_end(image[-65536:]) == "zip"
    assert zip_client(image).contents("__main__.py") == b"print('hello')\n"
    assert Zip.probe(program + b"PK\3\4" + b"\xe8" * 90) is None, "it knows the signature, to read archives"
    assert Zip.probe_end(program) is None


def test_the_parts_of_a_split_zip_archive_are_named_as_such(
    tmp_path: Path, zip_client: Any, host_tool: Callable[..., str]
) -> None:
    (tmp_path / "data").write_bytes(random.Random(1).randbytes(250_000))
    host_tool("zip", "-q", "-j", "-s", "100k", tmp_path / "a.zip", tmp_path / "data")
    first = padded((tmp_path / "a.z01").read_bytes())
    assert Zip.probe(first) == "zip"
    last = padded((tmp_path / "a.zip").read_bytes())
    for part in (first, last):
        with pytest.raises(MountError, match=r"a part of a split ZIP archive; join the parts \(zip -s 0 "):
            zip_client(part)
    assert Zip.probe(last) is None
    assert Zip.explain(last[-65536:]) == end_record.SPLIT
    assert Zip.explain(first[-65536:]) is None
    host_tool("zip", "-q", "-s", "0", tmp_path / "a.zip", "--out", tmp_path / "joined.zip")
    joined = padded((tmp_path / "joined.zip").read_bytes())
    assert Zip.explain(joined[-65536:]) is None
    assert zip_client(joined).contents("data") == (tmp_path / "data").read_bytes()


@pytest.mark.parametrize(
    ("number", "comment", "behind", "expected"),
    [
        (0, b"", b"", None),
        (1, b"", b"", end_record.SPLIT),
        (2, b"a comment", bytes(700), end_record.SPLIT),
        (2, b"", b"something", None),
        (0xFFFF, b"", b"", end_record.SPLIT),
    ],
)
def test_an_end_record_that_counts_parts_and_ends_the_image_is_a_split_archives(
    number: int, comment: bytes, behind: bytes, expected: str | None
) -> None:
    record = struct.pack("<4s4H2IH", b"PK\5\6", number, number, 1, 1, 50, 600, len(comment)) + comment
    assert Zip.explain(bytes(500) + record + behind) == expected
    for length in range(len(record)):
        assert Zip.explain(record[:length].ljust(512, b"x")) is None


@pytest.mark.parametrize(("parts", "expected"), [(1, None), (3, end_record.SPLIT)])
def test_a_large_archive_counts_its_parts_in_the_locator(parts: int, expected: str | None) -> None:
    locator = struct.pack("<4sIQI", b"PK\6\7", parts - 1, 600, parts)
    record = struct.pack("<4s4H2IH", b"PK\5\6", 0xFFFF, 0xFFFF, 1, 1, 50, 600, 0)
    assert Zip.explain(bytes(500) + locator + record) == expected


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_several_entries_with_one_name_counts(zip_client: Any) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("a", "old"), ("a", "new"), ("b", "file"), ("b/c", "x"), ("d/e", "y"), ("d", "file")):
            archive.writestr(name, data)
    served = zip_client(padded(buffer.getvalue()))
    assert served.contents("a") == b"new"
    assert served.contents("b/c") == b"x"
    assert served.contents("d/e") == b"y"
    assert len(served.server.take_reports()) == 3


def test_encrypted_entries_and_other_methods_are_listed_and_refused_by_name(
    tmp_path: Path, zip_client: Any, host_tool: Callable[..., str]
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    host_tool("zip", "-q", "-j", "-P", "password", tmp_path / "a.zip", tmp_path / "secret")
    cases = {
        (tmp_path / "a.zip").read_bytes(): "encrypted",
        archive_of({"secret": b"x" * 100}, zipfile.ZIP_BZIP2): "method 12 (bzip2)",
        archive_of({"secret": b"x" * 100}, zipfile.ZIP_LZMA): "method 14 (LZMA)",
    }
    for archive, reason in cases.items():
        served = zip_client(padded(archive))
        assert [file.name for file in served.listing("")] == ["secret"]
        assert served.request(Operation.OPEN, "secret").error is ErrorCode.NOT_SUPPORTED
        assert any(reason in line for line in served.server.take_reports())


def test_an_empty_archive_is_an_empty_volume_and_its_comment_is_the_label(zip_client: Any) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"MY LABEL\nand more"
    image = padded(buffer.getvalue())
    assert Zip.probe(image) == "zip"
    served = zip_client(image)
    assert served.listing("") == []
    assert served.request(Operation.VOLUME).data == b"MY LABEL"


def test_names_without_the_utf_8_flag_are_of_code_page_437(zip_client: Any) -> None:
    archive = archive_of({"caf_": b"x"}).replace(b"caf_", b"caf\x82")
    assert zip_client(padded(archive)).contents("café") == b"x"


@pytest.mark.parametrize("change", ["cut", "zeros", "disk"])
def test_an_incomplete_archive_is_not_mounted(zip_client: Any, change: str) -> None:
    archive = bytearray(archive_of({"a": text(5000)}))
    if change == "cut":
        del archive[2000:]
    elif change == "zeros":
        archive[:] = bytes(4096)
    else:
        archive[archive.index(b"PK\5\6") + 4] = 1
    with pytest.raises(MountError, match=r"cut off|zeros|split"):
        zip_client(padded(bytes(archive)))


def test_a_copy_of_the_zip_server_reads_on_where_the_original_stood(zip_client: Any) -> None:
    data = text(5 * MIB)
    served = zip_client(padded(archive_of({"a": data})))
    number = served.request(Operation.OPEN, "a").registers.eax
    served.read_extract(number, 0, WINDOW)
    original = served.rehearsal.server
    served.rehearsal.server = original.duplicate(served.rehearsal.memory)
    for server in (served.rehearsal.server, original):
        served.rehearsal.server = server
        start, got, _ = served.read_extract(number, WINDOW, WINDOW)
        assert got == data[start : start + len(got)]


LINKS = {
    "to file": ("dir/a", b"content"),
    "to directory": ("dir", ErrorCode.IS_DIRECTORY),
    "absolute": ("/dir/a", b"content"),
    "above the root": ("../../dir/a", b"content"),
    "to a link": ("to file", b"content"),
    "to itself": ("to itself", ErrorCode.NOT_FOUND),
    "to nothing": ("nothing", ErrorCode.NOT_FOUND),
    "dir/beside": ("a", b"content"),
    "dir/up": ("../dir/../to file", b"content"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_symbolic_links_are_followed_within_the_archive(zip_client: Any, method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("dir/a", "content")
        for name, (target, _) in LINKS.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr, info.compress_type = 3, 0o120777 << 16, method
            archive.writestr(info, target)
    served = zip_client(padded(buffer.getvalue()))
    for name, (_, expected) in LINKS.items():
        if isinstance(expected, bytes):
            assert served.contents(name) == expected, name
        else:
            assert served.request(Operation.OPEN, name).error == expected, name
    assert served.contents("to directory/a") == b"content"
    assert served.contents("to directory/../to directory/beside") == b"content"
    assert served.request(Operation.OPEN, "to file/").error == ErrorCode.NOT_DIRECTORY
    assert {file.name for file in served.listing("to directory")} == {"a", "beside", "up"}
