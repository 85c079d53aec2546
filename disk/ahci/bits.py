"""Bits and values of AHCI port registers that the ABI does not name (AHCI 1.3.1, 3.3; Serial ATA 3.1)."""

from callgate.kernel.abi.disks.ahci import PortCommand, PortInterrupt

SSTS_PRESENT = 0x123  # DET 3: communication established; generation 2; interface active
SSTS_OFFLINE = 0x4
DET_MASK, DET_RESET, DET_OFFLINE = 0xF, 1, 4
NO_SIGNATURE = 0xFFFF_FFFF
NO_DRIVE = 0x7F  # PxTFD without a drive
CCS_SHIFT = 8
SERR_HANDSHAKE = 1 << 22
SERR_PHY_CHANGED = 1 << 16  # DIAG.N, seen as PxIS.PRCS
SERR_EXCHANGED = 1 << 26  # DIAG.X, seen as PxIS.PCS
# Numbers: arithmetic with members of an enumeration is slow.
PCS, PRCS = int(PortInterrupt.PCS), int(PortInterrupt.PRCS)
DMPS = int(PortInterrupt.DMPS)
CAUSES = int(sum(PortInterrupt)) | 1 << 23
# Read-only ones: no staggered spin-up, no cold presence; drives can be exchanged, and a switch tells of one.
ALWAYS = int(PortCommand.SUD | PortCommand.POD | PortCommand.HPCP | PortCommand.MPSP)
LIST_ALIGN, RECEIVED_ALIGN = 0x3FF, 0xFF
