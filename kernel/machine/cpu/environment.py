"""The engine's own record of the CPU, in which a hook may read and change state that has no register name.

It is what a saved context is a copy of (`machine.engine.context`), so the offsets are those of contexts.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu


class Environment:
    """The record of one engine."""

    def __init__(self, cpu: Cpu, address: int) -> None:
        """`address` is where it begins, 0 if unknown: then contexts are saved and restored instead."""
        self.cpu = cpu
        self.begin = address
        self.registers = cpu.layout.registers  # it begins with them

    @property
    def known(self) -> bool:
        """Whether its address is known."""
        return bool(self.begin)

    def address(self, offset: int) -> int:
        """Return where in memory the engine keeps what is at an offset of a saved context."""
        return self.begin + offset - self.registers

    def get(self, offset: int, size: int = 4) -> int:
        """Return a number of `size` bytes."""
        if self.begin:
            return int.from_bytes(ctypes.string_at(self.address(offset), size), "little")
        self.cpu.peek.save()
        return int.from_bytes(self.cpu.peek.view[offset : offset + size], "little")

    def put(self, offset: int, value: int, size: int = 4) -> None:
        """Change a number of `size` bytes."""
        data = value.to_bytes(size, "little")
        if self.begin:
            ctypes.memmove(self.address(offset), data, size)
            return
        self.cpu.peek.save()
        self.cpu.peek.view[offset : offset + size] = data
        self.cpu.peek.restore()
