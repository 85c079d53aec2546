"""Bytes for the console out of memory: the UART sends what a bus master reads for it, up to a page at a time.

The driver writes the physical address of a piece (16 bytes: address, 64 bits; bytes, 32 bits, 1 to 4,096; zero) to the
port at `BASE`, 32 bits wide.  The bytes have been sent, after all that were written to the UART before, when the OUT
ends; a read of the port returns how many: 0 if the piece, or what it names, is not RAM or is too long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from callgate.kernel.machine.memory.bus import DeviceBase, DmaError

BASE = 0x400
PIECE = struct.Struct("<QII")
MOST = 4096  # bytes of a piece


class ConsoleDma(DeviceBase):
    """The bus master beside the UART."""

    name = "console-dma"
    ports = (range(BASE, BASE + 4),)

    def __init__(self, send: Callable[[bytes], None]) -> None:
        """`send` has the UART send bytes."""
        self.send = send
        self.count = 0

    def reset(self) -> None:
        """Nothing has been sent."""
        self.count = 0

    def port_write(self, port: int, size: int, value: int) -> None:
        """Send the piece at physical address `value`; a write of another size or port is none."""
        self.count = 0
        if (port, size) != (BASE, 4):
            return
        try:
            address, length, _ = PIECE.unpack(self.host.read_memory(value, PIECE.size))
            if length > MOST:
                return
            data = self.host.read_memory(address, length)
        except DmaError:
            return
        self.host.dma_done(address, length, to_memory=False)
        self.count = length
        self.send(data)

    def port_read(self, port: int, size: int) -> int:
        """Return how many bytes the last write has sent."""
        return self.count if (port, size) == (BASE, 4) else super().port_read(port, size)

    def save(self) -> object:
        """Return the count."""
        return self.count

    def load(self, state: Any) -> None:
        """Go back to a saved count."""
        self.count = state
