"""Names: the rules of long and short names on records built by hand, and paths on a volume of mtools."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import parse_path
from callgate.server.fat.directory import parse_directory
from callgate.server.fat.names import fold, short_name, utf16_length, volume_label
from callgate.server.formats.dos_times import timestamp
from hypothesis import given, settings
from hypothesis import strategies as st


def short(name: bytes, attributes: int = 0x20, nt: int = 0, cluster: int = 0, size: int = 0) -> bytes:
    base, _, extension = name.partition(b".")
    raw = base.ljust(8) + extension.ljust(3)
    return (
        raw
        + bytes([attributes, nt])
        + bytes(7)
        + (cluster >> 16).to_bytes(2, "little")
        + bytes(4)
        + (cluster & 0xFFFF).to_bytes(2, "little")
        + size.to_bytes(4, "little")
    )


def long_set(units: bytes, entry: bytes, *, change: Callable[[list[bytearray]], None] | None = None) -> bytes:
    """Return the long-name records for UTF-16LE ``units``, then ``entry``."""
    checksum = 0
    for byte in entry[:11]:
        checksum = (((checksum & 1) << 7) + (checksum >> 1) + byte) & 0xFF
    if len(units) % 26:
        units += b"\0\0"
    units += b"\xff" * (-len(units) % 26)
    count = len(units) // 26
    records = []
    for ordinal in range(count, 0, -1):
        part = units[(ordinal - 1) * 26 : ordinal * 26]
        mark = ordinal | (0x40 if ordinal == count else 0)
        record = bytes([mark]) + part[:10] + bytes([0x0F, 0, checksum]) + part[10:22] + b"\0\0" + part[22:]
        records.append(bytearray(record))
    if change:
        change(records)
    return b"".join(records) + entry


def names(data: bytes) -> list[str]:
    return [entry.name for entry in parse_directory(data, [0]).entries]


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


class TestLongNames:
    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "exactly 13 un",
            "fourteen units",
            "x" * 26,
            "y" * 255,
            "smile 😀.txt",
            "日本語のファイル",
            ".hidden",
            "a+b=[c]",
        ],
    )
    def test_long_names_are_read_whole(self, name: str) -> None:
        assert names(long_set(utf16(name), short(b"SHORT.TXT"))) == [name]

    def test_long_names_with_a_surrogate_pair_split_between_records_are_put_together(self) -> None:
        assert names(long_set(utf16("twelve chars😀!"), short(b"A"))) == ["twelve chars😀!"]

    def test_long_names_with_lone_surrogates_show_replacement_characters_and_stay_distinct(self) -> None:
        data = long_set(utf16("bad\ud800"), short(b"BAD~1")) + long_set(utf16("bad\udc00"), short(b"BAD~2"))
        directory = parse_directory(data, [0])
        assert [entry.name for entry in directory.entries] == ["bad\ufffd", "BAD~2"]
        found = [directory.find(name) for name in ("bad\ufffd", "bad~1", "bad~2")]
        assert [entry and entry.alias for entry in found] == ["BAD~1", "BAD~1", "BAD~2"]

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "a/b", "a\\b", "tab\there", "z" * 256, "\x7f", "bell\x07", "csi\x9b2J"]
    )
    def test_long_names_that_no_path_could_hold_are_replaced_by_the_short_name(self, name: str) -> None:
        directory = parse_directory(long_set(utf16(name) + b"\0\0", short(b"SHORT.TXT")), [0])
        assert [entry.name for entry in directory.entries] == ["SHORT.TXT"]
        assert directory.damage

    def test_long_names_with_a_wrong_checksum_are_replaced_by_the_short_name(self) -> None:
        def change(records: list[bytearray]) -> None:
            for record in records:
                record[13] ^= 1

        assert names(long_set(utf16("long name of two"), short(b"SHORT"), change=change)) == ["SHORT"]

    def test_long_names_with_one_checksum_that_differs_are_replaced_by_the_short_name(self) -> None:
        def change(records: list[bytearray]) -> None:
            records[1][13] ^= 1

        assert names(long_set(utf16("long name of two"), short(b"SHORT"), change=change)) == ["SHORT"]

    @pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 0, 1), (1, 2, 0), (0, 1), (1, 2), (0, 2), (2,)])
    def test_long_names_with_records_missing_or_out_of_order_are_replaced_by_the_short_name(
        self, order: tuple[int, ...]
    ) -> None:
        def change(records: list[bytearray]) -> None:
            records[:] = [bytearray(records[i]) for i in order]

        text = "this one takes three records, surely"
        assert names(long_set(utf16(text), short(b"SHORT"), change=change)) == ["SHORT"]

    @pytest.mark.parametrize("ordinal", [0x40, 0x40 | 21, 0x40 | 63, 0xC1])
    def test_long_names_that_begin_with_an_impossible_ordinal_are_ignored(self, ordinal: int) -> None:
        def change(records: list[bytearray]) -> None:
            records[0][0] = ordinal

        assert names(long_set(utf16("long"), short(b"SHORT"), change=change)) == ["SHORT"]

    def test_long_names_interrupted_by_a_deleted_record_are_orphans(self) -> None:
        deleted = b"\xe5" + short(b"GONE")[1:]
        data = long_set(utf16("long"), short(b"SHORT"))
        assert names(data[:32] + deleted + data[32:]) == ["SHORT"]

    def test_long_names_of_a_deleted_file_do_not_pass_to_the_next(self) -> None:
        data = long_set(utf16("long"), short(b"SHORT"))
        assert names(data[:32] + b"\xe5" + data[33:] + short(b"NEXT")) == ["NEXT"]


_NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=127
).filter(lambda name: name not in {".", ".."})


@settings(deadline=None, derandomize=True)
@given(st.lists(_NAMES, min_size=1, max_size=6, unique_by=fold))
def test_any_names_of_a_directory_are_read_back_and_are_found(texts: list[str]) -> None:
    data = b"".join(long_set(utf16(text), short(b"SHORT~%d" % i)) for i, text in enumerate(texts))
    directory = parse_directory(data, [0])
    assert [entry.name for entry in directory.entries] == texts
    assert directory.damage == ()
    for i, text in enumerate(texts):
        found = [directory.find(name) for name in (text, fold(text), f"short~{i}")]
        assert [entry and entry.name for entry in found] == [text] * 3


class TestShortNames:
    @pytest.mark.parametrize(
        ("raw", "nt", "name"),
        [
            (b"README  TXT", 0, "README.TXT"),
            (b"README     ", 0, "README"),
            (b"README  TXT", 0x08, "readme.TXT"),
            (b"README  TXT", 0x10, "README.txt"),
            (b"README  TXT", 0x18, "readme.txt"),
            (b"\x05BC        ", 0, "σBC"),  # 0x05 stands for 0xE5, which is a sigma in code page 437
            (b"\x8e\x99\x9a     TXT", 0x18, "äöü.txt"),
            (b"A B     C D", 0, "A B.C D"),
            (b"A/B\\C   \x01\x7f ", 0, "A_B_C.__"),
        ],
    )
    def test_short_names_are_decoded(self, raw: bytes, nt: int, name: str) -> None:
        assert short_name(raw, nt) == name

    def test_short_names_of_volume_labels_dots_and_deleted_files_are_not_listed(self) -> None:
        data = (
            short(b"LABEL", 0x08)
            + b".".ljust(11)
            + short(b"X", 0x10)[11:]
            + b"..".ljust(11)
            + short(b"X", 0x10)[11:]
            + b"\xe5"
            + short(b"X")[1:]
            + short(b"KEPT")
            + bytes(32)
            + short(b"AFTER")
        )
        directory = parse_directory(data, [0])
        assert [entry.name for entry in directory.entries] == ["KEPT"]
        assert directory.label == b"LABEL      "

    def test_short_names_that_are_equal_are_all_listed_and_the_first_is_found(self) -> None:
        directory = parse_directory(short(b"TWICE", size=1) + short(b"TWICE", size=2), [0])
        assert [entry.size for entry in directory.entries] == [1, 2]
        found = directory.find("twice")
        assert found is not None
        assert found.size == 1

    def test_short_names_that_are_blank_are_reported_and_not_listed(self) -> None:
        directory = parse_directory(short(b"") + short(b"OK"), [0])
        assert [entry.name for entry in directory.entries] == ["OK"]
        assert directory.damage == ("record 0 has a blank name, left out",)

    def test_short_name_records_hold_the_high_half_of_a_cluster_number_only_on_fat32(self) -> None:
        data = short(b"A", cluster=0x12345678)
        assert parse_directory(data, [0]).entries[0].cluster == 0x12345678
        assert parse_directory(data, [0], fat32=False).entries[0].cluster == 0x5678


@pytest.mark.parametrize(
    ("one", "other"),
    [("ÄÖÜ", "äöü"), ("ΣΑΣ", "σας"), ("ПРИВЕТ", "привет"), ("İ", "İ"), ("ẞ", "ß"), ("ǅ", "ǆ"), ("K", "k")],
)
def test_case_is_folded_one_character_to_one(one: str, other: str) -> None:
    assert fold(one) == fold(other)
    assert len(fold(one)) == len(one)


def test_sharp_s_is_not_double_s() -> None:
    assert fold("straße") != fold("strasse")


def test_lengths_are_counted_in_utf16_units() -> None:
    assert utf16_length("a😀b") == 4


@pytest.mark.parametrize(
    ("date", "time", "seconds"),
    [
        (0x0021, 0, 315_532_800),  # 1980-01-01
        (46 << 9 | 2 << 5 | 28, 23 << 11 | 59 << 5 | 29, 1_772_323_198),  # 2026-02-28 23:59:58
        (127 << 9 | 12 << 5 | 31, 0, 4_354_732_800),  # 2107-12-31
        (0, 0, 0),
        (13 << 5 | 1, 0, 0),
        (1 << 5, 0, 0),
        (0x0021, 24 << 11, 0),
        (0x0021, 60 << 5, 0),
        (0x0021, 30, 315_532_859),  # 60 seconds
        (0x0021, 12 << 11 | 10 << 5 | 31, 315_576_659),  # 62 seconds: 12:10:59
    ],
)
def test_times_are_seconds_since_1970_or_nothing(date: int, time: int, seconds: int) -> None:
    assert timestamp(date, time) == seconds


@pytest.mark.parametrize(
    ("text", "components", "directory"),
    [
        ("", (), True),
        ("/", (), True),
        ("a", ("a",), False),
        ("/a//b/", ("a", "b"), True),
        ("a/./b/../c", ("a", "c"), False),
        ("../../a", ("a",), False),
        ("a/..", (), True),
        ("a/b/.", ("a", "b"), True),
        ("...", ("...",), False),
    ],
)
def test_paths_are_resolved_by_their_spelling_alone(text: str, components: tuple[str, ...], directory: bool) -> None:
    path = parse_path(text)
    assert (path.components, path.directory) == (components, directory)


def test_labels_lose_their_padding_and_control_characters() -> None:
    assert volume_label(b"MY \x1bDISK   ") == "MY _DISK"
    assert volume_label(b"A/B\0junk   ") == "A/B"


class TestPathsOnAVolume:
    @pytest.fixture
    def served(self, fat_image: Callable[..., Any], client: Any) -> Any:
        image = fat_image(1440)
        image.mkdir("Some Directory")
        image.put("Some Directory/Ein längerer Name.txt", b"found")
        image.put("PLAIN.TXT", b"plain")
        return client(image.view())

    @pytest.mark.parametrize(
        "path",
        [
            "Some Directory/Ein längerer Name.txt",
            "/some directory/EIN LÄNGERER NAME.TXT",
            "SOMEDI~1/EINLÄN~1.TXT",
            "somedi~1/Ein längerer Name.txt",
            "Some Directory./Ein längerer Name.txt. .",
            "nowhere/../Some Directory/./Ein längerer Name.txt",
        ],
    )
    def test_every_spelling_that_dos_accepts_finds_the_file(self, path: str, served: Any) -> None:
        assert served.contents(path) == b"found"

    @pytest.mark.parametrize(
        ("operation", "path", "error"),
        [
            (Operation.OPEN, "missing", ErrorCode.NOT_FOUND),
            (Operation.OPEN, "missing/file", ErrorCode.NOT_FOUND),
            (Operation.OPEN, "...", ErrorCode.NOT_FOUND),
            (Operation.OPEN, "PLAIN.TXT/", ErrorCode.NOT_DIRECTORY),
            (Operation.OPEN, "PLAIN.TXT/x", ErrorCode.NOT_DIRECTORY),
            (Operation.OPEN, "", ErrorCode.IS_DIRECTORY),
            (Operation.OPEN, "Some Directory", ErrorCode.IS_DIRECTORY),
            (Operation.OPEN, "x" * 256, ErrorCode.NAME_TOO_LONG),
            (Operation.OPEN, "😀" * 128, ErrorCode.NAME_TOO_LONG),
            (Operation.OPEN, "x" * 255, ErrorCode.NOT_FOUND),
            (Operation.OPEN, "PLAIN.TXT\0", ErrorCode.BAD_ARGUMENT),
            (Operation.LOCK_DIRECTORY, "PLAIN.TXT", ErrorCode.NOT_DIRECTORY),
            (Operation.LOCK_DIRECTORY, "missing", ErrorCode.NOT_FOUND),
            (99, "", ErrorCode.BAD_CALL),
        ],
    )
    def test_errors_of_paths_on_fat_say_what_is_wrong(
        self, operation: int, path: str, error: ErrorCode, served: Any
    ) -> None:
        answer = served.request(operation, path, ebx=7)
        assert (answer.error, answer.registers.eax, answer.registers.ebx) == (error, error, 7)

    def test_a_path_that_is_not_utf8_is_a_bad_argument(self, served: Any) -> None:
        assert served.rehearsal.request(Operation.OPEN, b"\xff").error is ErrorCode.BAD_ARGUMENT
