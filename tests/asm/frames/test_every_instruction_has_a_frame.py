"""The frames that the analysis finds: everywhere in what comes with callgate, and in small routines."""

import pytest
from callgate.asm.assembler import assemble_text
from callgate.asm.assembler.output.debug.frame_state import State
from callgate.asm.assembler.output.debug.frames import stack_states
from callgate.asm.user import PROGRAMS
from callgate.kernel.programs.images import kernel_image, program_image

#: Where the kernel's backtraces end on purpose: `.frame none`, and the first instructions.
ENDS = {
    *(
        "start",
        "start_paged",
        "policy_thread",
        "exit_thread",
        "watch_thread",
        "release_thread",
        "ageing_thread",
        "idle",
    ),
    "switch_first",
}


LARGEST = pytest.param("shell", marks=pytest.mark.thorough(only=True))  # 3 s


@pytest.mark.parametrize("name", ["kernel", *[LARGEST if name == "shell" else name for name in PROGRAMS]])
def test_every_instruction_of_kernel_and_programs_has_a_frame(name: str) -> None:
    program = kernel_image() if name == "kernel" else program_image(name)
    unknown = {program.symbol_at(place) for place, state in stack_states(program).items() if state.kind == "unknown"}
    assert unknown == set()


def test_the_kernels_backtraces_end_only_where_the_sources_say_so() -> None:
    program = kernel_image()
    ends = {
        program.symbol_at(a).partition("+")[0] for a, state in stack_states(program).items() if state.kind == "none"
    }
    assert ends == ENDS


def states(source: str) -> dict[str, State]:
    """Return the frames of a source by the text of the instructions; of the last one, if a text comes again."""
    program = assemble_text(f"start: call routine\nhlt\n{source}", name="unit.asm")
    found = stack_states(program)
    return {line.text.strip(): found[line.address] for line in program.lines}


def test_ways_that_disagree_about_the_stack_leave_no_frame() -> None:
    found = states("routine: test eax, eax\njz .out\npush eax\n.out:\nnop\nret\n")
    assert (found["push eax"].kind, found["push eax"].depth) == ("call", 4)
    assert found["nop"].kind == found["ret"].kind == "unknown"


def test_a_saved_register_is_known_until_it_is_changed_and_after_it_is_restored() -> None:
    found = states("routine: push ebx\nmov ebx, 1\nxor esi, esi\npop ebx\nret\n")
    slots = {name: dict(zip(("ebx", "esi"), (found[name].kept[3], found[name].kept[5]), strict=True)) for name in found}
    assert slots["mov ebx, 1"]["ebx"] == (True, -8)
    assert slots["xor esi, esi"]["ebx"] == (False, -8)
    assert slots["ret"] == {"ebx": (True, None), "esi": (False, None)}


def test_a_call_loses_what_the_routine_it_calls_changes_and_no_more() -> None:
    found = states(
        "routine: call other\nret\nother: push ebx\ncall third\nmov ecx, 1\npop ebx\nret\nthird: mov ebx, 2\nret\n"
    )
    last = found["ret"]
    assert last.clobbered() == {"ebx"}  # of `third`
    found = states("routine: call other\nnop\nret\nother: push ebx\nmov ebx, 1\nmov ecx, 1\npop ebx\nret\n")
    assert found["nop"].clobbered() == {"ecx"}


def test_a_stack_that_is_aligned_is_found_by_the_frame_pointer() -> None:
    found = states("routine: push ebp\nmov ebp, esp\nand esp, -16\nsub esp, 64\nnop\nleave\nret\n")
    assert (found["nop"].by_alias, found["nop"].alias) == (True, 8)
    assert (found["ret"].by_alias, found["ret"].depth) == (False, 4)


def test_a_jump_by_a_table_leads_to_the_labels_of_its_routine() -> None:
    code = "routine: push eax\njmp dword ptr [table + ecx * 4]\n.one:\nnop\n.two:\npop eax\nret\n"
    assert states(f"{code}.data\ntable: .long routine.one\n")["nop"].depth == 8


def test_the_filling_of_an_alignment_does_not_end_a_routine() -> None:
    assert states("routine: push eax\n.align 32\nnop\npop eax\nret\n")["nop"].depth == 8
