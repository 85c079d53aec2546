"""The IDE controller against the PIO protocols of ATA8-APT and the registers of ACS-3."""

import ast
import random
import struct
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.ide.controller import IdeController
from callgate.disk.media import FaultInjecting, MemoryMedium

DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS = range(8)
BSY, DRDY, DRQ, ERR = 0x80, 0x40, 0x08, 0x01
NIEN, SRST, HOB = 2, 4, 0x80
PRIMARY, SECONDARY = (0x1F0, 0x3F6, 14), (0x170, 0x376, 15)


def pattern(sectors: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(sectors * 512)


class Rig:
    """A channel and the programs that a driver would run."""

    def __init__(self, board: Any, controller: IdeController, channel: tuple[int, int, int] = PRIMARY) -> None:
        self.board = board
        self.controller = board.plug_in(controller) if board.device is not controller else controller
        self.base, self.control, self.irq = channel

    def get(self, register: int) -> int:
        return int(self.controller.port_read(self.base + register, 1))

    def put(self, register: int, value: int) -> None:
        self.controller.port_write(self.base + register, 1, value)

    @property
    def alternate(self) -> int:
        return int(self.controller.port_read(self.control, 1))

    def device_control(self, value: int) -> None:
        self.controller.port_write(self.control, 1, value)

    def command(
        self, code: int, lba: int = 0, count: int = 0, *, device: int = 0, features: int = 0, long: bool = False
    ) -> None:
        top = 0 if long else lba >> 24 & 0xF
        self.put(DEVICE, 0x40 | device << 4 | top)
        if long:
            for register, value in ((COUNT, count >> 8), (LOW, lba >> 24), (MID, lba >> 32), (HIGH, lba >> 40)):
                self.put(register, value & 0xFF)
        for register, value in ((ERROR, features), (COUNT, count), (LOW, lba), (MID, lba >> 8), (HIGH, lba >> 16)):
            self.put(register, value & 0xFF)
        self.put(STATUS, code)

    def words(self, count: int, size: int = 2) -> bytes:
        return b"".join(
            self.controller.port_read(self.base, size).to_bytes(size, "little") for _ in range(count * 2 // size)
        )

    def read(self, code: int, lba: int, sectors: int, block: int = 1, *, size: int = 2, **how: Any) -> bytes:
        """Follow the PIO data-in protocol, interrupt by interrupt."""
        self.command(code, lba, sectors, **how)
        out = b""
        while len(out) < sectors * 512:
            assert self.alternate & BSY
            self.board.run()
            assert self.irq in self.board.lines
            assert self.get(STATUS) == 0x58
            assert self.irq not in self.board.lines, "reading the status takes the interrupt back"
            out += self.words(256 * min(block, sectors - len(out) // 512), size)
        assert self.alternate == 0x50, "no interrupt and no data after the last block"
        assert self.irq not in self.board.lines
        return out


@pytest.fixture
def data() -> bytes:
    return pattern(600)


@pytest.fixture
def rig(board: Any, data: bytes) -> Rig:
    return Rig(board, IdeController([MemoryMedium(data)]))


def test_after_a_reset_the_registers_hold_the_signature_of_a_disk(rig: Rig) -> None:
    assert [rig.get(register) for register in (ERROR, COUNT, LOW, MID, HIGH, DEVICE)] == [1, 1, 1, 0, 0, 0]
    assert rig.get(STATUS) == rig.alternate == 0x50


def test_a_channel_without_drives_reads_as_a_floating_bus(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([MemoryMedium(data)]), SECONDARY)
    assert {rig.get(register) for register in range(1, 8)} == {0xFF}
    assert rig.alternate == 0xFF
    assert rig.controller.port_read(0x170, 2) == 0xFFFF
    rig.command(0xEC)
    board.run()
    assert board.rises == []


def test_the_first_drive_answers_for_an_absent_second_one(rig: Rig) -> None:
    rig.put(DEVICE, 0x50)
    assert (rig.get(STATUS), rig.alternate) == (0, 0)
    rig.put(COUNT, 0x5A)
    assert rig.get(COUNT) == 0x5A
    rig.put(STATUS, 0xEC)
    rig.board.run()
    assert rig.board.rises == []


def test_a_lone_second_drive_works(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([None, MemoryMedium(data)]))
    assert rig.get(STATUS) == 0xFF
    assert rig.read(0x20, 5, 2, device=1) == data[2560:3584]


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("long", [False, True])
def test_each_sector_that_is_read_has_one_interrupt(rig: Rig, data: bytes, size: int, long: bool) -> None:
    assert rig.read(0x24 if long else 0x20, 17, 5, size=size, long=long) == data[17 * 512 : 22 * 512]
    assert rig.board.rises == [14] * 5


@pytest.mark.parametrize("sectors", [1, 7, 8, 9, 16, 23])
def test_multiple_mode_transfers_a_block_of_sectors_for_each_interrupt(rig: Rig, data: bytes, sectors: int) -> None:
    rig.command(0xC6, count=8)
    rig.board.run()
    rig.get(STATUS)
    rig.board.rises.clear()
    assert rig.read(0xC4, 3, sectors, 8) == data[1536 : 1536 + sectors * 512]
    assert len(rig.board.rises) == -(-sectors // 8)
    assert rig.read(0x29, 3, sectors, 8, long=True) == data[1536 : 1536 + sectors * 512]


@pytest.mark.parametrize("count", [3, 17, 32, 255])
def test_an_impossible_block_size_is_refused_and_turns_multiple_mode_off(rig: Rig, count: int) -> None:
    for code, blocks in ((0xC6, 8), (0xC6, count)):
        rig.command(code, count=blocks)
        rig.board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 4)
    rig.command(0xC4, 0, 1)
    rig.board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 4)


def test_each_of_four_drives_answers_identify_with_its_own_data(board: Any) -> None:
    media = [MemoryMedium(bytes(512 * (index + 1))) for index in range(4)]
    controller = IdeController(media)
    for index in range(4):
        rig = Rig(board, controller, PRIMARY if index < 2 else SECONDARY)
        rig.command(0xEC, device=index & 1)
        board.run()
        assert rig.get(STATUS) == 0x58
        page = rig.words(256)
        words = struct.unpack("<256H", page)
        assert words[60] == words[100] == index + 1
        assert sum(page) & 0xFF == 0
        assert (words[47], words[59]) == (0x8010, 0)
        assert (words[49] & 0x300, words[63], words[76], words[88]) == (0x200, 0, 0, 0), "LBA, no DMA, not serial"


def test_hdparm_decodes_identify_data_as_expected(rig: Rig, tool: Any) -> None:
    rig.command(0xC6, count=16)
    rig.board.run()
    rig.command(0xEC)
    rig.board.run()
    words = struct.unpack("<256H", rig.words(256))
    text = "\n".join(" ".join(f"{word:04x}" for word in words[row : row + 8]) for row in range(0, 256, 8))
    report = tool("hdparm", "--Istdin", data=(text + "\n").encode())
    assert "R/W multiple sector transfer: Max = 16\tCurrent = 16" in report, report
    assert "LBA48  user addressable sectors:         600" in report
    assert "DMA: not supported" in report
    assert "Checksum: correct" in report


def test_sectors_are_written_block_by_block(board: Any, data: bytes) -> None:
    medium = MemoryMedium(data)
    rig = Rig(board, IdeController([medium]))
    new = pattern(3, 7)
    rig.command(0x30, 9, 3)
    for sector in range(3):
        board.run()
        assert (14 in board.lines) == (sector > 0), "the first block is asked for without interrupt"
        assert rig.get(STATUS) == 0x58
        for at in range(sector * 512, sector * 512 + 512, 2):
            rig.controller.port_write(0x1F0, 2, int.from_bytes(new[at : at + 2], "little"))
        assert rig.alternate & BSY
    board.run()
    assert 14 in board.lines
    assert rig.get(STATUS) == 0x50
    assert bytes(medium.data) == data[: 9 * 512] + new + data[12 * 512 :]


def test_writing_a_read_only_medium_is_aborted_before_data(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([MemoryMedium(data, read_only=True)]))
    rig.command(0x34, 9, 3, long=True)
    board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 4)


@pytest.mark.parametrize("code", [0x00, 0x25, 0x60, 0xA0, 0xA1, 0xB0, 0xC8, 0xCA, 0xFE])
def test_an_unknown_command_or_dma_is_aborted(rig: Rig, code: int) -> None:
    rig.command(code, 0, 1)
    rig.board.run()
    assert 14 in rig.board.lines
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 4)


def test_a_bad_sector_is_named_in_the_registers(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([FaultInjecting(MemoryMedium(data), bad=[0x123])]))
    rig.command(0x20, 0x121, 5)
    for _ in range(2):
        board.run()
        assert rig.get(STATUS) == 0x58
        rig.words(256)
    board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 0x40)
    assert [rig.get(register) for register in (LOW, MID, HIGH)] == [0x23, 0x01, 0x00]
    assert rig.words(1) == b"\0\0"


def test_the_upper_bytes_of_a_48_bit_address_are_seen_through_hob(board: Any) -> None:
    class Far(MemoryMedium):
        sector_count = 1 << 48

    rig = Rig(board, IdeController([FaultInjecting(Far(b""), bad=[0x1234_5678_9ABC])]))
    rig.command(0x24, 0x1234_5678_9ABC, 1, long=True)
    board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 0x40)
    assert [rig.get(register) for register in (LOW, MID, HIGH)] == [0xBC, 0x9A, 0x78]
    rig.device_control(HOB)
    assert [rig.get(register) for register in (LOW, MID, HIGH)] == [0x56, 0x34, 0x12]
    rig.put(COUNT, 0)
    assert rig.get(LOW) == 0xBC, "a write takes HOB back"


def test_addresses_beyond_the_end_and_without_lba_are_refused(rig: Rig) -> None:
    rig.command(0x20, 599, 2)
    rig.board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 0x10)
    rig.put(DEVICE, 0)
    rig.put(COUNT, 1)
    rig.put(STATUS, 0x20)
    rig.board.run()
    assert (rig.get(STATUS), rig.get(ERROR)) == (0x51, 4)


def test_interrupts_can_be_disabled_by_nien(rig: Rig) -> None:
    rig.device_control(NIEN)
    rig.command(0xE5)
    rig.board.run()
    assert rig.board.lines == set()
    rig.device_control(0)
    assert rig.board.lines == {14}, "it was pending"
    assert rig.get(COUNT) == 0xFF
    assert rig.alternate == 0x50
    assert rig.board.lines == {14}
    rig.get(STATUS)
    assert rig.board.lines == set()


def test_only_the_selected_drive_drives_the_interrupt_line(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([MemoryMedium(data), MemoryMedium(data)]))
    rig.command(0xE5, device=1)
    board.run()
    assert board.lines == {14}
    rig.put(DEVICE, 0x40)
    assert board.lines == set()
    rig.put(DEVICE, 0x50)
    assert board.lines == {14}


def test_software_reset_ends_a_command_and_restores_the_signature(rig: Rig) -> None:
    rig.command(0xC6, count=8)
    rig.board.run()
    rig.command(0x20, 5, 4)
    rig.board.run()
    rig.device_control(SRST)
    assert rig.alternate == BSY
    rig.board.run()
    assert rig.alternate == BSY, "as long as SRST is set"
    rig.device_control(0)
    assert rig.alternate == BSY
    rig.board.run()
    assert [rig.get(register) for register in (STATUS, ERROR, COUNT, LOW, MID, HIGH)] == [0x50, 1, 1, 1, 0, 0]
    assert rig.board.lines == set()
    rig.command(0xC4, 0, 1)
    rig.board.run()
    assert rig.get(STATUS) == 0x51, "multiple mode is off"


def test_diagnostics_leave_the_signature_and_the_code_of_a_working_drive(rig: Rig) -> None:
    rig.command(0x90)
    rig.board.run()
    assert [rig.get(register) for register in (STATUS, ERROR, COUNT, LOW)] == [0x50, 1, 1, 1]


def test_a_busy_drive_accepts_no_second_command(rig: Rig, data: bytes) -> None:
    rig.command(0x20, 5, 1)
    rig.put(LOW, 77)
    rig.put(STATUS, 0xEC)
    rig.board.run()
    assert rig.get(STATUS) == 0x58
    rig.put(STATUS, 0xEC)
    assert rig.words(256) == data[2560:3072]


def test_a_drive_that_vanishes_leaves_a_floating_bus_and_raises_no_interrupt(board: Any, data: bytes) -> None:
    rig = Rig(board, IdeController([FaultInjecting(MemoryMedium(data), removed_after=1)]))
    rig.command(0x20, 0, 2)
    board.run()
    assert rig.get(STATUS) == 0x58
    rig.words(256)
    board.rises.clear()
    board.run()
    assert rig.alternate == 0xFF
    assert board.rises == []


def test_each_ide_command_and_each_sector_takes_its_latency(board: Any, data: bytes) -> None:
    medium = FaultInjecting(MemoryMedium(data), slow={5: 70_000})
    rig = Rig(board, IdeController([medium], latency=Latency(command=10_000, sector=300)))
    rig.command(0x20, 4, 2)
    board.run()
    assert board.clock == 10_300
    rig.words(256)
    board.run()
    assert board.clock == 2 * 10_300 + 70_000


def test_a_controller_continues_from_a_state_saved_in_the_middle_of_a_sector(rig: Rig, data: bytes) -> None:
    rig.command(0x20, 2, 2)
    rig.board.run()
    first = rig.words(100)
    state = rig.controller.save()
    assert ast.literal_eval(repr(state)) == state, "plain data"
    rest = rig.words(156)
    rig.controller.load(state)
    assert rig.words(156) == rest
    assert first + rest == data[1024:1536]
    rig.board.run()
    assert rig.get(STATUS) == 0x58


def test_more_than_four_ide_disks_are_refused() -> None:
    with pytest.raises(ValueError, match="4 drives, 5"):
        IdeController([None] * 5)


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("seed", range(20))
def test_no_guest_can_make_the_ide_controller_raise_an_exception(board: Any, data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    controller = IdeController([MemoryMedium(data), FaultInjecting(MemoryMedium(data), bad=range(0, 600, 3)), None])
    board.plug_in(controller)
    ports = [port for ports in IdeController.ports for port in ports]
    codes = [0x20, 0x24, 0x30, 0x34, 0xC4, 0xC5, 0xC6, 0xEC, 0xEF, 0x90, 0xE7, 0x40, 0x2F]
    for _ in range(2000):
        port, size = chance.choice(ports), chance.choice([1, 2, 4])
        action = chance.random()
        if action < 0.5:
            value = chance.choice(codes) if port & 7 == 7 else chance.choice([0, 1, 0x40, 0x50, chance.getrandbits(32)])
            controller.port_write(port, size, value)
        elif action < 0.8:
            assert 0 <= controller.port_read(port, size) < 1 << 8 * size
        elif action < 0.82:
            controller.unplug(chance.randrange(4))
        elif action < 0.84:
            controller.plug(chance.randrange(4), MemoryMedium(data))
        else:
            board.step()
    controller.plug(0, MemoryMedium(data))
    controller.reset()
    board.run()
    rig = Rig(board, controller)
    rig.device_control(0)
    board.lines.clear()
    assert rig.read(0x20, 2, 1) == data[1024:1536]
