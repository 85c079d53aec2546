"""A text that looks like a test is one, or is an error: no test passes because it was ignored."""

import os
from pathlib import Path

import pytest

# Imported here so that they stay imported: a run within this process forgets what it imported itself.
from callgate.tools.asmtest import booted
from callgate.tools.asmtest.cases import report, runner
from plugin_runs import run_within

LOADED = (booted, report, runner)

pytest_plugins = ["pytester"]

ROUTINE = "f:      mov     eax, 5\n        ret\n"
CASE = ";@ case f\n;@   call f\n;@   expect eax = 5\n"


def cases(pytester, text, *arguments, encoding="utf-8"):
    pytester.path.joinpath("test_it.asm").write_bytes(text.encode(encoding))
    return run_within(pytester, "test_it.asm", *arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("; @  expect eax = 7", "*test_it.asm:6:1: ; @ expect is an ordinary comment; write ;@ expect"),
        ("# @ expect eax = 7", "*test_it.asm:6:1: # @ expect is an ordinary comment; write ;@ expect"),
        ("#@ Expect eax = 7", "*: #@ Expect is an ordinary comment; write ;@ expect"),
        ("//@  expect eax = 7", "*: //@ expect is an ordinary comment; write ;@ expect"),
        ("// @set eax = 7", "*: // @ set is an ordinary comment; write ;@ set"),
        ("/*@ expect eax = 7 */", "*: /[*]@ expect is an ordinary comment; write ;@ expect"),
        (";; @ expect eax = 7", "*: ;; @ expect is an ordinary comment; write ;@ expect"),
        ("  nop ;@ expect eax = 7", "*test_it.asm:6:7: ;@ expect stands after code and does nothing there; give it*"),
        ("g: ret ; @ fuel 7", "*: ; @ fuel is an ordinary comment; write ;@ fuel"),
        (";@ EXPECT eax = 7", "*: there is no ;@ EXPECT; did you mean expect[?]"),
    ],
)
def test_a_line_that_only_looks_like_an_expectation_is_an_error(pytester, line, message):
    result = cases(pytester, ROUTINE + CASE + line + "\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_comments_with_an_at_sign_are_left_alone(pytester):
    text = '; @brief f\n; mail to x@expect.org\n# @param eax\n.data\nt: .ascii "; @ expect"\n.text\n'
    cases(pytester, text + ROUTINE + CASE).assert_outcomes(passed=1)


def test_a_case_that_does_not_hold_is_not_taken_for_another_one_of_the_same_name(pytester):
    wrong = ";@ case f\n;@   each ebx = 1\n;@   call f\n;@   expect eax = 6\n"
    right = ";@ case f[ebx=1]\n;@   call f\n;@   expect eax = 5\n"
    result = cases(pytester, ROUTINE + CASE.replace("case f", "case first") + wrong + right)
    result.assert_outcomes(passed=2, failed=1)


def test_fuel_is_the_number_of_instructions_that_the_routine_takes(pytester, bare_cpu):
    enough = ROUTINE + CASE + ";@   fuel 2\n;@   expect instructions = 2\n"
    cases(pytester, enough).assert_outcomes(passed=1)
    result = cases(pytester, enough.replace("fuel 2", "fuel 1"))
    result.stdout.fnmatch_lines(["*f did not return within 1 instructions*"])
    bare_cpu.load(ROUTINE)
    assert bare_cpu.call("f", fuel=2).eax == 5


SWITCHED_OFF = """
        .if     0
;@ case in a part that is left out
;@   code    mov eax, 5
;@   expect  eax = 6
        .else
;@ case in the part that is assembled
;@   code    mov eax, 5
;@   expect  eax = 5
        .endif
/* ;@ case on a line that begins a comment
;@ case within a comment
;@   code    mov eax, 5
;@   expect  eax = 6
*/
        .macro  NOBODY
;@ case in a macro that nobody calls
;@   call    f
;@   expect  eax = 6
        .endm
        .macro  ONCE
;@ case in a macro that is called
;@   code    mov eax, 7
;@   expect  eax = 7
        .endm
        ONCE
"""


def test_a_case_in_a_disabled_part_is_skipped_and_one_in_a_comment_is_not_a_case(pytester):
    result = cases(pytester, SWITCHED_OFF + ROUTINE, "-rs")
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(["*stands in a part that is not assembled*"])


def test_a_case_in_a_macro_that_is_called_twice_is_an_error_that_says_so(pytester):
    result = cases(pytester, SWITCHED_OFF + "        ONCE\n" + ROUTINE)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_it.asm:22:*is assembled more than once; write it outside of .macro*"])


def test_a_title_with_colons_can_be_selected_by_its_node_id(pytester):
    text = ROUTINE + CASE.replace("case f", "case Parser::next gives 5 [fast]") + CASE
    pytester.makefile(".asm", test_it=text)
    result = run_within(pytester, "test_it.asm::Parser:next gives 5 [fast]", "--junitxml=out.xml")
    result.assert_outcomes(passed=1)
    assert 'name="Parser:next gives 5 [fast]"' in Path("out.xml").read_text()
    result = cases(pytester, text.replace("case f", "case Parser:next gives 5 [fast]"))
    result.stdout.fnmatch_lines(["*case 'Parser:next gives 5 [[]fast]' already exists*"])


@pytest.mark.parametrize("sizes", ["same", "other"])
def test_a_program_is_assembled_anew_when_a_file_that_it_includes_has_changed(bare_cpu, tmp_path, sizes):
    bare_cpu.folder = tmp_path
    included = tmp_path / "value.inc"
    for value in ("1", "2") if sizes == "same" else ("1", "22"):
        before = included.stat() if included.exists() else None
        included.write_text(f"VALUE = {value}\n")
        if before is not None and sizes == "same":
            os.utime(included, ns=(before.st_atime_ns, before.st_mtime_ns))
        bare_cpu.reset()
        bare_cpu.load('        .include "value.inc"\nf: mov eax, VALUE\n ret\n')
        assert bare_cpu.call("f").eax == int(value)


def test_a_program_is_assembled_anew_when_a_file_appears_that_was_looked_for_before(bare_cpu, tmp_path):
    bare_cpu.folder = tmp_path
    (tmp_path / "a.asm").write_text('        .include "text.asm"\n .text\nf: ret\n')
    bare_cpu.load("a.asm")
    (tmp_path / "text.asm").write_text("g: ret\n")
    bare_cpu.reset()
    assert "g" in bare_cpu.load("a.asm").symbols


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CASE + ROUTINE, "utf-8-sig"),
        ("; page\f two\n" + CASE + ROUTINE, "utf-8"),
        ("; line\u2028separator\x85\n" + CASE + ROUTINE, "utf-8"),
        ("; caf\xe9\n" + CASE + ROUTINE, "latin-1"),
        ((CASE + ROUTINE).replace("\n", "\r\n"), "utf-8"),
        (CASE + "f: mov eax, 5 ; a note\r hlt\n ret\n", "utf-8"),
    ],
)
def test_a_case_file_is_read_as_the_assembler_reads_it(pytester, text, encoding):
    cases(pytester, text, encoding=encoding).assert_outcomes(passed=1)


def test_a_title_in_latin_1_can_be_shown(pytester):
    result = cases(pytester, ROUTINE + CASE.replace("case f", "case caf\xe9"), "-v", encoding="latin-1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it.asm::caf? PASSED*"])


def test_the_summary_and_junit_give_the_reason_and_not_the_title(pytester):
    result = cases(pytester, ROUTINE + CASE.replace("eax = 5", "eax = 6, ebx = 1"), "--junitxml=out.xml")
    result.stdout.fnmatch_lines(["FAILED test_it.asm::f - eax is 5, expected = 6 (and 1 more)"])
    assert 'message="eax is 5, expected = 6 (and 1 more)"' in Path("out.xml").read_text()


def test_files_are_named_as_in_the_document_wherever_the_project_lies(pytester):
    pytester.makefile(".asm", routine=ROUTINE + "g: mov eax, [0]\n ret\n", broken="f: nop 5\n")
    pytester.makepyfile("""
        def test_fails(bare_cpu):
            bare_cpu.load("routine.asm")
            assert bare_cpu.call("f").eax == 6
        def test_faults(bare_cpu):
            bare_cpu.load("routine.asm")
            bare_cpu.call("g")
        def test_assembles(bare_cpu):
            bare_cpu.load("broken.asm")
    """)
    text = '        .include "routine.asm"\n' + CASE.replace("eax = 5", "eax = 6")
    pytester.makefile(".asm", test_it=text)
    result = run_within(pytester)
    result.stdout.fnmatch_lines(["  00400000 f  *  routine.asm:1: f:      mov     eax, 5"])
    result.stdout.fnmatch_lines(["*g faulted: #PF 0x0 at 0x0 at g (routine.asm:3: g: mov eax, [[]0])"])
    result.stdout.fnmatch_lines(["*AsmErrors: broken.asm:1:4: nop takes *"])
    assert str(pytester.path / "routine.asm") not in result.stdout.str()


MISTAKES = [
    ('load("f: nop 5\\n")', "AsmErrors"),
    ('call("f", eaxx=1)', "ValueError: eaxx is neither a register*"),
    ('call("f", eax="1")', "ValueError: eax is given '1', which is not a number"),
    ('call("f", stack=["a"])', "ValueError: stack is given 'a', which is not a number"),
    ('call("ff")', "KeyError: \"no label 'ff'; *"),
    ('protect(0x10000, 1, "rx")', "ValueError: 'rx' is none of none, r, rw"),
    ('segment("cs", 0)', "ValueError: 'cs' is none of ds, es, fs, gs"),
    ('on_host_call("x", print)', "ValueError: 'x' is not a port*"),
    ("load()", "ValueError: load names of files, or one text with a line end"),
    ('load("missing.asm")', "FileNotFoundError: *missing.asm*"),
]


def test_the_traceback_of_a_mistake_in_a_python_test_ends_at_the_tests_own_line(pytester):
    tests = [
        f"def test_{number}(bare_cpu):\n    bare_cpu.load('f: ret\\n')\n    bare_cpu.{mistake}\n"
        for number, (mistake, _) in enumerate(MISTAKES)
    ]
    pytester.makepyfile("\n".join(tests))
    result = run_within(pytester)
    result.assert_outcomes(failed=len(MISTAKES))
    for mistake, message in MISTAKES:
        result.stdout.fnmatch_lines([f">       bare_cpu.{mistake.replace('[', '[[]')}", f"E  *{message}*"])
    shown = result.stdout.str()
    assert shown.count("\n>  ") == len(MISTAKES), "one line of code each"
    assert not [name for name in ("asmtest/bare/cpu.py", "pathlib.py") if name in shown]
    assert "asmtest/bare/cpu.py" in run_within(pytester, "--full-trace", "-k", "test_0").stdout.str()


def test_an_error_in_the_answer_to_a_host_call_shows_the_answer_and_the_call(pytester):
    pytester.makepyfile("""
        def test_answer(bare_cpu):
            bare_cpu.load("f: out 0xf0, eax\\n ret\\n")
            def answer(value):
                assert value == 4
            bare_cpu.on_host_call(0xf0, answer)
            bare_cpu.call("f", eax=3)
    """)
    result = run_within(pytester)
    result.stdout.fnmatch_lines([">*bare_cpu.call(*", ">*assert value == 4"])
    assert "machine/running.py" not in result.stdout.str()


def test_instructions_of_a_result_are_booked_to_the_ring_they_ran_in(bare_cpu):
    bare_cpu.load("f: nop\n ret\n")
    cost = bare_cpu.call("f").ledger
    assert (cost.ring0, cost.ring3, cost.ring_changes) == (2, 0, 0)
    assert repr(bare_cpu.last).startswith("<call in ring 0: eax=0x0 ")
    bare_cpu.reset()
    bare_cpu.load("f: nop\n ret\n")
    bare_cpu.enter_ring(3)
    cost = bare_cpu.call("f").ledger
    assert (cost.ring0, cost.ring3, cost.ring_changes) == (0, 2, 0)


JUMPS = [("jmp eax", 0), ("call eax", 0x700000), ("push eax; ret", 0xFFFF_F000), ("mov esp, 0x20000; ret", 0)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ring", [0, 3])
@pytest.mark.parametrize(("jump", "address"), JUMPS)
def test_a_jump_to_an_unmapped_address_is_a_page_fault_there(bare_cpu, ring, jump, address):
    bare_cpu.load(f"f: mov eax, {address}\n {jump.replace('; ', chr(10) + ' ')}\n")
    bare_cpu.enter_ring(ring)
    bare_cpu.protect(0x70_0000, 1, "none")
    fault = bare_cpu.call("f", faults=True, fuel=100).fault
    assert str(fault) == f"#PF {4 if ring else 0:#x} at {address:#x}"
    assert fault.eip == address


@pytest.mark.timeout(60)
def test_running_off_a_page_is_a_page_fault_where_the_next_one_begins(bare_cpu):
    bare_cpu.write(0x5F_FFF8, b"\x90" * 8)
    bare_cpu.protect(0x60_0000, 1, "none")
    result = bare_cpu.call(0x5F_FFF8, faults=True)
    assert (str(result.fault), result.instructions) == ("#PF 0x0 at 0x600000", 8)


def test_sse_and_x87_registers_are_as_after_a_reset_in_each_case(pytester):
    text = """
f:      stmxcsr [0x20000]
        fnstcw  [0x20004]
        fnstenv [0x20010]
        mov     eax, cr4
        ret
g:      fninit
        fnstenv [0x20010]
        ret
;@ case the registers as they are
;@   call f
;@   expect dword [0x20000] = 0x1f80, word [0x20004] = 0x37f, word [0x20014] = 0, word [0x20018] = 0xffff, eax = 0x620
;@ case FNINIT leaves them so
;@   call g
;@   expect word [0x20010] = 0x37f, word [0x20014] = 0, word [0x20018] = 0xffff
;@ case an instruction that changes them
;@   code mov dword ptr [0x20000], 0x7f80
;@   code ldmxcsr [0x20000]
;@   code fld1
;@   expect dword [0x20000] = 0x7f80
;@ case nothing is left of it
;@   call f
;@   expect dword [0x20000] = 0x1f80, word [0x20018] = 0xffff
"""
    cases(pytester, text).assert_outcomes(passed=4)


def test_int3_and_into_can_be_expected_as_bp_and_of(pytester):
    text = "".join(
        f";@ case {number}\n;@   set OF = 1\n;@   code {code}\n;@   expect fault = {fault}\n"
        for number, (code, fault) in enumerate(
            [("int3", "#BP"), ("into", "#OF"), ("int 4", "int 4"), ("int 4", "#OF"), ("int 3", "#BP"), ("int1", "#DB")]
        )
    )
    result = cases(pytester, text)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*the fault is int 0x4, expected #OF*"])


def test_the_two_byte_form_of_int_3_is_not_taken_for_a_breakpoint(bare_cpu):
    bare_cpu.load("f: .byte 0xcd, 3\n")
    assert str(bare_cpu.call("f", faults=True).fault) == "int 0x3"


NOT_TOLD = {
    "stmxcsr [0x20000]": ("dword [0x20000] = 0x1f82", "does not note denormal operands"),
    "fnstsw ax": ("ax = 0x2", "notes neither DE nor rounding up (C1)"),
    "fxtract": ("eax = 1", "computes otherwise"),
}


def test_sse_and_x87_instructions_in_cases_behave_as_on_a_cpu(pytester):
    text = """
        third:  cvtsi2ss xmm0, ecx
                divss   xmm0, xmm1
                stmxcsr [0x20000]
                ret
        ;@ case misaligned
        ;@   code    movaps xmm0, [0x20001]
        ;@   expect  fault = #GP 0
        ;@ case a third is rounded
        ;@   set     ecx = 1, xmm1 = float(3, 0, 0, 0)
        ;@   call    third
        ;@   expect  dword [0x20000] = 0x1fa0, mxcsr = 0x1fa0
        ;@ case of the case before nothing is left
        ;@   code    stmxcsr [0x20000]
        ;@   expect  dword [0x20000] = 0x1f80
        ;@ case a division by zero that is not masked
        ;@   set     ecx = 1, mxcsr = 0x1d80
        ;@   call    third
        ;@   expect  fault = #XM
        ;@   expect  mxcsr = 0x1d84
        ;@ case an empty register
        ;@   code    faddp   st(1), st(0)
        ;@   code    fnstsw  ax
        ;@   expect  ax = 0x0841
        ;@ case a number too big for BCD
        ;@   set     st0 = 1e18
        ;@   code    fbstp   tbyte ptr [0x20000]
        ;@   expect  word [0x20008] = 0xffff, byte [0x20007] = 0xc0
        ;@ case a needle that begins at the end of the block
        ;@   set     xmm0 = 0x6261, xmm1 = 0x61787878787878787878787878787878
        ;@   code    pcmpistri xmm0, xmm1, 0x0c
        ;@   expect  ecx = 15
    """
    cases(pytester, text).assert_outcomes(passed=7)


def test_the_failure_of_an_expectation_that_the_emulated_cpu_cannot_meet_says_so(pytester):
    text = "".join(
        f";@ case {number}\n;@   code {code}\n;@   expect {wanted}\n"
        for number, (code, (wanted, _)) in enumerate(NOT_TOLD.items())
    )
    result = cases(pytester, text)
    result.assert_outcomes(failed=len(NOT_TOLD))
    for _, note in NOT_TOLD.values():
        result.stdout.fnmatch_lines([f"note: *{note}*"])
