"""Loads of high memory and stores from plain blocks by host code of ours: the same bytes, counts and changed code."""

import ctypes

import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks import access_code, accesses, known_tables
from callgate.kernel.machine.engine import counter, untranslatable

# Loops of plain code: each executes more than once, so that the second time all its translations exist.
TURNS = "mov ecx, 3; l: {body}; dec ecx; jnz l; hlt"
WINDOW = 0x405000
USER = 0x30_0000  # what the board has at 0x40_0000
SIZES = {1: "al", 2: "ax", 4: "eax"}


@pytest.fixture
def code_at(assemble):
    """Run code at 0x1000 of a machine under a clock; return the machine after its HLT."""
    made = []

    def run(counter, source, *more):
        machine = Machine(memory=8 << 20, high_memory=0, counter=counter)
        made.append(machine)
        machine.counter.patience = 0
        for address, text in (0x1000, source), *more:
            machine.ram.write(address, assemble(text))
        machine.cpu.eip, machine.cpu.esp = 0x1000, 0x8000
        assert machine.run(fuel=100_000).reason == "halt"
        return machine

    yield run
    for machine in made:
        machine.close()


@pytest.fixture
def led(monkeypatch):
    """Collect the blocks whose calls are led to the host code, by machine's accesses."""
    blocks, lead = [], accesses.Accesses.lead

    def leads(self, block):
        lead(self, block)
        blocks.append((self, block))

    monkeypatch.setattr(accesses.Accesses, "lead", leads)
    return blocks


def entry_for_stores(machine, address):
    """Return the engine's address for stores to a page in ring 0, with its marks."""
    found = untranslatable.rescue()
    registers = found.cpu(machine.uc._uch) + found.offset
    return known_tables._entry(registers, address)[1]


def leads_into(host, code, pages, pattern):
    """Return how many calls in host code at an address lead to these pages."""
    count = 0
    for call in pattern.finditer(host):
        target = call.end(2) + int.from_bytes(call[2], "little", signed=True)
        if call[1] is not None:
            target = int.from_bytes(host[target : target + 8], "little") - code
        count += code + target in pages
    return count


def routines(blocks):
    """Return how many calls in these blocks' host code lead to ours, and to the engine's routines."""
    ours = theirs = 0
    for made, block in blocks:
        host = ctypes.string_at(block.code, block.length)
        theirs += len(list(known_tables.calls(host, block.code)))
        pages = range(made.page, made.page + accesses.STUBS_AT) if made.page else ()
        ours += sum(
            leads_into(host, block.code, pages, pattern)
            for pattern in (known_tables.LOAD_CALL, known_tables.STORE_CALL)
        )
    return ours, theirs


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("stores", [False, True])
def test_the_host_code_of_an_access_is_what_its_source_assembles_to(assemble_host, stores, index):
    code = (access_code.STORE_CODE if stores else access_code.LOAD_CODE)[index]
    assert assemble_host(access_code.source_of(stores=stores, index=index)) == code
    assert len(accesses.R11) + 8 + len(code) <= access_code.STEP


def test_the_engines_calls_and_tables_are_as_expected_here():
    assert known_tables.tables_are_known()


def test_all_loads_and_stores_of_a_plain_block_go_to_the_host_code(code_at, led):
    body = (
        "mov eax, [0x5000]; mov al, [0x5000]; mov ax, [0x5000]; mov [0x5000], eax; mov [0x5000], al; push eax; pop ebx"
    )
    code_at("blocks", TURNS.format(body=body))
    ours, theirs = routines(led)
    assert ours >= 7
    assert theirs == 0


@pytest.mark.parametrize("size", SIZES)
def test_loads_and_stores_of_high_memory_move_and_count_the_same_bytes(make_board, monkeypatch, size, led):
    seen = []
    for kind in ("native", "blocks"):
        board = make_board(kind)
        machine = board.machine
        machine.ram.write(HIGH_MEMORY, bytes(range(200)) * 20)
        board.map(WINDOW, HIGH_MEMORY, "rw")
        register = SIZES[size]
        loads = "; ".join(
            f"mov {register}, [{WINDOW + offset:#x}]; add ebx, eax" for offset in (0, 4, 8, 0x101, 0xFFF - size)
        )
        stores = "; ".join(f"mov [{WINDOW + offset:#x}], {register}" for offset in (0x800, 0x813))
        warm = "mov ecx, 100; warm: dec ecx; jnz warm; xor eax, eax"
        board.boot("", user=f"{warm}; mov ecx, 5; l: {loads}; {stores}; dec ecx; jnz l; out 0xe9, al")
        board.answer = lambda _report, machine=machine: machine.request_stop("host")
        machine.run(fuel=10_000)
        file_bytes = machine.ledger.counts().cpu_file_bytes
        seen.append((file_bytes, machine.clock.retired, machine.cpu.ebx, machine.ram.read(HIGH_MEMORY, 4000)))
    assert seen[0] == seen[1]
    assert sum(seen[0][0].values()) >= 5 * 7 * size
    assert routines(led)[0] >= 7


@pytest.mark.parametrize("kind", ["blocks", "native"])
def test_bytes_that_a_block_has_stored_before_a_fault_stay_counted_whatever_follows(make_board, kind):
    """An INSB that comes to the count at which the block would have ended takes back what it has stored itself."""
    counted = []
    for length in range(4, 7):
        board = make_board(kind)
        board.machine.counter.patience = 0
        board.map(WINDOW, HIGH_MEMORY, "rw")
        warm = "mov ecx, 100; warm: dec ecx; jnz warm; mov edx, 0x1000; mov edi, 0x405200; jmp body; body:"
        after = "nop; " * length
        board.boot(f"{warm} mov dword ptr [0x405100], 1; mov eax, [0x700000]; {after} jmp over; over: insb; hlt")
        board.answer = lambda report, board=board, length=length: board.frame(0, report.eip + 5 + length + 2)
        assert board.machine.run(fuel=1_000).reason == "halt"
        assert len(board.reports) == 1
        counted.append(board.machine.ledger.counts().cpu_file_bytes["kernel"])
    assert counted == [5] * 3


@pytest.mark.parametrize("kind", ["blocks", "native"])
def test_bytes_that_a_block_has_stored_before_it_changed_itself_stay_counted(make_board, kind):
    """The jump that ends the block becomes INSB, which has the count at which the block would have ended."""
    board = make_board(kind)
    board.machine.counter.patience = 0
    board.map(WINDOW, HIGH_MEMORY, "rw")
    begin = "mov ecx, 100; warm: dec ecx; jnz warm; mov edx, 0x1000; mov edi, 0x405200"
    begin += "; call here; here: pop ebx; jmp body"
    change = "mov dword ptr [0x405100], 1; mov word ptr [ebx + 21], 0x906c"  # at `patch`
    board.boot(f"{begin}; body: {change}; nop; nop; patch: jmp over; over: hlt")
    assert board.machine.run(fuel=1_000).reason == "halt"
    assert board.machine.cpu.edi == 0x405201
    assert board.machine.ledger.counts().cpu_file_bytes["kernel"] == 5


@pytest.mark.parametrize("counter", ["blocks", "native"])
def test_a_store_changes_code_that_has_been_executed(code_at, counter):
    """The same instruction stores before code was translated from the page, and afterwards."""
    machine = code_at(
        counter,
        "mov ecx, 3; l: mov byte ptr [0x5000], 0x40; mov byte ptr [0x5001], 0xc3; call 0x5000;"
        "mov byte ptr [0x5000], 0x43; call 0x5000; dec ecx; jnz l; hlt",
    )
    assert (machine.cpu.eax, machine.cpu.ebx) == (3, 3)


@pytest.mark.parametrize("counter", ["blocks", "native"])
def test_a_store_changes_code_that_continues_from_the_page_before(code_at, counter):
    # INC EAX ends the first page, INC EBX and RET begin the second one.
    machine = code_at(
        counter,
        "mov ecx, 3; l: mov byte ptr [0x5fff], 0x40; mov byte ptr [0x6000], 0x43; mov byte ptr [0x6001], 0xc3;"
        "call 0x5fff; mov byte ptr [0x6000], 0x42; call 0x5fff; dec ecx; jnz l; hlt",
    )
    assert (machine.cpu.eax, machine.cpu.ebx, machine.cpu.edx) == (6, 3, 3)


@pytest.mark.parametrize("kind", ["blocks", "native"])
def test_a_store_through_another_mapping_changes_code_of_a_page_that_was_data(make_board, kind):
    """The page was stored to in the engine's fast way, at both addresses, before code was translated from it."""
    board = make_board(kind)
    board.machine.counter.patience = 0
    board.map(WINDOW + 0x1000, USER + 0x5000, "rw")
    stores = "; ".join(f"mov byte ptr [{WINDOW + offset:#x}], 0xc3" for offset in (0, 1, 0x1000, 0x1001) * 2)
    change, go = f"mov byte ptr [{WINDOW + 0x1000:#x}], ", f"call {WINDOW:#x}"
    calls = f"{change} 0x42; {go}; {change} 0x43; {go}"
    begin = "mov ecx, 100; warm: dec ecx; jnz warm; mov ecx, 3; xor edx, edx; xor ebx, ebx"
    board.boot("", user=f"{begin}; l: {stores}; {calls}; dec ecx; jnz l; out 0xe9, al")
    board.answer = lambda _report: board.machine.request_stop("host")
    board.machine.run(fuel=1_000)
    assert (board.machine.cpu.edx, board.machine.cpu.ebx) == (3, 3)


def test_a_page_without_code_is_stored_to_in_the_engines_fast_way(code_at, led):
    """The engine's mark for stores is gone, and comes back with code."""
    machine = code_at("blocks", TURNS.format(body="mov [0x5000], eax; mov [0x6000], cl; push eax; pop eax"))
    made = led[0][0]
    assert not entry_for_stores(machine, 0x5000) & access_code.NOT_DIRTY
    assert entry_for_stores(machine, 0x1000) in {known_tables.CODE | access_code.NOT_DIRTY, (1 << 64) - 1}
    machine.ram.write(0x5000, b"\xf4")
    machine.cpu.eip = 0x5000
    machine.run(fuel=100)
    assert made.code_pages[5]
    assert entry_for_stores(machine, 0x5000) & access_code.NOT_DIRTY
    assert not entry_for_stores(machine, 0x6000) & access_code.NOT_DIRTY


@pytest.mark.parametrize("counter", ["blocks", "native"])
def test_a_page_may_be_stored_to_again_after_all_code_was_forgotten(code_at, counter):
    machine = code_at(counter, "mov byte ptr [0x5000], 0xc3; call 0x5000; hlt")
    machine.translations.flush_code()
    machine.cpu.eip = 0x1000
    machine.ram.write(0x1000, b"\xb9\x03\x00\x00\x00\xc6\x05\x00\x50\x00\x00\x40\x49\x75\xf6\xf4")  # MOV [5000h], 40h
    machine.run(fuel=1_000)
    assert machine.ram.read(0x5000, 1) == b"\x40"


def test_a_store_across_the_end_of_a_page_is_complete(code_at):
    machine = code_at("blocks", TURNS.format(body="mov eax, 0x12345678; mov [0x5ffd], eax; mov ebx, [0x5ffd]"))
    assert machine.ram.read(0x5FFD, 4) == b"\x78\x56\x34\x12"
    assert machine.cpu.ebx == 0x12345678


@pytest.mark.parametrize("missing", ["tables_are_known", "page_near"])
def test_without_the_host_code_accesses_are_the_engines(code_at, led, monkeypatch, missing):
    monkeypatch.setattr(accesses, missing, lambda *_: None)
    machine = code_at("blocks", TURNS.format(body="inc dword ptr [0x5000]; mov eax, [0x5000]"))
    assert machine.cpu.eax == 3
    assert routines(led)[0] == 0


def test_an_engine_whose_tlb_is_otherwise_is_not_known(monkeypatch):
    assert known_tables.tables_are_known()
    for name in ("_entry", "_form_is_known", "_marks_again"):
        with monkeypatch.context() as change:
            change.setattr(known_tables, name, lambda *_: [])
            assert not known_tables.tables_are_known.__wrapped__()


def test_an_engine_that_does_not_mark_pages_again_is_not_known(monkeypatch):
    for wrong in (lambda *_: None, lambda cpu, page: known_tables._mark(cpu, page - 0x1000, 0x3000)):
        with monkeypatch.context() as change:
            change.setattr(known_tables, "mark_again", wrong)
            assert not known_tables.tables_are_known.__wrapped__()
    monkeypatch.setattr(known_tables, "_mark", None)
    assert not known_tables.tables_are_known.__wrapped__()


def test_an_engine_that_does_not_export_its_routines_is_not_known(monkeypatch):
    monkeypatch.setattr(known_tables, "LOAD_NAMES", ("no_such_routine",))
    assert known_tables.originals.__wrapped__() == {}


def test_host_code_lies_within_the_reach_of_a_call():
    page = accesses.page_near(executable := counter.executable_page().count)
    assert page is not None
    assert abs(page - executable) < accesses.REACH
