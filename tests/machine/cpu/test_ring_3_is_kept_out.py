"""Accesses that a CPU refuses and the engine would allow: ports, and instructions that the engine gets wrong."""

import struct

import pytest


@pytest.fixture
def calls(board):
    """Values that reach a host call of ring 0."""
    seen = []
    board.machine.host_calls.register(0x90, seen.append, "secret")
    return seen


def stop_at_fault(board, vector=13):
    board.answer = lambda report: board.machine.request_stop("host") if report.vector == vector else None


@pytest.mark.parametrize("source", ["out 0x90, eax", "mov edx, 0x90; out dx, eax", "out 0x90, al", "out 0x90, ax"])
def test_user_code_cannot_reach_a_host_call(board, calls, source):
    stop_at_fault(board)
    board.boot("", user=f"mov eax, 0x1234; nop; {source}; nop; nop; hlt")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert calls == []
    assert (report.vector, report.error, report.cs) == (13, 0, 0x1B)
    code = board.machine.ram.read(0x300000 + report.eip - 0x400000, 1)
    assert code in (b"\xe7", b"\xef", b"\xe6", b"\x66"), "EIP is that of the instruction"


def test_a_refused_in_leaves_eax_and_flags_alone(board):
    stop_at_fault(board)
    board.boot("", user="mov eax, 0x12345678; stc; in al, 0x60; mov eax, 1; hlt")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert report.eip == 0x400006
    assert report.eflags & 1
    # The stub has saved EAX before it used the register.
    saved = board.machine.paging.read_linear(report.stack - 4, 4)
    assert saved == struct.pack("<I", 0x12345678)


def test_refused_string_instructions_change_neither_memory_nor_registers(board):
    stop_at_fault(board)
    board.boot("", user="mov edi, 0x402000; mov byte ptr [edi], 0x55; mov ecx, 3; mov dx, 0x60; rep insb; hlt")
    board.machine.run(fuel=1000)
    assert board.machine.ram.u8(0x302000) == 0x55
    assert (board.machine.cpu.edi, board.machine.cpu.ecx) == (0x402000, 3)


def test_a_refused_access_is_not_counted(board):
    stop_at_fault(board)
    board.boot("", user="nop; in al, 0x60; nop")
    board.machine.run(until=0x400001)
    before = board.machine.ledger.counts()
    board.machine.run(fuel=3)
    assert (board.machine.ledger.counts() - before).ring3 == 0


def test_iopl_lets_ring_3_use_devices_but_never_host_calls(board, calls):
    stop_at_fault(board)
    board.boot("", user="mov al, 3; out 0x3f8 - 0x378, al; in al, 0x21; out 0x90, eax; ud2")
    machine = board.machine
    machine.run(until=0x400000)
    machine.cpu.eflags = machine.cpu.eflags | 0x3000
    stop_at_fault(board, 6)
    machine.run(fuel=1000)
    assert [report.vector for report in board.reports] == [6]
    assert calls == []


@pytest.mark.parametrize(
    ("port", "size", "allowed"),
    [(0x60, 1, True), (0x61, 1, False), (0x60, 2, False), (0x64, 4, True), (0x67, 2, False), (0xFFFF, 1, False)],
)
def test_the_io_bitmap_grants_single_ports(board, port, size, allowed):
    """Bits clear for 0x60 and 0x64 to 0x67; every bit of a wider access counts (SDM vol. 1, 19.5.2)."""
    bitmap = bytearray(b"\xff" * 32)
    bitmap[0x60 // 8] = 0b00001110
    machine = board.machine
    machine.ram.write(0x207000 + 0x68, bytes(bitmap) + b"\xff")
    machine.ram.put_u16(0x205000 + 0x28, 0x68 + 32)  # the limit of the TSS descriptor
    stop_at_fault(board)
    register = {1: "al", 2: "ax", 4: "eax"}[size]
    board.boot("", user=f"mov edx, {port}; in {register}, dx; ud2")
    board.answer = lambda _: machine.request_stop("host")
    machine.run(fuel=1000)
    assert board.reports[0].vector == (6 if allowed else 13)


@pytest.mark.parametrize("source", [".byte 0x0f, 0x34", ".byte 0x0f, 0x05"])
def test_sysenter_and_syscall_are_invalid_opcodes(board, source):
    stop_at_fault(board, 6)
    board.boot("", user=f"nop; {source}; nop; nop; hlt")
    board.machine.run(fuel=1000)
    assert [(r.vector, r.eip) for r in board.reports] == [(6, 0x400001)]


@pytest.mark.parametrize(
    "source", [".byte 0xf0, 0x89, 0xc3", ".byte 0xf0, 0x89, 0x03", ".byte 0xf0, 0xff, 0xc0", "rdrand eax", "rdseed eax"]
)
def test_forbidden_lock_prefixes_and_rdrand_are_invalid_opcodes(board, source):
    stop_at_fault(board, 6)
    board.boot("", user=f"mov ebx, 0x402000; mov eax, 5; {source}; nop; hlt")
    board.machine.run(fuel=1000)
    assert [(r.vector, r.eip) for r in board.reports] == [(6, 0x40000A)]
    assert board.machine.cpu.ebx == 0x402000


def test_instructions_that_may_be_locked_are_executed(bare):
    machine = bare("mov ebx, 0x3000; lock inc dword ptr [ebx]; lock xadd [ebx], eax; lock bts dword ptr [ebx], 4; hlt")
    assert machine.run(fuel=100).reason == "halt"
    assert machine.ram.u32(0x3000) == 17


def test_writing_dr7_cannot_hang_the_machine(bare):
    machine = bare("mov eax, 0x1012; mov dr0, eax; mov eax, 0x403; mov dr7, eax; mov ebx, dr7; nop; nop; inc ecx; hlt")
    stop = machine.run(fuel=100)
    assert (stop.reason, stop.retired) == ("halt", 9)
    assert machine.cpu.ebx == 0x400
    assert machine.cpu.ecx == 1


def test_dr7_without_enabled_breakpoints_keeps_its_value(bare):
    machine = bare("mov eax, 0xf0400; mov dr7, eax; mov ebx, dr7; hlt")
    machine.run(fuel=100)
    assert machine.cpu.ebx == 0xF0400


@pytest.mark.parametrize("selector", ["ltr ax", "ltr di", "mov [0x9000], eax; ltr [0x9000]"])
def test_ltr_of_a_null_selector_is_a_general_protection_fault(board, selector):
    stop_at_fault(board)
    board.boot(f"xor eax, eax; xor edi, edi; {selector}; hlt")
    board.machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error) == (13, 0)


def test_leaving_ring_3_without_a_task_register_is_reported(bare):
    table = struct.pack("<5Q", 0, 0xCF9A000000FFFF, 0xCF92000000FFFF, 0xCFFA000000FFFF, 0xCFF2000000FFFF)
    machine = bare(
        "lgdt [0x3000]; mov eax, 0x10; mov ss, eax; push 0x23; push 0x7000; push 2; push 0x1b; push 0x2000; iretd"
    )
    machine.ram.write(0x1000, b"\x0f\x01\x15\x00\x30\x00\x00" + machine.ram.read(0x1008, 64))
    machine.ram.write(0x3000, struct.pack("<HI", 0x27, 0x3100))
    machine.ram.write(0x3100, table)
    machine.ram.write(0x2000, b"\x0f\x0b")
    stop = machine.run(fuel=1000)
    assert stop.reason == "triple-fault"
    assert machine.cpu.cpl == 3


def test_rdtsc_reads_the_virtual_clock(bare):
    machine = bare("nop; nop; rdtsc; mov ebx, eax; rdtsc; hlt")
    machine.run()
    assert (machine.cpu.ebx, machine.cpu.eax, machine.cpu.edx) == (3, 5, 0)


def test_rdtsc_counts_idle_time_and_has_64_bits(bare):
    machine = bare("rdtsc; rdtscp; hlt")
    machine.clock.idle = 0x7_8000_0000 - 1
    machine.run(fuel=1)
    assert (machine.cpu.eax, machine.cpu.edx) == (0x8000_0000, 7)
    machine.run()
    assert (machine.cpu.eax, machine.cpu.edx, machine.cpu.ecx) == (0x8000_0001, 7, 0)
