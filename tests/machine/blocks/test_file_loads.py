"""Loads that look for file data first: what they load and count, whatever memory they come to, and what they become."""

import ctypes

import capstone
import pytest
from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine.blocks import file_loads
from callgate.kernel.machine.blocks.access_code import AccessState
from callgate.kernel.machine.blocks.file_loads import FileLoads, Habits
from callgate.kernel.machine.memory.accounts import Account
from register_device import Register

FILE, MEMORY, DEVICE = 0x405000, 0x407000, 0x409000
PAGE = bytes(range(7, 256)) * 16 + bytes(112)
WARM = "mov ecx, 100; warm: dec ecx; jnz warm"
# Bytes that each loads at ESI.
LOADS = {
    "mov eax, [esi]": 4,
    "mov ax, [esi]": 2,
    "mov al, [esi]": 1,
    "movzx ebx, byte ptr [esi]": 1,
    "movsx ebx, byte ptr [esi]": 1,
    "movzx ebx, word ptr [esi]": 2,
    "movsx ebx, word ptr [esi]": 2,
    "add ebx, [esi]": 4,
    "adc bl, [esi + 3]": 1,
    "imul ebx, [esi]": 4,
    "cmp edi, [esi]; cmovb ebx, edi": 4,
    "test byte ptr [esi + 3], 0x80; cmovs ebx, edi": 1,
    "push dword ptr [esi]; pop eax": 4,
    "mov edx, [esi + ecx * 8]; xchg ebx, edx": 4,
    "lodsd eax, dword ptr [esi]; sub esi, 4": 4,
    "mov edi, 0x406000; .byte 0xa5; sub esi, 4; mov eax, [0x406000]": 4,
    "mov edi, [esi]; mov ebp, [esi + 4]; mov eax, [esi + 8]; mov edx, [esi + 12]": 16,
    "movups xmm0, [esi]; movd eax, xmm0": 16,
}
# Its block calls another routine of the engine, so that there is no room.
NOT_REPLACED = {"movq mm0, [esi]; movd eax, mm0": 8}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Replace each load that comes to file data once; one that comes to other memory twice becomes what it was."""
    monkeypatch.setattr(FileLoads, "habits", Habits(often=0, patience=1))


@pytest.fixture
def run(make_board):
    """Run a program of ring 3 under a clock up to a stop or to UD2; return the board."""

    def runs(kind, user, device=None, at_break=lambda _board: None):
        board = make_board(kind)
        machine = board.machine
        machine.counter.patience = 0
        if device is not None:
            machine.attach(device)
        machine.ram.write(HIGH_MEMORY, PAGE, Account.MACHINE)
        machine.ram.write(0x30_7000, PAGE[::-1])
        board.map(FILE, HIGH_MEMORY, "rw")
        board.map(DEVICE, 0xFEB0_0000, "rw")
        board.map(0x408000, HIGH_MEMORY + 0x1000, "r")
        board.gate(3, dpl=3)
        board.answer = lambda report: at_break(board) if report.vector == 3 else machine.request_stop("host")
        board.boot("", user=f"{WARM}; {user}")
        assert machine.run(fuel=200_000).reason == "host"
        return board

    return runs


def seen(board):
    """Return what a program has done: registers, instructions, and file data that were counted."""
    cpu, machine = board.machine.cpu, board.machine
    registers = [getattr(cpu, name) for name in ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "eflags")]
    return registers, machine.clock.retired, machine.ledger.counts().cpu_file_bytes, [r.vector for r in board.reports]


def changed(board):
    """Return the loads that look for file data now."""
    return board.machine.counter.accesses.file_loads.changed


def made_look(register, load, spoilt=None):
    """Return a look as the engine makes it, in memory of a test: the memory, and the address where its load ends."""
    size = 1 if 0x0F in load else 8 if load[0] in {0x48, 0x4C} else 4
    memory = bytearray(512)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 64
    move = bytes((0x48 | register >> 3, 0x8B, 0xF0 | register & 7))
    code = file_loads.first_of(register, size) + bytes.fromhex("4881e600f0ffff 483b37") + move
    after = len(code) + 6 + 4 + len(load)
    code += b"\x0f\x85" + (after + 18 - len(code) - 6).to_bytes(4, "little") + b"\x48\x03\x77\x20" + load
    code += bytes.fromhex("660f1f840000000000 660f1f840000000000")
    code += bytes.fromhex("488bfd 33d2 488d0d00000000 e800000000 8bd8 e9")
    code += (after - len(code) - 4).to_bytes(4, "little", signed=True)
    if spoilt is not None:
        code = code[:spoilt] + bytes((code[spoilt] ^ 0xFF,)) + code[spoilt + 1 :]
    memory[64 : 64 + len(code)] = code
    return memory, begin + after


def host_code(code, address):
    """Return instructions of host code."""
    return list(capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm(code, address))


@pytest.mark.parametrize("load", [*LOADS, *NOT_REPLACED])
@pytest.mark.parametrize("offset", [0, 1, 0xF30])
def test_a_load_that_looks_for_file_data_first_loads_and_counts_what_others_do(run, load, offset):
    user = f"mov esi, {FILE + offset:#x}; xor eax, eax; mov ecx, 20; l: {load}; add ebx, eax; dec ecx; jnz l; ud2"
    board, other = (run(kind, user) for kind in ("blocks", "native"))
    assert seen(board) == seen(other)
    assert seen(board)[2]["client"] >= 20 * (LOADS | NOT_REPLACED)[load]
    if not offset % 2:
        assert bool(changed(board)) == (load in LOADS)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_load_that_is_not_aligned_counts_as_much_wherever_it_is_made(run, size):
    register = {1: "bl", 2: "bx", 4: "ebx"}[size]
    user = f"mov esi, {FILE}; mov ecx, 200; l: add {register}, [esi]; add esi, 17; dec ecx; jnz l; ud2"
    board, other = (run(kind, user) for kind in ("blocks", "native"))
    assert seen(board) == seen(other)
    assert len(changed(board)) == 1


def test_loads_by_turns_from_a_file_and_from_memory_count_those_from_the_file(run):
    user = f"""
        mov ecx, 6
    l:  mov esi, {FILE}; mov edx, 9; call sum; mov esi, {MEMORY}; mov edx, 7; call sum; dec ecx; jnz l; ud2
    sum: add ebx, [esi]; add esi, 4; dec edx; jnz sum; ret
    """
    board, other = (run(kind, user) for kind in ("blocks", "native"))
    assert seen(board) == seen(other)
    assert seen(board)[2]["client"] == 6 * 9 * 4
    assert max(board.machine.counter.accesses.file_loads.patience.values()) >= 8, "twice as many each time"


@pytest.mark.parametrize("then", [MEMORY, DEVICE, FILE + 2, FILE + 0xFFE, FILE + 0x1FFE, 0x408000])
def test_a_load_that_looks_for_file_data_first_finds_what_else_there_is(run, then):
    user = f"""
        mov ecx, 3; mov dword ptr [0x406ffc], 0x12345678
    l:  mov esi, {FILE}; mov edx, 9; call sum; mov esi, {then}; mov edx, 1; call sum; dec ecx; jnz l; ud2
    sum: add ebx, [esi]; dec edx; jnz sum; ret
    """
    devices = Register(), Register()
    board, other = (run(kind, user, device) for kind, device in zip(("blocks", "native"), devices, strict=True))
    assert seen(board) == seen(other)
    assert devices[0].loads == devices[1].loads
    assert len(devices[0].loads) == 3 * (then == DEVICE)
    assert seen(board)[2]["client"] > 9 * 4


def test_a_load_finds_memory_where_the_page_of_a_file_was_and_the_file_again(run):
    user = f"mov ecx, 4; l: mov edx, 9; k: add ebx, [{FILE}]; dec edx; jnz k; int3; dec ecx; jnz l; ud2"

    def turn(board):
        board.map(FILE, 0x30_7000 if len(board.reports) % 2 else HIGH_MEMORY, "rw")

    board, other = (run(kind, user, at_break=turn) for kind in ("blocks", "native"))
    assert seen(board) == seen(other)
    assert seen(board)[2]["client"] == 2 * 9 * 4


def test_bytes_are_counted_for_the_kind_of_thread_that_loads_them(run):
    user = f"mov ecx, 4; l: mov edx, 9; k: add ebx, [{FILE}]; dec edx; jnz k; int3; dec ecx; jnz l; ud2"

    def turn(board):
        board.machine.ledger.user_kind = "server" if len(board.reports) % 4 else "client"

    board = run("blocks", user, at_break=turn)
    assert seen(board)[2] == {"kernel": 0, "server": 3 * 9 * 4, "client": 9 * 4}
    assert changed(board)
    board.machine.close()
    board.machine.ledger.user_kind = "server"
    assert board.machine.ledger.counts().cpu_file_bytes["server"] == 3 * 9 * 4, "it outlives the host code"


def test_bytes_are_counted_for_the_thread_whose_turn_has_begun(make_board, assemble):
    """Host code changes the kind at the instruction that changes the running thread (`machine.observation.turns`)."""
    words, client, server = 0x30_3000, 0x208, 0x210
    before = f"{WARM}; mov esi, 6; again: mov ecx, 9; k: add ebx, [{FILE}]; dec ecx; jnz k; mov eax, [0x403004]"
    turn = "mov [0x403000], eax; xchg eax, [0x403008]; mov [0x403004], eax; dec esi; jnz again; ud2"
    counted = []
    for kind in ("blocks", "native"):
        board = make_board(kind)
        machine = board.machine
        machine.counter.patience = 0
        board.map(FILE, HIGH_MEMORY, "rw")
        for selector in (client, server):
            machine.ledger.turns.begin(selector)
        machine.ledger.turns.account(server, 1)
        machine.ram.write(words, b"".join(word.to_bytes(4, "little") for word in (client, server, client)))
        board.answer = lambda _report, machine=machine: machine.request_stop("host")
        board.boot("", user=f"{before}; {turn}")
        machine.watch_turns(0x400000 + len(assemble(before)), words)
        assert machine.run(fuel=10_000).reason == "host"
        counted.append(seen(board))
    assert counted[0] == counted[1]
    assert counted[0][2] == {"kernel": 0, "server": 3 * 9 * 4, "client": 3 * 9 * 4}


def test_bytes_are_counted_for_the_kind_of_the_snapshot_that_was_restored(run):
    user = f"mov ecx, 4; l: mov edx, 9; k: add ebx, [{FILE}]; dec edx; jnz k; int3; dec ecx; jnz l; ud2"
    kept = []

    def keep(board):
        board.machine.ledger.user_kind = "server" if len(board.reports) > 1 else "client"
        board.machine.request_stop("host")

    board = run("blocks", user, at_break=keep)
    machine = board.machine
    kept = machine.snapshot()
    machine.run(fuel=1_000)
    assert seen(board)[2] == {"kernel": 0, "server": 0, "client": 2 * 9 * 4}
    machine.restore(kept)
    machine.run(fuel=1_000)
    assert seen(board)[2] == {"kernel": 0, "server": 0, "client": 2 * 9 * 4}


def test_loads_of_the_kernel_are_not_replaced(run, make_board):
    board = make_board("blocks")
    board.machine.counter.patience = 0
    board.map(FILE, HIGH_MEMORY, "rw")
    board.boot(f"{WARM}; mov ecx, 50; l: add ebx, [{FILE}]; dec ecx; jnz l; hlt")
    assert board.machine.run(fuel=1_000).reason == "halt"
    assert seen(board)[2] == {"kernel": 200, "server": 0, "client": 0}
    assert not changed(board)


def test_the_oldest_load_becomes_what_it_was_where_there_are_more_than_stubs(run, monkeypatch):
    monkeypatch.setattr(file_loads, "STUBS", 3)
    loads = "; ".join(f"add ebx, [esi + {4 * index}]" for index in range(8))
    user = f"mov esi, {FILE}; mov ecx, 50; l: {loads}; dec ecx; jnz l; ud2"
    board, other = (run(kind, user) for kind in ("blocks", "native"))
    assert seen(board) == seen(other)
    assert len(changed(board)) == 3
    assert board.machine.counter.accesses.file_loads.free == []


def test_all_loads_may_be_replaced_again_after_all_code_was_forgotten(run):
    user = f"mov ecx, 4; l: mov edx, 9; k: add ebx, [{FILE}]; dec edx; jnz k; int3; dec ecx; jnz l; ud2"
    numbers = []

    def flush(board):
        numbers.append(len(changed(board)))
        board.machine.translations.flush_code_soon()

    board = run("blocks", user, at_break=flush)
    assert numbers == [1, 2, 2, 2], "the first load of all finds no entry of the TLB"
    assert seen(board)[2]["client"] == 4 * 9 * 4


def test_a_load_is_replaced_by_the_code_that_the_documentation_shows(run):
    board = run("blocks", f"mov esi, {FILE}; mov ecx, 9; l: add ebx, [esi]; dec ecx; jnz l; ud2")
    [(look, code, number)] = changed(board).values()
    stub = board.machine.counter.accesses.file_loads.stubs + number * file_loads.STUB
    text = [f"{line.mnemonic} {line.op_str}".strip() for line in host_code(code, look.begin)]
    address = text[0].removeprefix("mov rsi, ")
    load = text[8].partition(", ")[0]
    assert text[1:9] == [
        "and rsi, 0xfffffffffffff003",
        "or rsi, 0x220",
        "cmp rsi, qword ptr [rdi]",
        f"jne {stub:#x}",
        text[5],
        f"add qword ptr [{text[5][4:7]}], 4",
        "mov rsi, qword ptr [rdi + 0x20]",
        f"{load}, dword ptr [rsi + {address}]",
    ]
    assert all(line.startswith("nop") for line in text[9:])
    assert text[5][4:7] in {"rax", "rcx"} - {address}
    stubbed = host_code(ctypes.string_at(stub, file_loads.STUB), stub)
    jumps = [(line.mnemonic, int(line.op_str, 16)) for line in stubbed if line.mnemonic in {"jne", "js", "jmp"}]
    assert [jump for jump in jumps if jump[0] != "js"] == [("jne", look.slow), ("jmp", look.end), ("jmp", look.slow)]


def test_a_load_of_another_form_is_left_as_it_is_and_asked_for_ever_less_often(run, monkeypatch):
    asked = []
    monkeypatch.setattr(file_loads, "look_before", asked.append)
    board = run("blocks", f"mov esi, {FILE}; mov ecx, 200; l: add ebx, [esi]; dec ecx; jnz l; ud2")
    assert not changed(board)
    assert seen(board)[2]["client"] == 800
    assert len(asked) == 7, "after 1, 2, 4, ... 64 further loads"


@pytest.mark.parametrize("register", [0, 1, 2, 3, 5, 8, 12, 13, 15])
@pytest.mark.parametrize("load", ["8b1e", "448b0e", "0fb606", "4c0fbe3e", "488b06", "4c8b2e"])
def test_a_look_through_any_register_is_known_and_replaced(register, load):
    """Whichever registers the engine chooses; Capstone says what they are."""
    kept, load_end = made_look(register, bytes.fromhex(load))
    look = file_loads.look_before(load_end)
    assert look is not None
    assert look.register == register
    code = file_loads.look_for_file(look, look.begin + 0x1000, look.begin + 0x2000)
    assert len(code) == len(look.code)
    lines, before = host_code(code, look.begin), host_code(look.code, look.begin)
    loads = next(line for line in lines if "[rsi +" in line.op_str)
    name = lines[0].op_str.removeprefix("rsi, ")
    assert loads.mnemonic == before[6].mnemonic
    assert loads.op_str == before[6].op_str.replace("[rsi]", f"[rsi + {name}]")
    assert name in before[3].op_str
    assert not any(name in line.op_str for line in lines if line.mnemonic == "add"), "the address is still there"
    del kept


def test_a_load_stays_as_it_is_where_no_stub_is_within_reach_of_a_jump():
    kept, load_end = made_look(3, b"\x8b\x1e")
    before = bytes(kept)
    FileLoads(AccessState(), load_end + (1 << 31), pytest.fail)._asked(load_end)
    assert bytes(kept) == before


def test_host_code_of_another_form_is_no_look():
    kept, load_end = made_look(3, b"\x8b\x1e")
    look = file_loads.look_before(load_end)
    length = len(bytes(kept).rstrip(b"\0")) - 64
    assert look.end + 3 + 2 + 7 + 5 + 2 + 5 == look.begin + length, "all of the slow way is there"
    operands = {13 + 14, *range(look.slow - look.begin + 8, look.slow - look.begin + 17)}
    for at in set(range(length)) - operands:
        kept, load_end = made_look(3, b"\x8b\x1e", spoilt=at)
        assert file_loads.look_before(load_end) is None, at
