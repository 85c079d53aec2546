"""Is this image an archive?  Asked of its first and last bytes, which may be anything (APPNOTE.TXT 6.3.10)."""

from collections.abc import Iterator
from struct import Struct
from typing import ClassVar, Final

from callgate.server.hosted import Recogniser

END: Final = b"PK\5\6"
END64: Final = b"PK\6\6"
LOCATOR64: Final = b"PK\6\7"
LOCAL: Final = b"PK\3\4"
PART: Final = b"PK\7\x08"  # what the first part of several begins with, before a local header (8.5.4)
ONE_PART: Final = b"PK00"  # the same where only one part was needed after all (8.5.5)
SPLIT: Final = "a part of a split ZIP archive; join the parts (zip -s 0 in.zip --out out.zip)"
END_RECORD: Final = Struct("<4s4H2IH")
LOCATOR_RECORD: Final = Struct("<4sIQI")
_PROGRAMS: Final = (b"#!", b"MZ", b"\x7fELF")  # that read the archive which follows them
_VERSION_LIMIT, _METHOD_LIMIT, _NAME_LIMIT = 63, 99, 4096  # 4.4.3, 4.4.5; names that paths can hold are shorter
_LOCAL: Final = Struct("<4s3H16xH2x")  # signature, version needed, flags, method, length of the name


class ZipProbe(Recogniser):
    """Claims ZIP archives."""

    name: ClassVar[str] = "zip"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``zip`` if an image that begins with ``first`` is an archive; mounting finds out whether it is whole.

        A program that extracts itself is one if its first entry begins in ``first``, and else by its end.
        """
        if first[:4] in (LOCAL, END, END64) or first[:8] in (PART + LOCAL, ONE_PART + LOCAL):
            return "zip"
        return "zip" if first.startswith(_PROGRAMS) and _has_entry(first) else None

    @classmethod
    def probe_end(cls, last: bytes) -> str | None:
        """Return ``zip`` if an image that ends with ``last`` ends with an archive, whatever stands before it.

        Programs that extract themselves and signed packages have a prefix of any length.
        """
        return "zip" if any(disk == 0 for disk, _, _ in _end_records(last)) else None

    @classmethod
    def explain(cls, last: bytes) -> str | None:
        """Return a description if ``last`` ends the last part of a split archive: its beginning does not tell.

        The parts between the first and the last cannot be recognised.
        """
        return SPLIT if any(disk > 0 and here <= entries for disk, here, entries in _end_records(last)) else None


def _has_entry(first: bytes) -> bool:
    """Whether a local header is in ``first``; programs that read archives have its signature alone (4.3.7)."""
    at = first.find(LOCAL)
    while 0 <= at <= len(first) - _LOCAL.size:
        _, version, _, method, name_length = _LOCAL.unpack_from(first, at)
        if version <= _VERSION_LIMIT and method <= _METHOD_LIMIT and 0 < name_length <= _NAME_LIMIT:
            return True
        at = first.find(LOCAL, at + 1)
    return False


def _end_records(last: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (number of this part, entries in it, entries in all) of each end record that ``last`` may end with.

    After the record and its comment there are only zeros.
    """
    used = len(last.rstrip(b"\0"))
    at = last.rfind(END, 0, used)
    while at >= 0:
        if at + END_RECORD.size <= len(last):
            _, disk, _, here, entries, _, _, length = END_RECORD.unpack_from(last, at)
            locator = last[max(0, at - LOCATOR_RECORD.size) : at]
            if disk == 0xFFFF and locator.startswith(LOCATOR64) and len(locator) == LOCATOR_RECORD.size:
                disk = LOCATOR_RECORD.unpack(locator)[3] - 1
            if used <= at + END_RECORD.size + length <= len(last):
                yield disk, here, entries
        at = last.rfind(END, 0, at)
