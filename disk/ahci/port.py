"""One AHCI port: its registers, its engines, and what it reports (AHCI 1.3.1, sections 3.3, 5, 6, 10.3).

Issued commands are fetched at once, one after the other.  A queued command leaves PxCI when the drive has
accepted it and PxSACT when it ends; any other keeps the drive busy until it ends.  Commands end by events on
the machine's clock, so a run depends only on the commands and their times.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from callgate.disk.ahci import bits
from callgate.disk.ahci import fis as ahci_fis
from callgate.disk.ahci.dma import Fetched, FrameError, fetch
from callgate.disk.ahci.execution import Execution
from callgate.disk.drives.ata import ON_MEDIA, READY, Command, Fault, Status
from callgate.disk.drives.drive import NOT_QUEUED, Drive, DriveError, error_log
from callgate.kernel.abi.disks.ahci import AHCI_SIGNATURE_ATA, AHCI_SLOTS, PortCommand, PortInterrupt, ReceivedFis
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from callgate.disk.drives.latency import Latency
    from callgate.disk.media import Medium
    from callgate.kernel.machine.memory.bus import Host

BUSY = -1  # the "tag" of a command that is not queued

STATE = (
    *("clb", "clbu", "fb", "fbu", "ie", "cmd", "tfd", "sig", "sctl", "serr", "sact", "ci"),
    *("causes", "slot", "last", "generation", "halted", "resetting", "link_free"),
)
STATE_OF = attrgetter(*STATE)


class Port:
    """A port and its drive."""

    host: Host  # the controller's, from the moment it is attached

    def __init__(self, number: int, medium: Medium | None, latency: Latency, *, ncq: bool) -> None:
        self.number = number
        self.latency = latency
        self.ncq = ncq
        self.drives: list[Drive] = []  # all that were ever connected, so that a snapshot can name them
        self.drive = self._drive(medium)
        self.clb = self.clbu = self.fb = self.fbu = 0
        self.ie = self.sctl = self.serr = self.sact = self.ci = 0
        self.cmd, self.tfd, self.sig = bits.ALWAYS, bits.NO_DRIVE, bits.NO_SIGNATURE
        self.causes = 0  # PxIS without the bits that mirror PxSERR
        self.slot = 0  # PxCMD.CCS
        self.last = AHCI_SLOTS - 1  # pSlotLoc: the search for an issued slot begins after it
        self.generation = 0  # counts events that drop commands: those begun before never end
        self.halted = False  # an error or an unplug: nothing is done until PxCMD.ST has been cleared
        self.resetting = False  # between the two halves of a software reset
        self.link_free = 0  # when the link has carried the data requested so far
        self.running: dict[int, Fetched] = {}  # by tag; BUSY for a command that is not queued

    def _drive(self, medium: Medium | None) -> Drive | None:
        if medium is None:
            return None
        self.drives.append(Drive(medium, f"CG{self.number:08}", sata=True, ncq=self.ncq))
        return self.drives[-1]

    @property
    def medium(self) -> Medium | None:
        """The medium of the drive."""
        return self.drive.medium if self.drive else None

    # Registers.

    @property
    def is_(self) -> int:
        """PxIS: bits.PCS and bits.PRCS show bits of PxSERR and are cleared there (3.3.5)."""
        causes = self.causes
        if self.serr & bits.SERR_EXCHANGED:
            causes |= bits.PCS
        if self.serr & bits.SERR_PHY_CHANGED:
            causes |= bits.PRCS
        return causes

    @property
    def ssts(self) -> int:
        """PxSSTS (3.3.10)."""
        detection = self.sctl & bits.DET_MASK
        if detection == bits.DET_OFFLINE:
            return bits.SSTS_OFFLINE
        return bits.SSTS_PRESENT if self.drive and detection != bits.DET_RESET else 0

    def reset(self) -> None:
        """HBA reset: all but the addresses of the memory areas, and a COMRESET (10.4.3)."""
        self.ie = self.sctl = self.serr = self.causes = 0
        self.stop()
        self.cmd = bits.ALWAYS
        self._drop()
        self._comreset()

    @property
    def command_and_status(self) -> int:
        """PxCMD as it is read (3.3.7): with the slot of the current command, and MPSS where no drive is connected."""
        current = self.slot << bits.CCS_SHIFT if self.cmd & PortCommand.ST else 0
        return int(self.cmd | current | (PortCommand.MPSS if self.drive is None else 0))

    def write(self, name: str, value: int) -> None:
        """Take a register write."""
        if name in ALIGNMENTS:
            setattr(self, name, value & ~ALIGNMENTS[name])
        elif name in WRITERS:
            WRITERS[name](self, value)

    def _write_causes(self, value: int) -> None:
        self.causes &= ~value

    def _write_errors(self, value: int) -> None:
        self.serr &= ~value

    def _write_enables(self, value: int) -> None:
        self.ie = value & bits.CAUSES

    def _write_active(self, value: int) -> None:
        """PxSACT: software sets bits before it issues, only the drive clears them (3.3.13)."""
        if self.cmd & PortCommand.ST:
            self.sact |= value

    def _write_issue(self, value: int) -> None:
        if self.cmd & PortCommand.ST:
            self.ci |= value
            self.advance()

    def _write_control(self, value: int) -> None:
        """PxSCTL: DET 1 holds the drive in reset, 0 after it releases it, 4 puts it offline (3.3.11)."""
        before, self.sctl = self.sctl & bits.DET_MASK, value & 0xFFF
        after = self.sctl & bits.DET_MASK
        if before == after:
            return
        if after in (bits.DET_RESET, bits.DET_OFFLINE):
            self._drop()
            self.tfd, self.sig = bits.NO_DRIVE, bits.NO_SIGNATURE
            self.serr |= bits.SERR_PHY_CHANGED if self.drive else 0
        else:
            self._comreset()

    def _write_command(self, value: int) -> None:
        """PxCMD: starting and stopping the command list and FIS engines (10.3)."""
        if self.cmd & PortCommand.ST and not value & PortCommand.ST:
            self.stop()
        cmd = bits.ALWAYS | value & int(PortCommand.ST | PortCommand.FRE)
        # FISes are received as long as the command list runs, which it does not without them.
        cmd |= int(PortCommand.FR) if cmd & (PortCommand.FRE | PortCommand.ST) else 0
        cmd |= int(PortCommand.CR) if cmd & PortCommand.ST else 0
        fresh = cmd & PortCommand.FR and not self.cmd & PortCommand.FR
        self.cmd = cmd
        if fresh and self.drive and self.sig != bits.NO_SIGNATURE and self.tfd == READY:
            self.receive("d2h", ahci_fis.signature(READY))

    def stop(self) -> None:
        """ST cleared: PxCI and PxSACT are forgotten (3.3.7, 3.3.14); a busy drive stays so until a reset."""
        self.ci = self.sact = self.slot = 0
        self.last = AHCI_SLOTS - 1
        self.halted = False
        self._drop()

    def _drop(self) -> None:
        """Forget what is running."""
        self.running.clear()
        self.generation += 1
        self.link_free = 0

    def _comreset(self) -> None:
        """End of COMRESET: a drive sends its signature and is ready (10.4.2)."""
        self._drop()
        self.ci = self.sact = 0 if not self.cmd & PortCommand.ST else self.ci
        self.resetting = False
        self.tfd, self.sig = bits.NO_DRIVE, bits.NO_SIGNATURE
        if self.drive and self.sctl & bits.DET_MASK not in (bits.DET_RESET, bits.DET_OFFLINE):
            self.drive.reset()
            self.serr |= bits.SERR_EXCHANGED
            self._sign()

    def _sign(self) -> None:
        """The drive's first FIS after a reset."""
        self.tfd, self.sig = READY | 1 << 8, AHCI_SIGNATURE_ATA
        self.receive("d2h", ahci_fis.signature(READY))

    # Hot plug.

    def plug(self, medium: Medium) -> None:
        """Connect a drive: PxSERR.DIAG.X and N tell (7.3), and the switch does (3.3.5, DMPS)."""
        self.drive = self._drive(medium)
        self.causes |= bits.DMPS
        self.serr |= bits.SERR_PHY_CHANGED
        self._comreset()

    def unplug(self) -> None:
        """Remove the drive: no issued command ends, and PxCI stays as it is."""
        if self.drive is None:
            return
        self.drive = None
        self._drop()
        self.halted = bool(self.cmd & PortCommand.ST)
        self.tfd, self.sig = bits.NO_DRIVE, bits.NO_SIGNATURE
        self.causes |= bits.DMPS
        self.serr |= bits.SERR_PHY_CHANGED
        self.host.emit("disk.unplug", port=self.number)

    # Commands.

    def advance(self) -> None:
        """Fetch issued commands, until one keeps the drive busy."""
        while self.ci and self.drive and not self.halted and not self.tfd & (Status.BSY | Status.DRQ):
            self.slot = self.last = self._next_slot()
            try:
                self._begin(fetch(self.host, self.clb | self.clbu << 32, self.slot))
            except DmaError:
                self.bus_error()
            except FrameError:
                self.serr |= bits.SERR_HANDSHAKE
                self.halt(PortInterrupt.IFS)

    def _next_slot(self) -> int:
        """Return the next issued slot after the last one, round the list (5.3.6, P:SelectCmd)."""
        behind = self.ci >> self.last + 1 << self.last + 1
        pending = behind or self.ci
        return (pending & -pending).bit_length() - 1

    def _begin(self, fetched: Fetched) -> None:
        if not fetched.is_command:
            self._control(fetched)
            return
        assert self.drive is not None
        command = fetched.command
        self.host.emit("disk.command", port=self.number, slot=fetched.slot, code=command.code, lba=command.lba)
        try:
            self.drive.check(command)
            self._check_queue(fetched)
        except DriveError as error:
            self.fail(fetched, BUSY, error)
            return
        protocol = command.protocol
        if protocol is not None and protocol.queued:
            self.running[command.tag] = fetched
            self.ci &= ~(1 << fetched.slot)
            self.tfd = READY
            self.receive("d2h", ahci_fis.registers(READY, 0, command, 0, 0, interrupt=False))
            self._schedule(command.tag, command)
        else:
            self.running[BUSY] = fetched
            self.tfd = READY | Status.BSY
            self._schedule(BUSY, command)

    def _check_queue(self, fetched: Fetched) -> None:
        """Refuse commands that mix queued ones with others, or use a tag twice (SATA 3.1, 13.6.3)."""
        command = fetched.command
        protocol = command.protocol
        if not self.running:
            return
        if protocol is None or not protocol.queued or command.tag in self.running:
            self._drop()
            assert self.drive is not None
            self.drive.queue_error = error_log(NOT_QUEUED, READY | Status.ERR, Fault.ABRT, 0, 0)
            raise DriveError(Fault.ABRT, "queued commands are outstanding")

    def _control(self, fetched: Fetched) -> None:
        """Device control: SRST set and cleared again is a software reset (10.4.1)."""
        self.ci &= ~(1 << fetched.slot)
        if fetched.soft_reset:
            self.resetting = True
            self._drop()
            self.tfd = READY if fetched.clear_busy else READY | Status.BSY
        elif self.resetting:
            self.resetting = False
            if self.drive:
                self.drive.queue_error = b""
            self._sign()

    def _schedule(self, tag: int, command: Command) -> None:
        """Have a command end: positioning overlaps, the link carries one transfer after the other."""
        latency, host = self.latency, self.host
        sectors = command.sectors if command.code in ON_MEDIA else 0
        access = latency.command
        if sectors and self.medium is not None:
            access += self.medium.delay(command.first, sectors)
        end = max(host.clock + access, self.link_free) + max(1, sectors * latency.sector)
        # A slow sector keeps its own command waiting, not the link.
        self.link_free = max(host.clock + latency.command, self.link_free) + max(1, sectors * latency.sector)
        if latency.reorder and tag != BUSY:
            end += (AHCI_SLOTS - 1 - tag) * max(1, latency.command // AHCI_SLOTS + AHCI_SLOTS)
        host.schedule(end - host.clock, (self.number, tag, self.generation))

    def complete(self, tag: int, generation: int) -> None:
        """End a command that is due: carry it out and report."""
        fetched = self.running.pop(tag, None) if generation == self.generation else None
        if fetched is not None and self.drive is not None:
            Execution(self, self.drive, fetched, tag).run()
            self.advance()

    # Reports.

    def succeed(self, fetched: Fetched, tag: int) -> None:
        """A command has succeeded; the drive's data are in memory already."""
        if tag == BUSY:
            self.ci &= ~(1 << fetched.slot)
            self.tfd = READY
        else:
            self.sact &= ~(1 << tag)
            self.tfd = self.tfd & int(Status.BSY) | READY
            self.receive("sdb", ahci_fis.device_bits(READY, 0, 1 << tag))
            self.raise_causes(PortInterrupt.SDBS)
        self.host.emit("disk.complete", port=self.number, slot=fetched.slot)

    def fail(self, fetched: Fetched, tag: int, error: DriveError) -> None:
        """A command has failed: the port halts until ST is cleared; PxCI or PxSACT name it (6.2.2)."""
        command = fetched.command
        self.tfd = error.status | error.error << 8
        if tag == BUSY:
            count = command.count
            fis = ahci_fis.registers(
                error.status, error.error, command, error.lba or command.lba, count, interrupt=True
            )
            self.receive("d2h", fis)
            self.halt(PortInterrupt.DHRS | PortInterrupt.TFES)
        else:
            # The drive gives up all queued commands and keeps the error for the log.
            if self.drive is not None:
                log = error_log(tag, error.status, error.error, error.lba, command.sectors)
                self.drive.queue_error = log
            self.receive("sdb", ahci_fis.device_bits(error.status, error.error, 0))
            self.halt(PortInterrupt.SDBS | PortInterrupt.TFES)
        self.host.emit("disk.error", port=self.number, slot=fetched.slot, task_file=self.tfd, reason=str(error))

    def bus_error(self) -> None:
        """The bus master was given an address outside memory (6.1.1)."""
        self.halt(PortInterrupt.HBFS)
        self.host.emit("disk.error", port=self.number, slot=self.slot, reason="host bus error")

    def halt(self, causes: PortInterrupt) -> None:
        """Stop working until software has cleared ST."""
        self.halted = True
        self._drop()
        self.raise_causes(causes)

    def raise_causes(self, causes: PortInterrupt) -> None:
        """Set bits of PxIS."""
        self.causes |= int(causes)

    def receive(self, name: str, fis: bytes) -> None:
        """Leave a FIS in the received-FIS area, if it is enabled (3.3.7, FRE)."""
        if not self.cmd & PortCommand.FR:
            return
        try:
            place = (self.fb | self.fbu << 32) + offset_of(ReceivedFis, name)
            self.host.memory(place, len(fis))[:] = fis
        except DmaError:
            self.halt(PortInterrupt.HBFS)

    # Snapshots.

    def save(self) -> object:
        """Return registers, running commands and which drive is connected; the medium's content is not part of it."""
        values = STATE_OF(self)
        running = tuple((tag, tuple(fetched)) for tag, fetched in self.running.items())
        connected = self.drives.index(self.drive) if self.drive else -1
        return values, running, connected, self.drive.save() if self.drive else None

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        values, running, connected, drive = state
        if STATE_OF(self) != values:
            for name, value in zip(STATE, values, strict=True):
                setattr(self, name, value)
        if running or self.running:
            self.running = {tag: Fetched(*fields) for tag, fields in running}
        self.drive = self.drives[connected] if connected >= 0 else None
        if self.drive is not None:
            self.drive.load(drive)


#: The registers that do not always read as zero, and their attributes in `Port`.
READABLE = {
    name: name for name in ("clb", "clbu", "fb", "fbu", "is_", "ie", "tfd", "sig", "ssts", "sctl", "serr", "sact", "ci")
} | {"cmd": "command_and_status"}
#: The registers that hold addresses, and the low bits that read as zeros (3.3.1 to 3.3.4).
ALIGNMENTS = {"clb": bits.LIST_ALIGN, "clbu": 0, "fb": bits.RECEIVED_ALIGN, "fbu": 0}
WRITERS = {
    "is_": Port._write_causes,
    "ie": Port._write_enables,
    "cmd": Port._write_command,
    "sctl": Port._write_control,
    "serr": Port._write_errors,
    "sact": Port._write_active,
    "ci": Port._write_issue,
}
