"""Physical addresses with neither RAM nor a device: loads, walks and fetches find ones, stores are lost, as on a PC."""

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DeviceBase

RAM_END = 8 << 20
NOWHERE = 0x4000_0000
ABOVE_HIGH_RAM = (4 << 30) + (4 << 20)
PAGE = 0x40_5000  # a linear page of the board's table, for ring 3
LAST_ADDRESS = (1 << 40) - 0x1000


def kept_eax(board):
    """Return the program's EAX, which the handler that has reported keeps on its stack."""
    return int.from_bytes(board.machine.read(board.reports[-1].stack - 4, 4), "little")


def test_loads_outside_ram_return_ones_and_stores_are_lost(bare):
    machine = bare(
        f"mov eax, 0x600; mov cr4, eax; mov ebx, {NOWHERE}; xor eax, eax; xor ecx, ecx;"
        "mov dword ptr [ebx], 0x12345678; mov byte ptr [ebx + 5], 0; mov word ptr [ebx + 7], 0;"
        "mov al, [ebx]; mov cx, [ebx + 7]; mov edx, [ebx];"
        "fninit; fild qword ptr [ebx]; fistp qword ptr [0x2000]; fld tbyte ptr [ebx]; fstp tbyte ptr [0x2008];"
        "movups xmm0, [ebx + 3]; movups [0x2020], xmm0; movups [ebx], xmm0; hlt"
    )
    assert machine.run(fuel=50).reason == "halt"
    assert (machine.cpu.eax, machine.cpu.ecx, machine.cpu.edx) == (0xFF, 0xFFFF, 0xFFFF_FFFF)
    assert machine.ram.read(0x2000, 18) == b"\xff" * 18
    assert machine.ram.read(0x2020, 16) == b"\xff" * 16


def test_read_modify_write_instructions_outside_ram_load_ones_and_store_nothing(bare):
    machine = bare(
        f"mov ebx, {NOWHERE}; mov ecx, 5; lock xadd [ebx], ecx; mov esi, 1; lock cmpxchg [ebx], esi;"
        "xor edx, edx; cmpxchg8b [ebx]; add dword ptr [ebx], 1; setz byte ptr [0x2000]; hlt"
    )
    assert machine.run(fuel=50).reason == "halt"
    assert (machine.cpu.ecx, machine.cpu.eax, machine.cpu.edx) == (0xFFFF_FFFF,) * 3
    assert machine.ram.u8(0x2000) == 1


def test_string_instructions_cross_the_end_of_ram(bare):
    machine = bare(f"mov esi, {RAM_END - 6}; mov edi, 0x2000; mov ecx, 6; rep movsw; mov eax, [{RAM_END - 2}]; hlt")
    machine.ram.write(RAM_END - 6, b"abcdef")
    assert machine.run(fuel=50).reason == "halt"
    assert machine.ram.read(0x2000, 12) == b"abcdef" + b"\xff" * 6
    assert machine.cpu.eax == int.from_bytes(b"ef\xff\xff", "little")


def test_a_store_across_the_end_of_ram_keeps_its_first_bytes(bare):
    machine = bare(f"mov dword ptr [{RAM_END - 2}], 0x44332211; hlt")
    assert machine.run(fuel=50).reason == "halt"
    assert machine.ram.read(RAM_END - 4, 4) == b"\0\0\x11\x22"


@pytest.mark.parametrize("physical", [NOWHERE, ABOVE_HIGH_RAM, LAST_ADDRESS])
def test_ring_3_may_have_pages_outside_ram(board, physical):
    board.map(PAGE, physical, "rw")
    board.boot("", user=f"mov dword ptr [{PAGE + 8}], 7; mov eax, [{PAGE + 8}]; int 0x80")
    board.answer = lambda _: board.machine.request_stop("host")
    board.machine.run(fuel=200)
    (report,) = board.reports
    assert (report.vector, kept_eax(board)) == (0x80, 0xFFFF_FFFF)


@pytest.mark.parametrize("offset", [0, 0x123])
def test_code_outside_ram_is_an_invalid_opcode(make_board, counter, offset):
    board = make_board(counter)
    board.map(PAGE, NOWHERE, "rw")
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("", user=f"nop; mov eax, {PAGE + offset}; jmp eax")
    board.machine.run(until=0x40_0000)
    start = board.machine.clock.retired
    board.machine.run(fuel=200)
    (report,) = board.reports
    assert (report.vector, report.eip, report.cs) == (6, PAGE + offset, 0x1B)
    assert report.clock - start == 3 + 3  # the program's, and the stub's up to the report


def test_code_that_runs_on_beyond_ram_ends_at_its_first_byte_there(board):
    board.map(0x40_4000, RAM_END - 0x1000, "rw")
    board.map(PAGE, RAM_END, "rw")
    board.machine.ram.write(RAM_END - 3, b"\x40\x40\x40")  # inc eax
    board.answer = lambda _: board.machine.request_stop("host")
    board.boot("", user=f"mov ecx, {PAGE - 3}; jmp ecx")
    board.machine.run(fuel=200)
    (report,) = board.reports
    assert (report.vector, report.eip) == (6, PAGE)
    assert kept_eax(board) == 3


def test_an_instruction_may_end_beyond_the_end_of_ram(bare):
    machine = bare(f"mov eax, {RAM_END - 1}; jmp eax")
    machine.ram.write(RAM_END - 1, b"\xb8")  # mov eax, 0xFFFFFFFF
    stop = machine.run(fuel=3)
    assert (stop.reason, stop.eip, machine.cpu.eax) == ("fuel", RAM_END + 4, 0xFFFF_FFFF)


def test_a_run_that_begins_outside_ram_ends_as_on_a_pc_without_an_idt(machine):
    machine.cpu.eip = NOWHERE
    stop = machine.run(fuel=10)
    assert (stop.reason, stop.eip, stop.detail.chain[0][:3]) == ("triple-fault", NOWHERE, "#UD")


@pytest.mark.parametrize("table", ["directory", "page table"])
@pytest.mark.parametrize("physical", [NOWHERE, ABOVE_HIGH_RAM])
@pytest.mark.parametrize(("source", "code"), [("mov al, [ebx]", 0xD), ("mov [ebx], al", 0xF), ("jmp ebx", 0x1D)])
def test_page_tables_outside_ram_have_reserved_bits_set(board, table, physical, source, code):
    machine = board.machine
    if table == "directory":
        machine.ram.put_u64(0x20_0000 + 8, physical | 1)
        linear = 0x4000_5000
    else:
        machine.ram.put_u64(0x20_2000 + 3 * 8, physical | 7)
        linear = 0x60_5000
    board.answer = lambda _: machine.request_stop("host")
    board.boot("", user=f"mov ebx, {linear}; {source}")
    machine.run(fuel=200)
    (report,) = board.reports
    assert (report.vector, report.error, report.cr2) == (14, code, linear)
    with pytest.raises(PageFault) as fault:
        machine.paging.translate(linear, user=True, write=code == 0xF, fetch=code == 0x1D)
    assert fault.value.error_code == code


def test_a_machine_continues_after_accesses_outside_ram_and_repeats_them_identically(board):
    board.map(PAGE, NOWHERE, "rw")
    board.boot("", user=f"mov eax, [{PAGE}]; mov ebx, {PAGE}; jmp ebx")
    machine = board.machine
    machine.run(until=0x40_0000)
    kept = machine.snapshot()
    ends = []
    for _ in range(3):
        machine.restore(kept)
        board.reports.clear()
        machine.run(fuel=1000)
        ends.append((machine.clock.retired, machine.cpu.registers(), len(board.reports)))
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][2] > 10


class Registers(DeviceBase):
    """Twenty bytes of registers that are all 1."""

    def __init__(self, name, base):
        self.name = name
        self.mmio = ((base, 20),)

    def mmio_read(self, address, size):
        return int.from_bytes(b"\1" * size, "little")


def test_the_rest_of_a_devices_page_and_the_pages_beside_it_read_as_ones(bare):
    machine = bare(
        f"mov ebx, {NOWHERE}; mov eax, [ebx + 16]; mov ecx, [ebx + 18]; mov edx, [ebx + 20]; mov esi, [ebx - 4]; hlt"
    )
    machine.attach(Registers("one", NOWHERE))
    machine.run(fuel=10)
    cpu = machine.cpu
    assert (cpu.eax, cpu.ecx, cpu.edx, cpu.esi) == (0x0101_0101, 0xFFFF_0101, 0xFFFF_FFFF, 0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (NOWHERE, "meet those at 0x40000000"),
        (NOWHERE + 0x10, "do not begin on a page outside RAM"),
        (RAM_END - 0x1000, "do not begin on a page outside RAM"),
        (4 << 30, "do not begin on a page outside RAM"),
        (1 << 40, "do not begin on a page outside RAM"),
    ],
)
def test_device_registers_must_lie_on_pages_of_their_own(machine, base, message):
    machine.attach(Registers("one", NOWHERE))
    with pytest.raises(ValueError, match=message):
        machine.attach(Registers("two", base))


def test_a_machine_may_have_only_ram_below_four_gib():
    with Machine(memory=4 << 20, high_memory=0) as machine:
        assert list(machine.memory_bus.holes()) == [(4 << 20, (1 << 40) - (4 << 20))]
    with Machine(memory=4 << 20, high_memory=4 << 20) as machine:
        assert [size for _, size in machine.memory_bus.holes()] == [(4 << 30) - (4 << 20), (1 << 40) - ABOVE_HIGH_RAM]
