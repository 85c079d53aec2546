"""One IDE channel: the registers that two drives share, and the PIO protocols (ATA8-APT; ACS-3, section 6).

A command is BSY until its event; then it offers a block of data (DRQ), or it has ended.  Reading the status register
clears the interrupt, reading the alternate status does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callgate.disk.drives.ata import MULTIPLE, ON_MEDIA, READY, SECTOR, Code, Command, Protocol, Status
from callgate.disk.drives.drive import Drive, DriveError
from callgate.disk.media import MediumError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from callgate.disk.drives.latency import Latency
    from callgate.disk.media import Medium
    from callgate.kernel.machine.memory.bus import Host

DATA, ERROR, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, STATUS = range(8)
FEATURES, COMMAND = ERROR, STATUS
NIEN, SRST, HOB = 0x02, 0x04, 0x80  # device control
SECOND_DEVICE = 0x10
FLOATING = 0xFF
DIAGNOSTIC_PASSED = 0x01
SIGNATURE = {COUNT: 1, LBA_LOW: 1, LBA_MID: 0, LBA_HIGH: 0}
RESET_DELAY = 2000  # ns
DRQ = int(Status.DRQ)  # looked at with each word of data: with integers, `&` takes a twentieth of the time


class Channel:
    """A channel, its drives, and the command that runs."""

    host: Host  # the controller's, from the moment it is attached

    def __init__(self, number: int, irq: int, media: Sequence[Medium | None], latency: Latency) -> None:
        self.latency = latency
        self.number = number
        self.irq = irq
        self.drives = [self._drive(medium, device) for device, medium in enumerate(media)]
        # Two bytes deep, the earlier one for 48-bit commands.
        self.recent = [0] * 8
        self.earlier = [0] * 8
        self.control = 0
        self.status = [READY, READY]
        self.error = [DIAGNOSTIC_PASSED, DIAGNOSTIC_PASSED]
        self.interrupt = [False, False]
        self.generation = 0
        self.command: Command | None = None
        self.active = 0  # the device that runs it
        self.done = 0  # sectors of it
        self.block = 0  # sectors on offer
        self.buffer = bytearray()
        self.position = 0

    def _drive(self, medium: Medium | None, device: int) -> Drive | None:
        if medium is None:
            return None
        return Drive(medium, f"CGIDE{2 * self.number + device:05}", sata=False, ncq=False)

    @property
    def selected(self) -> int:
        """The device that the device register selects."""
        return 1 if self.recent[DEVICE] & SECOND_DEVICE else 0

    @property
    def drive(self) -> Drive | None:
        """The selected drive."""
        return self.drives[self.selected]

    # Registers.

    def alternate_status(self) -> int:
        """Return the selected drive's status: an absent device 1 reads as 0 if device 0 answers for it."""
        if self.drive:
            return int(self.status[self.selected])
        return 0 if self.drives[0] else FLOATING

    def read(self, register: int) -> int:
        """Read a register of the command block other than data."""
        if self.drive is None and self.drives[0] is None:
            return FLOATING
        if register == STATUS:
            self.interrupt[self.selected] = False
            self._update_line()
            return self.alternate_status()
        if register == ERROR:
            return self.error[self.selected]
        # HOB shows the byte before the last one; any write to the command block takes it back.
        return self.earlier[register] if self.control & HOB and register != DEVICE else self.recent[register]

    def write(self, register: int, value: int) -> None:
        """Write a register of the command block other than data; both drives receive it."""
        self.control &= ~HOB
        if register == COMMAND:
            self._command(value)
        elif not self.status[self.selected] & (Status.BSY | Status.DRQ) or self.drive is None:
            self.earlier[register] = self.recent[register]
            self.recent[register] = value
            if register == DEVICE:
                self._update_line()

    def write_control(self, value: int) -> None:
        """Device control: interrupts off, software reset, and which byte of the registers is seen."""
        before, self.control = self.control, value & (NIEN | SRST | HOB)
        if value & SRST and not before & SRST:
            self._drop()
            self.status = [int(Status.BSY)] * 2
            self.interrupt = [False, False]
        elif before & SRST and not value & SRST:
            self._later(RESET_DELAY)
        self._update_line()

    def _update_line(self) -> None:
        """INTRQ of the selected drive, unless nIEN is set."""
        if self.drive and self.interrupt[self.selected] and not self.control & NIEN:
            self.host.raise_line(self.irq)
        else:
            self.host.lower_line(self.irq)

    def _ask(self) -> None:
        self.interrupt[self.active] = True
        self._update_line()

    # Reset and plug.

    def reset(self) -> None:
        """Hardware reset: drives ready with their signature."""
        self.control = 0
        self.recent, self.earlier = [0] * 8, [0] * 8
        self._drop()
        self._sign()

    def _drop(self) -> None:
        """Forget the command that runs."""
        self.command = None
        self.buffer, self.position = bytearray(), 0
        self.done = self.block = 0
        self.generation += 1

    def _sign(self) -> None:
        """The state after a reset or diagnostics (ATA8-APT, signature)."""
        for register, value in SIGNATURE.items():
            self.recent[register] = value
        self.recent[DEVICE] = 0
        self.status = [READY, READY]
        self.error = [DIAGNOSTIC_PASSED, DIAGNOSTIC_PASSED]
        self.interrupt = [False, False]
        for drive in self.drives:
            if drive:
                drive.reset()
        self._update_line()

    def plug(self, device: int, medium: Medium) -> None:
        """Connect a drive, ready."""
        self.drives[device] = self._drive(medium, device)
        self.status[device], self.error[device], self.interrupt[device] = READY, DIAGNOSTIC_PASSED, False
        if self.active == device:
            self._drop()

    def unplug(self, device: int) -> None:
        """Remove a drive. Its command is never answered: a driver finds out by its own watch.

        The interface has no sign for it: INTRQ falls, and reads of the registers float.
        """
        self.drives[device] = None
        self.interrupt[device] = False
        if self.command and self.active == device:
            self._drop()
        self._update_line()
        self.host.emit("disk.unplug", channel=self.number, device=device)

    # Commands.

    def _command(self, code: int) -> None:
        drive = self.drive
        if code == Code.EXECUTE_DEVICE_DIAGNOSTIC and (self.drives[0] or self.drives[1]):
            # Both receive it, whichever is selected.
            self._drop()
            self.status = [int(Status.BSY)] * 2
            self._later(RESET_DELAY)
            return
        if drive is None or self.status[self.selected] & (Status.BSY | Status.DRQ) or self.command:
            return
        self._drop()
        self.active = self.selected
        self.interrupt[self.active] = False
        self.error[self.active] = 0
        self._update_line()
        self.command = self._decode(code)
        self.host.emit("disk.command", channel=self.number, device=self.active, code=code, lba=self.command.lba)
        self._busy()

    def _decode(self, code: int) -> Command:
        recent, earlier = self.recent, self.earlier
        low = recent[LBA_LOW] | recent[LBA_MID] << 8 | recent[LBA_HIGH] << 16
        high = earlier[LBA_LOW] | earlier[LBA_MID] << 8 | earlier[LBA_HIGH] << 16
        features, count = (recent[at] | earlier[at] << 8 for at in (FEATURES, COUNT))
        return Command(code, features, count, low | high << 24, recent[DEVICE])

    def _busy(self) -> None:
        self.status[self.active] = int(Status.BSY)
        latency, drive, command = self.latency, self.drives[self.active], self.command
        delay = latency.command
        if command and drive and command.code in ON_MEDIA:
            sectors = self._block_sectors()
            delay += sectors * latency.sector + drive.medium.delay(command.first + self.done, sectors)
        self._later(delay)

    def _later(self, delay: int) -> None:
        self.host.schedule(max(1, delay), (self.number, self.generation))

    def _block_sectors(self) -> int:
        """Return the sectors of the next block: what SET MULTIPLE MODE has set, or one."""
        if self.command is None:
            return 0
        drive = self.drives[self.active]
        size = drive.settings.multiple if drive and self.command.code in MULTIPLE else 1
        return min(size or 1, self.command.sectors - self.done)

    def on_event(self, generation: int) -> None:
        """A drive is no longer busy."""
        if generation != self.generation:
            return
        drive, command = self.drives[self.active], self.command
        if command is None:
            self._sign()
        elif drive is not None:
            try:
                self._go_on(drive, command)
            except DriveError as error:
                self._fail(error, command)
            except MediumError:
                self.unplug(self.active)

    def _go_on(self, drive: Drive, command: Command) -> None:
        """Carry out the next piece of the command."""
        if not self.done and not self.buffer:
            drive.check(command)
        protocol = command.protocol
        if protocol == Protocol.PIO_IN:
            self._offer(drive, command)
        elif protocol == Protocol.PIO_OUT:
            self._accept(drive, command)
        else:
            self.error[self.active], count = drive.non_data(command)
            self.recent[COUNT] = count & 0xFF
            self._end()

    def _offer(self, drive: Drive, command: Command) -> None:
        """PIO data-in: read a block, set DRQ, interrupt."""
        if command.code in ON_MEDIA:
            self.block = self._block_sectors()
            self.buffer = bytearray(self.block * SECTOR)
            drive.read(command.first + self.done, [memoryview(self.buffer)])
        else:
            self.buffer = bytearray(drive.data(command))
        self._want()
        self._ask()

    def _accept(self, drive: Drive, command: Command) -> None:
        """PIO data-out: write the block that has arrived, request the next; the first comes without interrupt."""
        first = not self.buffer
        if not first:
            drive.write(command.first + self.done, [memoryview(self.buffer)])
            self.done += self.block
        self.block = self._block_sectors()
        if not self.block:
            self._end()
            return
        self.buffer = bytearray(self.block * SECTOR)
        self._want()
        if not first:
            self._ask()

    def _want(self) -> None:
        self.position = 0
        self.status[self.active] = READY | int(Status.DRQ)

    def _end(self) -> None:
        self.status[self.active] = READY
        self.host.emit("disk.complete", channel=self.number, device=self.active)
        self._drop()
        self._ask()

    def _fail(self, error: DriveError, command: Command) -> None:
        """End with an error; the registers name the sector (ACS-3, 6.8)."""
        self.status[self.active] = int(error.status)
        self.error[self.active] = error.error
        if error.lba:
            self._place(error.lba, command)
        self.host.emit("disk.error", channel=self.number, device=self.active, reason=str(error))
        self._drop()
        self._ask()

    def _place(self, lba: int, command: Command) -> None:
        """Put a sector's number into the registers."""
        for index, register in enumerate((LBA_LOW, LBA_MID, LBA_HIGH)):
            self.recent[register] = lba >> 8 * index & 0xFF
            self.earlier[register] = lba >> 8 * index + 24 & 0xFF if command.extended else 0
        if not command.extended:
            self.recent[DEVICE] = self.recent[DEVICE] & 0xF0 | lba >> 24 & 0xF

    # Data.

    def _offered(self, protocol: Protocol) -> bool:
        """Whether the selected drive has data moving in this direction."""
        on_offer = self.command is not None and self.command.protocol is protocol
        return on_offer and self.active == self.selected and bool(self.status[self.active] & DRQ)

    def read_data(self, size: int) -> int:
        """Take 16 or 32 bits from the block on offer; without one the bus floats."""
        if not self._offered(Protocol.PIO_IN):
            return 0 if self.drive else (1 << 8 * size) - 1
        end = self.position + max(size, 2)
        value = int.from_bytes(self.buffer[self.position : self.position + size], "little")
        self.position = end
        if end >= len(self.buffer):
            self._taken()
        return value

    def _taken(self) -> None:
        """The block is complete: the next one, or the end, which raises no interrupt."""
        command = self.command
        self.done += self.block
        if command is not None and command.code in ON_MEDIA and self.done < command.sectors:
            self._busy()
            return
        self.status[self.active] = READY
        self.host.emit("disk.complete", channel=self.number, device=self.active)
        self._drop()

    def write_data(self, size: int, value: int) -> None:
        """Add 16 or 32 bits to the block that is being written."""
        if not self._offered(Protocol.PIO_OUT):
            return
        data = value.to_bytes(4, "little")[: max(size, 2)][: len(self.buffer) - self.position]
        self.buffer[self.position : self.position + len(data)] = data
        self.position += len(data)
        if self.position >= len(self.buffer):
            self._busy()

    # Snapshots.

    def save(self) -> object:
        """Return the state as plain data."""
        command = self.command
        fields = (command.code, command.features, command.count, command.lba, command.device) if command else None
        values = tuple(getattr(self, name) for name in STATE)
        lists = tuple(tuple(getattr(self, name)) for name in LISTS)
        drives = tuple(drive.save() if drive else None for drive in self.drives)
        return values, lists, fields, bytes(self.buffer), drives

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        values, lists, fields, buffer, drives = state
        for name, value in zip(STATE, values, strict=True):
            setattr(self, name, value)
        for name, items in zip(LISTS, lists, strict=True):
            setattr(self, name, list(items))
        self.command = Command(*fields) if fields else None
        self.buffer = bytearray(buffer)
        for drive, saved in zip(self.drives, drives, strict=True):
            if drive and saved is not None:
                drive.load(saved)


STATE = ("control", "generation", "active", "done", "block", "position")
LISTS = ("recent", "earlier", "status", "error", "interrupt")
