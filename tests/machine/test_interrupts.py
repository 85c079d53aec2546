"""Interrupt lines, the 8259A pair, the 8254 timer and HLT on the virtual clock."""

import pytest

PIC_SETUP = ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xA0, 0x11), (0xA1, 0x28), (0xA1, 2), (0xA1, 1))


@pytest.fixture
def wired(board):
    """A board whose PICs deliver vectors 0x20 to 0x2f, nothing masked, handlers that end the interrupt."""
    bus = board.machine.ports.bus
    for port, value in (*PIC_SETUP, (0x21, 0), (0xA1, 0)):
        bus.write(port, 1, value)

    def end(report):
        if report.vector >= 0x28:
            bus.write(0xA0, 1, 0x20)
        if report.vector >= 0x20:
            bus.write(0x20, 1, 0x20)

    board.answer = end
    return board


REPORT_AFTER = 3  # instructions of the stub, the one that reports among them


def lines(board):
    return [report.vector - 0x20 for report in board.reports if 0x20 <= report.vector < 0x30]


def test_an_interrupt_waits_for_if_and_for_the_shadow_of_sti(wired):
    machine = wired.machine
    wired.boot("cli; mov ecx, 50; l: dec ecx; jnz l; inc eax; sti; inc ebx; inc edx; hlt")
    machine.pic.raise_line(1)
    machine.run(fuel=1000)
    (report,) = wired.reports
    # STI's shadow covers INC EBX: the interrupt comes at INC EDX.
    assert machine.ram.read(report.eip - 0xC0000000, 1) == b"\x42"
    assert not report.eflags & 1 << 16


def test_mov_ss_delays_an_interrupt_by_one_instruction(wired):
    machine = wired.machine
    wired.boot("sti; nop; mov ecx, 0x10; l: mov ss, ecx; inc ebx; inc edx; jmp l")
    machine.run(until=lambda: machine.cpu.ebx > 0, fuel=60)
    machine.run(until=next_mov_ss(machine))
    machine.pic.raise_line(1)
    machine.run(fuel=3)
    (report,) = wired.reports
    assert machine.ram.read(report.eip - 0xC0000000, 1)[0] in (0x8E, 0x42)


def next_mov_ss(machine):
    text = machine.disassemble(0xC0100100 + 0x1B, 30)
    return next(int(line.split()[0], 16) for line in text if "mov ss, ecx" in line)


def test_the_boundary_where_popfd_or_iretd_sets_if_is_found_exactly(wired):
    machine = wired.machine
    wired.boot("cli; mov ecx, 9; l: dec ecx; jnz l; push 0x202; popfd; inc ebx; inc ebx; hlt")
    machine.pic.raise_line(3)
    machine.run(fuel=1000)
    (report,) = wired.reports
    assert machine.ram.read(report.eip - 0xC0000000, 2) == b"\x43\x43"


def test_lower_interrupt_lines_come_first_and_block_higher_ones_until_the_end_of_interrupt(wired):
    machine = wired.machine
    wired.boot("sti; nop; l: inc eax; jmp l")
    for line in (7, 12, 4, 1):
        machine.pic.raise_line(line)
    machine.run(fuel=300)
    assert lines(wired) == [1, 12, 4, 7]


def test_without_end_of_interrupt_only_higher_priorities_interrupt(wired):
    machine = wired.machine
    wired.answer = lambda _: None
    wired.boot("sti; nop; l: inc eax; jmp l")
    machine.pic.raise_line(4)
    machine.run(fuel=100)
    machine.pic.raise_line(5)
    machine.pic.raise_line(3)
    machine.run(fuel=100)
    assert lines(wired) == [4, 3]
    machine.ports.bus.write(0x20, 1, 0x60 | 3)  # specific end of interrupt
    machine.ports.bus.write(0x20, 1, 0x60 | 4)
    machine.run(fuel=100)
    assert lines(wired) == [4, 3, 5]


def test_masks_and_registers_of_the_pic_read_back(machine):
    bus = machine.ports.bus
    for port, value in (*PIC_SETUP, (0x21, 0xF7), (0xA1, 0xFE)):
        bus.write(port, 1, value)
    machine.pic.raise_line(3)
    machine.pic.raise_line(9)
    assert (bus.read(0x21, 1), bus.read(0xA1, 1)) == (0xF7, 0xFE)
    assert (bus.read(0x20, 1), bus.read(0xA0, 1)) == (1 << 3, 1 << 1)
    assert machine.pic.acknowledge() == 0x23
    bus.write(0x20, 1, 0x0B)
    assert bus.read(0x20, 1) == 1 << 3
    bus.write(0x20, 1, 0x0A)
    assert bus.read(0x20, 1) == 0


def test_a_request_that_is_withdrawn_before_it_is_acknowledged_is_spurious(machine):
    for port, value in (*PIC_SETUP, (0x21, 0)):
        machine.ports.bus.write(port, 1, value)
    machine.pic.raise_line(5)
    machine.pic.lower_line(5)
    assert machine.pic.acknowledge() == 0x27
    machine.ports.bus.write(0x20, 1, 0x0B)
    assert machine.ports.bus.read(0x20, 1) == 0, "a spurious interrupt is not in service"


def test_hlt_skips_to_the_next_tick_and_idle_time_is_booked_apart(wired):
    machine = wired.machine
    wired.boot("mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 4; out 0x40, al; sti; l: hlt; jmp l")
    stop = machine.run(until=lambda: len(wired.reports) >= 5, fuel=100_000)
    assert stop.reason == "until"
    assert machine.clock.retired < 1000
    assert machine.clock.now == machine.clock.retired + machine.clock.idle
    assert machine.clock.idle > 4_900_000


def test_idling_ends_at_the_instant_of_the_event(wired):
    machine = wired.machine
    times = []
    wired.answer = lambda _: (times.append(machine.clock.now), machine.ports.bus.write(0x20, 1, 0x20))
    machine.timer.port_write(0x43, 1, 0x34)
    machine.timer.port_write(0x40, 1, 0xA9)
    machine.timer.port_write(0x40, 1, 4)
    due = machine.events.next_time()
    wired.boot("sti; l: hlt; jmp l")
    machine.run(until=lambda: bool(times), fuel=1000)
    assert times[0] - due == REPORT_AFTER


def test_ticks_keep_the_exact_rate_of_the_8254(wired):
    """1193 counts of 1,193,182 Hz are 999,847.4 ns: rounding must not add up over many periods."""
    machine = wired.machine
    times = []
    wired.answer = lambda _: (times.append(machine.clock.now), machine.ports.bus.write(0x20, 1, 0x20))
    wired.boot("mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 4; out 0x40, al; sti; l: hlt; jmp l")
    machine.run(until=lambda: len(times) >= 101, fuel=100_000)
    span = times[100] - times[0]
    assert abs(span - 100 * 1193 * 1_000_000_000 / 1_193_182) <= 1


def test_a_timer_tick_comes_at_its_instruction_in_a_busy_loop(wired, counter):
    machine = wired.machine
    wired.boot("mov al, 0x30; out 0x43, al; mov al, 100; out 0x40, al; mov al, 0; out 0x40, al; sti; l: inc eax; jmp l")
    machine.run(fuel=90_000)
    (report,) = wired.reports
    armed = machine.timer.state.started
    due = armed + -(-100 * 1_000_000_000 // 1_193_182)
    assert report.clock == due + 3, "three instructions of the handler before its report"


def test_reading_the_counter_latches_both_bytes(machine):
    bus = machine.ports.bus
    for port, value in ((0x43, 0x34), (0x40, 0), (0x40, 0x10)):
        bus.write(port, 1, value)
    machine.clock.idle += 1_000_000  # 1193 ticks
    bus.write(0x43, 1, 0x00)
    assert bus.read(0x40, 1) | bus.read(0x40, 1) << 8 == 0x1000 - 1193


def test_hlt_that_nothing_can_end_is_a_halt(bare):
    assert bare("sti; hlt").run().reason == "halt"
    machine = bare("cli; hlt")
    machine.timer.port_write(0x43, 1, 0x34)
    machine.timer.port_write(0x40, 1, 0)
    machine.timer.port_write(0x40, 1, 0)
    assert machine.run().reason == "halt", "ticks do not end HLT while IF is clear"


def test_unclaimed_ports_read_as_all_ones(bare):
    machine = bare("in al, 0x77; mov bl, al; in ax, 0x77; mov cx, ax; in eax, 0x77; hlt")
    machine.run()
    assert (machine.cpu.ebx, machine.cpu.ecx, machine.cpu.eax) == (0xFF, 0xFFFF, 0xFFFFFFFF)
