"""Control blocks as policy reads and writes them: 32-bit words of low memory, by field name.

`Field` turns a layout's field into a word index once, at import; an access is then one index into a
memoryview, about 50 ns.
"""

from ctypes import Array, c_uint8

from callgate.kernel.abi.layout import Layout, offset_of


def word(layout: type[Layout], field: str) -> int:
    """Return the word index of a 32-bit field within its structure."""
    offset = offset_of(layout, field)
    if offset % 4 or getattr(layout, field).size != 4:
        raise ValueError(f"{layout.__name__}.{field} is not an aligned 32-bit word")
    return offset // 4


class ControlBlock:
    """A structure in low memory, seen as 32-bit words.

    `block["esp"]` reads a field, `block["esp"] = value` writes it; only aligned 32-bit fields.
    """

    __slots__ = ("base", "layout", "words")

    def __init__(self, words: memoryview, layout: type[Layout], base: int) -> None:
        """Overlay `layout` on the words from index `base`."""
        self.words = words
        self.layout = layout
        self.base = base

    def __getitem__(self, field: str) -> int:
        return int(self.words[self.base + word(self.layout, field)])

    def __setitem__(self, field: str, value: int) -> None:
        self.words[self.base + word(self.layout, field)] = value & 0xFFFF_FFFF


def field_text(value: bytes, size: int) -> Array[c_uint8]:
    """Return `value` as a terminated field of `size` bytes, cut if need be."""
    return (c_uint8 * size)(*value[: size - 1])
