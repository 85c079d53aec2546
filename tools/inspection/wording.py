"""Numbers of things in words."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one: "1 byte", "4 bytes"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
