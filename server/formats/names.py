"""Names of file systems as text that can be typed: what no UTF-8 text holds, or no path, is written as %NN.

The shell takes a backslash for a separator, as DOS does, so a name cannot keep one.
"""

from typing import Final

_ESCAPED_BYTES: Final = {0xDC00 + byte: f"%{byte:02X}" for byte in range(0x80, 0x100)}  # of "surrogateescape"
_SURROGATES: Final = {unit: f"%u{unit:04X}" for unit in range(0xD800, 0xE000)}
_BACKSLASH: Final = {ord("\\"): "%5C"}


def name_of_bytes(raw: bytes) -> str:
    r"""Return a name that should be UTF-8; bytes that are not, and ``\``, become ``%NN``.

    Where that changes a name, its own ``%`` become ``%25``, so that two names do not become one.  A name of 255 bytes
    takes at most 765 that way.
    """
    if raw.isascii() and b"\\" not in raw:
        return raw.decode("ascii")
    text = raw.decode("utf-8", "surrogateescape")
    return _escaped(text, _ESCAPED_BYTES | _BACKSLASH)


def path_of_bytes(raw: bytes) -> str:
    """Return a path, the target of a link say, each of whose names is as `name_of_bytes` makes it."""
    return "/".join(map(name_of_bytes, raw.split(b"/")))


def name_of_units(raw: bytes, byte_order: str) -> str:
    r"""Return a name in UTF-16, ``byte_order`` "le" or "be": lone surrogates become ``%uNNNN``, ``\`` ``%5C``."""
    text = raw[: len(raw) // 2 * 2].decode(f"utf-16-{byte_order}", "surrogatepass")
    return _escaped(text, _SURROGATES | _BACKSLASH)


def text_of_bytes(raw: bytes) -> str:
    """Return a text that is UTF-8 as all write it today, or else Latin-1 as it was of old."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def typeable(text: str) -> str:
    r"""Return a name without ``\``."""
    return _escaped(text, _BACKSLASH)


def _escaped(text: str, table: dict[int, str]) -> str:
    changed = text.translate(table)
    return text.replace("%", "%25").translate(table) if changed != text else text
