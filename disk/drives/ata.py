"""The ATA command set as far as our drives implement it: codes, protocols, IDENTIFY DEVICE (ACS-3).

A parallel drive (IDE) and a serial one (AHCI) answer alike; IDENTIFY DEVICE says which it is.
"""

import struct
from enum import Enum, IntEnum, IntFlag

from callgate.kernel.common.record import record

SECTOR = 512
MODEL = "CALLGATE VIRTUAL DISK"
FIRMWARE = "1.0"
QUEUE_DEPTH = 32
MULTIPLE_LIMIT = 16  # most sectors of a READ MULTIPLE block
ULTRA_DMA_MODES = 0x3F
LBA28_LIMIT = 0x0FFF_FFFF
DEVICE_LBA = 0x40


class Code(IntEnum):
    """Command codes (ACS-3, annex B)."""

    READ_SECTORS = 0x20
    READ_SECTORS_EXT = 0x24
    READ_DMA_EXT = 0x25
    READ_MULTIPLE_EXT = 0x29
    READ_LOG_EXT = 0x2F
    WRITE_SECTORS = 0x30
    WRITE_SECTORS_EXT = 0x34
    WRITE_DMA_EXT = 0x35
    WRITE_MULTIPLE_EXT = 0x39
    READ_VERIFY_SECTORS = 0x40
    READ_VERIFY_SECTORS_EXT = 0x42
    READ_FPDMA_QUEUED = 0x60
    WRITE_FPDMA_QUEUED = 0x61
    EXECUTE_DEVICE_DIAGNOSTIC = 0x90
    READ_MULTIPLE = 0xC4
    WRITE_MULTIPLE = 0xC5
    SET_MULTIPLE_MODE = 0xC6
    READ_DMA = 0xC8
    WRITE_DMA = 0xCA
    STANDBY_IMMEDIATE = 0xE0
    IDLE_IMMEDIATE = 0xE1
    STANDBY = 0xE2
    IDLE = 0xE3
    CHECK_POWER_MODE = 0xE5
    FLUSH_CACHE = 0xE7
    FLUSH_CACHE_EXT = 0xEA
    IDENTIFY_DEVICE = 0xEC
    SET_FEATURES = 0xEF


class Protocol(Enum):
    """How a command moves its data (ATA8-AAM, section 5)."""

    NON_DATA = "non-data"
    PIO_IN = "PIO data-in"
    PIO_OUT = "PIO data-out"
    DMA_IN = "DMA in"
    DMA_OUT = "DMA out"
    QUEUED_IN = "queued in"
    QUEUED_OUT = "queued out"

    @property
    def reads(self) -> bool:
        """Whether data goes to the host."""
        return self in (Protocol.PIO_IN, Protocol.DMA_IN, Protocol.QUEUED_IN)

    @property
    def writes(self) -> bool:
        """Whether data goes to the drive."""
        return self in (Protocol.PIO_OUT, Protocol.DMA_OUT, Protocol.QUEUED_OUT)

    @property
    def dma(self) -> bool:
        """Whether it needs a bus master."""
        return self in (Protocol.DMA_IN, Protocol.DMA_OUT)

    @property
    def queued(self) -> bool:
        """Whether it is NCQ's."""
        return self in (Protocol.QUEUED_IN, Protocol.QUEUED_OUT)


_SECTORS_IN = (Code.READ_SECTORS, Code.READ_SECTORS_EXT, Code.READ_MULTIPLE, Code.READ_MULTIPLE_EXT)
_SECTORS_OUT = (Code.WRITE_SECTORS, Code.WRITE_SECTORS_EXT, Code.WRITE_MULTIPLE, Code.WRITE_MULTIPLE_EXT)
_NON_DATA = (
    *(Code.READ_VERIFY_SECTORS, Code.READ_VERIFY_SECTORS_EXT, Code.SET_MULTIPLE_MODE, Code.SET_FEATURES),
    *(Code.STANDBY_IMMEDIATE, Code.IDLE_IMMEDIATE, Code.STANDBY, Code.IDLE, Code.CHECK_POWER_MODE),
    *(Code.FLUSH_CACHE, Code.FLUSH_CACHE_EXT, Code.EXECUTE_DEVICE_DIAGNOSTIC),
)
PROTOCOLS: dict[int, Protocol] = {
    **dict.fromkeys(_NON_DATA, Protocol.NON_DATA),
    **dict.fromkeys((*_SECTORS_IN, Code.IDENTIFY_DEVICE, Code.READ_LOG_EXT), Protocol.PIO_IN),
    **dict.fromkeys(_SECTORS_OUT, Protocol.PIO_OUT),
    **dict.fromkeys((Code.READ_DMA, Code.READ_DMA_EXT), Protocol.DMA_IN),
    **dict.fromkeys((Code.WRITE_DMA, Code.WRITE_DMA_EXT), Protocol.DMA_OUT),
    Code.READ_FPDMA_QUEUED: Protocol.QUEUED_IN,
    Code.WRITE_FPDMA_QUEUED: Protocol.QUEUED_OUT,
}
MULTIPLE = frozenset((Code.READ_MULTIPLE, Code.READ_MULTIPLE_EXT, Code.WRITE_MULTIPLE, Code.WRITE_MULTIPLE_EXT))
# Commands whose registers hold 48-bit addresses and 16-bit counts.
EXTENDED = frozenset(
    (
        *(Code.READ_SECTORS_EXT, Code.READ_DMA_EXT, Code.READ_MULTIPLE_EXT, Code.READ_LOG_EXT),
        *(Code.WRITE_SECTORS_EXT, Code.WRITE_DMA_EXT, Code.WRITE_MULTIPLE_EXT),
        *(Code.READ_VERIFY_SECTORS_EXT, Code.READ_FPDMA_QUEUED, Code.WRITE_FPDMA_QUEUED, Code.FLUSH_CACHE_EXT),
    )
)
ON_MEDIA = frozenset(
    (
        *_SECTORS_IN,
        *_SECTORS_OUT,
        *(Code.READ_DMA, Code.READ_DMA_EXT, Code.WRITE_DMA, Code.WRITE_DMA_EXT),
        *(Code.READ_FPDMA_QUEUED, Code.WRITE_FPDMA_QUEUED, Code.READ_VERIFY_SECTORS, Code.READ_VERIFY_SECTORS_EXT),
    )
)


class Status(IntFlag):
    """The status register (ACS-3, 6.2); DSC is what bit 4 was called before it became command specific."""

    ERR = 0x01
    DRQ = 0x08
    DSC = 0x10
    DF = 0x20
    DRDY = 0x40
    BSY = 0x80


class Fault(IntFlag):
    """The error register (ACS-3, 6.3)."""

    ABRT = 0x04
    IDNF = 0x10
    UNC = 0x40


READY = int(Status.DRDY | Status.DSC)


@record(frozen=True)
class Command:
    """A command as its registers hold it: `count` and `features` 16 bits wide, `lba` 48."""

    code: int
    features: int
    count: int
    lba: int
    device: int

    @property
    def protocol(self) -> Protocol | None:
        """How it moves data; None for a command that none of our drives implements."""
        return PROTOCOLS.get(self.code)

    @property
    def extended(self) -> bool:
        """Whether it has 48-bit addresses."""
        return self.code in EXTENDED

    @property
    def tag(self) -> int:
        """The tag of a queued command (ACS-3, 7.23.3)."""
        return self.count >> 3 & 0x1F

    @property
    def first(self) -> int:
        """The first sector."""
        return self.lba if self.extended else self.lba & 0xFF_FFFF | (self.device & 0xF) << 24

    @property
    def sectors(self) -> int:
        """Sectors to transfer: a count of 0 means the maximum."""
        protocol = self.protocol
        if protocol and protocol.queued:
            return self.features or 0x1_0000
        return (self.count or 0x1_0000) if self.extended else (self.count & 0xFF or 0x100)


@record(eq=True)
class Settings:
    """The settings that SET FEATURES and SET MULTIPLE MODE change."""

    write_cache: bool = True
    look_ahead: bool = True
    multiple: int = 0
    ultra_dma: int = 5

    def reset(self) -> None:
        """Restore the settings with which a drive is shipped."""
        self.write_cache = self.look_ahead = True
        self.multiple, self.ultra_dma = 0, 5


def ata_string(text: str, size: int) -> bytes:
    """Return a string as ATA stores it: padded with spaces, the bytes of each word swapped (3.4.9)."""
    data = text.encode("ascii").ljust(size)[:size]
    return b"".join(data[index + 1 : index + 2] + data[index : index + 1] for index in range(0, size, 2))


def identify(sectors: int, serial: str, settings: Settings, *, sata: bool, ncq: bool) -> bytes:
    """Return the 512 bytes of IDENTIFY DEVICE (ACS-3, 7.12.7)."""
    words = [0] * 256
    words[0] = 0x0040
    words[1], words[3], words[6] = min(16383, max(1, sectors // (16 * 63))), 16, 63
    words[47] = 0x8000 | MULTIPLE_LIMIT
    words[48] = 0x4000
    words[49] = 0x0B00 if sata else 0x0A00  # IORDY, LBA, and DMA where there is a bus master
    words[50] = 0x4000
    words[53] = 0x0006 if sata else 0x0002  # words 64 to 70 are valid, and word 88
    words[59] = 0x0100 | settings.multiple if settings.multiple else 0
    small = min(sectors, LBA28_LIMIT)
    words[60], words[61] = small & 0xFFFF, small >> 16
    words[64] = 0x0003
    words[67] = words[68] = 120
    if sata:
        words[63] = 0x0007
        words[65] = words[66] = 120
        words[75] = QUEUE_DEPTH - 1 if ncq else 0
        words[76] = 0x0006 | (0x0100 if ncq else 0)  # generations 1 and 2, NCQ
    words[80] = 0x01F0  # ATA/ATAPI-4 to ATA8-ACS
    _feature_words(words, settings, dma=sata)
    for index in range(4):
        words[100 + index] = sectors >> 16 * index & 0xFFFF
    words[106] = 0x4000  # one logical sector per physical sector, of 512 bytes
    words[93] = 0 if sata else 0x6001  # hardware reset result: device 0, 80-conductor cable
    words[217] = 0x0001  # no rotation
    words[222] = 0x101F if sata else 0x0003  # Serial ATA 1.0a to 2.6; ATA8-APT
    data = bytearray(struct.pack("<256H", *words))
    data[20:40] = ata_string(serial, 20)
    data[46:54] = ata_string(FIRMWARE, 8)
    data[54:94] = ata_string(MODEL, 40)
    data[510] = 0xA5
    data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


def _feature_words(words: list[int], settings: Settings, *, dma: bool) -> None:
    """Fill the words of supported and enabled features, 82 to 88."""
    power, cache, look_ahead = 1 << 3, 1 << 5, 1 << 6
    words[82] = power | cache | look_ahead
    words[83] = 0x4000 | 0x3400  # FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses
    words[84] = 0x4000 | 0x0020  # general purpose logging
    words[85] = power | (cache if settings.write_cache else 0) | (look_ahead if settings.look_ahead else 0)
    words[86] = 0x3400
    words[87] = words[84]
    if dma:
        words[88] = ULTRA_DMA_MODES | (1 << 8 + settings.ultra_dma if settings.ultra_dma >= 0 else 0)
