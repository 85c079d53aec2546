"""The AHCI controller against AHCI 1.3.1: registers, DMA, NCQ, errors, hot plug.

Offsets and bits are spelt out here as the specification has them, not taken from `kernel/abi`.
"""

import ast
import random
import struct
from typing import Any

import pytest
from callgate.disk.ahci import AhciController, Latency
from callgate.disk.media import FaultInjecting, MemoryMedium, Overlay

BASE = 0xFEBF_0000
CAP, GHC, IS, PI, VS, CAP2 = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x24
CLB, CLBU, FB, FBU, PIS, PIE, CMD, TFD, SIG, SSTS, SCTL, SERR, SACT, CI = (
    *(0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x20, 0x24, 0x28, 0x2C, 0x30, 0x34, 0x38),
)
ST, SUD, POD, FRE, FR, CR = 1, 2, 4, 0x10, 1 << 14, 1 << 15
DHRS, PSS, SDBS, DPS, PCS, PRCS, OFS, IFS, HBFS, TFES = (
    *(1, 2, 8, 0x20, 0x40, 1 << 22, 1 << 24, 1 << 27, 1 << 29, 1 << 30),
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


@pytest.fixture
def data() -> bytes:
    return pattern(600)


@pytest.fixture
def rig(board: Any, data: bytes) -> Rig:
    return Rig(board, AhciController([MemoryMedium(data)]))


# Registers.


def test_registers_have_their_reset_values(board: Any, data: bytes) -> None:
    controller = board.plug_in(AhciController([MemoryMedium(data), None]))
    read = lambda register: controller.mmio_read(BASE + register, 4)  # noqa: E731 - a word for the lines below
    assert read(CAP) == 1 << 31 | 1 << 30 | 2 << 20 | 1 << 18 | 31 << 8 | 1
    assert (read(GHC), read(IS), read(PI), read(VS), read(CAP2)) == (1 << 31, 0, 3, 0x0001_0301, 0)
    assert [read(0x100 + r) for r in (CLB, CLBU, FB, FBU, PIE, SCTL, SACT, CI)] == [0] * 8
    assert read(0x100 + CMD) == SUD | POD
    assert read(0x100 + TFD) == 0x150, "the signature's error register, and ready"
    assert read(0x100 + SIG) == 0x101
    assert read(0x100 + SSTS) == 0x123
    assert read(0x100 + SERR) == 1 << 26, "a drive has sent COMINIT"
    assert [read(0x180 + r) for r in (TFD, SIG, SSTS, SERR)] == [0x7F, ALL, 0, 0]
    assert read(0x200) == 0, "no third port"


def test_read_only_bits_stay(rig: Rig) -> None:
    for register in (CAP, PI, VS, CAP2):
        before = rig.hba(register)
        rig.hba(register, 0x5A5A_5A5A)
        assert rig.hba(register) == before
    for register in (TFD, SIG, SSTS):
        before = rig.port(register)
        rig.port(register, 0x5A5A_5A5A)
        assert rig.port(register) == before
    rig.hba(GHC, 0)
    assert rig.hba(GHC) == 1 << 31, "CAP.SAM: AE cannot be cleared"


def test_addresses_lose_the_bits_below_their_alignment(rig: Rig) -> None:
    rig.port(CLB, ALL)
    rig.port(FB, ALL)
    assert (rig.port(CLB), rig.port(FB)) == (0xFFFF_FC00, 0xFFFF_FF00)


def test_narrow_reads_see_their_part_of_a_register(rig: Rig) -> None:
    assert rig.controller.mmio_read(BASE + VS, 2) == 0x0301
    assert rig.controller.mmio_read(BASE + VS + 2, 1) == 1


def test_interrupt_status_is_cleared_by_ones_and_mirrors_by_their_source(rig: Rig) -> None:
    rig.build(3, 0xE7)
    rig.issue(1 << 3)
    assert rig.port(PIS) == DHRS
    assert rig.hba(IS) == 1
    assert 11 in rig.board.lines
    rig.hba(IS, 1)
    assert rig.hba(IS) == 1, "the port still asks"
    rig.port(PIS, ALL & ~DHRS)
    assert rig.port(PIS) == DHRS
    rig.port(PIS, DHRS)
    assert rig.port(PIS) == 0
    assert 11 in rig.board.lines, "IS is the port's latch"
    rig.hba(IS, 1)
    assert rig.hba(IS) == 0
    assert 11 not in rig.board.lines


def test_disabled_causes_and_a_disabled_controller_do_not_interrupt(rig: Rig) -> None:
    rig.port(PIE, 0)
    rig.build(0, 0xE7)
    rig.issue(1)
    assert (rig.port(PIS), rig.hba(IS)) == (DHRS, 0)
    rig.hba(GHC, 1 << 31)
    rig.port(PIE, DHRS)
    assert (rig.hba(IS), rig.board.lines) == (1, set())
    rig.hba(GHC, 1 << 31 | 2)
    assert rig.board.lines == {11}


def test_engines_follow_their_enables(rig: Rig) -> None:
    assert rig.port(CMD) & ~0x1F00 == ST | SUD | POD | FRE | FR | CR
    rig.port(CMD, ST)
    assert rig.port(CMD) & FR, "FISes are received as long as the list runs"
    rig.port(CMD, 0)
    assert rig.port(CMD) == SUD | POD


def test_a_stopped_port_forgets_what_was_issued(rig: Rig) -> None:
    for slot in range(3):
        rig.read(slot, slot, 1, [(HIGH, 512)])
    rig.issue(7, run=False)
    rig.port(CMD, FRE)
    assert (rig.port(CI), rig.port(SACT)) == (0, 0)
    rig.board.run()
    assert rig.board.transfers == []
    rig.port(CI, 1)
    rig.port(SACT, 1)
    assert (rig.port(CI), rig.port(SACT)) == (0, 0), "ST is clear"


def test_hba_reset_keeps_only_the_addresses(rig: Rig) -> None:
    rig.read(0, 0, 1, [(HIGH, 512)])
    rig.issue(1, run=False)
    rig.hba(GHC, 1 << 31 | 1)
    assert rig.hba(GHC) == 1 << 31
    assert (rig.port(CLB), rig.port(FB)) == (LIST, FIS)
    assert [rig.port(r) for r in (CI, SACT, PIE, SCTL)] == [0, 0, 0, 0]
    assert rig.port(CMD) == SUD | POD
    rig.board.run()
    assert rig.board.transfers == []


def test_comreset_brings_the_signature(rig: Rig) -> None:
    rig.port(CMD, FRE)
    rig.port(SCTL, 0x301)
    assert (rig.port(SSTS), rig.port(TFD), rig.port(SIG)) == (0, 0x7F, ALL)
    rig.port(SCTL, 0x300)
    assert (rig.port(SSTS), rig.port(TFD), rig.port(SIG)) == (0x123, 0x150, 0x101)
    assert rig.port(PIS) & PCS
    rig.port(SERR, 1 << 26)
    assert not rig.port(PIS) & PCS
    assert rig.board.memory(FIS + 0x40, 4)[0] == 0x34


def test_a_port_can_be_taken_offline(rig: Rig) -> None:
    rig.port(SCTL, 4)
    assert rig.port(SSTS) == 4
    rig.port(SCTL, 0)
    assert rig.port(SSTS) == 0x123


def test_the_line_and_the_base_can_be_chosen(board: Any, data: bytes) -> None:
    controller = AhciController([MemoryMedium(data)], irq=5, base=0xE000_0000)
    assert controller.mmio == ((0xE000_0000, 0x2000),)
    board.plug_in(controller)
    controller.mmio_write(0xE000_0004, 4, 1 << 31 | 2)
    controller.mmio_write(0xE000_0114, 4, ALL)
    assert board.lines == {5}, "PCS is pending: the drive's COMINIT"


def test_more_than_32_disks_are_refused() -> None:
    with pytest.raises(ValueError, match="32 ports, 33"):
        AhciController([None] * 33)


def test_all_32_ports_work(board: Any) -> None:
    media = [MemoryMedium(pattern(4, seed)) for seed in range(32)]
    controller = AhciController(media)
    assert controller.mmio[0][1] >= 0x100 + 32 * 0x80
    for port in (0, 17, 31):
        rig = Rig(board, controller, port)
        rig.read(0, 1, 2, [(HIGH, 1024)])
        rig.issue(1)
        assert bytes(board.memory(HIGH, 1024)) == media[port].data[512:1536]
        assert rig.hba(IS) == 1 << port


# Data.


def test_a_read_lands_in_memory_above_4_gib(rig: Rig, data: bytes) -> None:
    rig.read(7, 3, 9, [(HIGH + 0x1000, 9 * 512)])
    rig.issue(1 << 7)
    assert bytes(rig.board.memory(HIGH + 0x1000, 9 * 512)) == data[3 * 512 : 12 * 512]
    assert (rig.port(CI), rig.port(TFD), rig.port(PIS)) == (0, 0x50, DHRS)
    assert rig.prdbc(7) == 9 * 512
    assert rig.board.transfers == [(HIGH + 0x1000, 9 * 512, True)]
    fis = bytes(rig.board.memory(FIS + 0x40, 20))
    assert fis[:4] == bytes([0x34, 0x40, 0x50, 0])


@pytest.mark.parametrize("seed", range(8))
def test_a_prdt_scatters_at_any_even_address_and_length(rig: Rig, data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    sectors = chance.randrange(1, 120)
    left, prdt, place = sectors * 512, [], HIGH + 2
    while left:
        size = min(left, 2 * chance.randrange(1, 3000))
        prdt.append((place, size))
        place += size + 2 * chance.randrange(0, 50)
        left -= size
    chance.shuffle(prdt)
    code = chance.choice([READ_DMA_EXT, READ_FPDMA, 0xC8, 0x24])
    if code == READ_FPDMA:
        rig.queue(5, 11, sectors, prdt)
        rig.issue(1 << 5, queued=1 << 5)
    else:
        rig.read(5, 11, sectors, prdt, code)
        rig.issue(1 << 5)
    assert (rig.port(CI), rig.port(SACT), rig.port(TFD) & 0x89) == (0, 0, 0)
    read = b"".join(bytes(rig.board.memory(address, size)) for address, size in prdt)
    assert read == data[11 * 512 : (11 + sectors) * 512]
    assert sum(bool(byte) for byte in rig.board.high) <= len(read), "nothing is written between the regions"


def test_a_write_goes_to_the_medium_and_flush_reaches_it(board: Any, data: bytes) -> None:
    medium = MemoryMedium(data)
    rig = Rig(board, AhciController([medium]))
    board.memory(HIGH + 6, 1024)[:] = pattern(2, 9)
    rig.build(0, WRITE_DMA_EXT, 100, 2, prdt=[(HIGH + 6, 500), (HIGH + 506, 524)])
    rig.issue(1)
    assert bytes(medium.data[51200:52224]) == pattern(2, 9)
    assert board.transfers == [(HIGH + 6, 500, False), (HIGH + 506, 524, False)]
    rig.build(0, 0xEA)
    rig.issue(1)
    assert medium.flushes == 1


def test_without_write_cache_every_write_is_flushed(board: Any, data: bytes) -> None:
    medium = MemoryMedium(data)
    rig = Rig(board, AhciController([medium]))
    for feature, flushes in ((0x82, 1), (0x02, 1), (0x82, 2)):
        rig.build(0, 0xEF, features=feature)
        rig.issue(1)
        rig.build(0, WRITE_DMA_EXT, 0, 1, prdt=[(HIGH, 512)])
        rig.issue(1)
        assert medium.flushes == flushes


def test_writing_a_read_only_medium_is_aborted(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data, read_only=True)]))
    rig.build(0, WRITE_DMA_EXT, 0, 1, prdt=[(HIGH, 512)])
    rig.issue(1)
    assert (rig.port(TFD), rig.port(PIS)) == (0x451, DHRS | TFES)
    rig.restart()
    rig.queue(4, 0, 1, [(HIGH, 512)], WRITE_FPDMA)
    rig.issue(1 << 4, queued=1 << 4)
    assert rig.port(TFD) == 0x451
    assert board.transfers == []


def test_an_overlay_takes_writes_and_leaves_what_is_below(board: Any, data: bytes) -> None:
    below = MemoryMedium(data, read_only=True)
    rig = Rig(board, AhciController([Overlay(below)]))
    board.memory(HIGH, 1024)[:] = pattern(2, 9)
    rig.queue(1, 10, 2, [(HIGH, 1024)], WRITE_FPDMA)
    rig.issue(2, queued=2)
    rig.queue(2, 9, 4, [(HIGH + 0x1002, 700), (HIGH + 0x2000, 1348)])
    rig.issue(4, queued=4)
    read = bytes(board.memory(HIGH + 0x1002, 700)) + bytes(board.memory(HIGH + 0x2000, 1348))
    assert read == data[9 * 512 : 10 * 512] + pattern(2, 9) + data[12 * 512 : 13 * 512]
    assert bytes(below.data) == data


def test_a_count_of_zero_means_65536_sectors_with_48_bits_and_256_with_28(board: Any) -> None:
    medium = MemoryMedium(bytes(65536 * 512))
    rig = Rig(board, AhciController([medium]))
    rig.read(0, 1, 0, [])
    rig.issue(1)
    assert rig.port(TFD) == 0x1051, "65536 sectors from 1 leave the medium"
    rig.restart()
    rig.read(0, 1, 0, [(HIGH, 131072)], 0xC8)
    rig.issue(1)
    assert (rig.port(TFD), rig.prdbc(0)) == (0x50, 131072)


def test_28_bit_addresses_have_their_upper_bits_in_the_device_register(board: Any) -> None:
    class Far(MemoryMedium):
        sector_count = 1 << 28

        def read_into(self, lba: int, views: Any) -> None:
            places.append(lba)

    places: list[int] = []
    rig = Rig(board, AhciController([Far(b"")]))
    rig.build(0, 0xC8, 0xBC_DEF0, 1, device=0x4A, prdt=[(HIGH, 512)])
    rig.issue(1)
    assert places == [0xABC_DEF0]
    rig.build(0, 0xC8, 0, 1, device=0x00, prdt=[(HIGH, 512)])
    rig.issue(1)
    assert rig.port(TFD) == 0x451, "cylinders, heads and sectors are no more"


def test_a_descriptor_may_ask_for_an_interrupt_of_its_own(rig: Rig) -> None:
    rig.build(0, READ_DMA_EXT, 0, 2, prdt=[(HIGH, 512), (HIGH + 512, 512)], interrupt=True)
    rig.issue(1)
    assert rig.port(PIS) == DHRS | DPS


# Commands.


def test_identify_is_a_pio_command_with_a_checksum(rig: Rig) -> None:
    rig.build(2, IDENTIFY, prdt=[(HIGH, 512)])
    rig.issue(4)
    assert (rig.port(PIS), rig.port(CI), rig.port(TFD)) == (PSS, 0, 0x50)
    page = bytes(rig.board.memory(HIGH, 512))
    assert page[510] == 0xA5
    assert sum(page) & 0xFF == 0
    words = struct.unpack("<256H", page)
    assert words[60] | words[61] << 16 == 600
    assert words[100] | words[101] << 16 | words[102] << 32 | words[103] << 48 == 600
    assert (words[75], words[76] & 0x100, words[106], words[217]) == (31, 0x100, 0x4000, 1)
    assert words[83] & 0xC000 == words[84] & 0xC000 == words[87] & 0xC000 == 0x4000
    setup = bytes(rig.board.memory(FIS + 0x20, 20))
    assert (setup[0], setup[1], setup[15], setup[16:18]) == (0x5F, 0x60, 0x50, b"\0\2")


def test_identify_says_what_hdparm_expects(rig: Rig, tool: Any) -> None:
    rig.build(0, IDENTIFY, prdt=[(HIGH, 512)])
    rig.issue(1)
    words = struct.unpack("<256H", bytes(rig.board.memory(HIGH, 512)))
    text = "\n".join(" ".join(f"{word:04x}" for word in words[row : row + 8]) for row in range(0, 256, 8))
    report = tool("hdparm", "--Istdin", data=(text + "\n").encode())
    for expected in (
        *("CALLGATE VIRTUAL DISK", "CG00000000", "Queue depth: 32", "Native Command Queueing (NCQ)", "48-bit Address"),
        *("LBA48  user addressable sectors:         600", "Solid State Device", "*udma5", "Checksum: correct"),
        *("*\tWrite cache", "*\tLook-ahead", "*\tMandatory FLUSH_CACHE", "*\tFLUSH_CACHE_EXT"),
        *("*\tGeneral Purpose Logging feature set", "Gen2 signaling speed (3.0Gb/s)", "Logical  Sector size"),
    ):
        assert expected in report, report


def test_features_show_in_identify(rig: Rig) -> None:
    for feature, count in ((0x82, 0), (0x55, 0), (0x03, 0x42)):
        rig.build(0, 0xEF, features=feature, count=count)
        rig.issue(1)
        assert rig.port(TFD) == 0x50
    rig.build(0, IDENTIFY, prdt=[(HIGH, 512)])
    rig.issue(1)
    words = struct.unpack("<256H", bytes(rig.board.memory(HIGH, 512)))
    assert (words[85] & 0x60, words[88]) == (0, 0x043F)


@pytest.mark.parametrize(("features", "count"), [(0x99, 0), (0x03, 0x46), (0x03, 0x23)])
def test_unknown_features_are_aborted(rig: Rig, features: int, count: int) -> None:
    rig.build(0, 0xEF, features=features, count=count)
    rig.issue(1)
    assert rig.port(TFD) == 0x451


def test_power_mode_is_active_and_comes_back_in_the_count(rig: Rig) -> None:
    rig.build(0, 0xE5)
    rig.issue(1)
    assert rig.board.memory(FIS + 0x40, 20)[12] == 0xFF


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(
    b"\x20\x24\x25\x29\x2f\x30\x34\x35\x39\x40\x42\x60\x61\x90\xc4\xc5\xc6\xc8\xca\xe0\xe1\xe2\xe3\xe5\xe7\xea\xec\xef"
)))  # fmt: skip
def test_an_unknown_command_is_aborted_and_the_port_goes_on(rig: Rig, code: int) -> None:
    rig.build(0, code)
    rig.issue(1)
    assert (rig.port(TFD), rig.port(PIS), rig.port(CI)) == (0x451, DHRS | TFES, 1)
    assert bytes(rig.board.memory(FIS + 0x40, 4)) == bytes([0x34, 0x40, 0x51, 0x04])
    rig.restart()
    rig.read(0, 0, 1, [(HIGH, 512)])
    rig.issue(1)
    assert rig.port(CI) == 0


def test_the_log_directory_names_the_error_log(rig: Rig) -> None:
    rig.build(0, READ_LOG, 0, 1, prdt=[(HIGH, 512)])
    rig.issue(1)
    directory = struct.unpack("<256H", bytes(rig.board.memory(HIGH, 512)))
    assert {index: pages for index, pages in enumerate(directory) if pages} == {0: 1, 0x10: 1}
    rig.build(0, READ_LOG, 0x11, 1, prdt=[(HIGH, 512)])
    rig.issue(1)
    assert rig.port(TFD) == 0x451


def test_a_software_reset_ends_with_the_signature(rig: Rig) -> None:
    rig.board.memory(FIS + 0x40, 20)[:] = bytes(20)
    rig.build(0, 0, flags=0, control=4, length=5 | 1 << 10)
    rig.build(1, 0, flags=0, control=0)
    rig.issue(1)
    assert rig.port(CI) == 0
    assert bytes(rig.board.memory(FIS + 0x40, 20)) == bytes(20)
    rig.issue(2)
    assert (rig.port(CI), rig.port(TFD), rig.port(SIG)) == (0, 0x150, 0x101)
    assert bytes(rig.board.memory(FIS + 0x40, 13)) == bytes([0x34, 0, 0x50, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1])


def test_a_software_reset_that_does_not_clear_busy_keeps_the_port_busy(rig: Rig) -> None:
    rig.build(0, 0, flags=0, control=4)
    rig.issue(1)
    rig.read(1, 0, 1, [(HIGH, 512)])
    rig.issue(2)
    assert (rig.port(CI), rig.port(TFD) & 0x80, rig.board.transfers) == (2, 0x80, [])


# Order.


def test_plain_commands_run_one_after_the_other_in_the_order_of_slots(rig: Rig) -> None:
    for slot in (2, 9, 30):
        rig.read(slot, slot, 1, [(HIGH + slot * 512, 512)])
    rig.issue(1 << 9 | 1 << 30 | 1 << 2)
    order = [fields["slot"] for kind, fields in rig.board.log if kind == "disk.complete"]
    assert order == [2, 9, 30]
    starts = [index for index, (kind, _) in enumerate(rig.board.log) if kind == "disk.command"]
    ends = [index for index, (kind, _) in enumerate(rig.board.log) if kind == "disk.complete"]
    assert starts == [0, 2, 4]
    assert ends == [1, 3, 5]


def test_queued_commands_leave_ci_when_accepted_and_sact_when_done(rig: Rig, data: bytes) -> None:
    for tag in range(32):
        rig.queue(tag, 2 * tag, 2, [(HIGH + tag * 1024, 1024)])
    rig.issue(ALL, queued=ALL, run=False)
    assert (rig.port(CI), rig.port(SACT), rig.port(PIS)) == (0, ALL, 0)
    assert rig.board.step()
    assert rig.port(SACT) == ALL & ~1
    assert rig.port(PIS) == SDBS
    assert bytes(rig.board.memory(FIS + 0x58, 8)) == bytes([0xA1, 0x40, 0x50, 0]) + b"\1\0\0\0"
    rig.board.run()
    assert rig.port(SACT) == 0
    assert bytes(rig.board.memory(HIGH, 32 * 1024)) == data[: 32 * 1024]


def test_queued_commands_may_end_out_of_order(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data)], latency=Latency(command=50_000, reorder=True)))
    for tag in range(32):
        rig.queue(tag, 2 * tag, 2, [(HIGH + tag * 1024, 1024)])
    rig.issue(ALL, queued=ALL)
    order = [fields["slot"] for kind, fields in board.log if kind == "disk.complete"]
    assert sorted(order) == list(range(32))
    assert order != list(range(32))
    assert bytes(board.memory(HIGH, 32 * 1024)) == data[: 32 * 1024]


def test_the_tag_is_the_commands_own_not_its_slot(rig: Rig) -> None:
    rig.build(3, READ_FPDMA, 0, 9 << 3, 1, prdt=[(HIGH, 512)])
    rig.issue(1 << 3, queued=1 << 9, run=False)
    assert (rig.port(CI), rig.port(SACT)) == (0, 1 << 9)
    rig.board.run()
    assert rig.port(SACT) == 0


def test_latency_is_paid_per_command_and_per_sector(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data)], latency=Latency(command=10_000, sector=100)))
    rig.read(0, 0, 50, [(HIGH, 25600)])
    rig.issue(1)
    assert board.clock == 10_000 + 50 * 100
    for tag in range(2):
        rig.queue(tag, 0, 10, [(HIGH, 5120)])
    rig.issue(3, queued=3)
    assert board.clock == 15_000 + 10_000 + 20 * 100, "positioning overlaps, transfers do not"


def test_slow_sectors_let_others_pass(board: Any, data: bytes) -> None:
    medium = FaultInjecting(MemoryMedium(data), slow={5: 1_000_000})
    rig = Rig(board, AhciController([medium]))
    rig.queue(0, 5, 1, [(HIGH, 512)])
    rig.queue(1, 6, 1, [(HIGH + 512, 512)])
    rig.issue(3, queued=3)
    assert [fields["slot"] for kind, fields in board.log if kind == "disk.complete"] == [1, 0]
    assert board.clock >= 1_000_000


# Errors.


def test_a_medium_error_halts_the_port_until_it_is_restarted(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([FaultInjecting(MemoryMedium(data), bad=[21])]))
    for slot in range(4):
        rig.read(slot, 10 * slot, 3, [(HIGH + slot * 0x1000, 1536)])
    rig.issue(15)
    assert (rig.port(TFD), rig.port(PIS)) == (0x4051, DHRS | TFES)
    assert rig.port(CI) == 0b1100, "the guilty command and those behind it"
    assert rig.port(CMD) >> 8 & 0x1F == 2, "CCS names the guilty one"
    assert bytes(board.memory(FIS + 0x40, 20))[4:7] == b"\x15\0\0", "the first bad sector"
    rig.port(CI, 1 << 5)
    board.run()
    assert rig.port(CI) == 0b10_1100, "nothing is done while halted"
    rig.restart()
    assert rig.port(CI) == 0
    rig.issue(1 << 3)
    assert rig.port(CI) == 0
    assert bytes(board.memory(HIGH + 0x3000, 1536)) == data[30 * 512 : 33 * 512]


def test_a_queued_error_is_told_by_the_log_and_ends_the_whole_queue(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([FaultInjecting(MemoryMedium(data), bad=[0x59])]))
    for tag in range(8):
        rig.queue(tag, 0x10 * tag + 8, 4, [(HIGH + tag * 0x1000, 2048)])
    rig.issue(0xFF, queued=0xFF)
    assert rig.port(PIS) & (SDBS | TFES) == SDBS | TFES
    assert rig.port(SACT) == 0b1110_0000, "0 to 4 have ended, 5 has failed"
    rig.restart()
    rig.queue(9, 0, 1, [(HIGH, 512)])
    rig.issue(1 << 9, queued=1 << 9)
    assert rig.port(TFD) == 0x451, "first the log"
    rig.restart()
    log = rig.log()
    assert (log[0], log[2], log[3]) == (5, 0x51, 0x40)
    assert int.from_bytes(log[4:7], "little") == 0x59
    assert sum(log) & 0xFF == 0
    assert rig.log()[0] & 0x80, "it is told once"
    rig.issue(1 << 9, queued=1 << 9)
    assert (rig.port(CI), rig.port(SACT)) == (0, 0)


def test_a_reset_forgets_a_queued_error(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([FaultInjecting(MemoryMedium(data), bad=[0])]))
    rig.queue(0, 0, 1, [(HIGH, 512)])
    rig.issue(1, queued=1)
    rig.port(CMD, FRE)
    rig.port(SCTL, 1)
    rig.port(SCTL, 0)
    rig.restart()
    rig.queue(1, 1, 1, [(HIGH, 512)])
    rig.issue(2, queued=2)
    assert (rig.port(SACT), rig.port(TFD)) == (0, 0x50)


def test_a_plain_command_among_queued_ones_aborts_them_all(rig: Rig) -> None:
    rig.queue(0, 0, 1, [(HIGH, 512)])
    rig.issue(1, queued=1, run=False)
    rig.read(1, 0, 1, [(HIGH, 512)])
    rig.issue(2)
    assert rig.port(TFD) == 0x451
    assert rig.port(SACT) == 1
    assert rig.board.transfers == []
    rig.restart()
    assert rig.log()[0] & 0x80


def test_queued_commands_without_ncq_are_unknown(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data)], ncq=False))
    assert not rig.hba(CAP) & 1 << 30
    rig.queue(0, 0, 1, [(HIGH, 512)])
    rig.issue(1, queued=1)
    assert rig.port(TFD) == 0x451


@pytest.mark.parametrize("lba", [600, 599, 1 << 40, (1 << 48) - 1])
def test_sectors_beyond_the_end_are_not_found(rig: Rig, lba: int) -> None:
    rig.read(0, lba, 2, [(HIGH, 1024)])
    rig.issue(1)
    assert rig.port(TFD) == 0x1051
    assert rig.board.transfers == []


@pytest.mark.parametrize(
    "prdt",
    [[(0x8000_0000, 512)], [(HIGH + (4 << 20) - 256, 512)], [((4 << 20) - 2, 512)], [(1 << 63, 512)], [(HIGH + 1, 512)],
     [(HIGH, 256), (HIGH + 0x1000, 255)], [((1 << 64) - 2, 512)]],
    ids=["hole", "end of high RAM", "end of low RAM", "far", "odd address", "odd length", "wraps"],
)  # fmt: skip
@pytest.mark.parametrize("queued", [False, True])
def test_a_region_that_cannot_be_is_a_host_bus_error(rig: Rig, prdt: list[tuple[int, int]], queued: bool) -> None:
    if queued:
        rig.queue(0, 0, 1, prdt)
        rig.issue(1, queued=1)
    else:
        rig.read(0, 0, 1, prdt)
        rig.issue(1)
    assert rig.port(PIS) & HBFS
    assert rig.board.transfers == []
    assert (rig.port(CI) | rig.port(SACT)) == 1
    rig.port(CMD, FRE)
    assert bool(rig.port(TFD) & 0x80) != queued, "a drive with a plain command still waits for the transfer"
    rig.port(SCTL, 1)
    rig.port(SCTL, 0)
    rig.restart()
    rig.read(0, 0, 1, [(HIGH, 512)])
    rig.issue(1)
    assert rig.port(CI) == 0


@pytest.mark.parametrize("what", ["list", "table", "received FISes", "PRDT"])
def test_structures_outside_memory_are_host_bus_errors(rig: Rig, what: str) -> None:
    rig.read(0, 0, 1, [(HIGH, 512)])
    if what == "list":
        rig.port(CLBU, 7)
    elif what == "table":
        rig.board.memory(LIST + 8, 8)[:] = (1 << 50).to_bytes(8, "little")
    elif what == "received FISes":
        rig.port(FBU, 7)
    else:
        rig.board.memory(LIST + 8, 8)[:] = ((4 << 20) - 0x80).to_bytes(8, "little")
        rig.board.memory((4 << 20) - 0x80, 20)[:] = bytes(rig.board.memory(TABLES, 20))
    rig.issue(1)
    assert rig.port(PIS) & HBFS


@pytest.mark.parametrize(("length", "kind"), [(0, 0x27), (4, 0x27), (6, 0x27), (5, 0x34)])
def test_a_frame_that_is_no_command_is_an_interface_error(rig: Rig, length: int, kind: int) -> None:
    rig.build(0, IDENTIFY, prdt=[(HIGH, 512)], length=length, kind=kind)
    rig.issue(1)
    assert rig.port(PIS) & IFS
    assert rig.port(SERR) & 1 << 22
    assert rig.board.transfers == []


def test_a_short_prdt_overflows_and_keeps_what_fits(rig: Rig, data: bytes) -> None:
    rig.read(0, 4, 3, [(HIGH, 700)])
    rig.issue(1)
    assert rig.port(PIS) == DHRS | OFS
    assert (rig.prdbc(0), rig.port(CI)) == (700, 0)
    assert bytes(rig.board.memory(HIGH, 1536)) == data[4 * 512 : 4 * 512 + 700] + bytes(836)


def test_a_short_prdt_of_a_write_hangs_the_drive_until_it_is_reset(board: Any, data: bytes) -> None:
    medium = MemoryMedium(data)
    rig = Rig(board, AhciController([medium]))
    rig.build(0, WRITE_DMA_EXT, 0, 2, prdt=[(HIGH, 512)])
    rig.issue(1)
    assert (rig.port(PIS), rig.port(CI), rig.port(TFD) & 0x80) == (OFS, 1, 0x80)
    assert bytes(medium.data) == data
    rig.port(CMD, FRE)
    assert rig.port(TFD) & 0x80
    rig.port(SCTL, 1)
    rig.port(SCTL, 0)
    rig.restart()
    rig.read(0, 0, 1, [(HIGH, 512)])
    rig.issue(1)
    assert rig.port(CI) == 0


def test_an_empty_prdt_is_an_overflow(rig: Rig) -> None:
    rig.read(0, 0, 1, [])
    rig.issue(1)
    assert rig.port(PIS) == DHRS | OFS
    assert rig.prdbc(0) == 0


# Hot plug.


def test_unplugging_ends_nothing_and_is_told(rig: Rig) -> None:
    for tag in range(8):
        rig.queue(tag, tag, 1, [(HIGH + tag * 512, 512)])
    rig.issue(0xFF, queued=0xFF, run=False)
    rig.controller.unplug(0)
    assert (rig.port(SSTS), rig.port(TFD), rig.port(SIG)) == (0, 0x7F, ALL)
    assert rig.port(PIS) & PRCS
    assert rig.port(SERR) & 1 << 16
    assert rig.board.lines == {11}
    rig.board.run()
    assert (rig.port(SACT), rig.board.transfers) == (0xFF, [])
    rig.port(PIS, ALL)
    assert rig.port(PIS) & PRCS, "it mirrors PxSERR.DIAG.N"
    rig.port(SERR, ALL)
    rig.hba(IS, ALL)
    assert (rig.port(PIS), rig.board.lines) == (0, set())


def test_a_new_drive_does_nothing_that_was_asked_of_the_old_one(rig: Rig) -> None:
    rig.read(0, 0, 1, [(HIGH, 512)])
    rig.issue(1, run=False)
    rig.controller.unplug(0)
    rig.controller.plug(0, MemoryMedium(pattern(40, 5)))
    assert rig.port(PIS) & (PCS | PRCS) == PCS | PRCS
    rig.board.run()
    rig.port(CI, 2)
    rig.board.run()
    assert rig.board.transfers == []
    rig.restart()
    rig.read(0, 1, 1, [(HIGH, 512)])
    rig.issue(1)
    assert bytes(rig.board.memory(HIGH, 512)) == pattern(40, 5)[512:1024]


@pytest.mark.parametrize("how", [{"removed_after": 3}, {"removed_at": 4000}])
def test_a_medium_that_vanishes_takes_its_drive_along(board: Any, data: bytes, how: dict[str, int]) -> None:
    medium = FaultInjecting(MemoryMedium(data), clock=lambda: board.clock, **how)
    rig = Rig(board, AhciController([medium]))
    for slot in range(8):
        rig.read(slot, slot, 1, [(HIGH, 512)])
    rig.issue(0xFF)
    assert rig.port(PIS) & PRCS
    assert rig.port(SSTS) == 0
    assert rig.port(CI) == 0b1111_1000
    assert len(board.transfers) == 3


# Snapshots, hostility.


def test_a_saved_state_goes_on_as_if_nothing_had_been(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data)]))
    for tag in range(4):
        rig.queue(tag, tag, 1, [(HIGH + tag * 512, 512)])
    rig.issue(15, queued=15, run=False)
    rig.board.step()
    state, queue = rig.controller.save(), list(board.queue)
    assert ast.literal_eval(repr(state)) == state, "plain data"
    board.run()
    assert rig.port(SACT) == 0
    board.high[:] = bytes(len(board.high))
    rig.controller.load(state)
    board.queue = queue
    assert rig.port(SACT) == 0b1110
    board.run()
    assert rig.port(SACT) == 0
    assert bytes(board.memory(HIGH + 512, 1536)) == data[512:2048]


@pytest.mark.parametrize("seed", range(30))
def test_no_guest_can_make_the_controller_raise(board: Any, data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    controller = AhciController([MemoryMedium(data), None], ncq=chance.random() < 0.8)
    rig = Rig(board, controller)
    media = [MemoryMedium(data), FaultInjecting(MemoryMedium(data), bad=range(0, 600, 5))]
    for _ in range(300):
        action = chance.random()
        if action < 0.35:
            slot = chance.randrange(32)
            code = chance.choice(
                [READ_DMA_EXT, WRITE_DMA_EXT, READ_FPDMA, WRITE_FPDMA, READ_LOG, IDENTIFY, chance.randrange(256)]
            )
            places = [HIGH, 0x9000, 1 << 60, chance.getrandbits(64)]
            prdt = [(chance.choice(places), chance.randrange(1, 5000)) for _ in range(chance.randrange(6))]
            lba = chance.choice([chance.randrange(620), chance.getrandbits(48)])
            count = chance.choice([slot << 3, chance.getrandbits(16)])
            features = chance.choice([1, 4, chance.getrandbits(16)])
            flags, control = chance.choice([0x80, 0x80, 0]), chance.choice([0, 4])
            length = chance.choice([5, 5, 5, chance.randrange(32)])
            rig.build(slot, code, lba, count, features, prdt=prdt, flags=flags, control=control, length=length)
            rig.issue(1 << slot, queued=chance.choice([0, 1 << slot]), run=False)
        elif action < 0.6:
            register = chance.randrange(0, 0x200, 4)
            controller.mmio_write(BASE + register, 4, chance.choice([0, 1, ALL, FRE | ST, chance.getrandbits(32)]))
        elif action < 0.7:
            controller.mmio_read(BASE + chance.randrange(0x2000), chance.choice([1, 2, 4]))
        elif action < 0.75:
            controller.unplug(chance.randrange(2))
        elif action < 0.8:
            controller.plug(chance.randrange(2), chance.choice(media))
        elif action < 0.85:
            rig.start()
        else:
            board.step()
    board.run()
    controller.reset()
    rig.start()
    controller.plug(0, MemoryMedium(data))
    rig.restart()
    rig.read(0, 3, 1, [(HIGH, 512)])
    rig.issue(1)
    assert bytes(board.memory(HIGH, 512)) == data[1536:2048]
