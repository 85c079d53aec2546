"""The AHCI controller's registers and DMA against AHCI 1.3.1."""

import random
from typing import Any

import pytest
from ahci_rig import (
    ALL,
    ALWAYS,
    BASE,
    CAP,
    CAP2,
    CI,
    CLB,
    CLBU,
    CMD,
    CR,
    DHRS,
    DMPS,
    DPS,
    FB,
    FBU,
    FIS,
    FR,
    FRE,
    GHC,
    HIGH,
    IS,
    LIST,
    MPSS,
    PCS,
    PI,
    PIE,
    PIS,
    READ_DMA_EXT,
    READ_FPDMA,
    SACT,
    SCTL,
    SERR,
    SIG,
    SSTS,
    ST,
    TFD,
    TFES,
    VS,
    WRITE_DMA_EXT,
    WRITE_FPDMA,
    Rig,
    pattern,
)
from callgate.disk.ahci.controller import AhciController
from callgate.disk.media import MemoryMedium, Overlay


@pytest.fixture
def data() -> bytes:
    return pattern(600)


@pytest.fixture
def rig(board: Any, data: bytes) -> Rig:
    return Rig(board, AhciController([MemoryMedium(data)]))


# Registers.


def test_ahci_registers_have_their_reset_values(board: Any, data: bytes) -> None:
    controller = board.plug_in(AhciController([MemoryMedium(data), None]))
    read = lambda register: controller.mmio_read(BASE + register, 4)  # noqa: E731 - a word for the lines below
    assert read(CAP) == 1 << 31 | 1 << 30 | 1 << 28 | 2 << 20 | 1 << 18 | 31 << 8 | 1
    assert (read(GHC), read(IS), read(PI), read(VS), read(CAP2)) == (1 << 31, 0, 3, 0x0001_0301, 0)
    assert [read(0x100 + r) for r in (CLB, CLBU, FB, FBU, PIE, SCTL, SACT, CI)] == [0] * 8
    assert read(0x100 + CMD) == ALWAYS
    assert read(0x180 + CMD) == ALWAYS | MPSS, "the switch of the second port is open"
    assert read(0x100 + TFD) == 0x150, "the signature's error register, and ready"
    assert read(0x100 + SIG) == 0x101
    assert read(0x100 + SSTS) == 0x123
    assert read(0x100 + SERR) == 1 << 26, "a drive has sent COMINIT"
    assert [read(0x180 + r) for r in (TFD, SIG, SSTS, SERR)] == [0x7F, ALL, 0, 0]
    assert read(0x200) == 0, "no third port"


def test_read_only_bits_of_registers_cannot_be_changed(rig: Rig) -> None:
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


def test_addresses_written_to_registers_lose_the_bits_below_their_alignment(rig: Rig) -> None:
    rig.port(CLB, ALL)
    rig.port(FB, ALL)
    assert (rig.port(CLB), rig.port(FB)) == (0xFFFF_FC00, 0xFFFF_FF00)


def test_narrow_reads_return_their_part_of_a_register(rig: Rig) -> None:
    assert rig.controller.mmio_read(BASE + VS, 2) == 0x0301
    assert rig.controller.mmio_read(BASE + VS + 2, 1) == 1


def test_interrupt_status_bits_are_cleared_by_writing_ones_and_mirrored_bits_at_their_source(rig: Rig) -> None:
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


def test_engines_run_while_they_are_enabled(rig: Rig) -> None:
    assert rig.port(CMD) & ~0x1F00 == ST | ALWAYS | FRE | FR | CR
    rig.port(CMD, ST)
    assert rig.port(CMD) & FR, "FISes are received as long as the list runs"
    rig.port(CMD, 0)
    assert rig.port(CMD) == ALWAYS


def test_a_stopped_port_forgets_commands_that_were_issued(rig: Rig) -> None:
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
    assert rig.port(CMD) == ALWAYS
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


def test_the_presence_switch_of_a_port_follows_its_drive(rig: Rig, data: bytes) -> None:
    rig.port(PIE, DMPS)
    for change in (lambda: rig.controller.unplug(0), lambda: rig.controller.plug(0, MemoryMedium(data))):
        change()
        assert bool(rig.port(CMD) & MPSS) == (rig.controller.drives[0].drive is None)
        assert rig.port(PIS) & DMPS
        assert rig.hba(IS) == 1
        rig.port(PIS, DMPS)
        assert not rig.port(PIS) & DMPS
        rig.hba(IS, 1)


def test_a_port_can_be_taken_offline(rig: Rig) -> None:
    rig.port(SCTL, 4)
    assert rig.port(SSTS) == 4
    rig.port(SCTL, 0)
    assert rig.port(SSTS) == 0x123


def test_the_interrupt_line_and_the_base_address_can_be_chosen(board: Any, data: bytes) -> None:
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


@pytest.mark.thorough(one_in=2)
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
    written = len(rig.board.high) - rig.board.high[:].count(0)
    assert written <= len(read), "nothing is written between the regions"


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


def test_every_write_is_flushed_if_the_write_cache_is_off(board: Any, data: bytes) -> None:
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


def test_writes_to_an_overlay_do_not_change_the_medium_below(board: Any, data: bytes) -> None:
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
