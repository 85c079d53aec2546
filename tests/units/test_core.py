"""The log and the coroutines, each alone."""

from ctypes import c_uint16, c_uint32, c_uint64

import pytest
from callgate.kernel.abi.layout import Layout
from callgate.kernel.abi.limits import LOG_BURST, LOG_LINE_CHARACTERS
from callgate.kernel.abi.thread import ThreadControlBlock
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import Coroutines, RoutineCall, routine
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import SOURCES, Log, LogState
from callgate.kernel.core.records import Endpoints, EndpointState, Process
from plain_guest import PlainImage, PlainMachine, plain_guest

SECOND = 1_000_000_000


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def log(lines: list[str]) -> Log:
    return Log(LogState(), plain_guest(), Endpoints(), lines.append)


def a_program(family: int) -> Process:
    return Process(family, "program", 0, family=family)


def test_a_family_has_32_lines_at_once_and_the_kernel_any_number(log: Log, lines: list[str]) -> None:
    for number in range(LOG_BURST + 5):
        log(f"line {number}", a_program(7))
    assert lines == [f"line {number}" for number in range(LOG_BURST)]
    for _ in range(100):
        log("the kernel's own")
    assert len(lines) == LOG_BURST + 100


def test_a_family_does_not_use_up_the_lines_of_another(log: Log, lines: list[str]) -> None:
    for _ in range(LOG_BURST + 1):
        log("noise", a_program(7))
    log("heard", a_program(8))
    assert lines[-1] == "heard"


def test_eight_lines_a_second_are_regained_and_the_next_line_says_how_many_were_left_out(
    log: Log, lines: list[str]
) -> None:
    for _ in range(LOG_BURST + 3):
        log("noise", a_program(7))
    log.guest.machine.clock.now = SECOND // 8 - 1
    log("too early", a_program(7))
    log.guest.machine.clock.now = SECOND // 8
    log("in time", a_program(7))
    assert lines[LOG_BURST:] == ["process 7 and what it started: 4 more lines left out", "in time"]


def test_lines_left_out_of_a_silent_source_are_reported_before_the_next_line_of_another(
    log: Log, lines: list[str]
) -> None:
    for _ in range(LOG_BURST + 1):
        log("noise", a_program(7))
    log("the kernel's own")
    log.guest.machine.clock.now = SECOND
    log("the kernel's own")
    left_out = "process 7 and what it started: 1 more line left out"
    assert lines[LOG_BURST:] == ["the kernel's own", left_out, "the kernel's own"]


def test_the_end_of_the_system_reports_lines_that_were_left_out(log: Log, lines: list[str]) -> None:
    for _ in range(LOG_BURST + 1):
        log("noise", a_program(7))
    log.finish()
    log.finish()
    assert lines[LOG_BURST:] == ["process 7 and what it started: 1 more line left out"]


def test_urgent_lines_are_passed_on_and_a_server_is_named_by_its_volume(lines: list[str]) -> None:
    heard: list[str] = []
    endpoints = Endpoints()
    server = EndpointState(3, 0, None, 0, 0, 0, "d0p1")
    endpoints.by_number[3] = server
    log = Log(LogState(), plain_guest(), endpoints, lines.append, heard.append)
    process = a_program(9)
    process.endpoint = 3
    log.urgent(["it ended", "here"], process)
    for _ in range(LOG_BURST):
        log("noise", server)  # the same source: the two urgent lines count as the volume's
    log.finish()
    assert heard == ["it ended\nhere"]
    assert lines[LOG_BURST - 2 :] == ["/d0p1: 2 more lines left out"]


def test_urgent_lines_that_were_left_out_are_counted_where_urgent_lines_are_shown(lines: list[str]) -> None:
    heard: list[str] = []
    log = Log(LogState(), plain_guest(), Endpoints(), lines.append, heard.append)
    for _ in range(LOG_BURST + 1):
        log.urgent("noise", a_program(9))
    log.finish()
    assert heard[LOG_BURST:] == ["process 9 and what it started: 1 more line left out"]
    assert lines == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", r"a\x0ab"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202eabc", r"\u202eabc"),
        ("caf\xe9", "caf\xe9"),
        ("\x9b1m", r"\x9b1m"),
    ],
)
def test_text_from_ring_3_cannot_begin_a_log_line_or_control_a_terminal(
    log: Log, lines: list[str], text: str, shown: str
) -> None:
    log(text)
    assert lines == [shown]


def test_a_line_is_cut_at_1000_characters_also_when_escapes_make_it_longer(log: Log, lines: list[str]) -> None:
    log("\n" * 5000)
    assert len(lines[0]) == LOG_LINE_CHARACTERS


def test_the_guest_counts_flushes_and_writes_of_page_table_entries_and_releases_memory() -> None:
    machine = PlainMachine(1 << 20, 1 << 12)
    guest = Guest(machine, PlainImage())
    guest.flush_tlb()
    guest.count_table_writes(3)
    guest.count_table_writes(4)
    assert (machine.flushes, dict(machine.ledger.extra)) == (1, {"tlb_invalidations": 1, "pte_writes": 7})
    guest.kernel_words["next"] = 0x1_2345_6789  # one word of 32 bits changes, and no other
    assert bytes(machine.ram.view(0x1000, 12)) == bytes.fromhex("00000000 89674523 00000000")
    guest.release()
    with pytest.raises(ValueError, match="released"):
        guest.words[0]


class TwoThreads:
    """Coroutines over two control blocks of plain memory, of which `now` is the current one's word index."""

    def __init__(self) -> None:
        guest = plain_guest()
        self.now = 0x100
        self.coroutines = Coroutines(guest.words, guest.address, lambda: self.now)
        self.blocks = {at: ControlBlock(guest.words, ThreadControlBlock, at) for at in (0x100, 0x400)}
        self.address = guest.address

    @property
    def block(self) -> ControlBlock:
        return self.blocks[self.now]


def test_an_awaited_routine_and_its_registers_lie_in_the_control_block_and_come_back_with_the_flags() -> None:
    threads, seen = TwoThreads(), []

    async def policy() -> None:
        result = await routine("block", eax=-1, edi=7)
        seen.append((result.eax, result.edi, result.failed))

    threads.coroutines.start(policy())
    block = threads.block
    assert block["call_target"] == threads.address("block")
    assert (block["call_eax"], block["call_edi"]) == (0xFFFF_FFFF, 7)
    block["call_eax"], block["call_eflags"] = 5, 0x203
    threads.coroutines.host_resume(0)
    assert seen == [(5, 7, True)]
    assert (block["call_target"], threads.coroutines.alive) == (0, 0)


def test_a_coroutine_that_ends_with_a_routine_has_ended_before_that_runs() -> None:
    threads = TwoThreads()

    async def policy() -> RoutineCall:
        await routine("block")
        return RoutineCall("wake", eax=-1, edi=7)

    threads.coroutines.start(policy())
    threads.coroutines.host_resume(0)
    block = threads.block
    assert (block["call_target"], block["call_eflags"]) == tuple(map(threads.address, ("last_routine", "wake")))
    assert (block["call_eax"], block["call_edi"], threads.coroutines.alive) == (0xFFFF_FFFF, 7, 0)


def test_coroutines_of_one_thread_nest_and_those_of_two_do_not_mix() -> None:
    threads, order = TwoThreads(), []

    async def policy(name: str) -> None:
        await routine(name)
        order.append(name)

    threads.coroutines.start(policy("outer"))
    threads.coroutines.start(policy("inner"))
    threads.now = 0x400
    threads.coroutines.start(policy("other"))
    assert threads.coroutines.alive == 3
    threads.now = 0x100
    threads.coroutines.host_resume(0)
    assert order == ["inner"]
    threads.coroutines.host_resume(0)
    threads.now = 0x400
    threads.coroutines.host_resume(0)
    assert order == ["inner", "outer", "other"]
    assert threads.coroutines.stacks == {}


def test_closing_coroutines_ends_the_innermost_first_even_one_that_awaits_in_a_finally() -> None:
    threads, ended = TwoThreads(), []

    async def stubborn(name: str) -> None:
        try:
            await routine("block")
        finally:
            await routine("ipc_finish")
            ended.append("not reached: nothing answers a routine now")

    async def plain() -> None:
        try:
            await routine("block")
        finally:
            ended.append("plain")

    threads.coroutines.start(plain())
    threads.coroutines.start(stubborn("stubborn"))
    threads.coroutines.close()
    assert (ended, threads.coroutines.alive) == (["plain"], 0)


def test_an_exception_of_policy_reaches_the_host_call() -> None:
    threads = TwoThreads()

    async def broken() -> None:
        raise ArithmeticError("a bug")

    with pytest.raises(ArithmeticError):
        threads.coroutines.start(broken())


class Narrow(Layout):
    """A word, and fields that are none."""

    _fields_ = (("half", c_uint16), ("other", c_uint16), ("first", c_uint32), ("long", c_uint64))


class Packed(Layout):
    """A field of four bytes that lies across two words."""

    _pack_ = 1
    _fields_ = (("half", c_uint16), ("across", c_uint32))


def test_only_an_aligned_field_of_four_bytes_is_a_word() -> None:
    assert word(Narrow, "first") == 1
    for layout, field in ((Narrow, "half"), (Narrow, "long"), (Packed, "across")):
        with pytest.raises(ValueError, match="not an aligned 32-bit word"):
            word(layout, field)


def test_a_source_that_floods_the_log_is_no_less_limited_when_there_are_as_many_sources_as_may_be(
    log: Log, lines: list[str]
) -> None:
    flood = a_program(1)
    for _ in range(LOG_BURST):
        log("noise", flood)
    for family in range(2, SOURCES + 1):
        log("one line", a_program(family))
    before = len(lines)
    log("noise", flood)
    assert len(lines) == before
