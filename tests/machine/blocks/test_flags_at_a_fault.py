"""An exception shows the flags of the instruction before the one that faults, under each clock."""

from functools import cache

import pytest
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.filters.filters import Filters

ARITHMETIC = {
    "add": "mov eax, 0x5ca1f5a9; add eax, eax",
    "sub": "mov eax, 1; sub eax, 2",
    "cmp": "mov eax, 1; cmp eax, 2",
    "neg": "mov eax, 0x80000000; neg eax",
    "shl": "mov eax, 0xc0000001; shl eax, 1",
    "inc": "stc; mov eax, 0x7fffffff; inc eax",
    "xor": "xor eax, eax",
    "imul": "mov eax, 0x10000; imul eax, eax",
}
FAULTING = {
    "a load": "mov ebx, [0x405000]",
    "a store": "mov [0x405000], ebx",
    "xchg": "xchg [0x405000], ebx",
    "push": "push dword ptr [0x405000]",
    "#UD": "ud2",
    "#GP": "cli",
}
FLAGS = 0x8D5  # CF PF AF ZF SF OF


@pytest.fixture
def flags_at(make_board):
    @cache
    def board_of(counter):
        board = make_board(counter)
        board.machine.counter.patience = 0
        board.map(0x405000, 0, "none")
        board.answer = lambda report: board.machine.request_stop("host", report.eflags & FLAGS)
        return board, board.machine.snapshot()

    def run(counter, source):
        board, as_made = board_of(counter)
        board.machine.restore(as_made)
        # Longer than the clock goes by instruction after WRMSR.
        board.boot("", user=f"mov ecx, 100; warm: dec ecx; jnz warm; {source}")
        return board.machine.run(fuel=10_000).detail

    return run


@pytest.mark.parametrize("fault", FAULTING)
def test_a_fault_right_after_arithmetic_shows_its_flags(flags_at, fault):
    for arithmetic in ARITHMETIC.values():
        # An instruction in between, which leaves flags alone, made the engine compute them in time.
        expected = flags_at("native", f"{arithmetic}; pushfd; pop ecx; {FAULTING[fault]}")
        for counter in ("blocks", "native", "python"):
            assert flags_at(counter, f"{arithmetic}; {FAULTING[fault]}") == expected, (counter, arithmetic)


@pytest.mark.parametrize(
    "test", ["bt eax, 0", "bts eax, 0", "btr eax, 0", "btc eax, 0", "lock bts dword ptr [0x404000], eax"]
)
def test_the_flags_that_a_test_of_a_bit_leaves_undefined_are_the_same_under_each_clock(flags_at, test):
    """The processor's manual leaves AF and OF open; a run that is repeated by single steps must not see others."""
    for arithmetic in ARITHMETIC.values():
        source = f"{arithmetic}; {test}; pushfd; pop ecx; ud2"
        assert flags_at("blocks", source) == flags_at("native", source), arithmetic


def test_a_store_into_the_next_instruction_leaves_the_flags_of_the_one_before(make_board, counter):
    board = make_board(counter)
    board.machine.counter.patience = 0
    board.answer = lambda report: board.machine.request_stop("host", report.eflags & FLAGS)
    # IMUL leaves CF clear; the store is broken off and repeated; INC keeps CF.
    store = "mov byte ptr [0x40000f], 0x41"  # INC ECX in place of the NOP behind it
    board.boot("", user=f"mov ebx, 3; imul ebx, ebx; {store}; nop; ud2")
    assert not board.machine.run(fuel=10_000).detail & 1


@pytest.mark.parametrize("counter", ["blocks", "native", "python"])
@pytest.mark.parametrize("loop", ["loope", "loopne"])
def test_the_last_turn_of_a_loop_that_looks_at_zf_leaves_the_flags_as_they_were(flags_at, loop, counter):
    source = f"mov ecx, 1; xor edx, edx; add edx, edx; {loop} on; on: ud2"
    assert flags_at(counter, source) == 0x44  # ZF, PF


@pytest.mark.parametrize("loop", ["loop", "loope", "loopne"])
def test_the_trap_of_a_stepped_loop_comes_after_its_last_turn(make_board, loop):
    board, traps = make_board("native"), []

    def answer(report):
        traps.append((report.vector, report.eip))
        board.machine.request_stop("host")

    board.answer = answer
    board.boot("", user=f"mov ecx, 1; pushfd; or dword ptr [esp], 0x100; popfd; {loop} on; on: nop; nop; ud2")
    assert board.machine.run(fuel=10_000).reason == "host"
    assert traps == [(1, 0x400010)]


def test_python_is_asked_at_the_last_turn_of_a_loop_and_not_at_the_others(make_board, monkeypatch):
    """Each question takes as long as hundreds of instructions: a program could hold up the host."""
    asked = []
    judge = Filters._judge
    monkeypatch.setattr(Filters, "_judge", lambda self, address: asked.append(address) or judge(self, address))
    board = make_board("native")
    board.answer = lambda _report: board.machine.request_stop("host")
    board.boot("", user="xor eax, eax; mov ecx, 5000; on: test eax, 1; loope on; ud2")
    asked.clear()
    assert board.machine.run(fuel=100_000).reason == "host"
    assert len([address for address in asked if address < KERNEL_BASE]) == 1
    assert board.machine.clock.retired > 10_000


@pytest.mark.parametrize("clock", ["rdtsc", "rdtscp"])
def test_an_increment_after_a_look_at_the_clock_keeps_cf_and_leaves_no_other_flag_behind(flags_at, clock):
    # ZF, PF and CF are set before it: the engine would take all of them for CF.
    source = f"xor eax, eax; stc; inc eax; dec eax; {clock}; jne l; l: mov ebp, 0x6c; inc ebp; cli"
    for counter in ("blocks", "native", "python"):
        assert flags_at(counter, source) == 1, counter
