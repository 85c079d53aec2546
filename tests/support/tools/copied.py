"""Comparing a folder after a copy."""

from pathlib import Path

MODIFIED = 1_600_000_000


def content(root: Path) -> dict[str, bytes | None]:
    """Return the tree below a directory: a file's bytes, None for a directory."""
    return {
        str(path.relative_to(root)): None if path.is_dir() else path.read_bytes() for path in sorted(root.rglob("*"))
    }
