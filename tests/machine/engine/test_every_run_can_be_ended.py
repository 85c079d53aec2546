"""Fuel, a request to stop and Ctrl-C end every run, also one that executes nothing."""

import random
import signal
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from callgate.kernel.machine.cpu.traps import BARREN
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.board.board import MEMORY, ORIGIN
from callgate.tools.asmtest.board.result import RoutineError
from ctrl_c import ctrl_c_when, has_run

NOWHERE = 0x40_0000 + 0x10_0000  # linear, not mapped
FUEL = 20_000
INTO_REPORT = 3  # instructions of a handler before its report
DEADLINE = 1.0  # seconds of CPU time from Ctrl-C to the end of the run


@pytest.mark.parametrize("jump", ["jmp eax", "call eax", "push eax; ret"])
def test_a_jump_to_an_address_that_is_not_mapped_ends_in_a_triple_fault_without_an_idt(board, jump):
    board.boot(f"lidt [{0xC0300000}]; mov eax, {NOWHERE}; {jump}")
    board.machine.ram.write(0x30_0000, bytes(6))
    stop = board.machine.run(fuel=1000)
    assert (stop.reason, stop.eip) == ("triple-fault", NOWHERE)
    assert stop.detail.events == ()
    assert board.machine.cpu.cr2 == NOWHERE
    assert board.machine.run(fuel=10).retired == stop.retired, "nothing executes after it"


def test_fuel_that_ends_before_code_that_cannot_be_fetched_ends_there_and_the_fault_comes_next(make_board, counter):
    def boot():
        made = make_board(counter)
        made.boot("", user=f"mov eax, {NOWHERE}; jmp eax")
        made.answer = lambda _: made.machine.request_stop("host")
        return made

    whole = boot()
    whole.machine.run(fuel=100)
    jumped = whole.reports[0].clock - INTO_REPORT
    for fuel in (jumped - 1, jumped, jumped + 1):
        cut = boot()
        assert cut.machine.run(fuel=fuel).reason == "fuel"
        assert cut.machine.clock.retired == fuel
        assert cut.machine.cpu.cpl == (3 if fuel <= jumped else 0)
        cut.machine.run(fuel=100)
        assert cut.reports == whole.reports
        assert cut.machine.cpu.registers() == whole.machine.cpu.registers()


def unfetchable_handlers(board) -> None:
    """Leave every exception with a handler that cannot be fetched, and room on the stack for millions of them."""
    for vector in range(32):
        board.gate(vector, offset=NOWHERE)
    for index in range(512):  # 512 MiB of stack, one page of memory
        board.machine.ram.put_u64(0x2F_0000 + index * 8, 0x2E_0000 | 3)
    for index in range(256, 512):
        board.machine.ram.put_u64(0x20_1000 + index * 8, 0x2F_0000 | 3)
    board.machine.ram.write(0x20_7004, struct.pack("<I", 0xFFFF_F000))


def test_exceptions_without_end_and_without_an_instruction_end_by_fuel_and_by_a_condition(board):
    unfetchable_handlers(board)
    board.boot("", user="ud2")
    stop = board.machine.run(fuel=1000)
    assert (stop.reason, stop.eip) == ("fuel", NOWHERE)
    asked: list[int] = []
    again = board.machine.run(until=lambda: len(asked) > 2 or bool(asked.append(1)))
    assert (again.reason, again.retired) == ("until", stop.retired)
    assert board.machine.ledger.exceptions["#PF"] >= 2 * BARREN


def test_exceptions_without_end_and_without_an_instruction_end_by_ctrl_c(board):
    unfetchable_handlers(board)
    board.boot("", user="ud2")
    with ctrl_c_when(has_run(board.machine, 0.02)) as pressed:
        stop = board.machine.run()
    assert stop.reason == "interrupted"
    assert time.process_time() - pressed[0] < DEADLINE


def test_an_error_of_a_listener_is_raised_although_nothing_more_can_be_executed(board):
    board.boot(f"lidt [{0xC0300000}]; mov eax, {NOWHERE}; jmp eax")
    board.machine.ram.write(0x30_0000, bytes(6))
    board.machine.stream.subscribe(lambda _: 1 / 0, kinds=["exception"])
    with pytest.raises(ZeroDivisionError):
        board.machine.run()


def test_halting_with_an_interrupt_that_was_never_acknowledged_is_a_halt_at_once(bare):
    machine = bare("sti; hlt; hlt")
    machine.ram.write(0x3000, struct.pack("<HI", 0x7FF, 0x2000))
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE)):
        machine.ports.bus.write(port, 1, value)
    machine.pic.master.in_service = 1
    for port, value in ((0x43, 0x34), (0x40, 0), (0x40, 0x10)):
        machine.ports.bus.write(port, 1, value)
    assert machine.run().reason == "halt"
    assert machine.clock.now < 100_000_000, "a few ticks, not a million"


def test_paging_without_pae_ends_the_run_with_a_report(bare):
    stop = bare("mov eax, cr0; or eax, 0x80000001; mov cr0, eax; nop; hlt").run(fuel=100)
    assert stop.reason == "not-modelled"
    assert "PAE" in stop.detail


def test_a_machine_that_has_ended_in_paging_without_pae_can_be_looked_at_by_physical_addresses(bare):
    machine = bare("mov eax, cr0; or eax, 0x80000001; mov cr0, eax; nop; hlt")
    stop = machine.run(fuel=100)
    assert not machine.paging.mode().paging
    assert machine.paging.read_linear(stop.eip, 2) == b"\x90\xf4"
    assert machine.paging.walk(stop.eip).physical == stop.eip
    position = machine.position
    assert position[:2] == (3, 0), "the fault of the fetch could not be delivered"
    assert machine.run(fuel=100).reason == "not-modelled"
    assert machine.position == position


def garbage(seed: int, cpu: BareCpu, ring: int) -> dict[str, int]:
    """Put a program of random bytes into memory; return registers for it."""
    source = random.Random(seed)
    cpu.reset()
    cpu.enter_ring(ring)
    cpu.write(ORIGIN, source.randbytes(source.choice((16, 64, 256, 1024))))
    likely = (0, 1, source.getrandbits(32), source.randrange(MEMORY))
    return {name: source.choice(likely) for name in ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi")}


@pytest.fixture(scope="module")
def cpu() -> Iterator[BareCpu]:
    made = BareCpu()
    yield made
    made.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ring", [0, 3])
def test_programs_of_random_bytes_end_within_their_fuel_and_at_ctrl_c(
    cpu: BareCpu, ring: int, some_of: Callable[[range, int], list[int]]
) -> None:
    endless = []
    for seed in some_of(range(200), 5):
        registers = garbage(seed, cpu, ring)
        try:
            result = cpu.call(ORIGIN, faults=True, fuel=FUEL, **registers)
            assert result.instructions <= FUEL
        except RoutineError as error:
            if "did not return" in str(error):
                endless.append(seed)
    assert endless
    for seed in endless[::4]:
        registers = garbage(seed, cpu, ring)
        with ctrl_c_when(has_run(cpu.machine, 0.02)) as pressed, pytest.raises(KeyboardInterrupt):
            cpu.call(ORIGIN, faults=True, fuel=1 << 60, **registers)
        assert time.process_time() - pressed[0] < DEADLINE, seed


# What the engine executes for long without ever asking Python, or by asking Python all the time.
SLOW = {
    "plain": "l: jmp l",
    "x87 state": "l: fnsave [0x20000]; frstor [0x20000]; jmp l",
    "page tables": "mov eax, cr3; l: mov cr3, eax; jmp l",
    "clock": "l: rdtsc; jmp l",
    "port": "l: in al, 0x80; jmp l",
    "string": "l: mov ecx, -1; mov edi, 0x20000; mov esi, edi; cld; rep lodsb; jmp l",
}


@pytest.mark.parametrize("kind", SLOW)
def test_ctrl_c_ends_a_call_of_the_bare_cpu_within_a_second(cpu: BareCpu, kind: str) -> None:
    cpu.reset()
    cpu.load("f: " + SLOW[kind].replace("; ", "\n ").replace("l: ", "\nl: ") + "\n")
    with ctrl_c_when(has_run(cpu.machine, 0.02)) as pressed, pytest.raises(KeyboardInterrupt):
        cpu.call("f", fuel=1 << 60)
    assert time.process_time() - pressed[0] < DEADLINE


def test_a_second_ctrl_c_ends_a_function_of_the_test_that_does_not_return(cpu: BareCpu) -> None:
    cpu.reset()
    cpu.load("f: out 0xf0, eax\n ret\n")

    def never(_value: int) -> None:
        while True:  # two signals from outside may come as one on a busy host
            signal.raise_signal(signal.SIGINT)

    cpu.on_host_call(0xF0, never)
    with pytest.raises(KeyboardInterrupt):
        cpu.call("f")


def test_ctrl_c_between_calls_is_handled_by_python(cpu: BareCpu) -> None:
    cpu.reset()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_closing_the_bare_cpu_puts_the_handler_before_it_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    made = BareCpu()
    assert signal.getsignal(signal.SIGINT) != before
    made.close()
    assert signal.getsignal(signal.SIGINT) == before
