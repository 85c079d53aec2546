"""The bare CPU from Python: kernel routines, rings, faults, events, and its reset for the next test."""

import pytest
from callgate.asm.assembler import AsmErrors
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import Endpoint
from callgate.kernel.abi.selectors import SLOTS
from callgate.tools.asmtest.board.result import RoutineError
from callgate.tools.asmtest.board.structures import StructureError

ENDPOINT, THREAD = 0x10000, 0x12000
IPC = """
        .include "macros.inc"
        .include "slots.asm"
        .include "ring.asm"
block:  ret
"""


@pytest.fixture
def ipc(bare_cpu):
    bare_cpu.load(IPC)
    bare_cpu.segment("gs", ENDPOINT)
    bare_cpu.segment("fs", THREAD)
    return bare_cpu


def test_the_request_ring_keeps_order_over_several_laps(ipc):
    ipc.place(Endpoint, ENDPOINT, **{f"ring[{index}]": 0xE0 for index in range(SLOTS)})
    slots = [(index * 7) % SLOTS for index in range(3 * SLOTS)]
    for start in range(0, len(slots), 5):
        batch = slots[start : start + 5]
        for slot in batch:
            ipc.call("post_slot", ecx=slot)
        assert [ipc.call("fetch_slot").ecx for _ in batch] == batch
        assert ipc.call("fetch_slot").CF


def test_all_slots_can_be_taken_and_each_once(ipc):
    ipc.place(Endpoint, ENDPOINT, free=0xFFFF_FFFF)
    taken = [ipc.call("take_slot").ecx for _ in range(SLOTS)]
    assert sorted(taken) == list(range(SLOTS))
    for slot in taken:
        ipc.call("release_slot", ecx=slot)
    assert ipc.field(Endpoint, ENDPOINT, "free") == 0xFFFF_FFFF


def test_a_host_call_is_answered_by_a_function(ipc):
    asked = []

    def no_memory(slot):
        asked.append(slot)
        ipc.place("ThreadControlBlock", THREAD, slot_error=ErrorCode.NO_MEMORY)

    ipc.place(Endpoint, ENDPOINT, unused=0x10)
    ipc.on_host_call(HostCall.FIRST_USE, no_memory)
    result = ipc.call("take_slot")
    assert (result.CF, result.eax, asked) == (1, ErrorCode.NO_MEMORY, [4])
    assert result.ledger.host_calls == {"first_use": 1}


def test_a_host_call_without_an_answer_says_how_to_give_one(ipc):
    ipc.place(Endpoint, ENDPOINT, unused=0x10)
    with pytest.raises(RoutineError, match=r"FIRST_USE at .*on_host_call\(HostCall.FIRST_USE"):
        ipc.call("take_slot")


@pytest.mark.parametrize(
    ("ring", "code", "expected"),
    [
        (0, "mov eax, [0x30]", "#PF 0x0 at 0x30"),
        (3, "mov [0x40000000], eax", "#PF 0x6 at 0x40000000"),
        (3, "cli", "#GP 0x0"),
        (3, "out 0xc0, eax", "#GP 0x0"),
        (0, "div ecx", "#DE 0x0"),
        (0, "ud2", "#UD 0x0"),
        (3, "mov cr3, eax", "#GP 0x0"),
    ],
)
def test_a_fault_ends_the_call_and_is_the_result(bare_cpu, ring, code, expected):
    bare_cpu.load(f"f: nop\nhere: {code}\n ret\n")
    bare_cpu.enter_ring(ring)
    result = bare_cpu.call("f", faults=True)
    assert str(result.fault) == expected
    assert result.fault.eip == bare_cpu.address("here")
    assert result.instructions == 1


def test_an_unexpected_fault_raises_an_error(bare_cpu):
    bare_cpu.load("f: mov [0], eax\n ret\n")
    with pytest.raises(RoutineError, match=r"f faulted: #PF 0x2 at 0x0 at f .*mov \[0\], eax"):
        bare_cpu.call("f")


def test_a_protected_page_faults_only_on_a_write(bare_cpu):
    bare_cpu.load("f: mov eax, [ebx]\n mov [ebx], eax\n ret\n")
    bare_cpu.protect(0x20000, 4096, "r")
    fault = bare_cpu.call("f", faults=True, ebx=0x20010).fault
    assert (fault.name, fault.error_code, fault.address) == ("#PF", 3, 0x20010)


def test_a_segment_moves_addresses_by_its_base(bare_cpu):
    bare_cpu.load("f: mov eax, gs:[4]\n ret\n")
    bare_cpu.write(0x20004, b"\x2a\0\0\0")
    bare_cpu.segment("gs", 0x20000)
    assert bare_cpu.call("f").eax == 42


def test_events_and_ledger_marks_are_counted(bare_cpu):
    bare_cpu.load("f: .event begin x=ecx\n nop\n .ledger requests\n nop\n .event end\n ret\n")
    result = bare_cpu.call("f", ecx=3)
    assert [(event.kind, event.fields) for event in result.events] == [("begin", {"x": 3}), ("end", {})]
    assert result.ledger.requests == 1


def test_no_state_of_the_previous_test_is_left_on_the_bare_cpu(bare_cpu):
    bare_cpu.load("f: mov dword ptr [0x20000], 5\n mov byte ptr [g], 0x90\n ret\n .space 64, 0x90\ng: inc eax\n ret\n")
    bare_cpu.segment("gs", 0x30000)
    bare_cpu.enter_ring(3)
    bare_cpu.call("f")
    assert bare_cpu.call("g").eax == 0
    assert bare_cpu.read(0x20000, 1) == b"\5"
    bare_cpu.reset()
    bare_cpu.load("f: mov dword ptr [0x20000], 5\n mov byte ptr [g], 0x90\n ret\n .space 64, 0x90\ng: inc eax\n ret\n")
    assert bare_cpu.read(0x20000, 4) == bytes(4)
    assert bare_cpu.machine.cpu.cpl == 0
    assert bare_cpu.machine.cpu.segment_base("gs") == 0
    assert bare_cpu.call("g").eax == 1


def test_arguments_on_the_stack_lie_above_the_return_address(bare_cpu):
    bare_cpu.load("f: mov eax, [esp + 4]\n sub eax, [esp + 8]\n ret\n")
    assert bare_cpu.call("f", stack=[50, 8]).eax == 42


def test_the_last_instructions_of_a_result_are_those_that_ran(bare_cpu):
    bare_cpu.load("f: mov ecx, 100\n.l: dec ecx\n jnz .l\n ret\n")
    result = bare_cpu.call("f")
    assert result.instructions == 202
    names = [bare_cpu.program.symbol_at(address) for address in bare_cpu.retrace(4)]
    assert names == ["f+0x6", "f+0x5", "f+0x6", "f+0x8"]
    assert bare_cpu.program.line_at(bare_cpu.retrace(4)[-1]).text.strip() == "ret"


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (lambda cpu: cpu.call("g"), KeyError, "no label 'g'"),
        (lambda cpu: cpu.call("f", eaxx=1), ValueError, "eaxx is neither a register"),
        (lambda cpu: cpu.place(Endpoint, 0x20000, fre=1), StructureError, "no field fre; there is free"),
        (lambda cpu: cpu.place("Endpiont", 0x20000), StructureError, "did you mean Endpoint?"),
        (lambda cpu: cpu.place(Endpoint, 0x20000, slots=1), StructureError, "not a number"),
        (lambda cpu: cpu.load("f: movv eax, 1\n"), AsmErrors, "no instruction movv"),
        (lambda cpu: cpu.enter_ring(1), ValueError, "ring 0 or 3"),
    ],
)
def test_a_mistake_in_a_test_of_the_bare_cpu_is_named(bare_cpu, action, error, message):
    bare_cpu.load("f: ret\n")
    with pytest.raises(error) as caught:
        action(bare_cpu)
    assert message in str(caught.value)


def test_loading_a_program_after_memory_was_set_up_is_refused(bare_cpu):
    bare_cpu.load("f: ret\n")
    bare_cpu.write(0x20000, b"x")
    with pytest.raises(ValueError, match="load the routine first"):
        bare_cpu.load("g: ret\n")
