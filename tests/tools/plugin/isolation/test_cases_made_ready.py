"""Cases of registers alone take a shorter way: it ends where the ordinary one does, or gives up."""

from contextlib import suppress

import pytest
from callgate.asm.assembler import AsmError
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.board import board
from callgate.tools.asmtest.board.programs import Programs
from callgate.tools.asmtest.cases.directives import parse
from callgate.tools.asmtest.cases.ready import holds, ready
from callgate.tools.asmtest.cases.runner import CaseFailure, CaseRun
from messes import ROUTINES, state_of

# What the routine of this name leaves behind.
MESSES = {
    "flood": "memory, in more pages than are written back",
    "few": "memory, in few pages",
    "tables": "descriptor tables, CR4, DR0 and CR2",
    "floats": "x87, SSE and the direction flag",
    "efer": "a model-specific register",
    "unmapped": "a page table and the engine's cache of it",
    "real": "paging, which was off meanwhile",
    "other_tables": "other page tables, which were in use meanwhile",
    "patch": "code that is not what it was",
    "ports": "devices",
    "console": "a byte for the console",
    "reads": "a port that was read",
    "high": "the same from the kernel's gigabyte, where host code takes it",
    "invalid": "an invalid opcode",
    "faults": "a page fault",
    "stops": "the CPU, which waits",
    "returns": "CS and SS of ring 0 loaded again",
    "doubles": "SSE registers and the direction flag",
    "double": "nothing",
}
COMPUTE = {"few", "tables", "efer", "unmapped", "real", "other_tables", "returns", "doubles", "double"}
SOURCE = (
    ROUTINES
    + """
few: mov edi, 0x20000
 mov ecx, 5
1: mov [edi], edi
 add edi, 0x3000
 loop 1b
 ret
unmapped: mov eax, [0x20000]
 mov dword ptr [0xC000 + 8 * 0x20], 0x400067
 mov eax, cr3
 mov cr3, eax
 mov eax, [0x20000]
 ret
real: mov eax, cr0
 and eax, 0x7FFFFFFF
 mov cr0, eax
 mov edx, [0x10]
 or eax, 0x80000000
 mov cr0, eax
 ret
other_tables: mov dword ptr [0x50000], 0x51001
 mov dword ptr [0x51000], 0x52067
 mov eax, [0xB010]
 mov [0x51010], eax
 mov esi, 0xC000
 mov edi, 0x52000
 mov ecx, 1024
 rep movs dword ptr es:[edi], dword ptr [esi]
 mov dword ptr [0x52000 + 8 * 0x20], 0x400067
 mov eax, 0x50000
 mov cr3, eax
 mov edx, [0x20000]
 ret
high: mov dword ptr [0xA018], 0xB001
 mov eax, cr3
 mov cr3, eax
 mov eax, console + 0xC0000000
 call eax
 ret
reads: in al, 0x40
 ret
stops: hlt
invalid: nop
 nop
 nop
 ud2
faults: nop
 nop
 nop
 mov eax, [0]
doubles: cvtsi2sd xmm3, eax
 std
 ret
console: mov dx, 0x3F8
 mov al, 65
 out dx, al
 ret
returns: pushfd
 push cs
 call 1f
1: add dword ptr [esp], 2f - 1b
 iretd
2: ret
look: mov eax, [0x20000]
 mov edx, [0x30000]
 ret
"""
)
ENGINES_OWN = -8  # the last bytes of a context: an address in the engine's own code, or 0
LOOK = """
;@ case look
;@   set  ebx = 5, CF = 1
;@   call look
;@   expect eax = 0, edx = 0, ebx = 5, CF = 1, instructions = 3
"""


def made(text, program):
    """Return a case and what it is when it is made ready."""
    (case,) = parse(text, "test.asm")
    return case, ready(case, program)


@pytest.fixture(scope="module")
def cpu():
    cpu = BareCpu(Programs())
    cpu.load(SOURCE)
    yield cpu
    cpu.close()


def run(cpu, text):
    """Run a case as the plugin does; return whether the short way was enough."""
    case, prepared = made(text, program_of(cpu))
    if prepared is not None and holds(prepared, program_of(cpu), cpu):
        return True
    CaseRun(case, program_of(cpu), cpu).run()
    return False


def program_of(cpu):
    assert cpu.loaded is not None
    return cpu.loaded


def ended(cpu):
    """Return the state of the machine after a run."""
    state = state_of(cpu.machine)
    state["cpu"] = state["cpu"][:ENGINES_OWN]
    return state


def text_of(routine):
    return f";@ case it\n;@   call {routine}\n;@   expect instructions > 0\n"


@pytest.mark.parametrize("mess", MESSES)
def test_a_case_made_ready_ends_as_an_ordinary_one_whatever_the_case_before_has_left(cpu, mess):
    (case,) = parse(LOOK, "test.asm")
    CaseRun(case, program_of(cpu), cpu).run()
    fresh = ended(cpu)
    with suppress(CaseFailure):  # of those that do not return
        run(cpu, text_of(mess))
    with suppress(CaseFailure):
        run(cpu, text_of(mess))
    short = run(cpu, LOOK)
    assert short or mess not in COMPUTE
    assert ended(cpu) == fresh
    assert run(cpu, LOOK), "after an ordinary case that touched nothing else the short way is taken"
    assert ended(cpu) == fresh


def test_page_tables_that_a_case_has_put_in_place_of_the_first_ones_are_forgotten():
    cpu = BareCpu(Programs())  # on one whose tables were written before, they are forgotten each time
    cpu.load(SOURCE)
    run(cpu, LOOK)
    assert run(cpu, text_of("other_tables"))
    assert run(cpu, LOOK)
    (case,) = parse(text_of("other_tables"), "test.asm")
    CaseRun(case, program_of(cpu), cpu).run()
    assert run(cpu, LOOK)
    cpu.close()


def test_cases_that_only_compute_take_the_short_way_one_after_the_other(cpu):
    run(cpu, LOOK)
    assert [run(cpu, text_of(name)) for name in ("double", "few", "doubles", "look", "real")] == [True] * 5


@pytest.mark.parametrize("routine", ["ports", "reads", "console", "patch", "flood"])
def test_after_a_case_that_touched_more_than_memory_and_registers_all_is_restored(cpu, routine):
    run(cpu, LOOK)
    run(cpu, text_of(routine))
    assert not run(cpu, LOOK)
    assert run(cpu, LOOK)


@pytest.mark.parametrize("expected", ["eax = 43", "CF = 1", "al != 42", "instructions < 2", "unchanged eax", "ah > 0"])
def test_a_case_made_ready_that_does_not_hold_says_what_an_ordinary_one_says(cpu, expected):
    text = f";@ case it\n;@   set eax = 21\n;@   call double\n;@   expect {expected}\n"
    case, prepared = made(text, program_of(cpu))
    run(cpu, LOOK)
    assert not holds(prepared, program_of(cpu), cpu)
    with pytest.raises(CaseFailure) as failed:
        CaseRun(case, program_of(cpu), cpu).run()
    assert failed.value.reason.startswith(expected.split()[-3 if "unchanged" not in expected else 1])


@pytest.mark.parametrize(
    "expected",
    [
        *("eax = 42", "CF = 0, ZF = 0", "al == 42", "ax < 43", "ah = 0", "instructions <= 2", "instructions = 2"),
        *("unchanged ebx, esi, esp", "eax >= 42", "eax > 41", "eax != 43", "eax >= 0", "SF = 0"),
    ],
)
def test_a_case_made_ready_holds_where_an_ordinary_one_does(cpu, expected):
    text = f";@ case it\n;@   set eax = 21, ebx = -7\n;@   call double\n;@   expect {expected}\n"
    run(cpu, LOOK)
    assert run(cpu, text)
    (case,) = parse(text, "test.asm")
    CaseRun(case, program_of(cpu), cpu).run()


@pytest.mark.parametrize(
    "line",
    [
        *(
            "set esp = 0x20000",
            "set dword [0xC100] = 1",
            "set dword [0x7ffffd] = 1",
            "set xmm0 = 1",
            "stack 1",
            "ring 3",
            "fuel 5",
            "abi cdecl",
        ),
        *("expect fault = #PF", "expect never within 5", "expect dword [0x8000] = 0xF4", "expect host_calls = 0"),
        *("expect Point at 0x20000: x = 1", "expect eax = 1 << 40", "set eax = nothing", "expect st0 = 1"),
    ],
)
def test_a_case_of_other_things_than_registers_is_not_made_ready(cpu, line):
    text = f";@ case it\n;@   call double\n;@   expect eax = 0\n;@   {line}\n"
    assert made(text, program_of(cpu))[1] is None


@pytest.mark.parametrize("at", [board.ORIGIN, board.RETURN], ids=["at its beginning", "at its end"])
def test_a_run_that_ends_by_ctrl_c_is_not_taken_for_another(cpu, at):
    run(cpu, LOOK)
    _, prepared = made(text_of("double"), program_of(cpu))
    number = cpu.machine.probe(at, cpu.machine.control.interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            holds(prepared, program_of(cpu), cpu)
    finally:
        cpu.machine.unprobe(number)
    assert not run(cpu, LOOK)
    assert run(cpu, LOOK)


@pytest.mark.parametrize("loads", [False, True])
def test_after_a_test_of_python_that_had_the_machine_all_is_restored(cpu, loads):
    run(cpu, LOOK)
    fresh = ended(cpu)
    cpu.attached.lend()
    if loads:
        cpu.use(program_of(cpu))
    cpu.machine.pic.master.mask = 0
    cpu.attached.drop()
    assert not run(cpu, LOOK)
    assert ended(cpu) == fresh


def test_code_that_is_to_be_translated_again_is_before_a_case_takes_the_short_way(cpu):
    run(cpu, LOOK)
    cpu.machine.translations.flush_code_soon()
    assert not run(cpu, LOOK)
    assert run(cpu, LOOK)


def test_a_program_that_was_put_in_place_of_another_and_not_run_since_is_not_taken_for_the_other():
    cpu = BareCpu(Programs())
    case = ";@ case it\n;@   set eax = 0x20000\n;@   call zeros\n;@   expect eax = 0x20000\n"
    cpu.load(" .balign 4096\nzeros: .space 4096\n ret\n")  # as memory was before: what is translated is not forgotten
    run(cpu, case)
    cpu.reset()
    cpu.load(" .balign 4096\nzeros: inc eax\n ret\n .space 4094\n ret\n")
    with pytest.raises(CaseFailure):
        run(cpu, case)
    cpu.close()


def test_a_mistake_in_a_case_after_its_code_was_changed_does_not_change_the_next_one(cpu):
    run(cpu, LOOK)
    with pytest.raises(AsmError):
        run(cpu, text_of("double").replace(";@   call", ";@   set byte [double] = 0xC3\n;@   set eax = no\n;@   call"))
    assert not run(cpu, ";@ case it\n;@   set eax = 2\n;@   call double\n;@   expect eax = 4\n")


@pytest.mark.parametrize("source", ["double: nop\n add eax, eax\n ret\n", "double: .ledger seen\n ret\n"])
def test_a_case_takes_the_short_way_only_with_its_own_program_and_without_probes_in_it(source):
    cpu = BareCpu(Programs())
    for program in (source, "double: add eax, eax\n ret\n"):
        cpu.load(program)
        _, prepared = made(text_of("double"), program_of(cpu))
        before = program_of(cpu)
        assert holds(prepared, before, cpu) == (".ledger" not in program)
    cpu.reset()
    cpu.load(source)
    assert not holds(prepared, before, cpu)
    cpu.close()


MEMORY_SET = ';@ case it\n;@   set dword [0x20000] = 7, [0x20ffe] = "abc", eax = 1\n;@   call count\n;@   expect '


@pytest.mark.parametrize(
    ("expected", "true"),
    [
        ('dword [0x20000] = 8, [0x20ffe] = "abc", eax = 1', True),
        ("byte [0x21000] != 0, word [0x20ffe] = 0x6261, qword [0x20000] > 7", True),
        ("dword [0x20000] < 8", False),
        ('[0x20ffe] != "abc"', False),
        ("byte [0x20000] = -1", False),
    ],
)
def test_a_case_made_ready_sets_and_compares_memory_as_an_ordinary_one_does(cpu, expected, true):
    run(cpu, LOOK)
    case, prepared = made(MEMORY_SET + expected, program_of(cpu))
    assert holds(prepared, program_of(cpu), cpu) is true
    if true:
        CaseRun(case, program_of(cpu), cpu).run()
    else:
        with pytest.raises(CaseFailure):
            CaseRun(case, program_of(cpu), cpu).run()
    run(cpu, LOOK)
    assert run(cpu, ";@ case it\n;@   call look\n;@   expect dword [0x20000] = 0, dword [0x20ffd] = 0, eax = 0\n")


@pytest.mark.parametrize("before", [0, 3])
def test_a_case_that_changes_code_takes_the_ordinary_way(cpu, before):
    at = program_of(cpu).address("double")
    text = f";@ case it\n;@   set dword [{at} - {before}] = 0xC3C3C3C3, eax = 5\n;@   call double\n;@   expect eax = "
    run(cpu, text_of("double"))
    assert not run(cpu, f"{text}5\n")
    run(cpu, text_of("double"))
    assert run(cpu, text_of("double")), "the engine has translated the routine"
    with pytest.raises(CaseFailure):
        run(cpu, f"{text}10\n")
    run(cpu, LOOK)
    assert run(cpu, ";@ case it\n;@   set eax = 5\n;@   call double\n;@   expect eax = 10\n")
