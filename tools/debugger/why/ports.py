"""What a read of a port brings: a byte that was typed, a byte of a disk, or a register of a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.disk.drives.ata import ON_MEDIA, SECTOR
from callgate.disk.ide.controller import COMMAND_BLOCKS, IdeController
from callgate.kernel.machine.devices.serial import BASE, DATA, Serial
from callgate.kernel.machine.memory.outside import Break, Input
from callgate.tools.debugger.why.transfers import command_in_words, place_in_words

if TYPE_CHECKING:
    from callgate.tools.debugger.history import History
    from callgate.tools.debugger.target import Target

SHOWN: Final = 40  # characters of what was typed


def by_port(target: Target, history: History, port: int, offset: int = 0) -> str:
    """Return in words what the next read of a port brings, and `offset` bytes into it; the system stands before it."""
    for device in target.machine.devices.values():
        if any(port in ports for ports in device.ports):
            found = ""
            if isinstance(device, Serial) and port == BASE + DATA:
                found = typed(history, len(device.state.received) + len(device.waiting))
            elif isinstance(device, IdeController) and port in COMMAND_BLOCKS:
                found = on_disk(target, device, COMMAND_BLOCKS.index(port), offset)
            return found or f"from the device {device.name!r}, by port {port:#x}"
    return f"from port {port:#x}, where there is no device"


def typed(history: History, unread: int) -> str:
    """Return which byte of the console's input comes next, where `unread` have come and not been read; "" if none."""
    sizes = [
        len(entry.what.data) if isinstance(entry.what, Input) else int(isinstance(entry.what, Break))
        for entry in history.occurred[: history.happened]
    ]
    index = sum(sizes) - unread
    if not unread or index < 0:
        return ""
    for entry, size in zip(history.occurred, sizes, strict=False):
        if index < size:
            if isinstance(entry.what, Break):
                return f"from the console: Ctrl-C at {entry.position}"
            text = entry.what.data.decode("utf-8", "replace") if isinstance(entry.what, Input) else ""
            shown = repr(text[:SHOWN]) + "…" * (len(text) > SHOWN)
            return f"from the console: byte {index} of {shown}, typed at {entry.position}"
        index -= size
    return ""


def on_disk(target: Target, controller: IdeController, channel_number: int, offset: int) -> str:
    """Return which byte of which disk a channel offers next; "" if none."""
    channel = controller.channels[channel_number]
    command = channel.command
    if command is None or command.code not in ON_MEDIA or not channel.buffer:
        return ""
    at = (command.first + channel.done) * SECTOR + channel.position + offset
    fields = {"code": command.code, "lba": command.first, "channel": channel_number}
    disk = 2 * channel_number + channel.active
    return f"{place_in_words(target.system.media, disk, at)}\n  by {command_in_words(fields)}"
