"""The clock by blocks: what ends a block early, what is set in one, and an engine that it does not know."""

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks import block_code, block_counter, plain, shapes
from register_device import Register

WARM = "mov ecx, 100; warm: dec ecx; jnz warm"  # longer than the clock goes by instruction after WRMSR
LOOP = "mov ecx, 1000; l: inc eax; inc ebx; inc edx; dec ecx; jnz l; hlt"


@pytest.fixture
def by_blocks(assemble):
    made = []

    def load(source, **options):
        machine = Machine(**{"memory": 8 << 20, "high_memory": 0, "counter": "blocks", **options})
        made.append(machine)
        machine.counter.patience = 0
        machine.ram.write(0x1000, assemble(source))
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        return machine

    yield load
    for machine in made:
        machine.close()


def asked(machine):
    """Count the blocks that the machine's clock has looked at."""
    look, seen = machine.counter._look, []
    machine.counter._look = lambda address, size, block: seen.append(address) or look(address, size, block)
    return seen


def test_the_host_code_at_a_blocks_entry_is_what_its_source_assembles_to(assemble_host):
    assert assemble_host(block_code.source_of(block_code.BLOCK_TEMPLATE)) == block_code.BLOCK_CODE


def test_a_plain_block_is_counted_without_its_instructions_being_hooked(by_blocks):
    machine = by_blocks(LOOP)
    machine.run()
    assert machine.clock.retired == 1 + 5000 + 1
    assert machine.state.flags_kind == 0, "no hook has been called: it would have noted the flags"


def test_the_first_instructions_of_a_machine_go_one_by_one(by_blocks):
    machine = by_blocks(LOOP)
    machine.counter.patience = 3000
    machine.run(fuel=2999)
    assert machine.state.flags_kind, "the hook has noted the flags"
    assert machine.counter.patience == 1
    machine.run()
    assert machine.clock.retired == 1 + 5000 + 1
    assert machine.counter.patience == 0


def test_a_step_within_a_block_goes_by_instruction(by_blocks):
    machine = by_blocks(LOOP)
    machine.run(fuel=3003)
    assert (machine.cpu.eax, machine.cpu.ebx, machine.cpu.ecx) == (601, 600 + 1, 400)
    assert machine.step().eip == 0x1000 + 5 + 3


def test_a_site_set_in_a_block_that_has_been_executed_is_served_at_once(by_blocks):
    machine = by_blocks(LOOP)
    machine.run(fuel=1001)
    seen = []
    site = machine.probe(0x1006, lambda: seen.append(machine.clock.retired))
    machine.run(fuel=1000)
    assert seen == list(range(1002, 2001, 5))
    machine.unprobe(site)
    machine.run()
    assert len(seen) == 200


def test_a_load_from_a_device_in_mid_block_is_made_once_and_at_its_time(by_blocks):
    machine = by_blocks("mov ebp, 100; l: inc eax; mov ebx, [0xfeb00000]; inc edx; dec ebp; jnz l; hlt")
    device = Register()
    machine.attach(device)
    machine.run()
    assert [clock for *_, clock in device.loads] == list(range(3, 3 + 5 * 100, 5))
    assert (machine.cpu.ebx, machine.clock.retired) == (7, 502)


def test_what_an_instruction_loads_above_4_gib_before_it_comes_to_a_device_counts_once(board_by_blocks):
    machine = board_by_blocks(f"{WARM}; mov esi, 0x402000; mov edi, 0x403000; nop; nop; .byte 0xa5; nop; ud2")
    assert machine.ledger.counts().cpu_file_bytes["client"] == 4


@pytest.fixture
def board_by_blocks(make_board):
    def run(user):
        board = make_board("blocks")
        board.machine.counter.patience = 0
        board.machine.attach(Register())
        board.map(0x402000, 1 << 32, "rw")
        board.map(0x403000, 0xFEB0_0000, "rw")
        board.answer = lambda report: board.machine.request_stop("host", report.vector)
        board.boot("", user=user)
        assert board.machine.run(fuel=10_000).detail == 6
        return board.machine

    return run


def test_a_store_by_rep_into_its_own_page_counts_each_iteration_once_however_the_run_is_cut(by_blocks):
    """Under the clock by instruction an iteration that is broken off cannot be told from the next one."""
    source = "cld; mov edi, 0x1030; mov ecx, 9; mov eax, 0x90; rep stosb; hlt"
    for fuel in (1, 2, 7, 1000):
        machine = by_blocks(source)
        while machine.run(fuel=fuel).reason == "fuel":
            pass
        assert machine.clock.retired == 4 + 10 + 1


def test_a_block_of_16_bit_code_is_not_taken_for_one_of_32_bit_code(make_board):
    # B8 34 12 40 40 is MOV AX and two INC there, and one MOV here; with 66 in front it is the other way round.
    counts = []
    for kind in ("blocks", "native"):
        board = make_board(kind)
        board.machine.counter.patience = 0
        board.machine.ram.put_u64(0x20_5000 + 0x38, 0x0000_9A00_0000_FFFF | 0x000F << 48)
        board.boot(f"{WARM}; xor ebx, ebx; .byte 0xea; .long 0x300; .word 0x38")
        board.machine.ram.write(0x300, bytes.fromhex("b834124040 f7f3 66b834124040 ebfe"))
        board.answer = lambda report, m=board.machine: m.request_stop("host", report.vector)
        stop = board.machine.run(fuel=1000)
        counts.append((stop.detail, stop.retired, board.reports[-1].eip))
    assert counts[0] == counts[1]
    assert counts[0][0] == 0  # #DE, of DIV BX


def test_more_shapes_than_are_kept_drop_all_translations_and_nothing_is_miscounted(by_blocks, monkeypatch):
    monkeypatch.setattr(plain, "SHAPES", 3)
    pieces = "; ".join(f"{'nop; ' * number} jmp l{number}; l{number}: nop" for number in range(1, 20))
    machine = by_blocks(f"mov ecx, 50; top: {pieces}; dec ecx; jnz near_top; hlt; near_top: jmp top")
    stop = machine.run()
    assert (stop.reason, stop.retired) == ("halt", 1 + 50 * (sum(range(1, 20)) + 2 * 19 + 2) + 49 + 1)


BY_TURNS = """
        mov ecx, 500
    again:
        pushfd
        xor dword ptr [esp], 0x40000    ; AC, which the engine keeps translations apart by
        popfd
        call called
        dec ecx
        jnz again
        hlt
    called:
        out 0xdf, eax
        ret
"""


def test_a_block_with_hooks_that_is_executed_with_different_flags_by_turns_is_looked_at_once_for_each(
    by_blocks, assemble
):
    machine = by_blocks(BY_TURNS)
    called = []
    machine.host_calls.register(0xDF, called.append, "empty")
    seen = asked(machine)
    machine.run()
    assert machine.clock.retired == 1 + 500 * 8 + 1
    assert len(called) == 500
    assert len(seen) < 40
    machine.write(0x1000, assemble(BY_TURNS.replace("500", "300").replace("0xdf", "0xde")))
    machine.host_calls.register(0xDE, called.append, "empty, too")
    machine.cpu.eip = 0x1000
    machine.run()
    assert len(called) == 800, "other code at the same address"


def test_a_block_is_looked_at_once_whatever_it_holds(by_blocks):
    machine = by_blocks("mov ecx, 300; l: in al, 0x80; dec ecx; jnz l; hlt")
    seen = asked(machine)
    machine.run()
    # The first block begins before the loop; one with a port is translated twice, the second time with hooks.
    assert len(seen) <= 6


def test_the_clock_by_blocks_is_refused_where_the_engine_makes_blocks_otherwise(monkeypatch):
    monkeypatch.setattr(block_counter, "blocks_are_known", lambda: False)
    with pytest.raises(OSError, match="does not make blocks in the way that is known"):
        Machine(memory=4 << 20, high_memory=0, counter="blocks")


TURNS = 200_000  # 1,000,002 instructions


def run_loop(assemble, kind, turns):
    with Machine(memory=4 << 20, high_memory=0, counter=kind) as machine:
        machine.ram.write(0x1000, assemble(f"mov ecx, {turns}; l: inc eax; inc ebx; inc edx; dec ecx; jnz l; hlt"))
        machine.cpu.eip = 0x1000
        assert machine.run().retired == 1 + 5 * turns + 1
        return machine.counter


@pytest.mark.usefixtures("clock_of_choice")
def test_a_machine_goes_by_blocks_once_it_has_run_for_a_while(assemble):
    assert run_loop(assemble, "auto", 1_000).blocks is None
    assert run_loop(assemble, "auto", TURNS).blocks.ready


def test_a_machine_that_is_told_to_goes_by_blocks_from_the_beginning(assemble):
    assert run_loop(assemble, "blocks", 100).ready


@pytest.mark.usefixtures("clock_of_choice")
def test_where_the_engine_makes_blocks_otherwise_a_machine_goes_on_by_instruction(assemble, monkeypatch):
    monkeypatch.setattr(block_counter, "blocks_are_known", lambda: False)
    counter = run_loop(assemble, "auto", TURNS)
    assert counter.blocks is None
    assert counter.useless


@pytest.mark.usefixtures("clock_of_choice")
def test_what_is_set_on_a_machine_before_it_goes_by_blocks_holds_afterwards(assemble):
    """A probe, a device that is come to within a block, a snapshot from before."""
    seen, register = [], Register()
    with Machine(memory=4 << 20, high_memory=0) as machine:
        machine.attach(register)
        source = "inc eax; inc ebx; mov ebp, [0xfeb00000]; test ecx, 0xffff; jnz p; mov ebp, [0xfeb00000]; p: dec ecx"
        source = source.replace("mov ebp, [0xfeb00000]; ", "", 1)
        machine.ram.write(0x1000, assemble(f"mov ecx, {TURNS}; l: {source}; jnz l; hlt"))
        machine.cpu.eip = 0x1000
        machine.probe(0x1005, lambda: seen.append(machine.clock.now) if machine.cpu.ecx % 50_000 == 0 else None)
        before = machine.snapshot()
        runs = []
        for _ in range(2):
            stop = machine.run(fuel=20_000_000)
            runs.append((str(stop), list(seen), list(register.loads), machine.cpu.registers()))
            seen.clear()
            register.loads.clear()
            machine.restore(before)
        assert machine.counter.blocks.ready
        assert runs[0] == runs[1]
        assert len(runs[0][1]) == TURNS // 50_000
        assert len(runs[0][2]) == TURNS // 0x1_0000


@pytest.mark.parametrize("kind", ["native", "blocks", "python"])
def test_the_environment_names_the_clock_of_machines_that_are_not_told_one(monkeypatch, kind):
    monkeypatch.setenv("CALLGATE_COUNTER", kind)
    with Machine(memory=4 << 20, high_memory=0) as one, Machine(memory=4 << 20, high_memory=0, counter=kind) as other:
        assert type(one.counter) is type(other.counter)


@pytest.mark.parametrize(
    ("code", "instructions", "shape", "is_plain"),
    [
        ("40 43 f4", 3, (0, 1, 2), True),
        ("40 43 f4", 2, None, False),  # the engine counts otherwise
        ("40 0f", 2, None, False),
        ("40 e4 80", 2, (0, 1), False),
        ("f3 6e", 1, (0,), False),
        ("0f 31 40", 2, (0, 2), False),
    ],
)
def test_a_block_is_plain_only_if_its_bytes_say_so(code, instructions, shape, is_plain):
    found = shapes.contents(bytes.fromhex(code), instructions)
    assert (found.shape, found.plain) == (shape, is_plain)
