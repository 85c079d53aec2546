"""The FISes that a drive sends, as they lie in the received-FIS area (AHCI 1.3.1, 4.2.1; SATA 3.1, 10.5)."""

from callgate.disk.drives.ata import SECTOR, Command
from callgate.kernel.abi.disks.ahci import FisType

DMA_SETUP = 0x41
INTERRUPT = 0x40
TO_HOST = 0x20
SIGNATURE_COUNT = SIGNATURE_LBA = 1


def registers(status: int, error: int, command: Command, lba: int, count: int, *, interrupt: bool) -> bytes:
    """Return a Register FIS, device to host, with the outputs of a command (10.5.6)."""
    address = lba.to_bytes(6, "little")
    flags = INTERRUPT if interrupt else 0
    head = bytes((FisType.REGISTER_D2H, flags, status, error))
    return (
        head
        + address[:3]
        + bytes((command.device,))
        + address[3:]
        + bytes((0, count & 0xFF, count >> 8 & 0xFF))
        + bytes(6)
    )


def signature(status: int) -> bytes:
    """Return the Register FIS that a drive sends after a reset: it is a disk (SATA 3.1, 11.4)."""
    head = bytes((FisType.REGISTER_D2H, 0, status, 1, SIGNATURE_LBA, 0, 0, 0))
    return head.ljust(12, b"\0") + bytes((SIGNATURE_COUNT,)) + bytes(7)


def pio_setup(status: int, end_status: int, command: Command, length: int) -> bytes:
    """Return a PIO Setup FIS for data to the host, with interrupt (10.5.9)."""
    address = command.lba.to_bytes(6, "little")
    head = bytes((FisType.PIO_SETUP, INTERRUPT | TO_HOST, status, 0))
    counts = bytes((0, command.count & 0xFF, command.count >> 8 & 0xFF, 0, end_status))
    size = min(length, SECTOR).to_bytes(2, "little")
    return head + address[:3] + bytes((command.device,)) + address[3:] + counts[:4] + counts[4:] + size + bytes(2)


def dma_setup(tag: int, length: int, *, to_host: bool) -> bytes:
    """Return the DMA Setup FIS of a queued command (10.5.8)."""
    head = bytes((DMA_SETUP, TO_HOST if to_host else 0, 0, 0))
    return head + tag.to_bytes(8, "little") + bytes(8) + length.to_bytes(4, "little") + bytes(4)


def device_bits(status: int, error: int, done: int) -> bytes:
    """Return a Set Device Bits FIS: `done` has a bit for each queued command that has ended (10.5.7)."""
    return bytes((FisType.SET_DEVICE_BITS, INTERRUPT, status & 0x77, error)) + done.to_bytes(4, "little")
