"""Memory above 4 GiB: what the CPU does there works as anywhere and is counted; Python books what it touches."""

import struct
from pathlib import Path

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.lent_views import StaleView
from callgate.kernel.machine.memory.ram import UnbookedAccess

ROOT = Path(__file__).parents[2]
HIGH = 1 << 32
KERNEL = 0xC000_0000
PAGE = 0x405000  # linear
COUNTERS = ("native", "python")

# What ring 3 does at PAGE, which holds the bytes 0, 1, 2 …; what becomes of the page; bytes that cross the bus.
ACCESSES = {
    "a dword": ("mov eax, [0x405004]; mov [0x405100], eax", {0x100: b"\4\5\6\7"}, 8),
    "a word": ("mov ax, [0x405004]; mov [0x405100], ax", {0x100: b"\4\5"}, 4),
    "a byte": ("mov al, [0x405004]; mov [0x405100], al", {0x100: b"\4"}, 2),
    "a load that is not aligned counts as two": ("mov eax, [0x405005]", {}, 8),
    "a store that is not aligned": ("mov dword ptr [0x405105], 0x44332211", {0x105: b"\x11\x22\x33\x44"}, 4),
    "a string": ("mov esi, 0x405010; mov edi, 0x405100; mov ecx, 9; rep movsb", {0x100: bytes(range(16, 25))}, 18),
    "a locked exchange": ("mov eax, 0x55; lock xadd [0x405004], eax", {4: b"\x59\5\6\7"}, 8),
    "eight bytes compared and exchanged": (
        "mov eax, 0x03020100; mov edx, 0x07060504; mov ebx, 0xAAAAAAAA; mov ecx, 0xBBBBBBBB; lock cmpxchg8b [0x405000]",
        {0: b"\xaa" * 4 + b"\xbb" * 4},
        16,
    ),
    "the x87": ("fninit; fild qword ptr [0x405008]; fistp qword ptr [0x405100]", {0x100: bytes(range(8, 16))}, 16),
    "the end of the page": ("mov eax, [0x405ffc]; mov [0x405100], eax", {0x100: b"\xfc\xfd\xfe\xff"}, 8),
}


def machine_at_page(kind, make_board):
    machine = Machine(memory=8 << 20, high_memory=4 << 20, counter=kind)
    board = type(make_board("native"))(machine)
    board.map(PAGE, HIGH + 0x3000, "rw")
    machine.ram.write(HIGH + 0x3000, bytes(range(256)) * 16, Account.MACHINE)
    board.answer = lambda _: machine.request_stop("host")
    return machine, board


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("name", ACCESSES)
def test_the_cpu_loads_and_stores_high_memory_and_each_byte_is_counted(kind, name, make_board):
    source, changes, touched = ACCESSES[name]
    machine, board = machine_at_page(kind, make_board)
    machine.ledger.user_kind = "server"
    board.boot("", user=f"{source}; ud2")
    snapshot = machine.snapshot()
    machine.run(fuel=1000)
    before = bytes(range(256)) * 16
    expected = bytearray(before)
    for at, data in changes.items():
        expected[at : at + len(data)] = data
    assert machine.ram.read(HIGH + 0x3000, 4096, Account.MACHINE) == expected
    assert machine.ledger.counts().cpu_file_bytes == {"kernel": 0, "server": touched, "client": 0}
    machine.restore(snapshot)  # drops the pages that stores have marked
    assert machine.ram.read(HIGH + 0x3000, 4096, Account.MACHINE) == before
    machine.close()


@pytest.mark.parametrize("kind", COUNTERS)
def test_bytes_that_ring_0_touches_are_booked_to_the_kernel(kind, make_board):
    machine, board = machine_at_page(kind, make_board)
    board.boot("mov eax, [0x405000]; mov [0x405004], al; hlt")
    machine.run(fuel=1000)
    assert machine.ledger.counts().cpu_file_bytes == {"kernel": 5, "server": 0, "client": 0}
    machine.close()


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("to", [0x405100, 0x405102, 0x405FFE])
def test_bytes_of_input_instructions_are_counted_once(to, kind, make_board):
    """The engine stores zeros before it asks the port, here an unclaimed one; IN stores nothing."""
    machine, board = machine_at_page(kind, make_board)
    board.map(PAGE + 0x1000, HIGH + 0x4000, "rw")
    board.boot(f"mov edi, {to:#x}; mov edx, 0x1000; in al, dx; mov ecx, 3; rep insd; stosb; in al, dx; hlt")
    machine.run(fuel=1000)
    stored = machine.ram.read(HIGH + 0x3000, 8192, Account.MACHINE)[to - PAGE :]
    assert stored[:13] == b"\xff" * 13 != stored[:14]
    assert machine.ledger.counts().cpu_file_bytes == {"kernel": 13, "server": 0, "client": 0}
    machine.close()


@pytest.mark.parametrize("kind", COUNTERS)
def test_bytes_stored_by_an_instruction_that_faulted_stay_counted_when_its_handler_inputs(kind, make_board, assemble):
    """PUSHAD stores at the end of the page, and faults after it; the handler's INSB has the same count."""
    machine, board = machine_at_page(kind, make_board)
    handler = 0x11_0000
    machine.ram.write(handler, assemble("insb; hlt"))
    board.gate(14, offset=KERNEL + handler)
    board.map(PAGE + 0x1000, 0, "none")
    board.boot("", user="mov edx, 0x1000; mov edi, 0x405100; mov esp, 0x406010; pushad")
    assert machine.run(fuel=1000).reason == "halt"
    assert machine.ledger.counts().cpu_file_bytes == {"kernel": 1, "server": 0, "client": 16}
    machine.close()


UNBOOKED = {
    "a view": lambda ram: ram.view(HIGH + 0x1000, 16),
    "a read": lambda ram: ram.read(HIGH, 1),
    "a write": lambda ram: ram.write(HIGH, b"x"),
    "a dword": lambda ram: ram.u32(HIGH),
    "a stored quad": lambda ram: ram.put_u64(HIGH, 1),
    "a read as if by the CPU": lambda ram: ram.read(HIGH, 1, Account.MACHINE),
    "a write as if by a disk": lambda ram: ram.write(HIGH, b"x", Account.DEVICE),
}


@pytest.mark.parametrize("name", UNBOOKED)
def test_policy_that_touches_high_memory_without_an_account_is_refused(name, bare):
    machine = bare("out 0x90, eax; hlt")
    machine.host_calls.register(0x90, lambda _value: UNBOOKED[name](machine.ram), "policy")
    with pytest.raises(UnbookedAccess, match="are disk blocks: say on whose account"):
        machine.run()
    UNBOOKED[name](machine.ram)  # code outside host calls may


def test_an_observer_may_look_at_any_time_and_is_booked_nowhere_and_no_policy_is_one(bare):
    machine = bare("out 0x90, eax; hlt")
    seen, before = [], machine.ledger.counts()
    machine.host_calls.register(0x90, lambda _value: seen.append(machine.ram.read(HIGH, 2, Account.OBSERVER)), "policy")
    machine.run()
    assert seen == [bytes(2)]
    counted = machine.ledger.counts() - before
    assert not any(
        getattr(counted, name) for name in ("cpu_file_bytes", "metadata_bytes", "program_bytes", "server_bytes")
    )
    known = ["kernel/machine/memory/accounts.py", "kernel/machine/memory/ram.py"]
    sources = [path for folder in ("kernel", "server", "disk") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert [path.relative_to(ROOT).as_posix() for path in sources if "OBSERVER" in path.read_text("utf-8")] == known


def test_policy_may_touch_low_memory_without_an_account(bare):
    machine = bare("out 0x90, eax; hlt")
    seen = []
    machine.host_calls.register(0x90, lambda _value: seen.append(machine.ram.read(0x1000, 1)), "policy")
    machine.run()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("account", "key", "kind"),
    [
        (Account.KERNEL, "cpu_file_bytes", "kernel"),
        (Account.SERVER, "cpu_file_bytes", "server"),
        (Account.METADATA, "metadata_bytes", None),
        (Account.PROGRAM, "program_bytes", None),
        (Account.SERVER_MEMORY, "server_bytes", None),
    ],
)
def test_bytes_that_python_touches_are_in_the_ledger_under_their_account(account, key, kind):
    with Machine(memory=8 << 20, high_memory=4 << 20) as machine:
        before = machine.ledger.counts()
        machine.ram.read(HIGH, 100, account)
        machine.ram.write(HIGH + 8, struct.pack("<I", 7), account)
        spent = (machine.ledger.counts() - before).as_dict()
        value = spent[key][kind] if kind else spent[key]
        assert value == 104
        assert kind or getattr(machine.ledger, key) == 104, "by itself as well"
        others = {name: spent[name] for name in ("metadata_bytes", "program_bytes", "server_bytes") if name != key}
        assert not any(others.values())


def test_reads_by_the_machine_itself_are_not_booked():
    with Machine(memory=8 << 20, high_memory=4 << 20) as machine:
        before = machine.ledger.counts().as_dict()
        machine.ram.read(HIGH, 100, Account.MACHINE)
        machine.ram.read(HIGH, 100, Account.DEVICE)
        assert machine.ledger.counts().as_dict() == before


def test_a_snapshot_keeps_the_bytes_that_python_has_booked():
    with Machine(memory=8 << 20, high_memory=4 << 20) as machine:
        machine.ram.read(HIGH, 100, Account.METADATA)
        kept = machine.snapshot()
        machine.ram.read(HIGH, 100, Account.METADATA)
        machine.restore(kept)
        assert machine.ledger.counts().metadata_bytes == 100


def test_a_view_of_high_memory_that_is_held_beyond_a_snapshot_is_refused_as_one_is_taken_or_restored(make_board):
    machine = make_board("native").machine
    first = machine.snapshot()
    for again in (machine.snapshot, lambda: machine.restore(first)):
        view = machine.ram.view(HIGH + 0x3000, 8, Account.MACHINE)
        part = view[2:4]
        del view
        for _ in range(2):
            with pytest.raises(StaleView, match="taken before this snapshot is still held"):
                again()
        part[:] = b"xy"
        part.release()
        again()
        machine.ram.write(HIGH, b"after", Account.MACHINE)
        machine.restore(first)
        assert machine.ram.read(HIGH, 5, Account.MACHINE) == bytes(5)
        assert machine.ram.read(HIGH + 0x3000, 8, Account.MACHINE) == bytes(8)
    low = machine.ram.view(0x3000, 8)
    machine.snapshot()
    assert bytes(low) == bytes(8)
