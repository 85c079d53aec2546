"""The plugin in another project, which has only the installed package."""

import pytest

# Imported here so that they stay imported: a run within this process forgets what it imported itself.
from callgate.tools.asmtest.cases import report, runner
from plugin_runs import run_within

LOADED = (report, runner)

pytest_plugins = ["pytester"]

ROUTINE = """
        .struct Point
        .field x, 4
        .field y, 2
        .field pad, 10
        .ends

; add_point: EAX = x + y of the point at EBX.
add_point:
        mov     eax, [ebx + Point.x]
        .event  point.loaded x=eax
        movzx   ecx, word ptr [ebx + Point.y]
        add     eax, ecx
        ret
"""
CASES = """
        .include "point.asm"
;@ case x and y are added
;@   place   Point at 0x20000: x = 40, y = 2
;@   set     ebx = 0x20000
;@   call    add_point
;@   expect  eax = 42, ZF = 0, instructions <= 4, host_calls == 0
;@   expect  events = point.loaded x=40
;@ case a null pointer faults in ring 3
;@   ring    3
;@   call    add_point
;@   expect  fault = #PF 0x4 at 0
;@ case instructions can stand in the case
;@   set     eax = 7, CF = 1, dword [0x20000] = -1
;@   code    adc eax, 1
;@   code    mov byte ptr [0x20001], al
;@   expect  al = 9, dword [0x20000] = 0xffff09ff
"""


@pytest.fixture
def project(pytester):
    pytester.makefile(".asm", point=ROUTINE, test_point=CASES)
    return pytester


def cases(pytester, text):
    pytester.makefile(".asm", test_bad=text)
    return run_within(pytester, "test_bad.asm")


@pytest.mark.thorough(only=True)
def test_cases_of_a_foreign_routine_pass_in_a_process_of_their_own(project):
    project.runpytest_subprocess("-v").assert_outcomes(passed=3)


def test_a_failure_shows_the_line_the_registers_and_the_last_instructions(project):
    project.makefile(".asm", test_point=CASES.replace("eax = 42", "eax = 43"))
    result = run_within(project)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines([
        "*test_point.asm:6: eax is 0x2a, expected = 43",
        "*;@   expect  eax = 43*",
        "*eax 00000000 -> 0000002a",
        "last of 4 instructions:",
        "*add_point*mov     eax, [[]ebx + Point.x]",
        "*point.asm:13: ret",
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str()


MISTAKES = [  # what is written, what instead, and what the report says
    ("expect  eax = 42", "expect  eaxx = 42", "*test_point.asm:6*there is no eaxx; did you mean eax?*"),
    ("x = 40, y", "z = 40, y", "*test_point.asm:3*Point has no field z; there is x, y, pad*"),
    ("Point at", "Piont at", "*test_point.asm:3*there is no structure Piont; did you mean Point?*"),
    (
        "call    add_point",
        "call    add_pint",
        "*test_point.asm:5*there is no routine add_pint; did you mean add_point?*",
    ),
    ("set     ebx = 0x20000", "set     ebx = BASE", "*test_point.asm:4*there is no BASE*"),
    ("set     ebx = 0x20000", "set     CF = 2", "*test_point.asm:4*2 does not fit into CF*"),
    ("ring    3", "ring    1", "*test_point.asm:9*ring 0 or 3*;@ ring 3*"),
    ("set     ebx", "sett    ebx", "*test_point.asm:4*there is no ;@ sett; *set*"),
    (";@   call    add_point\n;@   expect  eax", ";@   expect  eax", "*test_point.asm:2*the case runs nothing*"),
    ("fault = #PF", "fault = PF", "*test_point.asm:11*PF 0x4 at 0 is not a fault; write*#PF 0x2 at*"),
    ("fault = #PF", "fault = #PG", "*test_point.asm:11*there is no exception #PG; did you mean #GP?*"),
    ("expect  eax", "expect  host_calls.frist_use = 0, eax", "*test_point.asm:6*frist_use; did you mean first_use?*"),
    (
        "expect  eax",
        "expect  events = take\n;@   expect  eax",
        "*test_point.asm:6*there is no event take; the source has *",
    ),
    ("expect  eax", "expect  events\n;@   expect  eax", "*test_point.asm:6*no events are named; write*"),
    ("expect  eax", "expect  unchanged al\n;@   expect  eax", "*test_point.asm:6*al is not a register of 32 bits*"),
    ("set     ebx = 0x20000", "set     byte [0x20000] = 256", "*test_point.asm:4*256 does not fit*write 0 to 0xff*"),
    ("set     ebx = 0x20000", "host    FIRST_USE: edx = 1, foo = 1", "*test_point.asm:4*foo cannot be set; registers*"),
    ("set     ebx = 0x20000", "host    FIRST_USE: Point at 0x20000: z = 1", "*test_point.asm:4*Point has no field z*"),
    (
        "set     ebx = 0x20000",
        "host    FRIST_USE",
        "*test_point.asm:4*FRIST_USE; did you mean FIRST_USE?*",
    ),
    ("set     ebx = 0x20000", "fuel    0", "*test_point.asm:4*0 instructions are too few; write 1 or more*"),
    ("set     ebx = 0x20000", "protect 0x800000 = r", "*test_point.asm:4*outside the 8 MiB*"),
    ("set     ebx = 0x20000", 'set     [0x20000] = "\\q"', "*test_point.asm:4*is not an escape; write*"),
    ("set     ebx = 0x20000", "stack   1, ", "*test_point.asm:4:17: an expression is missing*"),
    ("Point at 0x20000", "Point at 0x20000000", "*test_point.asm:3*outside the 8 MiB*"),
    ("adc eax, 1", "adcc eax, 1", "*test_point.asm:14:14: there is no instruction adcc; did you mean adc?*"),
]


def test_a_mistake_is_reported_with_its_line_and_what_to_write(pytester):
    sources = {}
    for index, (old, new, _) in enumerate(MISTAKES):
        assert old in CASES
        sources[f"test_mistake_{index}"] = CASES.replace(old, new, 1)
    pytester.makefile(".asm", point=ROUTINE, **sources)
    result = run_within(pytester)
    for index, (_, _, message) in enumerate(MISTAKES):
        result.stdout.fnmatch_lines([message.replace("test_point", f"test_mistake_{index}")])
    assert "Traceback" not in result.stdout.str()


def test_a_misspelt_line_of_a_case_is_the_only_mistake_that_is_reported(pytester):
    result = cases(pytester, "f: ret\n;@ case f\n;@   cal f\n;@   expect eax = 0\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["test_bad.asm:3:6: there is no ;@ cal; did you mean call?", "    ;@   cal f"])
    assert "runs nothing" not in result.stdout.str()


def test_a_host_call_may_be_answered_with_flags_memory_and_text(pytester):
    text = r"""
f:      out     FIRST_USE_PORT, eax
        ret
        FIRST_USE_PORT = HostCall.FIRST_USE
;@ case everything that a line may set
;@   host FIRST_USE: CF = 1, edx = 5, word [0x20000] = 0x1234, [0x20010] = "a\n,b"
;@   call f
;@   expect CF = 1, edx = 5, dword [0x20000] = 0x1234, [0x20010] = "a\n,b", byte [0x20011] = 10
;@   expect host_calls.first_use = 1
"""
    cases(pytester, text).assert_outcomes(passed=1)


def test_a_file_of_another_assembler_is_left_alone(pytester):
    """Without a `;@` line it is not even assembled; a file with one is ours."""
    nasm = "%define X 5\n; @brief what it does\nsection .text\nglobal f\nf: mov eax, dword [X] ; @return EAX\n"
    pytester.makefile(".asm", test_nasm=nasm)
    assert cases(pytester, "f: ret\n;@ case f\n;@ call f\n;@ expect eax = 0\n").ret == pytest.ExitCode.OK
    assert run_within(pytester, "test_nasm.asm").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_an_unexpected_fault_and_an_endless_loop_fail(pytester):
    text = """
f:      mov [0], eax
        ret
g:      jmp g
;@ case f
;@   call f
;@   expect eax = 0
;@ case g
;@   call g
;@   fuel 100
;@   expect eax = 0
"""
    result = cases(pytester, text)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*f faulted: #PF 0x2 at 0x0*", "*g did not return within 100 instructions*"])


def test_python_tests_of_a_foreign_project_can_use_the_bare_cpu(project):
    project.makepyfile("""
        def test_passes(bare_cpu):
            bare_cpu.load("point.asm")
            bare_cpu.place("Point", 0x20000, x=40, y=2)
            result = bare_cpu.call("add_point", ebx=0x20000)
            assert result.eax == 42 and not result.CF

        def test_fails(bare_cpu):
            bare_cpu.load("point.asm")
            assert bare_cpu.call("add_point", ebx=0x20000).eax == 1
    """)
    result = run_within(project, "-k", "passes or fails")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*bare CPU*", "registers*", "last of 4 instructions:"])
