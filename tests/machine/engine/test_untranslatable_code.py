"""Instructions at which the engine's translator gives up, which used to end the host's process: each is #UD."""

import ctypes
import signal
import subprocess
import sys
import threading

import pytest
from callgate.kernel.machine.engine import untranslatable
from callgate.kernel.machine.engine.untranslatable import SIGNAL_CODE, rescue, source_of

pytestmark = pytest.mark.skipif(rescue() is None, reason="needs an x86-64 host on which code can be made")

BAD = {
    "LOCK BT r, r": ".byte 0xf0, 0x0f, 0xa3, 0xc0",
    "LOCK BT r, r of 16 bits": ".byte 0x66, 0xf0, 0x0f, 0xa3, 0xcb",
    "LOCK BT r, imm": ".byte 0xf0, 0x0f, 0xba, 0xe0, 3",
    "LOCK BTS r, r": ".byte 0xf0, 0x0f, 0xab, 0xc1",
    "LOCK BTR r, r": ".byte 0xf0, 0x0f, 0xb3, 0xd9",
    "LOCK BTC r, r": ".byte 0xf0, 0x0f, 0xbb, 0xf8",
    "LOCK BTC r, imm, between other prefixes": ".byte 0x2e, 0xf0, 0x66, 0x0f, 0xba, 0xf9, 1",
}
BEFORE = "push 5; pop eax; mov ecx, 3; l: add ebx, eax; loop l; mov edi, 0x405000; mov ecx, 4; rep stosb; inc edx"
COUNT = 3 + 6 + 2 + 5 + 1  # REP stores 4 times and looks once more
COUNTERS = ("native", "python")


def faulting(make_board, kind, source):
    """Return a board whose ring 3 runs `source`, and a list to which each exception's frame is appended."""
    board, seen = make_board(kind), []

    def answer(report):
        seen.append(report)
        board.machine.request_stop("host")

    board.map(0x405000, 0x305000, "rw")
    board.answer = answer
    board.boot("", user=source)
    return board, seen


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("bad", BAD)
def test_untranslatable_code_is_an_invalid_opcode_after_the_instructions_before_it(bad, kind, make_board):
    board, seen = faulting(make_board, kind, f"{BEFORE}; {BAD[bad]}; inc edx")
    board.machine.run(until=0x400000)
    before = board.machine.ledger.counts()
    board.machine.run(fuel=10_000)
    assert [report.vector for report in seen] == [6]
    assert (board.machine.ledger.counts() - before).ring3 == COUNT
    cpu = board.machine.cpu
    assert (cpu.ebx, cpu.edx & 1, cpu.edi) == (15, 1, 0x405004)
    assert board.machine.read(seen[0].eip, 15).startswith(bytes(int(byte, 0) for byte in BAD[bad][6:].split(",")))
    assert not seen[0].eflags & 0x100, "the steps that looked for it do not show"


def test_a_run_of_untranslatable_code_is_the_same_wherever_it_is_cut(make_board):
    board, seen = faulting(make_board, "native", f"{BEFORE}; {BAD['LOCK BT r, r']}")
    board.machine.run(until=0x400000)
    start = board.machine.snapshot()
    for fuel in range(1, COUNT + 1):
        board.machine.restore(start)
        first = board.machine.run(fuel=fuel)
        assert (first.reason, first.clock - start.clock, seen) == ("fuel", fuel, []), fuel
        assert board.machine.run(fuel=1000).reason == "host"
        assert seen.pop().vector == 6
    board.machine.restore(start)
    while not seen:
        board.machine.step()
    assert seen[0].vector == 6


def test_untranslatable_code_can_be_met_any_number_of_times_between_ordinary_code(make_board):
    board, seen = faulting(make_board, "native", f"{BEFORE}; {BAD['LOCK BT r, imm']}")
    board.machine.run(until=0x400000)
    start = board.machine.snapshot()
    for _ in range(300):
        board.machine.restore(start)
        board.machine.code_changed(0x300000, 0x1000)
        board.machine.run(fuel=1000)
    assert [report.vector for report in seen] == [6] * 300
    assert len({report.eip for report in seen}) == 1


def test_untranslatable_code_may_be_run_from_another_thread_of_the_host(make_board):
    seen = []

    def run():
        board, reports = faulting(make_board, "native", BAD["LOCK BT r, r"])
        board.machine.run(fuel=1000)
        seen.extend(report.vector for report in reports)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [6]


def test_an_abort_of_other_code_still_ends_the_process():
    program = "from callgate.kernel.machine import Machine; import os; Machine(memory=8 << 20).run(fuel=1); os.abort()"
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == -6


def test_untranslatable_code_is_an_invalid_opcode_after_other_code_has_taken_the_signal(make_board):
    board, seen = faulting(make_board, "native", BAD["LOCK BT r, r"])
    previous = rescue().state.previous
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    try:
        board.machine.run(fuel=1000)
    finally:
        rescue().state.previous = previous
    assert [report.vector for report in seen] == [6]


def test_an_abort_ends_the_process_though_two_handlers_have_taken_turns_at_the_signal():
    program = """
import faulthandler, os, signal
from callgate.kernel.machine import Machine
machine = Machine(memory=8 << 20)
machine.run(fuel=1)
faulthandler.enable()  # its handler goes on to the machine's
machine.run(fuel=1)  # the machine's goes on to that
os.abort()
"""
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr.count("Fatal Python error: Aborted")) == (-6, 1)


def test_the_host_code_for_aborts_is_what_its_source_assembles_to(assemble_host):
    state = 0x1122_3344_5566_7788
    assert assemble_host(source_of(state)) == b"\x49\xb8" + state.to_bytes(8, "little") + SIGNAL_CODE


def test_a_host_thread_beyond_the_table_runs_without_the_guard():
    made = rescue()
    kept = [(slot.thread, slot.engine) for slot in made.state.slots]
    try:
        for number, slot in enumerate(made.state.slots):
            slot.thread, slot.engine = number + 1, 1
        extra = made.slot()
        assert all(ctypes.addressof(extra) != ctypes.addressof(slot) for slot in made.state.slots)
    finally:
        for slot, (thread, engine) in zip(made.state.slots, kept, strict=True):
            slot.thread, slot.engine = thread, engine
    assert len(made.state.slots) == untranslatable.THREADS
