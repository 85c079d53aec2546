"""The command that shows what each AHCI port works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.disk.ahci.controller import AhciController
from callgate.disk.ahci.port import BUSY
from callgate.disk.drives.ata import ON_MEDIA, Code, Command
from callgate.kernel.abi.disks.ahci import AHCI_SLOTS
from callgate.tools.debugger.commands.language import Desk, command
from callgate.tools.debugger.commands.moving import nothing

if TYPE_CHECKING:
    from callgate.disk.ahci.port import Port
    from callgate.tools.debugger.workbench.workbench import Workbench


@command("disk|disks|info disks", "", "the commands that each AHCI port works on, and its registers")
def disk(desk: Desk, rest: str) -> None:
    """Show the disks' queues."""
    nothing(rest)
    desk.show(disk_lines(desk.bench))


def disk_lines(bench: Workbench) -> list[str]:
    """Return the ports of the AHCI controller: registers, 32 command slots, and the commands under way."""
    controllers = [device for device in bench.machine.devices.values() if isinstance(device, AhciController)]
    lines = [found for controller in controllers for port in controller.drives for found in port_lines(port)]
    return lines or ["no AHCI controller is attached"]


def port_lines(port: Port) -> list[str]:
    """Return one port."""
    letters = "".join(
        "Q" if port.sact >> slot & 1 else "I" if port.ci >> slot & 1 else "-" for slot in range(AHCI_SLOTS)
    )
    drive = "no drive" if port.drive is None else f"{port.drive.medium.sector_count:,} sectors"
    values = {
        "PxCMD": port.command_and_status,
        "PxTFD": port.tfd,
        "PxSACT": port.sact,
        "PxCI": port.ci,
        "PxIS": port.is_,
    }
    lines = [
        f"port {port.number}, {drive}{', halted by an error' if port.halted else ''}",
        f"  slots  {letters}  - free, I issued, Q queued",
        f"  {'  '.join(f'{name} {value:08x}' for name, value in values.items())}",
    ]
    for tag, fetched in sorted(port.running.items()):
        slot = "" if tag == BUSY else f", tag {tag}"
        lines.append(f"  slot {fetched.slot}{slot}: {described(fetched.command)}, {fetched.prdt_length} regions")
    return lines


def described(found: Command) -> str:
    """Return an ATA command in words."""
    name = Code(found.code).name if found.code in list(Code) else f"command {found.code:#04x}"
    return f"{name}, sector {found.lba:,}" if found.code in ON_MEDIA else name
