"""The AHCI controller's registers and memory structures (AHCI 1.3.1, sections 3 and 4)."""

from ctypes import c_uint8, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from typing import Final

from callgate.kernel.abi.disks.disk import DISK_REQUEST_RUNS
from callgate.kernel.abi.layout import Layout

AHCI_PORTS: Final = 32
AHCI_SLOTS: Final = 32
AHCI_PORT_BASE: Final = 0x100
AHCI_PORT_SHIFT: Final = 7  # log2 of a port's registers
AHCI_SIGNATURE_ATA: Final = 0x0000_0101
AHCI_PRDT_LIMIT: Final = 4 << 20  # most bytes of one PRDT entry


class HbaRegisters(Layout):
    """Generic host control (section 3.1)."""

    _fields_ = [
        ("cap", c_uint32),
        ("ghc", c_uint32),
        ("is_", c_uint32),
        ("pi", c_uint32),
        ("vs", c_uint32),
        ("ccc_ctl", c_uint32),
        ("ccc_ports", c_uint32),
        ("em_loc", c_uint32),
        ("em_ctl", c_uint32),
        ("cap2", c_uint32),
        ("bohc", c_uint32),
    ]


class PortRegisters(Layout):
    """One port (section 3.3), at 100h + port * 80h."""

    _fields_ = [
        ("clb", c_uint32),
        ("clbu", c_uint32),
        ("fb", c_uint32),
        ("fbu", c_uint32),
        ("is_", c_uint32),
        ("ie", c_uint32),
        ("cmd", c_uint32),
        ("reserved", c_uint32),
        ("tfd", c_uint32),
        ("sig", c_uint32),
        ("ssts", c_uint32),
        ("sctl", c_uint32),
        ("serr", c_uint32),
        ("sact", c_uint32),
        ("ci", c_uint32),
        ("sntf", c_uint32),
        ("fbs", c_uint32),
    ]


class Capabilities(IntFlag):
    """CAP (3.1.1), the bits without a field's value."""

    SAM = 1 << 18
    SSS = 1 << 27
    SMPS = 1 << 28
    SSNTF = 1 << 29
    SNCQ = 1 << 30
    S64A = 1 << 31


class HostControl(IntFlag):
    """GHC (3.1.2)."""

    HR = 1
    IE = 2
    AE = 1 << 31


class PortCommand(IntFlag):
    """PxCMD (3.3.7)."""

    ST = 1
    SUD = 2
    POD = 4
    FRE = 0x10
    MPSS = 1 << 13
    FR = 1 << 14
    CR = 1 << 15
    HPCP = 1 << 18
    MPSP = 1 << 19


class PortInterrupt(IntFlag):
    """PxIS and PxIE (3.3.5, 3.3.6)."""

    DHRS = 1
    PSS = 2
    DSS = 4
    SDBS = 8
    UFS = 0x10
    DPS = 0x20
    PCS = 0x40
    DMPS = 0x80
    PRCS = 1 << 22
    OFS = 1 << 24
    INFS = 1 << 26
    IFS = 1 << 27
    HBDS = 1 << 28
    HBFS = 1 << 29
    TFES = 1 << 30


class TaskFile(IntFlag):
    """PxTFD: status in the low byte, error in the next (ACS-3 6.2 and 6.3)."""

    ERR = 0x01
    DRQ = 0x08
    DF = 0x20
    DRDY = 0x40
    BSY = 0x80
    ABRT = 0x0400
    IDNF = 0x1000
    UNC = 0x4000


class CommandHeader(Layout):
    """An entry of the command list (4.2.2)."""

    _fields_ = [("flags", c_uint32), ("prdbc", c_uint32), ("ctba", c_uint64), ("reserved", c_uint32 * 4)]


class PrdtEntry(Layout):
    """An entry of the physical region descriptor table (4.2.3.3)."""

    _fields_ = [("dba", c_uint64), ("reserved", c_uint32), ("dbc", c_uint32)]


class CommandTable(Layout):
    """A command table with room for one DiskRequest (4.2.3)."""

    _fields_ = [
        ("cfis", c_uint8 * 64),
        ("acmd", c_uint8 * 16),
        ("reserved", c_uint8 * 48),
        ("prdt", PrdtEntry * DISK_REQUEST_RUNS),
    ]


class RegisterFis(Layout):
    """Register FIS, host to device (Serial ATA 3.1, 10.5.5)."""

    _fields_ = [
        ("type", c_uint8),
        ("flags", c_uint8),
        ("command", c_uint8),
        ("features", c_uint8),
        ("lba0", c_uint8),
        ("lba1", c_uint8),
        ("lba2", c_uint8),
        ("device", c_uint8),
        ("lba3", c_uint8),
        ("lba4", c_uint8),
        ("lba5", c_uint8),
        ("features_high", c_uint8),
        ("count", c_uint8),
        ("count_high", c_uint8),
        ("icc", c_uint8),
        ("control", c_uint8),
        ("reserved", c_uint32),
    ]


class ReceivedFis(Layout):
    """The received-FIS area (4.2.1)."""

    _fields_ = [
        ("dma_setup", c_uint8 * 32),
        ("pio_setup", c_uint8 * 32),
        ("d2h", c_uint8 * 24),
        ("sdb", c_uint8 * 8),
        ("unknown", c_uint8 * 160),
    ]


class FisType(IntEnum):
    """First byte of a FIS."""

    REGISTER_H2D = 0x27
    REGISTER_D2H = 0x34
    PIO_SETUP = 0x5F
    SET_DEVICE_BITS = 0xA1


class AtaCommand(IntEnum):
    """Commands of the ATA command set (ACS-3, section 7)."""

    READ_DMA_EXT = 0x25
    READ_LOG_EXT = 0x2F
    WRITE_DMA_EXT = 0x35
    READ_FPDMA_QUEUED = 0x60
    WRITE_FPDMA_QUEUED = 0x61
    CHECK_POWER_MODE = 0xE5
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC
    SET_FEATURES = 0xEF


H2D_COMMAND: Final = 0x80
COMMAND_FIS_LENGTH: Final = 5  # dwords of a Register FIS
COMMAND_WRITE: Final = 1 << 6
COMMAND_PRDTL_SHIFT: Final = 16
DEVICE_LBA: Final = 0x40
NCQ_TAG_SHIFT: Final = 3
