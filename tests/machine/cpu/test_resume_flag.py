"""RF, which the return from a fault sets, lasts for one instruction."""

import pytest

RF = 1 << 16
WARM = "mov ecx, 100; warm: dec ecx; jnz warm"  # longer than the clock by blocks goes by instruction after WRMSR


@pytest.fixture
def user(make_board, counter):
    def load(source):
        board = make_board(counter)
        board.machine.counter.patience = 0
        board.boot("", user=f"{WARM}; {source}")
        return board

    return load


def test_rf_is_clear_as_soon_as_one_instruction_has_retired_after_the_return_from_a_fault(user):
    board = user("ud2; nop; nop; nop; nop; jmp .")
    machine, seen = board.machine, []

    def skip(report):
        esp = machine.cpu.esp + 4
        machine.paging.write_linear(esp, (report.eip + 2).to_bytes(4, "little"))
        machine.request_stop("host")

    board.answer = skip
    machine.run(fuel=1_000)
    while machine.cpu.cpl == 0:
        machine.step()
    for _ in range(4):
        seen.append(bool(machine.cpu.eflags & RF))
        machine.step()
    assert seen == [True, False, False, False]


def test_rf_set_by_hand_is_still_set_when_nothing_has_retired(user):
    machine = user("jmp .").machine
    machine.run(fuel=1_000)
    machine.set_register("eflags", machine.cpu.eflags | RF)
    machine.run(fuel=0)
    assert machine.cpu.eflags & RF


def test_the_image_of_int1_after_the_return_from_a_fault_has_rf_clear(user):
    board = user("ud2; nop; .byte 0xf1; nop; jmp .")
    machine = board.machine

    def skip(report):
        if report.vector == 6:
            machine.paging.write_linear(machine.cpu.esp + 4, (report.eip + 2).to_bytes(4, "little"))

    board.answer = skip
    machine.run(fuel=1_000)
    fault, trap = board.reports
    assert (fault.vector, trap.vector) == (6, 1)
    assert fault.eflags & RF
    assert not trap.eflags & RF


#: Code after the return, up to PUSHFD: in how many blocks it lies differs from clock to clock.
WAYS = {
    "at once": "",
    "in the same block": "nop; nop;",
    "after direct jumps": "jmp one; one: nop; jmp two; two: inc ecx; jnz three; three:",
    "after a store into its own block": "mov byte ptr [here + 1], 0x43; here: nop; nop;",
}


@pytest.mark.parametrize("way", WAYS)
def test_pushfd_pushes_rf_clear_wherever_it_comes_after_the_return_from_a_fault(user, way):
    board = user(f"mov esi, 20; again: ud2; {WAYS[way]} pushfd; pop ebx; or ebp, ebx; dec esi; jnz again; jmp .")
    machine = board.machine

    def skip(report):
        machine.paging.write_linear(machine.cpu.esp + 4, (report.eip + 2).to_bytes(4, "little"))

    board.answer = skip
    machine.run(fuel=2_000)
    assert len(board.reports) == 20
    assert all(report.eflags & RF for report in board.reports)
    assert not machine.cpu.ebp & RF


def test_a_probe_sees_rf_at_the_first_instruction_after_the_return_only(user):
    board = user("ud2; nop; jmp next; next: nop; nop; jmp .")
    machine, seen = board.machine, []

    def skip(report):
        machine.paging.write_linear(machine.cpu.esp + 4, (report.eip + 2).to_bytes(4, "little"))
        for at in (2, 3, 5, 6):
            machine.probe(report.eip + at, lambda: seen.append(bool(machine.cpu.eflags & RF)))

    board.answer = skip
    machine.run(fuel=1_000)
    assert seen == [True, False, False, False]
