"""The end of an AHCI command: bytes move between medium and memory, and the drive reports.

Errors of memory follow AHCI 1.3.1, section 6.1: a bad address is a host
bus error; a PRDT that is too short is an overflow (PxIS.OFS), after which a read continues with the data that fit,
while a write leaves the drive waiting for its data until it is reset.
"""

from __future__ import annotations

from typing import Protocol as Structural

from callgate.disk.ahci import fis as ahci_fis
from callgate.disk.ahci.dma import HEADER_SIZE, Fetched, Regions, regions, scatter
from callgate.disk.drives.ata import ON_MEDIA, READY, SECTOR, Protocol, Status
from callgate.disk.drives.drive import Drive, DriveError
from callgate.disk.media import MediumError
from callgate.kernel.abi.disks.ahci import CommandHeader, PortInterrupt
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.machine.memory.bus import DmaError, Host


class PortReports(Structural):
    """The interface of a port that a command needs at its end: its memory, and its reports (`port.Port`)."""

    host: Host
    clb: int
    clbu: int
    tfd: int
    running: dict[int, Fetched]

    def succeed(self, fetched: Fetched, tag: int) -> None:
        """A command has succeeded."""
        ...

    def fail(self, fetched: Fetched, tag: int, error: DriveError) -> None:
        """A command has failed."""
        ...

    def bus_error(self) -> None:
        """The bus master was given an address outside memory."""
        ...

    def unplug(self) -> None:
        """The drive has gone."""
        ...

    def receive(self, name: str, fis: bytes) -> None:
        """Leave a FIS in the received-FIS area."""
        ...

    def raise_causes(self, causes: PortInterrupt) -> None:
        """Set bits of PxIS."""
        ...


class Execution:
    """One command at its end."""

    def __init__(self, port: PortReports, drive: Drive, fetched: Fetched, tag: int) -> None:
        self.port = port
        self.drive = drive
        self.fetched = fetched
        self.command = fetched.command
        self.tag = tag
        self.host = port.host

    @property
    def protocol(self) -> Protocol:
        """How the command moves data; what is not known has been refused."""
        return self.command.protocol or Protocol.NON_DATA

    def run(self) -> None:
        """Carry the command out and report its end."""
        try:
            if self._move():
                self.port.succeed(self.fetched, self.tag)
        except DriveError as error:
            self.port.fail(self.fetched, self.tag, error)
        except MediumError:
            # Not a drive's error: there is no drive now.
            self.port.unplug()
        except DmaError:
            self._bus_error()

    def _bus_error(self) -> None:
        """The drive is not told: one with a plain command keeps waiting, and is busy until a reset."""
        if not self.protocol.queued:
            self.port.tfd = READY | Status.BSY
        self.port.bus_error()

    def _move(self) -> bool:
        """Move data and leave the FISes that report it; False if the command hangs."""
        if self.protocol == Protocol.NON_DATA:
            error, count = self.drive.non_data(self.command)
            self._report(error, count)
            return True
        if self.command.code in ON_MEDIA:
            return self._transfer()
        data = self.drive.data(self.command)
        found = regions(self.host, self.fetched, len(data))
        scatter(data, found.views)
        self._moved(found, len(data))
        return True

    def _transfer(self) -> bool:
        length = self.command.sectors * SECTOR
        found = regions(self.host, self.fetched, length)
        if self.protocol.queued:
            fis = ahci_fis.dma_setup(self.tag, length, to_host=self.protocol.reads)
            self.port.receive("dma_setup", fis)
        if found.missing and self.protocol.writes:
            self.port.tfd = READY | Status.BSY
            self.port.running[self.tag] = self.fetched
            self.port.raise_causes(PortInterrupt.OFS)
            return False
        if self.protocol.reads:
            self._read(found)
        else:
            self.drive.write(self.command.first, found.views)
        self._moved(found, length)
        return True

    def _read(self, found: Regions) -> None:
        """Read straight into memory; data that do not fit are dropped, with the rest of their sector."""
        rest = -found.length % SECTOR
        views = [*found.views, memoryview(bytearray(rest))] if rest else found.views
        if views:
            self.drive.read(self.command.first, views)

    def _moved(self, found: Regions, length: int) -> None:
        """Book a transfer and report it: PRDBC, descriptor interrupts, overflow, and the drive's last FIS."""
        for physical, size in found.places:
            self.host.dma_done(physical, size, to_memory=self.protocol.reads)
        if found.interrupt:
            self.port.raise_causes(PortInterrupt.DPS)
        if found.missing:
            self.port.raise_causes(PortInterrupt.OFS)
        if self.protocol.queued:
            return
        self._count(found.length)
        if self.protocol == Protocol.PIO_IN:
            busy = READY | Status.DRQ
            self.port.receive("pio_setup", ahci_fis.pio_setup(busy, READY, self.command, length))
            self.port.raise_causes(PortInterrupt.PSS)
        else:
            self._report(0, 0)

    def _count(self, length: int) -> None:
        """Update PRDBC, which queued commands do not have (4.2.2)."""
        header = (self.port.clb | self.port.clbu << 32) + HEADER_SIZE * self.fetched.slot
        place = header + offset_of(CommandHeader, "prdbc")
        self.host.memory(place, 4)[:] = length.to_bytes(4, "little")

    def _report(self, error: int, count: int) -> None:
        """Send the Register FIS that ends the command."""
        fis = ahci_fis.registers(READY, error, self.command, self.command.lba, count, interrupt=True)
        self.port.receive("d2h", fis)
        self.port.raise_causes(PortInterrupt.DHRS)
