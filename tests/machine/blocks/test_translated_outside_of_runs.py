"""Blocks that are translated outside of a run, where a fetch that faults or a full buffer would end the process."""

from itertools import pairwise

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks import variants
from callgate.kernel.machine.engine import new_engine

WARM = "mov ecx, 100; warm: dec ecx; jnz warm"  # longer than the clock goes by instruction after WRMSR
USER, LAST = 0x400000, 0x400FF0  # a block that ends with its page, after which nothing is mapped
SET, RETURN, LOAD_SS = b"\x0f\x94\x06", b"\xc3", b"\x8e\xd0"  # SETZ [ESI], which needs hooks; RET; MOV SS, AX
ONCE_MORE = {
    "after MOV SS, as a block of one instruction": f"mov edx, {LAST - 2}; jmp edx",
    "with TF set, as a block of one instruction": f"pushfd; or dword ptr [esp], 0x100; popfd; mov edx, {LAST}; jmp edx",
    "with AC set": f"pushfd; or dword ptr [esp], 0x40000; popfd; mov edx, {LAST}; jmp edx",
}


@pytest.mark.parametrize("how", ONCE_MORE)
def test_code_that_has_grown_into_an_unmapped_page_faults_in_the_guest_only(make_board, how):
    stops = []
    for kind in ("blocks", "native"):
        board = make_board(kind)
        board.machine.counter.patience = 0
        call = f"mov esi, 0x4ffe00; mov eax, ss; mov edx, {LAST}; call edx; call edx"
        grow = f"mov edi, {LAST + 3}; mov ecx, 13; grow: mov byte ptr [edi], 0x90; inc edi; dec ecx; jnz grow"
        board.boot("", user=f"{WARM}; {call}; {grow}; {ONCE_MORE[how]}")
        board.machine.ram.write(0x300000 + LAST - USER - 2, LOAD_SS + SET + RETURN)
        board.map(LAST + 16, 0, "none")
        board.answer = lambda report, m=board.machine: report.vector == 14 and m.request_stop("host", report.vector)
        stop = board.machine.run(fuel=20_000)
        stops.append((stop.detail, stop.retired, board.reports[-1].eip, board.reports[-1].cr2))
    assert stops[0] == stops[1]
    assert stops[0][0] == 14
    assert stops[0][2:] == (LAST + 16, LAST + 16)


def test_a_buffer_that_fills_up_with_blocks_for_several_flags_is_emptied_within_a_run(monkeypatch, assemble):
    """Each block is executed with AC clear and set, and is new in each round: its code is changed."""
    size = 1 << 20
    monkeypatch.setattr(new_engine, "TCG_BUFFER", size)
    monkeypatch.setattr(variants, "TCG_BUFFER", size)
    monkeypatch.setattr(variants, "ROOM", size >> 3)
    turns = "pushfd; xor dword ptr [esp], 0x40000; popfd; call {at}"
    blocks, at = 60, 0x10000
    source = "; ".join(turns.format(at=at + number * 64) for number in range(blocks) for _ in range(2)) + "; hlt"
    with Machine(memory=8 << 20, high_memory=0, counter="blocks") as machine:
        machine.counter.patience = 0
        machine.host_calls.register(0xDF, lambda _value: None, "empty")
        machine.ram.write(0x1000, assemble(source))
        made, ends = [], []
        request = machine.cpu.uc.ctl_request_cache
        monkeypatch.setattr(machine.cpu.uc, "ctl_request_cache", lambda where: made.append(where) or request(where))
        for number in range(6):
            body = b"\x90" * (number % 20) + b"\xe7\xdf" + b"\x40" * 30 + RETURN
            for block in range(blocks):
                machine.write(at + block * 64, body)
            machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
            assert machine.run().reason == "halt"
            ends.append(machine.counter.variants.newest)
    assert any(end < before for before, end in pairwise(ends)), "the buffer has never been full"
    assert len(made) > 200
