"""A device with one register, for tests of what the CPU loads and stores, and when."""

from __future__ import annotations

from callgate.kernel.machine.memory.bus import DeviceBase

REGISTER = 0xFEB0_0000  # its physical address


class Register(DeviceBase):
    """A register at the end of the physical addresses.

    `loads` has address, size and clock of each load, `stores` address, size, value and clock of each store.
    """

    name = "register"
    mmio = ((REGISTER, 0x1000),)

    def __init__(self) -> None:
        self.loads: list[tuple[int, int, int]] = []
        self.stores: list[tuple[int, int, int, int]] = []

    def mmio_read(self, address: int, size: int) -> int:
        """Note the load, and return 7."""
        self.loads.append((address, size, self.host.clock))
        return 7

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Note the store."""
        self.stores.append((address, size, value, self.host.clock))
