"""A device with one register, for tests of what the CPU loads, and when."""

from __future__ import annotations

from callgate.kernel.machine.memory.bus import DeviceBase


class Register(DeviceBase):
    """A register at the end of the physical addresses; `loads` has address, size and clock of each load."""

    name = "register"
    mmio = ((0xFEB0_0000, 0x1000),)

    def __init__(self) -> None:
        self.loads: list[tuple[int, int, int]] = []

    def mmio_read(self, address: int, size: int) -> int:
        """Note the load, and return 7."""
        self.loads.append((address, size, self.host.clock))
        return 7
