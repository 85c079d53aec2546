"""What names of FAT and exFAT have in common: UTF-16, 255 units, and characters that neither can hold."""

from callgate.disk.formatters.fat_layout import FormatError

NAME_LIMIT = 255  # UTF-16 units
_NEVER = frozenset('"*/:<>?\\|')


def check_characters(name: str, system: str) -> None:
    """Refuse a name that is too long for a file system, or holds what it cannot; FormatError says why."""
    try:
        units = len(name.encode("utf-16-le")) // 2
    except UnicodeEncodeError:
        raise FormatError(f"{name!r}: the name is not valid UTF-8; rename it") from None
    bad = sorted({character for character in name if character in _NEVER or ord(character) < 0x20})
    if bad:
        raise FormatError(f"{name!r}: {system} names cannot hold {' '.join(map(repr, bad))}; rename it")
    if units > NAME_LIMIT:
        raise FormatError(f"{name!r}: the name has {units} UTF-16 units, {system} allows {NAME_LIMIT}")
