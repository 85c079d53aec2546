"""The 16550 UART: output, input on demand, interrupts, and the end of input as loss of carrier."""

import pytest

DATA, IER, FCR, LCR, MCR, LSR, MSR, SCR = range(0x3F8, 0x400)


@pytest.fixture
def uart(machine):
    """Read and write registers as the guest does."""

    class Registers:
        def __getitem__(self, port):
            return machine.ports.bus.read(port, 1)

        def __setitem__(self, port, value):
            machine.ports.bus.write(port, 1, value)

    machine.serial.port_write(MCR, 1, 8)
    return Registers()


def irq4(machine):
    return bool(machine.pic.master.levels & 1 << 4)


def test_bytes_that_the_guest_sends_are_written_when_it_stops(bare):
    machine = bare("mov dx, 0x3f8; mov al, 0x48; out dx, al; mov al, 0x69; out dx, al; hlt")
    sent = []
    machine.serial.output = sent.append
    machine.run()
    assert sent == [b"Hi"]


def test_scratch_and_divisor_registers_of_the_uart_read_back(uart):
    uart[SCR] = 0x5A
    assert uart[SCR] == 0x5A
    uart[LCR] = 0x83
    uart[DATA], uart[IER] = 0x0C, 0x01
    assert (uart[DATA], uart[IER]) == (0x0C, 0x01)
    uart[LCR] = 3
    assert uart[IER] == 0


def test_received_bytes_interrupt_until_they_are_read(machine, uart):
    uart[FCR], uart[IER] = 1, 1
    machine.serial.feed(b"ab")
    assert irq4(machine)
    assert uart[FCR] == 0xC4
    assert uart[LSR] & 1
    assert bytes([uart[DATA], uart[DATA]]) == b"ab"
    assert not irq4(machine)
    assert uart[FCR] == 0xC1
    assert not uart[LSR] & 1


def test_input_that_exceeds_the_fifo_waits_on_the_host(machine, uart):
    uart[FCR] = 1
    machine.serial.feed(bytes(range(40)))
    assert len(machine.serial.state.received) == 16
    assert bytes(uart[DATA] for _ in range(40)) == bytes(range(40))


def test_the_uart_holds_one_byte_without_its_fifo(machine, uart):
    machine.serial.feed(b"xyz")
    assert len(machine.serial.state.received) == 1
    assert bytes(uart[DATA] for _ in range(3)) == b"xyz"


def test_transmitter_empty_interrupts_once_and_reading_iir_clears_it(machine, uart):
    uart[IER] = 2
    assert irq4(machine)
    assert uart[FCR] & 0x0F == 2
    assert not irq4(machine)
    uart[DATA] = 0x41
    assert irq4(machine)


def test_out2_gates_the_interrupt_of_the_uart(machine, uart):
    uart[MCR], uart[IER] = 0, 1
    machine.serial.feed(b"a")
    assert not irq4(machine)
    uart[MCR] = 8
    assert irq4(machine)


def test_loopback_returns_the_bytes_that_are_sent(machine, uart):
    uart[MCR] = 0x18
    uart[DATA] = 0x77
    assert uart[DATA] == 0x77


def test_input_is_read_only_for_an_idle_guest_and_its_end_drops_carrier(board):
    machine = board.machine
    script = [b"one", b"two", b""]
    asked = []

    def source(room):
        asked.append((machine.clock.retired, room))
        return script[len(asked) - 1]

    machine.serial.source = source
    taken = []

    def answer(report):
        bus = machine.ports.bus
        cause = bus.read(FCR, 1) & 0x0F
        if cause == 4:
            while bus.read(LSR, 1) & 1:
                taken.append(bus.read(DATA, 1))
        elif cause == 0:
            machine.request_stop("host", bus.read(MSR, 1))
        bus.write(0x20, 1, 0x20)

    board.answer = answer
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xEF), (FCR, 1), (MCR, 8), (IER, 9)):
        machine.ports.bus.write(port, 1, value)
    board.boot("sti; l: hlt; jmp l")
    stop = machine.run(fuel=10_000)
    assert bytes(taken) == b"onetwo"
    assert stop.reason == "host"
    assert stop.detail & 0x88 == 0x08, "DCD is down and has changed"
    assert [room for _, room in asked] == [16, 16, 16]


def test_the_state_of_the_uart_survives_a_snapshot(machine, uart):
    uart[FCR], uart[IER], uart[SCR] = 1, 5, 9
    machine.serial.feed(b"kept")
    snapshot = machine.snapshot()
    assert bytes(uart[DATA] for _ in range(4)) == b"kept"
    uart[SCR] = 1
    machine.restore(snapshot)
    assert (uart[SCR], uart[IER]) == (9, 5)
    assert bytes(uart[DATA] for _ in range(4)) == b"kept"


def test_a_break_interrupts_before_the_bytes_that_wait_and_reading_the_status_clears_it(machine, uart):
    uart[FCR], uart[IER] = 1, 5
    machine.serial.feed(b"a")
    assert machine.serial.send_break()
    assert irq4(machine)
    assert uart[FCR] == 0xC6
    assert uart[LSR] == 0x71
    assert uart[FCR] == 0xC4
    assert not uart[LSR] & 0x10
    assert bytes([uart[DATA], uart[DATA]]) == b"a\0"
    assert not irq4(machine)


def test_a_break_with_nothing_after_it_drops_the_interrupt_line_after_it_is_read(machine, uart):
    uart[FCR], uart[IER] = 1, 4
    assert machine.serial.send_break()
    assert irq4(machine)
    assert uart[LSR] & 0x10
    assert not irq4(machine)


def test_a_guest_with_interrupts_of_the_uart_off_is_sent_no_break(machine, uart):
    uart[FCR], uart[IER] = 1, 0x0B
    assert not machine.serial.send_break()
    assert not uart[LSR] & 0x11
    uart[IER] = 4
    assert machine.serial.send_break()
    assert not machine.serial.send_break()


DATA_AT = 0x15_0000
PIECES = """
    mov ecx, 9000; mov esi, 0xc0150000; mov dx, 0x3f8; rep outsb
    mov dx, 0x3fb; mov al, 0x83; out dx, al; mov dx, 0x3f8; mov al, 0x0c; out dx, al
    mov dx, 0x3fb; mov al, 3; out dx, al; mov dx, 0x3f8; mov al, 0x61; out dx, al
    mov dx, 0x3fc; mov al, 0x18; out dx, al; mov dx, 0x3f8; mov al, 0x62; out dx, al
    mov dx, 0x3fc; mov al, 8; out dx, al; mov dx, 0x3f8; mov al, 0x63; out dx, al; mov ax, 0x6564; out dx, ax
    mov dx, 0x3fa; in al, dx; mov bl, al
    mov dx, 0x3f9; mov al, 2; out dx, al; mov dx, 0x3fa; in al, dx; mov bh, al
    in al, dx; mov cl, al; mov dx, 0x3f8; mov al, 0x66; out dx, al; mov dx, 0x3fa; in al, dx; mov ch, al
    hlt
"""


@pytest.mark.thorough(one_in=4)
@pytest.mark.parametrize("fuel", [23, 1, 1000, 100_000])
def test_bytes_gathered_by_host_code_are_those_python_would_have_sent(make_board, fuel):
    """Bytes and the pieces they come in, the divisor, the loopback, the transmit interrupt: however the run is cut."""
    results = []
    for counter in ("native", "python"):
        board = make_board(counter)
        machine = board.machine
        board.boot(PIECES.strip().replace("\n", ";"))
        machine.ram.write(DATA_AT, bytes(index % 251 for index in range(9000)))
        sent = []
        machine.serial.output = sent.append
        while (stop := machine.run(fuel=fuel)).reason == "fuel":
            pass
        assert stop.reason == "halt"
        assert (machine.console_buffer is None) == (counter == "python")
        results.append((sent, machine.cpu.ebx, machine.cpu.ecx, machine.serial.save(), stop.retired))
    assert results[0] == results[1]
    assert b"".join(results[0][0])[9000:] == b"acdf"


def test_a_snapshot_between_two_bytes_restores_the_registers_and_sends_no_byte_twice(make_board):
    board = make_board("native")
    machine = board.machine
    board.boot("mov dx, 0x3f8; mov al, 0x41; out dx, al; l: mov al, 0x42; out dx, al; mov al, 0x43; out dx, al; hlt")
    sent = []
    machine.serial.output = sent.append
    while sent != [b"A"]:
        machine.run(fuel=1)
    kept = machine.snapshot()
    machine.run()
    assert b"".join(sent) == b"ABC"
    machine.restore(kept)
    machine.run()
    assert b"".join(sent) == b"ABCBC"
    assert machine.serial.state.transmit_pending


def test_bytes_for_a_port_that_has_become_a_host_call_are_host_calls(make_board):
    board = make_board("native")
    seen = []
    board.machine.host_calls.register(DATA, seen.append, "taken")
    board.boot("mov dx, 0x3f8; mov al, 0x41; out dx, al; hlt")
    board.machine.run()
    assert [value & 0xFF for value in seen] == [0x41]


def test_ring_3_cannot_put_bytes_into_the_buffer_of_the_kernel(make_board):
    board = make_board("native")
    sent = []
    board.machine.serial.output = sent.append
    board.boot("", user="mov dx, 0x3f8; mov al, 0x41; out dx, al; ud2")
    board.answer = lambda _report: board.machine.request_stop("host")
    board.machine.run()
    assert [report.vector for report in board.reports] == [13]
    assert b"".join(sent) == b""
