"""The numbers by which volumes on disks are known are written once, in kernel/abi/disks/volumes.py."""

import ast
import re
from pathlib import Path

from callgate.kernel.abi.disks import volumes

ROOT = Path(__file__).parents[2]
#: Small numbers, and one of which all bits are set, mean other things elsewhere.
KNOWN = {
    value: name
    for name, value in vars(volumes).items()
    if isinstance(value, bytes) or (isinstance(value, int) and 2048 < value < 0xFFFF_FFFF)
}

#: A literal of bytes, or an integer of more than three characters.
LITERAL = re.compile(r"\b[rR]?[bB][rR]?[\"']|\b(0[xX][\da-fA-F_]+|[1-9][\d_]{3,})")


def may_hold_one(text: str) -> bool:
    """Whether a source has literals of bytes or one of the integers at all: most have neither, and need no parser."""
    return any(not match[1] or int(match[1].rstrip("_"), 0) in KNOWN for match in LITERAL.finditer(text))


def written_again(value: object) -> str | None:
    """Return the name of the number that a literal is or, if it is of bytes, holds."""
    if isinstance(value, bytes):
        return next((name for known, name in KNOWN.items() if isinstance(known, bytes) and known in value), None)
    return KNOWN.get(value) if isinstance(value, int) else None


def test_a_number_by_which_a_volume_is_known_is_written_once() -> None:
    again = []
    for path in sorted(path for folder in ("disk", "server", "tools") for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if may_hold_one(text) else ():
            name = written_again(node.value) if isinstance(node, ast.Constant) else None
            if name is not None:
                again.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: import {name}")
    assert not again


def test_literals_of_these_numbers_are_found() -> None:
    sources = ["x = b'U\\xaa'", 'RB"CD001"', "if n < 4_085:", "(0xFF5,)", "n = 4086  # 4 thousand", "label = 'CD001'"]
    assert [may_hold_one(source) for source in sources] == [True, True, True, True, False, False]
    assert [written_again(value) for value in (b"\0\0\x55\xaa", 4085, b"CD001", 6, b"PK", "4085")] == [
        "BOOT_SIGNATURE",
        "FAT12_CLUSTERS",
        "ISO_IDENTIFIER",
        None,
        None,
        None,
    ]
