"""The AHCI controller's commands and their order against AHCI 1.3.1 and the ATA command set."""

import struct
from typing import Any

import pytest
from ahci_rig import (
    ALL,
    CI,
    DHRS,
    FIS,
    HIGH,
    IDENTIFY,
    PIS,
    PSS,
    READ_FPDMA,
    READ_LOG,
    SACT,
    SDBS,
    SIG,
    TFD,
    TFES,
    Rig,
    pattern,
)
from callgate.disk.ahci.controller import AhciController, Latency
from callgate.disk.media import FaultInjecting, MemoryMedium


@pytest.fixture
def data() -> bytes:
    return pattern(600)


@pytest.fixture
def rig(board: Any, data: bytes) -> Rig:
    return Rig(board, AhciController([MemoryMedium(data)]))


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


def test_hdparm_decodes_identify_data_of_ahci_drives_as_expected(rig: Rig, tool: Any) -> None:
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


def test_features_that_are_switched_on_show_in_identify(rig: Rig) -> None:
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


def test_check_power_mode_returns_active_in_the_count(rig: Rig) -> None:
    rig.build(0, 0xE5)
    rig.issue(1)
    assert rig.board.memory(FIS + 0x40, 20)[12] == 0xFF


@pytest.mark.thorough(one_in=20)
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


def test_the_tag_of_a_queued_command_need_not_be_its_slot(rig: Rig) -> None:
    rig.build(3, READ_FPDMA, 0, 9 << 3, 1, prdt=[(HIGH, 512)])
    rig.issue(1 << 3, queued=1 << 9, run=False)
    assert (rig.port(CI), rig.port(SACT)) == (0, 1 << 9)
    rig.board.run()
    assert rig.port(SACT) == 0


def test_each_command_and_each_sector_takes_its_latency(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([MemoryMedium(data)], latency=Latency(command=10_000, sector=100)))
    rig.read(0, 0, 50, [(HIGH, 25600)])
    rig.issue(1)
    assert board.clock == 10_000 + 50 * 100
    for tag in range(2):
        rig.queue(tag, 0, 10, [(HIGH, 5120)])
    rig.issue(3, queued=3)
    assert board.clock == 15_000 + 10_000 + 20 * 100, "positioning overlaps, transfers do not"


def test_queued_commands_pass_others_that_wait_for_slow_sectors(board: Any, data: bytes) -> None:
    medium = FaultInjecting(MemoryMedium(data), slow={5: 1_000_000})
    rig = Rig(board, AhciController([medium]))
    rig.queue(0, 5, 1, [(HIGH, 512)])
    rig.queue(1, 6, 1, [(HIGH + 512, 512)])
    rig.issue(3, queued=3)
    assert [fields["slot"] for kind, fields in board.log if kind == "disk.complete"] == [1, 0]
    assert board.clock >= 1_000_000
