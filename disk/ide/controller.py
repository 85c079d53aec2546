"""An IDE controller with PIO only: two channels with two drives each at the ports of a PC (ATA8-APT).

The CPU copies every byte through the data port; it exists for comparison with the AHCI controller, which moves data by
itself. There is no bus master, so the drives report no DMA.
"""

from collections.abc import Sequence
from typing import Any

from callgate.disk.drives.latency import Latency
from callgate.disk.ide.channel import Channel
from callgate.disk.media import Medium
from callgate.kernel.abi.disks.ide import IDE_DRIVES
from callgate.kernel.machine.memory.bus import DeviceBase, Host

COMMAND_BLOCKS = (0x1F0, 0x170)
CONTROL_BLOCKS = (0x3F6, 0x376)
IRQS = (14, 15)


class IdeController(DeviceBase):
    """Both channels; drive number = 2 * channel + device."""

    name = "ide"
    emits = ("disk.command", "disk.complete", "disk.error", "disk.unplug")
    ports: Sequence[range] = tuple(
        ports
        for command, control in zip(COMMAND_BLOCKS, CONTROL_BLOCKS, strict=True)
        for ports in (range(command, command + 8), range(control, control + 1))
    )

    def __init__(self, media: Sequence[Medium | None], *, latency: Latency | None = None) -> None:
        """Connect `media`: primary device 0 and 1, secondary device 0 and 1; None is an empty place."""
        if len(media) > IDE_DRIVES:
            raise ValueError(f"an IDE controller has {IDE_DRIVES} drives, {len(media)} disks are given")
        self.latency = latency or Latency()
        places = [*media, *([None] * (IDE_DRIVES - len(media)))]
        self.channels = [
            Channel(number, IRQS[number], places[2 * number : 2 * number + 2], self.latency) for number in range(2)
        ]

    def attach(self, host: Host) -> None:
        """Keep the machine's side, for the channels too."""
        super().attach(host)
        for channel in self.channels:
            channel.host = host

    def reset(self) -> None:
        """Hardware reset of both channels."""
        for channel in self.channels:
            channel.reset()

    def port_read(self, port: int, size: int) -> int:
        """Read a register; the data register takes 16 or 32 bits, all others 8."""
        for channel, command, control in zip(self.channels, COMMAND_BLOCKS, CONTROL_BLOCKS, strict=True):
            if port == control:
                return channel.alternate_status()
            if port == command:
                return channel.read_data(size)
            if command < port < command + 8:
                return channel.read(port - command)
        return 0xFF

    def port_write(self, port: int, size: int, value: int) -> None:
        """Write a register."""
        for channel, command, control in zip(self.channels, COMMAND_BLOCKS, CONTROL_BLOCKS, strict=True):
            if port == control:
                channel.write_control(value & 0xFF)
            elif port == command:
                channel.write_data(size, value)
            elif command < port < command + 8:
                channel.write(port - command, value & 0xFF)

    def plug(self, number: int, medium: Medium) -> None:
        """Connect a drive; IDE has no sign for it."""
        self.channels[number >> 1].plug(number & 1, medium)

    def unplug(self, number: int) -> None:
        """Remove a drive; its command never ends."""
        self.channels[number >> 1].unplug(number & 1)

    def on_event(self, token: Any) -> None:
        """Let a drive continue: (channel, generation)."""
        number, generation = token
        self.channels[number].on_event(generation)

    def save(self) -> object:
        """Return registers and buffers as plain data; media are not part of it."""
        return tuple(channel.save() for channel in self.channels)

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        for channel, saved in zip(self.channels, state, strict=True):
            channel.load(saved)
