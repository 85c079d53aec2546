"""Disks that are removed at a time set beforehand: an event of the machine, so that runs repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.kernel.machine.memory.bus import DeviceBase

if TYPE_CHECKING:
    from callgate.disk.ahci.controller import AhciController
    from callgate.disk.ide.controller import IdeController


class HotPlug(DeviceBase):
    """Unplugs disks of one controller on the machine's clock."""

    name = "hot_plug"

    def __init__(self, controller: AhciController | IdeController) -> None:
        self.controller = controller

    def unplug_at(self, clock: int, disk: int) -> None:
        """Remove a disk when virtual time is `clock` nanoseconds; at once if it is later already."""
        self.host.schedule(max(0, clock - self.host.clock), disk)

    def on_event(self, token: Any) -> None:
        """Remove the disk with the number `token`."""
        self.controller.unplug(int(token))
