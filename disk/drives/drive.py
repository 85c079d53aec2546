"""An ATA drive on a controller: the meaning of commands, for any way of moving their bytes (ACS-3).

The controllers know registers, FISes and memory; the drive knows sectors, features and logs.  One drive
serves one medium and is gone when it is unplugged.
"""

import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from callgate.disk.drives.ata import (
    DEVICE_LBA,
    MULTIPLE,
    MULTIPLE_LIMIT,
    ON_MEDIA,
    READY,
    Code,
    Command,
    Fault,
    Settings,
    Status,
    identify,
)
from callgate.disk.media import Medium, MediumError
from callgate.kernel.common.record import names_in

SECTOR = 512
LOG_DIRECTORY, LOG_NCQ_ERRORS = 0x00, 0x10
NOT_QUEUED = 0x80
POWER_ACTIVE = 0xFF
DIAGNOSTIC_PASSED = 0x01
FEATURE_WRITE_CACHE, FEATURE_TRANSFER_MODE, FEATURE_LOOK_AHEAD = 0x02, 0x03, 0xAA
FEATURE_NO_WRITE_CACHE, FEATURE_NO_LOOK_AHEAD = 0x82, 0x55

SETTINGS: Final = attrgetter(*names_in(Settings))


class DriveError(Exception):
    """A command ends with an error: the error register, and the first sector it is about."""

    def __init__(self, error: int, reason: str, lba: int = 0) -> None:
        super().__init__(reason)
        self.error = int(error)
        self.lba = lba

    @property
    def status(self) -> int:
        """The status register."""
        return READY | Status.ERR


class Drive:
    """A drive and its state."""

    def __init__(self, medium: Medium, serial: str, *, sata: bool, ncq: bool) -> None:
        self.medium = medium
        self.serial = serial
        self.sata = sata
        self.ncq = ncq
        self.settings = Settings()
        self.queue_error = b""  # the NCQ error log while it waits to be read

    def reset(self) -> None:
        """Hardware reset: settings as shipped, no queued command remembered."""
        self.settings.reset()
        self.queue_error = b""

    def check(self, command: Command) -> None:
        """Refuse a command if that is possible before data move; DriveError."""
        protocol = command.protocol
        if protocol is None or (protocol.queued and not self.ncq) or (protocol.dma and not self.sata):
            raise DriveError(Fault.ABRT, f"unknown command {command.code:#x}")
        # After an error among queued commands a drive only reports it (SATA 3.1, 13.6.3.4).
        if self.queue_error and (command.code, command.lba & 0xFF) != (Code.READ_LOG_EXT, LOG_NCQ_ERRORS):
            raise DriveError(Fault.ABRT, "an error of a queued command has not been read")
        if command.code in MULTIPLE and not self.settings.multiple:
            raise DriveError(Fault.ABRT, "no multiple mode has been set")
        if command.code in ON_MEDIA:
            self._check_place(command)
        if protocol.writes and self.medium.read_only:
            raise DriveError(Fault.ABRT, "the medium is write-protected", command.first)

    def _check_place(self, command: Command) -> None:
        if not command.device & DEVICE_LBA:
            raise DriveError(Fault.ABRT, "cylinder, head and sector addresses are not supported")
        if command.first + command.sectors > self.medium.sector_count:
            first_beyond = max(command.first, self.medium.sector_count)
            raise DriveError(Fault.IDNF, f"{command.sectors} sectors at {command.first}", first_beyond)

    # Data.

    def read(self, lba: int, views: Sequence[memoryview]) -> None:
        """Read sectors into views whose sizes sum to whole sectors; DriveError; MediumRemoved is passed on."""
        try:
            self.medium.read_into(lba, views)
        except MediumError as error:
            raise_unless_removed(error, Fault.UNC)

    def write(self, lba: int, views: Sequence[memoryview]) -> None:
        """Write sectors; with the write cache off, through to the medium."""
        try:
            self.medium.write_from(lba, views)
            if not self.settings.write_cache:
                self.medium.flush()
        except MediumError as error:
            raise_unless_removed(error, Fault.ABRT)

    def data(self, command: Command) -> bytes:
        """Return the data of a PIO data-in command other than those of sectors."""
        if command.code == Code.IDENTIFY_DEVICE:
            sectors = self.medium.sector_count
            return identify(sectors, self.serial, self.settings, sata=self.sata, ncq=self.ncq)
        return self._log(command)

    def _log(self, command: Command) -> bytes:
        """READ LOG EXT: the log's address in LBA bits 0 to 7, the page in 8 to 15 and 32 to 39 (7.30)."""
        address, page = command.lba & 0xFF, command.lba >> 8 & 0xFF | command.lba >> 24 & 0xFF00
        if not command.count or page + command.count > 1:
            raise DriveError(Fault.ABRT, f"log {address:#x} has one page")
        if address == LOG_DIRECTORY:
            directory = bytearray(SECTOR)
            struct.pack_into("<H", directory, 0, 1)
            struct.pack_into("<H", directory, 2 * LOG_NCQ_ERRORS, int(self.ncq))
            return bytes(directory)
        if address == LOG_NCQ_ERRORS and self.ncq:
            log = self.queue_error or error_log(NOT_QUEUED, READY, 0, 0, 0)
            self.queue_error = b""
            return log
        raise DriveError(Fault.ABRT, f"there is no log {address:#x}")

    def non_data(self, command: Command) -> tuple[int, int]:
        """Carry out a command without data; return the values of the error and count registers."""
        code = command.code
        if code in (Code.FLUSH_CACHE, Code.FLUSH_CACHE_EXT):
            try:
                self.medium.flush()
            except MediumError as error:
                raise_unless_removed(error, Fault.ABRT)
        elif code in (Code.READ_VERIFY_SECTORS, Code.READ_VERIFY_SECTORS_EXT):
            self.read(command.first, [memoryview(bytearray(command.sectors * SECTOR))])
        elif code == Code.SET_FEATURES:
            self._set_features(command)
        elif code == Code.SET_MULTIPLE_MODE:
            self._set_multiple(command.count & 0xFF)
        elif code == Code.CHECK_POWER_MODE:
            return 0, POWER_ACTIVE
        elif code == Code.EXECUTE_DEVICE_DIAGNOSTIC:
            return DIAGNOSTIC_PASSED, 1
        return 0, command.count

    def _set_multiple(self, count: int) -> None:
        """SET MULTIPLE MODE: a power of two up to the limit, 0 turns it off (ATA8-ACS, 7.44)."""
        if count > MULTIPLE_LIMIT or count & count - 1:
            self.settings.multiple = 0
            raise DriveError(Fault.ABRT, f"blocks of {count} sectors")
        self.settings.multiple = count

    def _set_features(self, command: Command) -> None:
        """SET FEATURES (7.45): write cache, look-ahead, transfer mode."""
        feature = command.features & 0xFF
        if feature in (FEATURE_WRITE_CACHE, FEATURE_NO_WRITE_CACHE):
            self.settings.write_cache = feature == FEATURE_WRITE_CACHE
        elif feature in (FEATURE_LOOK_AHEAD, FEATURE_NO_LOOK_AHEAD):
            self.settings.look_ahead = feature == FEATURE_LOOK_AHEAD
        elif feature == FEATURE_TRANSFER_MODE:
            self._set_transfer_mode(command.count & 0xFF)
        else:
            raise DriveError(Fault.ABRT, f"unknown feature {feature:#x}")

    def _set_transfer_mode(self, mode: int) -> None:
        kind, number = mode >> 3, mode & 7
        if kind == 8 and number <= 5:
            self.settings.ultra_dma = number
        elif (kind == 4 and number <= 2) or mode in (0, 1, 0x08, 0x09, 0x0A, 0x0B, 0x0C):
            self.settings.ultra_dma = -1
        else:
            raise DriveError(Fault.ABRT, f"unknown transfer mode {mode:#x}")

    def save(self) -> Any:
        """Return the state as plain data; the medium is not part of it."""
        return SETTINGS(self.settings), self.queue_error

    def load(self, state: Any) -> None:
        """Go back to a saved state."""
        settings, self.queue_error = state
        if SETTINGS(self.settings) != settings:
            self.settings = Settings(*settings)


def raise_unless_removed(error: MediumError, fault: Fault) -> None:
    """Turn a medium's error into the drive's; one that means "no drive" is left as it is."""
    if error.removed:
        raise error
    raise DriveError(fault, str(error), error.lba) from None


def error_log(tag: int, status: int, error: int, lba: int, count: int) -> bytes:
    """Return the page of the NCQ command error log (ACS-3, A.14)."""
    page = bytearray(SECTOR)
    address = lba.to_bytes(6, "little")
    page[0], page[2], page[3] = tag, status, error
    page[4:7], page[7], page[8:11] = address[:3], DEVICE_LBA, address[3:]
    page[12], page[13] = count & 0xFF, count >> 8 & 0xFF
    page[511] = -sum(page[:511]) & 0xFF
    return bytes(page)
