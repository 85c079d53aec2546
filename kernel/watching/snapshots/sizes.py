"""The memory that snapshots take together, of which they share most."""


class Total:
    """The bytes of all copies that there are, whatever snapshots share them."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Sized:
    """A copy, which is counted in a total for as long as something refers to it."""

    __slots__ = ("size", "total")

    def __init__(self, total: Total) -> None:
        self.total = total
        self.size = 0  # bytes, about

    def take(self, size: int) -> None:
        """Note that it takes a number of bytes more."""
        self.size += size
        self.total.bytes += size

    def __del__(self) -> None:
        self.total.bytes -= self.size
