"""Files with a checksum, in which one run keeps for the next what takes long to find out.

A file is a SHA-256 in hexadecimal digits, a new line, and the content.  It is written in one step; one that is damaged
is as good as none.
"""

import hashlib
from pathlib import Path

CHECKSUM_SIZE = 64


def read_checked(path: Path) -> bytes | None:
    """Return the content of a file; None if it is damaged.  OSError if it cannot be read."""
    stored = path.read_bytes()
    content = stored[CHECKSUM_SIZE + 1 :]
    return content if checksum(content) == stored[:CHECKSUM_SIZE] else None


def write_checked(path: Path, content: bytes) -> None:
    """Write a file, and the folders it lies in; that it cannot be written is no error."""
    import tempfile

    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, delete=False) as file:
            temporary = file.name
            file.write(checksum(content) + b"\n" + content)
        Path(temporary).replace(path)
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def checksum(content: bytes) -> bytes:
    """Return the digits of a content."""
    return hashlib.sha256(content).hexdigest().encode()
