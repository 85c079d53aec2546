"""Numbers and strings as DWARF writes them (DWARF 2.0.0, 7.6)."""


def text(value: str) -> bytes:
    """Return a terminated string."""
    return value.encode("utf-8", "replace") + b"\0"


def uleb(value: int) -> bytes:
    """Return an unsigned LEB128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def sleb(value: int) -> bytes:
    """Return a signed LEB128."""
    out = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        last = (value == 0 and not byte & 0x40) or (value == -1 and byte & 0x40)
        out.append(byte if last else byte | 0x80)
        if last:
            return bytes(out)
