"""Our walk of the page tables against the emulated CPU's own: the same address or the same fault."""

import random

import pytest
from callgate.kernel.machine.cpu.paging import PageFault

ACCESSES = {
    "mov al, [ebx]": (False, False),
    "mov [ebx], al": (True, False),
    "jmp ebx": (False, True),
}
BITS = [0x1, 0x2, 0x4, 1 << 63, 1 << 40, 1 << 62]


def random_entry(chance, physical):
    """Return an entry with bits that are mostly as they should be."""
    entry = physical | 7
    for bit in BITS[:3]:
        if chance.random() < 0.15:
            entry &= ~bit
    for bit in BITS[3:]:
        if chance.random() < 0.12:
            entry |= bit
    return entry


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("source", ACCESSES)
@pytest.mark.parametrize("user", [True, False])
@pytest.mark.parametrize("protect", [True, False])
def test_four_hundred_random_tables_agree_with_the_cpu(board, assemble, source, user, protect):
    write, fetch = ACCESSES[source]
    machine, ram = board.machine, board.machine.ram
    ram.write(0x305000, b"\xcd\x21" * 8)  # what a jump lands on: INT 21h
    ring0 = f"mov ebx, 0x405000; {source}; int 0x21"
    board.gate(0x21, dpl=3)
    board.answer = lambda _: machine.request_stop("host")
    board.boot("nop; nop;" if not user else "", user=None if not user else ring0)
    if not user:
        ram.write(0x100100 + 64, assemble(ring0))
    machine.run(until=0x400000 if user else 0xC0100100 + 14)
    start = 0x400000 if user else 0xC0100140
    machine.cpu.cr0 = machine.cpu.cr0 | 1 << 16 if protect else machine.cpu.cr0 & ~(1 << 16)
    machine.cpu.eip = start
    snapshot = machine.snapshot()
    chance = random.Random(f"{source} {user} {protect}")
    faults = 0
    for _ in range(100):
        machine.restore(snapshot)
        board.reports.clear()
        ram.put_u64(0x203000 + 5 * 8, random_entry(chance, 0x305000))
        machine.flush_tlb()
        try:
            physical = machine.paging.translate(0x405000, user=user, write=write, fetch=fetch)
            expected = None
            assert physical == 0x305000
        except PageFault as fault:
            expected = fault.error_code
            faults += 1
        stop = machine.run(fuel=100)
        assert stop.reason == "host", stop
        (report,) = board.reports
        if expected is None:
            assert report.vector == 0x21
        else:
            assert (report.vector, report.error, report.cr2) == (14, expected, 0x405000)
    assert 10 < faults < 90


def test_walks_change_neither_cr2_nor_accessed_bits(board):
    board.boot("", user="nop; hlt")
    machine = board.machine
    machine.run(until=0x400000)
    machine.cpu.cr2 = 0x1234
    before = machine.ram.read(0x200000, 0x5000)
    assert machine.paging.walk(0x40_4000).physical == 0x304000
    assert machine.paging.walk(0x7000_0000).physical is None
    with pytest.raises(PageFault):
        machine.paging.read_linear(0x7000_0000, 4)
    assert machine.cpu.cr2 == 0x1234
    assert machine.ram.read(0x200000, 0x5000) == before


def test_delivery_sets_accessed_and_dirty_bits_of_the_stack(board):
    board.boot("", user="int 0x80")
    machine = board.machine
    machine.run(until=0x400000)
    entry = 0x201000 + 8  # the 2 MiB page of the kernel stack and tables
    machine.ram.put_u64(entry, machine.ram.u64(entry) & ~0x60)
    board.answer = lambda _: machine.request_stop("host")
    machine.run(fuel=1)
    assert machine.ram.u64(entry) & 0x60 == 0x60


def test_linear_reads_and_writes_cross_pages_and_keep_to_rights(board):
    board.map(0x405000, 0x307000, "rw")
    board.map(0x406000, 0x302000, "r")
    board.boot("", user="hlt")
    machine = board.machine
    machine.run(until=0x400000)
    machine.paging.write_linear(0x404FFE, b"abcd", user=True)
    assert machine.ram.read(0x304FFE, 2) + machine.ram.read(0x307000, 2) == b"abcd"
    assert machine.paging.read_linear(0x404FFE, 4, user=True) == b"abcd"
    with pytest.raises(PageFault) as caught:
        machine.paging.write_linear(0x405FFE, b"wxyz", user=True)
    assert (caught.value.address, caught.value.error_code) == (0x406000, 7)
    assert machine.ram.read(0x307FFE, 2) == b"\0\0", "nothing is written if a page refuses"
    with pytest.raises(PageFault):
        machine.paging.read_linear(0xC0100000, 1, user=True)


def test_code_that_runs_into_an_unmapped_page_faults_at_the_first_address_there(board):
    """The instructions before the page's end must have been executed, and EIP and CR2 be the boundary."""
    board.map(0x405000, 0x305000, "none")
    machine = board.machine
    machine.ram.write(0x304FF8, b"\x43" * 8)  # eight INC EBX up to the end of the page
    board.answer = lambda _: machine.request_stop("host")
    board.boot("", user="xor ebx, ebx; mov eax, 0x404ff8; jmp eax")
    machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.error, report.cr2, report.eip) == (14, 0x14, 0x405000, 0x405000)
    assert machine.cpu.ebx == 8


def test_an_instruction_across_an_unmapped_page_faults_at_its_own_address(board):
    board.map(0x405000, 0x305000, "none")
    machine = board.machine
    machine.ram.write(0x304FFA, b"\x43\x43\x43\xb8\x01\x02")  # three INC EBX, MOV EAX cut in two
    board.answer = lambda _: machine.request_stop("host")
    board.boot("", user="xor ebx, ebx; mov eax, 0x404ffa; jmp eax")
    machine.run(fuel=1000)
    (report,) = board.reports
    assert (report.vector, report.cr2, report.eip) == (14, 0x405000, 0x404FFD)
    assert machine.cpu.ebx == 3


def test_the_paging_mode_follows_every_register_that_determines_it(board):
    machine = board.machine
    board.boot("l: jmp l")
    machine.run(fuel=100)
    cpu = machine.cpu
    before = cpu.paging_mode()
    assert (before.paging, before.cr3, before.no_execute, before.write_protect) == (True, cpu.cr3, True, True)
    cpu.cr3 += 0x20
    assert cpu.paging_mode() == before._replace(cr3=before.cr3 + 0x20)
    cpu.cr3 -= 0x20
    cpu.cr4 |= 1 << 20
    assert cpu.paging_mode() == before._replace(smep=True)
    cpu.cr4 &= ~(1 << 20)
    cpu.uc.msr_write(0xC0000080, 0)
    assert cpu.paging_mode() == before._replace(no_execute=False)
