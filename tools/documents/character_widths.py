"""Print asm/user/library/character_widths.asm: how many columns of a terminal each character takes.

    python -m callgate.tools.documents.character_widths > asm/user/library/character_widths.asm

The source is the Unicode database of Python, whose version the file names.

0 columns: marks that take no room (categories Mn, Me), format characters (Cf) but for the soft hyphen and those that
enclose the digits after them, and the vowels and final consonants of Hangul, which join the syllable before.

2 columns: East Asian wide and fullwidth characters (Unicode Standard Annex #11), and the blocks that it reserves for
such.  All others take 1, those of private use and those that are not assigned, too.

Characters count one by one, as terminals count them: what several make together (emoji that are joined, flags) is as
wide as their sum.
"""

import unicodedata
from collections.abc import Iterator
from typing import Final

LAST: Final = 0x10FFFF
VISIBLE: Final = {0xAD, *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}  # of category Cf
JAMO: Final = {*range(0x1160, 0x1200), *range(0xD7B0, 0xD7FC)}
RESERVED: Final = {  # wide, assigned or not
    *range(0x3400, 0x4DC0),
    *range(0x4E00, 0xA000),
    *range(0xF900, 0xFB00),
    *range(0x20000, 0x2FFFE),
    *range(0x30000, 0x3FFFE),
}
A_ROW: Final = 6


def width(code: int) -> int:
    """Return the columns of a character, 0 to 2; of a control character, 1."""
    character = chr(code)
    category = unicodedata.category(character)
    if category in {"Cn", "Cs", "Co"}:  # the database's width of these differs between releases of Python
        return 2 if code in RESERVED else 1
    if category in {"Mn", "Me", "Cf"} or code in JAMO:
        return 1 if code in VISIBLE else 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def steps() -> Iterator[tuple[int, int]]:
    """Yield (first character, columns) wherever the columns change."""
    last = None
    for code in range(LAST + 1):
        columns = width(code)
        if columns != last:
            yield code, columns
            last = columns


def source() -> str:
    """Return the file."""
    entries = [f"{code << 2 | columns:#08x}" for code, columns in steps()]
    rows = [", ".join(entries[at : at + A_ROW]) for at in range(0, len(entries), A_ROW)]
    lines = [
        "; Printed by `python -m callgate.tools.documents.character_widths`: the columns that characters take.",
        f"; Unicode {unicodedata.unidata_version}.  An entry: the first character of a run, times 4, and its columns.",
        "        .rodata",
        "        .align  4",
        "character_widths:",
        *(f"        .long   {row}" for row in rows),
        "character_widths_end:",
        "        .text",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(source(), end="")
