"""The kernel's tables of system, server and host calls are made of the facts in the ABI (kernel/abi/calls.py)."""

import struct
from importlib.resources import files

import pytest
from callgate.asm.assembler import AsmErrors, Program, assemble_text
from callgate.kernel.abi import calls
from callgate.kernel.abi.answered import Answered
from callgate.kernel.abi.calls import HostCall, ServerAnswer, ServerCall, SystemAnswer, SystemCall
from callgate.kernel.abi.message import ReplyType
from callgate.kernel.programs.images import kernel_image
from callgate.kernel.system import System, SystemOptions

FOLDER = str(files("callgate.asm.kernel"))
NEXT = len(SystemCall)


LABELS = (
    "system_policy",
    "system_path",
    "system_write",
    "system_read_character",
    "system_take_break",
)
GATE = """
        .include "entry/macros.inc"
        .text
        .include "entry/gates.asm"
        .irp label, system_write, system_read_character, system_take_break, copy_path
\\label: nop
        .endr
        .irp label, block, yield, exit_thread, run_coroutine, kernel_words
\\label: nop
        .endr
"""


def rows(image: Program, count: int = NEXT) -> list[str]:
    """Return the routine in each row of `system_calls`."""
    address = image.address("system_calls")
    section = next(item for item in image.sections if item.address <= address < item.address + item.size)
    names = {image.address(label): label for label in LABELS}
    return [names[row] for row in struct.unpack_from(f"<{count}I", section.data, address - section.address)]


def with_another_call(answer: SystemAnswer) -> Program:
    """Return the system gate as it is assembled when SystemCall has one more member."""
    bit = 1 << NEXT
    defines = {
        "SYSTEM_CALLS": NEXT + 1,
        "SYSTEM_CALLS_OF_POLICY": calls.SYSTEM_CALLS_OF_POLICY | bit * (answer is not SystemAnswer.MACHINE_CODE),
        "SYSTEM_CALLS_WITH_PATH": calls.SYSTEM_CALLS_WITH_PATH | bit * (answer is SystemAnswer.PATH_THEN_POLICY),
    }
    return assemble_text(GATE, include_dirs=[FOLDER], defines=defines)


def test_each_system_call_enters_where_its_facts_say() -> None:
    expected = {SystemAnswer.POLICY: "system_policy", SystemAnswer.PATH_THEN_POLICY: "system_path"}
    found = rows(kernel_image())
    assert found == [expected.get(call.answer) or f"system_{call.name.lower()}" for call in sorted(SystemCall)]


def test_a_call_after_the_last_one_enters_where_its_facts_say() -> None:
    assert rows(with_another_call(SystemAnswer.PATH_THEN_POLICY), NEXT + 1)[-1] == "system_path"
    assert rows(with_another_call(SystemAnswer.POLICY), NEXT + 1)[-1] == "system_policy"


def test_a_call_that_machine_code_should_answer_but_does_not_stops_the_assembler() -> None:
    with pytest.raises(AsmErrors, match=f"system call {NEXT}, but SYSTEM_CALL names no routine"):
        with_another_call(SystemAnswer.MACHINE_CODE)


@pytest.mark.parametrize("kind", [SystemCall, ServerCall, HostCall])
def test_a_call_that_does_not_say_how_it_is_answered_is_an_error_where_it_is_declared(kind: type[Answered]) -> None:
    assert issubclass(kind, Answered)
    with pytest.raises(TypeError, match="Calls 0xc8 does not say how it is answered"):

        class Calls(Answered):
            FIRST = 0xC8


@pytest.mark.parametrize(
    ("call", "message"), [("POLICY  TICK", "it is answered at once: use HOST"), ("HOST    SYSTEM", "use POLICY")]
)
def test_a_host_call_is_made_by_the_macro_that_suits_its_answer(call: str, message: str) -> None:
    with pytest.raises(AsmErrors, match=message):
        assemble_text(f'.include "entry/macros.inc"\n.text\nrun_coroutine: {call}\nret\n', include_dirs=[FOLDER])


def test_policy_answers_the_calls_that_are_left_to_it_and_no_others() -> None:
    system = System([], SystemOptions())
    try:
        answered = set(system.kernel.system_calls.table)
        ports = set(system.machine.host_calls.functions)
    finally:
        system.close()
    assert answered == {call for call in SystemCall if call.answer is not SystemAnswer.MACHINE_CODE}
    assert ports == set(HostCall)


def test_the_replies_are_consecutive_and_have_the_numbers_of_the_reply_types() -> None:
    replies = {call.name: int(call) for call in ServerCall if call.answer is ServerAnswer.REPLY}
    assert replies == {f"REPLY_{kind.name}": int(kind) for kind in ReplyType}
    assert sorted(replies.values()) == list(range(calls.SERVER_REPLY_FIRST, calls.SERVER_REPLY_LAST + 1))
