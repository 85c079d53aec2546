"""The clock counts retired instructions exactly, the same way in host code and in Python."""

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks.kinds import make_counter
from callgate.kernel.machine.engine import counter as counters
from callgate.kernel.machine.engine import counter_code, executed, port_buffer
from callgate.kernel.machine.memory import page_code
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.machine.running import SLICE
from callgate.tools.bench.clock import bench_clock

PROGRAM = """
    mov ebx, 0x402000; mov ecx, 5
again: push ecx; mov ecx, 7; lea edi, [ebx + 64]; mov esi, ebx; rep movsb
    int 0x80; xor edx, edx; mov eax, [0x405000]; div edx; pop ecx; dec ecx; jnz again
    mov eax, 3; out 0xe8, al; ud2; jmp again
"""


def run_program(board):
    """Run a mixture of loops, REP, INT, faults and timer interrupts; return everything observable."""
    machine = board.machine
    entry = board.map(0x405000, 0x305000, "none")
    events: list[Event] = []
    machine.stream.subscribe(events.append)
    board.gate(0x20, dpl=0)
    lengths = {0: 2, 13: 2, 6: 2}

    def answer(report):
        if report.vector == 14:
            machine.ram.put_u64(entry, 0x305007)
        elif report.vector == 0x20:
            machine.ports.bus.write(0x20, 1, 0x20)
            machine.ram.put_u64(entry, 0)
            machine.flush_tlb()
        elif report.vector in lengths:
            board.frame(0, report.eip + lengths[report.vector])
        if len(board.reports) == 60:
            machine.request_stop("host", "enough")

    board.answer = answer
    board.boot("", user=PROGRAM)
    for port, value in (
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0),
        (0x43, 0x34),
        (0x40, 1),
        (0x40, 0),
    ):
        machine.ports.bus.write(port, 1, value)
    machine.count_site(0x400000, "pte_writes", 3)
    machine.count_site(0x40000A, "requests")
    stops = [machine.run(fuel=333), machine.run(until=0x40000A), machine.run(fuel=50_000)]
    return (
        [str(stop) for stop in stops],
        machine.cpu.registers(),
        machine.ledger.counts().as_dict(),
        machine.ram.read(0, 8 << 20),
        [event.line() for event in events],
        board.reports,
        (machine.clock.retired, machine.clock.now),
    )


def test_the_native_clock_and_the_python_clock_make_identical_runs(make_board):
    native, python = (run_program(make_board(kind)) for kind in ("native", "python"))
    for one, other in zip(native, python, strict=True):
        assert one == other
    assert len(native[5]) == 60
    vectors = {report.vector for report in native[5]}
    assert {0, 13, 14, 0x20, 0x80} <= vectors, "the program provokes what it is meant to"


def test_a_run_does_not_depend_on_how_it_is_sliced(make_board):
    def final(step):
        board = make_board("native")
        board.boot("l: inc eax; push eax; mov ecx, 3; lea edi, [esp-64]; rep stosd; pop eax; jmp l")
        machine = board.machine
        while machine.clock.retired < 840:
            machine.run(fuel=step)
        return machine.clock.retired, machine.cpu.registers(), machine.ram.read(0x210000 - 4096, 4096)

    assert final(1) == final(7) == final(40) == final(840)


@pytest.fixture
def loaded(counter, assemble):
    """Put code at 0x1000 of a machine with each of the counters."""
    made = []

    def load(source):
        machine = Machine(memory=8 << 20, high_memory=0, counter=counter)
        made.append(machine)
        machine.ram.write(0x1000, assemble(source))
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        return machine

    yield load
    for machine in made:
        machine.close()


@pytest.mark.parametrize(
    ("source", "retired", "ebx"),
    [
        # A store into the block that holds it, in front of what it changes.
        ("mov byte ptr [0x1008], 7; mov ebx, 3; hlt", 3, 7),
        # In a loop: the code is translated anew each time round.
        ("mov ecx, 3; xor ebx, ebx; l: mov byte ptr [0x100f], cl; add ebx, 9; dec ecx; jnz l; hlt", 2 + 3 * 4 + 1, 6),
        # Not what stores: PUSH, XCHG, and a read-modify-write that must not happen twice.
        ("mov esp, 0x100f; push 0x90909090; hlt; nop; nop; hlt; nop; nop; nop; nop; hlt", 2 + 1, 0),
        ("inc byte ptr [0x1008]; inc byte ptr [0x1008]; mov ebx, 0; hlt", 4, 0),
        ("lock inc byte ptr [0x1008]; mov ebx, 3; hlt", 3, 4),
        ("mov esp, 0x1009; call 0x100a; hlt", 2 + 1, 0),
        # CALL through a register and through memory.
        ("mov esp, 0x100e; mov eax, 0x100e; call eax; nop; nop; hlt", 3 + 1, 0),
        ("mov esp, 0x1013; mov eax, 0x3000; mov dword ptr [eax], 0x1018; call [eax];" + "hlt; " * 20, 4 + 1, 0),
        # What may follow itself does: a jump, LOOP, REP.
        ("mov ecx, 9; l: loop l; hlt", 1 + 9 + 1, 0),
        ("cld; mov edi, 0x3000; mov ecx, 5; rep stosb; hlt", 3 + 6 + 1, 0),
    ],
)
def test_a_store_into_its_own_code_retires_once(loaded, source, retired, ebx):
    machine = loaded(source)
    served = []
    for address in range(0x1000, 0x1020):
        machine.probe(address, lambda: served.append(machine.cpu.eip))
    stop = machine.run(fuel=1000)
    assert (stop.reason, stop.retired, machine.cpu.ebx) == ("halt", retired, ebx)
    assert len(served) == retired
    assert sum(machine.state.quadrants) == retired


def test_a_single_step_executes_a_call_that_pushes_over_its_own_code(loaded):
    machine = loaded("mov esp, 0x1009; call 0x100a; hlt")
    assert [machine.step().eip for _ in range(2)] == [0x1005, 0x100A]
    assert (machine.cpu.esp, machine.clock.retired) == (0x1005, 2)


@pytest.mark.parametrize(
    ("source", "before"),
    [
        ("here: call here", 0),
        ("mov eax, 0x1005; call eax", 1),
        ("mov dword ptr [0x3000], 0x100a; call [0x3000]", 1),
    ],
)
def test_a_call_of_itself_counts_each_time(loaded, source, before):
    machine = loaded(source)
    assert machine.run(fuel=before + 5).retired == before + 5
    assert machine.cpu.esp == 0x8000 - 5 * 4


def test_an_instruction_that_is_restarted_by_hand_counts_again(loaded):
    machine = loaded("inc ebx; hlt")
    for _ in range(3):
        machine.cpu.eip = 0x1000
        assert machine.step().reason == "fuel"
    assert (machine.clock.retired, machine.cpu.ebx) == (3, 3)


def test_fuel_is_exact_and_counts_every_iteration_of_rep(loaded):
    machine = loaded("cld; mov edi, 0x3000; mov ecx, 5; rep stosb; nop; hlt")
    assert machine.run(fuel=3).eip == 0x100B
    assert machine.cpu.ecx == 5
    machine.run(fuel=2)
    assert (machine.cpu.ecx, machine.cpu.eip) == (3, 0x100B)
    stop = machine.run()
    # CLD, two MOV, five stores and the look that finds ECX zero, NOP, HLT.
    assert (stop.reason, stop.retired) == ("halt", 3 + 6 + 1 + 1)


def test_instructions_of_the_kernels_gigabyte_count_as_ring_0(board):
    board.boot("", user="mov ebx, 1; int 0x80; mov ebx, 2; int 0x80; ud2")
    board.answer = lambda report: board.machine.request_stop("host") if report.vector == 6 else None
    board.machine.ledger.settle_boot()
    board.machine.run(until=0x400000)
    board.machine.ledger.settle_boot()
    before = board.machine.ledger.counts()
    board.machine.run()
    spent = board.machine.ledger.counts() - before
    # Two handlers of five instructions, and the first three of #UD's up to the host call.
    assert (spent.ring3, spent.ring0, spent.ring_changes) == (4, 2 * 5 + 3, 6)
    assert spent.guest_instructions == 17


def test_the_host_code_of_the_clock_is_what_its_source_assembles_to(assemble_host):
    for module, template, code in (
        (counters, counter_code.COUNT_TEMPLATE, counter_code.COUNT_CODE),
        (counters, counter_code.LOAD_TEMPLATE, counter_code.LOAD_CODE),
        (counters, counter_code.STORE_TEMPLATE, counter_code.STORE_CODE),
        (executed, executed.WATCH_TEMPLATE, executed.WATCH_CODE),
        (page_code, page_code.KEEP_TEMPLATE, page_code.KEEP_CODE),
        (port_buffer, port_buffer.OUT_TEMPLATE, port_buffer.OUT_CODE),
        (port_buffer, port_buffer.IN_TEMPLATE, port_buffer.IN_CODE),
    ):
        assert assemble_host(module.source_of(template)) == code


def test_a_site_is_served_once_however_often_the_run_is_cut(bare):
    machine = bare("mov ecx, 4; l: dec ecx; jnz l; hlt")
    seen = []
    probe = machine.probe(0x1005, lambda: seen.append(machine.clock.retired))
    while machine.run(fuel=1).reason == "fuel":
        pass
    assert seen == [1, 3, 5, 7]
    machine.unprobe(probe)
    machine.cpu.eip = 0x1000
    machine.run()
    assert len(seen) == 4


def test_a_site_added_after_translation_is_served_and_an_alias_is_not(bare):
    machine = bare("mov ecx, 3; l: dec ecx; jnz l; hlt")
    machine.run()
    seen = []
    machine.probe(0x1005, lambda: seen.append("here"))
    machine.probe(0x11005, lambda: seen.append("64 KiB further"))
    machine.cpu.eip = 0x1000
    machine.run()
    assert seen == ["here"] * 3


def test_a_stop_requested_at_a_site_comes_before_its_instruction(bare):
    machine = bare("inc eax; inc ebx; inc ecx; hlt")
    machine.probe(0x1001, lambda: machine.request_stop("host", "here"))
    stop = machine.run()
    assert (stop.reason, stop.eip, machine.cpu.eax, machine.cpu.ebx) == ("host", 0x1001, 1, 0)
    assert machine.run().reason == "halt"
    assert (machine.cpu.ebx, machine.cpu.ecx) == (1, 1)


def test_an_unknown_counter_is_refused(machine):
    with pytest.raises(ValueError, match="is not auto"):
        make_counter(machine.handle.value, "sundial", machine.request_stop)


@pytest.mark.usefixtures("clock_of_choice")
def test_the_clock_falls_back_to_python_without_executable_memory(monkeypatch):
    def forbidden():
        raise PermissionError("no executable memory")

    monkeypatch.setattr(counters, "executable_page", forbidden)
    with Machine(memory=4 << 20, high_memory=0) as machine:
        assert not machine.counter.native
        machine.ram.write(0x1000, b"\x40\x40\xf4")
        machine.cpu.eip = 0x1000
        assert machine.run().retired == 3
    with pytest.raises(PermissionError):
        Machine(memory=4 << 20, high_memory=0, counter="native")


@pytest.mark.thorough(only=True)
def test_the_clock_by_blocks_keeps_a_fifth_of_the_engines_speed_also_beside_other_tests():
    """Half of it on a quiet host; by instruction it is a twentieth."""
    result = bench_clock("blocks", rounds=3)
    assert result["ratio_to_engine"] >= 0.2
    assert result["guest_instructions"] == 120_000_002


def test_a_waiting_interrupt_does_not_stop_the_engine_at_each_instruction(bare):
    """With IF clear the hook itself looks for IF; two million instructions took seconds otherwise."""
    machine = bare("mov ecx, 500000; l: add eax, 1; xor ebx, eax; dec ecx; jnz l; hlt")
    for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)):
        machine.ports.bus.write(port, 1, value)
    machine.pic.raise_line(1)
    slices = []
    machine.run(until=lambda: bool(slices.append(1)))
    assert machine.clock.retired == 2_000_002
    assert len(slices) <= 2_000_002 // SLICE + 1


@pytest.mark.parametrize("kind", ["native", "python"])
@pytest.mark.parametrize("opcode", ["a4", "a5", "aa", "ab", "ac", "ad", "6e"])
def test_each_iteration_of_a_string_instruction_counts_with_either_prefix(opcode, kind):
    """REPNE before an instruction that compares nothing repeats it as REP does (undefined in the SDM, so on CPUs)."""
    counts = []
    for prefix in ("f2", "f3"):
        with Machine(counter=kind) as machine:
            machine.ram.write(0x1000, bytes.fromhex(prefix + opcode + "f4"))
            machine.cpu.eip, machine.cpu.ecx, machine.cpu.esi, machine.cpu.edi = 0x1000, 6, 0x3000, 0x4000
            stop = machine.run(fuel=100)
            counts.append((stop.reason, stop.retired, machine.cpu.ecx))
    assert counts == [("halt", 8, 0)] * 2
