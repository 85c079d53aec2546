"""The AHCI controller's errors, hot plug and snapshots against AHCI 1.3.1."""

import ast
import random
from typing import Any

import pytest
from ahci_rig import (
    ALL,
    BASE,
    CAP,
    CI,
    CLBU,
    CMD,
    DHRS,
    FBU,
    FIS,
    FRE,
    HBFS,
    HIGH,
    IDENTIFY,
    IFS,
    IS,
    LIST,
    OFS,
    PCS,
    PIS,
    PRCS,
    READ_DMA_EXT,
    READ_FPDMA,
    READ_LOG,
    SACT,
    SCTL,
    SDBS,
    SERR,
    SIG,
    SSTS,
    ST,
    TABLES,
    TFD,
    TFES,
    WRITE_DMA_EXT,
    WRITE_FPDMA,
    Rig,
    pattern,
)
from callgate.disk.ahci.controller import AhciController
from callgate.disk.media import FaultInjecting, MemoryMedium


@pytest.fixture
def data() -> bytes:
    return pattern(600)


@pytest.fixture
def rig(board: Any, data: bytes) -> Rig:
    return Rig(board, AhciController([MemoryMedium(data)]))


# Errors.


def test_a_medium_error_halts_the_port_until_it_is_restarted(board: Any, data: bytes) -> None:
    rig = Rig(board, AhciController([FaultInjecting(MemoryMedium(data), bad=[21])]))
    for slot in range(4):
        rig.read(slot, 10 * slot, 3, [(HIGH + slot * 0x1000, 1536)])
    rig.issue(15)
    assert (rig.port(TFD), rig.port(PIS)) == (0x4051, DHRS | TFES)
    assert rig.port(CI) == 0b1100, "the failed command and those after it"
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


def test_the_error_of_a_queued_command_is_in_the_log_and_ends_the_whole_queue(board: Any, data: bytes) -> None:
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


def test_queued_commands_are_unknown_to_a_drive_without_ncq(board: Any, data: bytes) -> None:
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
def test_an_impossible_prdt_region_is_a_host_bus_error(rig: Rig, prdt: list[tuple[int, int]], queued: bool) -> None:
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
def test_command_structures_outside_memory_are_host_bus_errors(rig: Rig, what: str) -> None:
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
def test_a_fis_that_is_not_a_command_is_an_interface_error(rig: Rig, length: int, kind: int) -> None:
    rig.build(0, IDENTIFY, prdt=[(HIGH, 512)], length=length, kind=kind)
    rig.issue(1)
    assert rig.port(PIS) & IFS
    assert rig.port(SERR) & 1 << 22
    assert rig.board.transfers == []


def test_a_prdt_that_is_too_short_overflows_and_the_data_that_fit_are_kept(rig: Rig, data: bytes) -> None:
    rig.read(0, 4, 3, [(HIGH, 700)])
    rig.issue(1)
    assert rig.port(PIS) == DHRS | OFS
    assert (rig.prdbc(0), rig.port(CI)) == (700, 0)
    assert bytes(rig.board.memory(HIGH, 1536)) == data[4 * 512 : 4 * 512 + 700] + bytes(836)


def test_a_prdt_that_is_too_short_for_a_write_hangs_the_drive_until_it_is_reset(board: Any, data: bytes) -> None:
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


def test_unplugging_a_drive_ends_no_command_and_is_signalled(rig: Rig) -> None:
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


def test_a_new_drive_runs_no_command_of_the_old_one(rig: Rig) -> None:
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
def test_the_drive_of_a_medium_that_vanishes_is_unplugged(board: Any, data: bytes, how: dict[str, int]) -> None:
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


def test_a_controller_continues_from_a_saved_state_as_if_never_interrupted(board: Any, data: bytes) -> None:
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


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("seed", range(30))
def test_no_guest_can_make_the_ahci_controller_raise_an_exception(board: Any, data: bytes, seed: int) -> None:
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
