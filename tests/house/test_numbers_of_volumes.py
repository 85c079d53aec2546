"""The numbers by which volumes on disks are known are written once, in kernel/abi/disks/volumes.py."""

import ast
from pathlib import Path

from callgate.kernel.abi.disks import volumes

ROOT = Path(__file__).parents[2]
#: Small numbers, and one of which all bits are set, mean other things elsewhere.
KNOWN = {
    value: name
    for name, value in vars(volumes).items()
    if isinstance(value, bytes) or (isinstance(value, int) and 2048 < value < 0xFFFF_FFFF)
}


def written_again(value: object) -> str | None:
    """Return the name of the number that a literal is or, if it is of bytes, holds."""
    if isinstance(value, bytes):
        return next((name for known, name in KNOWN.items() if isinstance(known, bytes) and known in value), None)
    return KNOWN.get(value) if isinstance(value, int) else None


def test_a_number_by_which_a_volume_is_known_is_written_once() -> None:
    again = []
    for path in sorted(path for folder in ("disk", "server", "tools") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            name = written_again(node.value) if isinstance(node, ast.Constant) else None
            if name is not None:
                again.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: import {name}")
    assert not again


def test_literals_of_these_numbers_are_found() -> None:
    assert [written_again(value) for value in (b"\0\0\x55\xaa", 4085, b"CD001", 6, b"PK", "4085")] == [
        "BOOT_SIGNATURE",
        "FAT12_CLUSTERS",
        "ISO_IDENTIFIER",
        None,
        None,
        None,
    ]
