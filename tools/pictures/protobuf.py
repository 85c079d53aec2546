"""Messages of Protocol Buffers as bytes: the wire format's three types that a trace needs.

The encoding is that of protobuf.dev, "Encoding": a field is a tag (number * 8 + type) and a value.  Three functions do
not want a library that has to be installed and imported; the tests read what they write with the official one.
"""

from __future__ import annotations

from typing import Final

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2


def varint(value: int) -> bytes:
    """Return a number of 0 to 2^64 - 1 in groups of seven bits, lowest first."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is not a number of 64 bits")
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def field(number: int, value: int | str | bytes) -> bytes:
    """Return a field: a number as varint, text or a message by its length."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    data = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return varint(number << 3 | LENGTH) + varint(len(data)) + data


def fixed64(number: int, value: int) -> bytes:
    """Return a field of eight bytes."""
    return varint(number << 3 | FIXED64) + value.to_bytes(8, "little")
