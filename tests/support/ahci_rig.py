"""A rig for the AHCI controller's tests: registers by offset, commands built by hand.

Offsets and bits are spelt out here as the specification has them, not taken from `kernel/abi`.
"""

import random
import struct
from typing import Any

from callgate.disk.ahci.controller import AhciController

BASE = 0xFEBF_0000
CAP, GHC, IS, PI, VS, CAP2 = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x24
CLB, CLBU, FB, FBU, PIS, PIE, CMD, TFD, SIG, SSTS, SCTL, SERR, SACT, CI = (
    *(0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38),
)
ST, SUD, POD, FRE, MPSS, FR, CR, HPCP, MPSP = 1, 2, 4, 0x10, 1 << 13, 1 << 14, 1 << 15, 1 << 18, 1 << 19
ALWAYS = SUD | POD | HPCP | MPSP
DHRS, PSS, SDBS, DPS, PCS, DMPS, PRCS, OFS, IFS, HBFS, TFES = (
    *(1, 2, 8, 0x20, 0x40, 0x80, 1 << 22, 1 << 24, 1 << 27, 1 << 29, 1 << 30),
)
READ_DMA_EXT, WRITE_DMA_EXT, READ_FPDMA, WRITE_FPDMA, READ_LOG, IDENTIFY = 0x25, 0x35, 0x60, 0x61, 0x2F, 0xEC
LIST, FIS, TABLES = 0x1_0000, 0x2_0000, 0x4_0000
HIGH = 1 << 32
ALL = 0xFFFF_FFFF


def pattern(sectors: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(sectors * 512)


class Rig:
    """A port with its memory areas, and commands for it."""

    def __init__(self, board: Any, controller: AhciController, port: int = 0) -> None:
        self.board = board
        self.controller = board.plug_in(controller)
        self.offset = 0x100 + 0x80 * port
        self.start()

    def hba(self, register: int, value: int | None = None) -> int:
        if value is None:
            return int(self.controller.mmio_read(BASE + register, 4))
        self.controller.mmio_write(BASE + register, 4, value)
        return 0

    def port(self, register: int, value: int | None = None) -> int:
        return self.hba(self.offset + register, value)

    def start(self) -> None:
        self.hba(GHC, 1 << 31 | 2)
        for register, value in ((CLB, LIST), (CLBU, 0), (FB, FIS), (FBU, 0), (SERR, ALL), (PIS, ALL), (PIE, ALL)):
            self.port(register, value)
        self.port(CMD, FRE)
        self.port(CMD, FRE | ST)

    def restart(self) -> None:
        """Recover as 6.2.2 says."""
        self.port(CMD, FRE)
        assert not self.port(CMD) & CR
        self.port(SERR, ALL)
        self.port(PIS, ALL)
        self.hba(IS, ALL)
        self.port(CMD, FRE | ST)

    def build(
        self,
        slot: int,
        code: int,
        lba: int = 0,
        count: int = 0,
        features: int = 0,
        device: int = 0x40,
        prdt: list[tuple[int, int]] | None = None,
        length: int = 5,
        kind: int = 0x27,
        flags: int = 0x80,
        control: int = 0,
        interrupt: bool = False,
    ) -> None:
        table = TABLES + slot * 0x1000
        regions = prdt or []
        self.board.memory(LIST + 32 * slot, 32)[:] = struct.pack("<IIQ16x", length | len(regions) << 16, 0, table)
        low, high = lba & 0xFF_FFFF, lba >> 24
        fis = struct.pack("<BBBB", kind, flags, code, features & 0xFF) + low.to_bytes(3, "little") + bytes([device])
        fis += high.to_bytes(3, "little") + bytes([features >> 8]) + struct.pack("<HBBI", count, 0, control, 0)
        self.board.memory(table, 20)[:] = fis
        for index, (address, size) in enumerate(regions):
            entry = struct.pack("<QII", address, 0, size - 1 | interrupt << 31)
            self.board.memory(table + 0x80 + 16 * index, 16)[:] = entry

    def issue(self, slots: int, *, queued: int = 0, run: bool = True) -> None:
        if queued:
            self.port(SACT, queued)
        self.port(CI, slots)
        if run:
            self.board.run()

    def read(self, slot: int, lba: int, sectors: int, prdt: list[tuple[int, int]], code: int = READ_DMA_EXT) -> None:
        self.build(slot, code, lba, sectors, prdt=prdt)

    def queue(self, tag: int, lba: int, sectors: int, prdt: list[tuple[int, int]], code: int = READ_FPDMA) -> None:
        self.build(tag, code, lba, tag << 3, sectors, prdt=prdt)

    def prdbc(self, slot: int) -> int:
        return int.from_bytes(self.board.memory(LIST + 32 * slot + 4, 4), "little")

    def log(self) -> bytes:
        """Read log page 10h."""
        self.build(0, READ_LOG, 0x10, 1, prdt=[(0x9000, 512)])
        self.issue(1)
        assert not self.port(CI)
        return bytes(self.board.memory(0x9000, 512))
