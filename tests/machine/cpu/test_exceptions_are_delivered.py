"""Exceptions arrive through the guest's IDT as a CPU delivers them (Intel SDM vol. 3, chapter 6)."""

import resource

import pytest
from callgate.kernel.machine.observation.stop import TripleFaultReport

STUB_FLAGS_CLEARED = 0x200 | 0x100 | 0x4000  # IF (interrupt gate), TF, NT


def skip(board, length):
    """Answer reports by continuing after the instruction."""
    board.answer = lambda report: board.frame(0, report.eip + length)


@pytest.mark.parametrize(
    ("vector", "source", "length"),
    [
        (0, "xor edx, edx; xor ecx, ecx; div ecx", 2),
        (6, "ud2", 2),
        (7, "mov eax, cr0; or eax, 8; mov cr0, eax; fnop", 2),
        (5, "push 5; push 9; mov eax, 20; bound eax, qword ptr [esp]", 3),
    ],
)
def test_a_fault_in_ring_0_pushes_flags_cs_and_its_own_eip(board, vector, source, length):
    skip(board, length)
    board.boot(f"{source}; out 0xe9, eax; hlt")
    stop = board.machine.run(fuel=10_000)
    assert stop.reason == "host", stop
    (report,) = board.reports
    assert (report.vector, report.error, report.cs, report.esp) == (vector, None, 8, None)
    assert report.eflags & 1 << 16, "RF is set in the image of a fault"
    assert not report.flags_inside & STUB_FLAGS_CLEARED


def test_a_fault_in_ring_3_switches_to_the_stack_of_the_task_state(board):
    skip(board, 2)
    board.boot("", user="mov esp, 0x4ffff0; xor ecx, ecx; div ecx; mov ebx, 7; ud2; mov eax, 1; hlt")
    board.machine.run(fuel=100)
    first, second = board.reports[:2]
    assert (first.vector, first.cs, first.ss, first.esp) == (0, 0x1B, 0x23, 0x4FFFF0)
    assert first.eip == 0x400000 + 5 + 2
    assert first.stack == 0xC0210000 - 20
    assert second.vector == 6
    assert board.machine.cpu.ebx == 7


def test_hlt_in_ring_3_is_a_general_protection_fault(board):
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("", user="hlt")
    board.machine.run(fuel=1000)
    assert [(r.vector, r.error, r.eip) for r in board.reports] == [(13, 0, 0x400000)]


@pytest.mark.parametrize(
    ("user", "rights", "extra", "error", "address"),
    [
        ("mov eax, [0x405004]", "none", 0, 4, 0x405004),
        ("mov [0x405008], eax", "none", 0, 6, 0x405008),
        ("mov [0x405008], eax", "r", 0, 7, 0x405008),
        ("mov eax, [0x405008]", "kernel", 0, 5, 0x405008),
        ("mov eax, 0x405010; jmp eax", "rw", 1 << 63, 0x15, 0x405010),
        ("mov eax, 0x405010; jmp eax", "none", 0, 0x14, 0x405010),
        ("mov eax, [0x405008]", "r", 1 << 45, 0xD, 0x405008),
    ],
)
def test_a_page_fault_sets_its_error_code_and_cr2(board, user, rights, extra, error, address):
    board.map(0x405000, 0x305000, rights, extra)
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("", user=user)
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error, report.cr2) == (14, error, address)
    if error & 16:
        assert report.eip == address


@pytest.mark.thorough(only=True)
def test_thousands_of_page_faults_in_a_row_arrive_as_14_without_drift(board):
    entry = board.map(0x405000, 0x305000, "none")
    ram = board.machine.ram

    def alternate(report):
        missing = report.error & 1 == 0
        ram.put_u64(entry, 0x305005 if missing else 0)
        board.machine.flush_tlb()
        if not missing:
            board.frame(0, report.eip + 5)

    board.answer = alternate
    board.boot("", user="l: mov eax, [0x405000]; mov [0x405000], eax; jmp l")
    board.machine.run(until=lambda: len(board.reports) > 200, fuel=40_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = [(r.vector, r.error, r.cr2, r.esp, r.stack) for r in board.reports]
    board.reports.clear()
    count = 0
    while count < 4_000:
        board.machine.run(fuel=5_000)
        for report in board.reports:
            assert (report.vector, report.cr2, report.esp, report.stack) == (14, 0x405000, 0x500000, seen[0][4])
            assert report.error in (4, 7)
        count += len(board.reports)
        board.reports.clear()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 4096, f"{grown} KiB"


def test_a_fault_is_not_counted_but_its_retry_is(board):
    entry = board.map(0x405000, 0x305000, "none")
    board.answer = lambda _: board.machine.ram.put_u64(entry, 0x305007)
    board.boot("", user="nop; mov eax, [0x405000]; nop; out 0x10, al")
    machine = board.machine
    machine.run(until=0x400001)
    before = machine.clock.retired
    machine.run(until=0x400006)
    assert machine.clock.retired - before == 1 + 6  # the load, and the six instructions of the handler


def test_int_n_checks_the_gate_and_returns_after_itself(board):
    board.boot("", user="int 0x80; nop; int 0x20; hlt")
    board.answer = lambda report: board.machine.request_stop("host") if report.vector == 13 else None
    board.machine.run(fuel=1000)
    trap, fault = board.reports
    assert (trap.vector, trap.eip, trap.error) == (0x80, 0x400002, None)
    assert not trap.eflags & 1 << 16
    assert (fault.vector, fault.error, fault.eip) == (13, 0x20 * 8 + 2, 0x400003)


def test_int_3_and_into_are_traps(board):
    board.boot("", user="int3; mov al, 0x7f; add al, 1; into; mov ebx, 5; hlt")
    board.answer = lambda report: board.machine.request_stop("host") if report.vector == 13 else None
    board.machine.run(fuel=1000)
    assert [(r.vector, r.eip) for r in board.reports[:2]] == [(3, 0x400001), (4, 0x400006)]


def test_single_stepping_traps_after_each_instruction(board):
    board.boot("", user="pushfd; or dword ptr [esp], 0x100; popfd; nop; nop; int 0x80; hlt")
    board.answer = lambda _: board.machine.request_stop("host") if len(board.reports) > 3 else None
    board.machine.run(fuel=1000)
    steps = [r.eip - 0x400000 for r in board.reports if r.vector == 1]
    assert steps[:2] == [10, 11]


@pytest.mark.parametrize(
    ("fields", "vector", "error"),
    [
        ({"present": False}, 11, 0x40 * 8 + 2),
        ({"type": 0x5}, 13, 0x40 * 8 + 2),
        ({"type": 0x6}, 13, 0x40 * 8 + 2),
        ({"selector": 0x10}, 13, 0x10),
        ({"selector": 0x18}, 13, 0x18),
        ({"selector": 0}, 13, 0),
        ({"selector": 0x88}, 13, 0x88),
    ],
)
def test_a_gate_with_an_unusable_selector_faults_with_that_selector(board, fields, vector, error):
    board.gate(0x40, **fields)
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("int 0x40; hlt")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error) == (vector, error)
    assert board.machine.ram.u32(0x100100 + report.eip - 0xC0100100) & 0xFFFF == 0x40CD


def test_a_fault_whose_handler_cannot_be_entered_becomes_a_double_fault(board):
    board.gate(0, present=False)
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("xor edx, edx; xor ecx, ecx; div ecx")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error) == (8, 0)


def test_an_invalid_opcode_whose_gate_is_missing_is_not_a_double_fault(board):
    board.gate(6, present=False)
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("ud2")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error) == (11, 6 * 8 + 2 + 1)


def test_a_page_fault_on_the_inner_stack_becomes_a_double_fault_and_cr2_is_the_stacks(board):
    board.machine.ram.put_u32(0x207004, 0x4FF000 - 0x10_0000)  # ESP0 where nothing is mapped
    board.boot("", user="xor ecx, ecx; div ecx")
    stop = board.machine.run(fuel=1000)
    assert stop.reason == "triple-fault"
    assert board.machine.cpu.cr2 == 0x3FF000 - 4


@pytest.mark.parametrize(
    ("ss0", "reason"), [(0, "null"), (0x20, "not a stack"), (0x13, "not a stack"), (0x90, "beyond")]
)
def test_a_bad_inner_stack_is_an_invalid_tss_fault(board, ss0, reason):
    board.machine.ram.put_u32(0x207008, ss0)
    board.boot("", user="ud2")
    stop = board.machine.run(fuel=1000)
    assert stop.reason == "triple-fault"
    assert isinstance(stop.detail, TripleFaultReport)
    assert reason in stop.detail.chain[0]


def test_a_triple_fault_ends_the_run_with_a_report(board):
    board.gate(0, present=False)
    board.gate(8, present=False)
    board.boot("xor edx, edx; xor ecx, ecx; mov ebx, 0x1234; push 0x5678; div ecx")
    stop = board.machine.run(fuel=1000)
    assert stop.reason == "triple-fault"
    assert [step.split(":")[0] for step in stop.detail.chain] == ["#DE", "#DF"]
    assert stop.detail.registers["ebx"] == 0x1234
    assert stop.detail.stack[0] == 0x5678
    assert stop.detail.instruction == "div ecx"
    assert "gate 8 is not present" in str(stop.detail)


def test_the_report_of_a_triple_fault_names_what_came_before(board):
    board.gate(8, present=False)
    board.gate(0, present=False)
    board.boot("int 0x80; xor edx, edx; xor ecx, ecx; div ecx")
    stop = board.machine.run(fuel=1000)
    assert [event.name for event in stop.detail.events] == ["int 0x80"]


def test_without_an_idt_the_first_exception_is_a_triple_fault(bare):
    stop = bare("lidt [0x2000]; ud2").run(fuel=100)
    assert stop.reason == "triple-fault"
