"""Names: 8.3 names, long names, and the comparison of spellings.

Sections "FAT Directory Structure" (DIR_Name), "FAT Long Directory Entries", "Name Limits and Character
Sets" and "Name Matching In Short & Long Names".
"""

from typing import Final

from callgate.server.fat.structures import (
    LONG_NAME_LIMIT,
    NT_LOWER_BASE,
    NT_LOWER_EXTENSION,
    RECORD_FREE,
    RECORD_KANJI_E5,
)

OEM_CODE_PAGE: Final = "cp437"
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_CONTROLS: Final = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_UNREACHABLE: Final = _CONTROLS | {"/", "\\"}
_TO_UNDERSCORE: Final = dict.fromkeys(map(ord, _UNREACHABLE), "_")


def short_name(raw: bytes, nt_case: int = 0) -> str:
    """Return the 8.3 name of the 11 bytes of DIR_Name; "" if they are blank.

    Characters that no path can hold or no terminal should see become ``_``.
    """
    if raw[0] == RECORD_KANJI_E5:
        raw = bytes([RECORD_FREE]) + raw[1:]
    base = raw[:8].decode(OEM_CODE_PAGE).rstrip(" ")
    extension = raw[8:11].decode(OEM_CODE_PAGE).rstrip(" ")
    if nt_case & NT_LOWER_BASE:
        base = base.lower()
    if nt_case & NT_LOWER_EXTENSION:
        extension = extension.lower()
    name = f"{base}.{extension}" if extension else base
    return name if _UNREACHABLE.isdisjoint(name) else name.translate(_TO_UNDERSCORE)


def volume_label(raw: bytes) -> str:
    """Return the label of its 11 bytes, without control characters."""
    if raw[:1] == bytes([RECORD_KANJI_E5]):
        raw = bytes([RECORD_FREE]) + raw[1:]
    label = raw.decode(OEM_CODE_PAGE).partition("\0")[0].rstrip(" ")
    return "".join("_" if character in _CONTROLS else character for character in label)


def checksum(raw: bytes) -> int:
    """Return the checksum of DIR_Name that every piece of its long name carries (ChkSum)."""
    total = 0
    for byte in raw:
        total = ((total >> 1 | total << 7) + byte) & 0xFF
    return total


def decode_long_name(units: bytes) -> str | None:
    """Return the name in UTF-16LE ``units`` (all pieces in order), or None if it is not a name.

    It ends at the first NUL; what follows is padding.  Lone surrogates become U+FFFD.
    """
    text = units.decode("utf-16-le", "surrogatepass")
    name, nul, _ = text.partition("\0")
    if not nul and len(units) // 2 > LONG_NAME_LIMIT:
        return None
    if not name or name in {".", ".."} or utf16_length(name) > LONG_NAME_LIMIT:
        return None
    if not _UNREACHABLE.isdisjoint(name):
        return None
    return "".join(REPLACEMENT if "\ud800" <= character <= "\udfff" else character for character in name)


def utf16_length(name: str) -> int:
    """Return the number of UTF-16 units of ``name``."""
    return len(name) + sum(character > "\uffff" for character in name)


def fold(name: str) -> str:
    """Return the key by which names are compared: Unicode simple case folding.

    Full folding would make one character two ("ß" and "ss"), which the specification's upper-case tables
    never do.
    """
    if name.isascii():
        return name.lower()
    return "".join(map(_fold_character, name))


def _fold_character(character: str) -> str:
    folded = character.casefold()
    if len(folded) == 1:
        return folded
    lower = character.lower()
    return lower if len(lower) == 1 else character


def strip_trailing(name: str) -> str:
    """Return ``name`` without trailing dots and spaces, which are ignored in names that a user writes."""
    return name.rstrip(". ")
