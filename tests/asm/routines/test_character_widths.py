"""The shell's columns of characters against the C library's `wcwidth`, and its UTF-8 decoder against Python's."""

import ctypes
import locale
import random
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import callgate.asm.user
import pytest
from callgate.tools.documents import character_widths

SOURCES = '        .include "text_width.asm"\n        .include "character_widths.asm"\n'
REST = """
put_bytes:
put_character:
        ret
"""
TEXT = 0x20000
NO_CHARACTER = 0xFFFFFFFF

# Characters on whose columns C libraries and releases of Unicode differ: separators, which the shell shows as question
# marks; circled numbers; trigrams, hexagrams and other signs of divination, and counting rods, wide from Unicode 16 on.
CONTESTED = {
    *range(0x2028, 0x202A),
    *range(0x2630, 0x2638),
    *range(0x268A, 0x2690),
    *range(0x3248, 0x3250),
    *range(0x4DC0, 0x4E00),
    *range(0x1D300, 0x1D377),
}


@pytest.fixture
def text(bare_cpu):
    bare_cpu.load(SOURCES + REST)
    return bare_cpu


@pytest.fixture
def c_library() -> Iterator[ctypes.CDLL]:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        library = ctypes.CDLL(None)
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
        assert library.wcwidth(ord("a")) == 1
    except (AttributeError, OSError, TypeError, locale.Error):
        pytest.skip("the C library has no wcwidth or no locale C.UTF-8")
    yield library
    locale.setlocale(locale.LC_CTYPE, before)


def assigned() -> Iterator[int]:
    """Yield the characters of which Python's database knows something, but for control characters and surrogates."""
    for code in range(0x20, 0xE0200):  # above them are characters of private use only
        if unicodedata.category(chr(code)) not in {"Cn", "Cs", "Co", "Cc"}:
            yield code


def test_the_table_is_what_its_tool_prints() -> None:
    path = Path(callgate.asm.user.__path__[0]) / "library" / "character_widths.asm"
    table = path.read_text()
    if f"Unicode {unicodedata.unidata_version}." not in table:
        pytest.skip(f"the table is of another release of Unicode than this Python's, {unicodedata.unidata_version}")
    assert table == character_widths.source()


@pytest.mark.thorough(only=True)
def test_characters_take_the_columns_that_the_c_library_says(c_library: ctypes.CDLL) -> None:
    theirs = {code: c_library.wcwidth(code) for code in assigned()}
    known = {
        code: columns for code, columns in theirs.items() if columns >= 0
    }  # the others are newer than the C library
    assert len(known) > 130_000, "the C library knows next to nothing"
    differ = {f"U+{code:04X}": columns for code, columns in known.items() if columns != character_widths.width(code)}
    assert not differ.keys() - {f"U+{code:04X}" for code in CONTESTED}


@pytest.mark.thorough(only=True)
def test_the_guest_finds_the_columns_at_both_ends_of_every_run(text) -> None:
    """The table is that of its tool, whatever release of Unicode this Python has: the runs are read from the guest."""
    begin, end = (text.address(name) for name in ("character_widths", "character_widths_end"))
    data = text.read(begin, end - begin)
    entries = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
    assert entries == sorted(entries)
    most = 0
    for entry, following in zip(entries, [*entries[1:], (character_widths.LAST + 1) << 2], strict=True):
        for code in (entry >> 2, (following >> 2) - 1):
            result = text.call("character_width", eax=code)
            assert result.eax == (entry & 3 if code >= 0x300 else 1), hex(code)
            most = max(most, result.instructions)
    assert most <= 110


def decoded(cpu, data: bytes) -> str:
    """Decode as the guest does; a byte that is part of no character becomes the surrogate that Python makes of it."""
    characters, at = [], 0
    cpu.write(TEXT, data)
    while at < len(data):
        result = cpu.call("decode_character", esi=TEXT + at, ecx=len(data) - at)
        if result.eax == NO_CHARACTER:
            assert result.edx == 1
            characters.append(chr(0xDC00 + data[at]))
        else:
            characters.append(chr(result.eax))
        assert not (result.CF and result.eax != NO_CHARACTER)
        at += result.edx
    assert at == len(data)
    return "".join(characters)


BYTES = b"a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xe1\xed\xef\xf0\xf1\xf4\xf5\xff"
TEXTS = [
    "aß日🙂\u0301\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff".encode(),
    b"\xc0\x80\xe0\x80\x80\xe0\x9f\xbf\xf0\x80\x80\x80\xf0\x8f\xbf\xbf",  # overlong
    b"\xed\xa0\x80\xed\xbf\xbf\xf4\x90\x80\x80\xf5\x80\x80\x80\xf8\x88\x80\x80\x80",  # surrogates, above U+10FFFF
    b"\x80\xbf\xe6\x97a\xe6\xe6\x97\xa5\xa5\xf0\x9f\x99",  # lone bytes, characters cut short
]


def test_bytes_are_decoded_as_python_decodes_them(text, some_of) -> None:
    dice = random.Random(2026)
    for data in [*TEXTS, *(bytes(dice.choices(BYTES, k=dice.randrange(1, 9))) for _ in some_of(range(600), 3))]:
        assert decoded(text, data) == data.decode("utf-8", "surrogateescape"), data


def test_a_text_takes_the_columns_of_its_characters(text) -> None:
    def columns(data: bytes) -> int:
        text.write(TEXT, data)
        return text.call("text_columns", esi=TEXT, ecx=len(data)).eax

    assert columns("aß".encode()) == 2
    assert columns("日本語".encode()) == 6
    assert columns("e\u0301\u200d".encode()) == 1
    assert columns(b"\x1b\x9b\xe6\x97") == 4, "a question mark for each"
    assert columns(b"") == 0
