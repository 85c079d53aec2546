"""Words of cases beyond setting, calling and expecting: values, marks, conventions, wide registers, no return."""

import host_programs
import pytest
from plugin_runs import run_within

pytest_plugins = ["pytester"]

ROUTINES = """
double: add     eax, eax
        ret
spin:   inc     eax
        jmp     spin
ebx_goes: mov   ebx, 1
        std
        ret     4
sum:    mov     eax, [esp + 4]
        add     eax, [esp + 8]
        ret
length: mov     edx, [esp + 4]
        xor     eax, eax
next:   cmp     byte ptr [edx + eax], 0
        je      end
        inc     eax
        jmp     next
end:    ret
sum_std: mov    eax, [esp + 4]
        add     eax, [esp + 8]
        ret     8
fast:   lea     eax, [ecx + edx * 2]
        ret
left:   fld1
        fld1
        ret
halved: fld     qword ptr [esp + 4]
        fmul    dword ptr [esp + 12]
        ret
floats: fld1
        fadd    st(0), st(1)
        movaps  xmm1, xmm0
        paddd   xmm1, xmm0
        ret
"""
HOLD = """
;@ case values
;@   each    eax = 1, 2, 0x80000000   ; a comment with "quotes" and it's odd
;@   call    double                   ; another
;@   expect  unchanged ebx
;@ case pairs
;@   each    (n, twice) = (0, 0), (5, 10), (-1, -2)
;@   each    CF = 0, 1
;@   set     eax = n
;@   call    double
;@   expect  eax = twice
;@ case a semicolon in a text is none of a comment
;@   set     [0x20000] = "a;b" ; behind
;@   call    double
;@   expect  [0x20000] = "a;b", byte [0x20001] = ';'
;@ case no time
;@   skip    the routine isn't written ; yet
;@   call    double
;@   expect  eax = 1
;@ case known to fail
;@   xfail   nobody mended it
;@   call    double
;@   expect  eax = 1
;@ case marked
;@   mark    slow, level(3, why="x")
;@   call    double
;@   expect  eax = 0
;@ case it does not come back
;@   set     eax = 5
;@   call    spin
;@   expect  never within 1000
;@   expect  eax = 505, instructions = 1000
;@ case arguments
;@   abi     cdecl
;@   set     dword [0x20000] = 40
;@   args    [0x20000], 2
;@   call    sum
;@   expect  eax = 42
;@ case a text
;@   abi     cdecl
;@   args    "four"
;@   call    length
;@   expect  eax = 4
;@ case stdcall
;@   abi     stdcall
;@   args    40, 2
;@   call    sum_std
;@   expect  eax = 42
;@ case fastcall
;@   abi     fastcall
;@   args    40, 1
;@   call    fast
;@   expect  eax = 42
;@ case a double and a float
;@   abi     cdecl
;@   args    5.0, float(0.5)
;@   call    halved
;@   expect  st0 = 2.5
;@ case wide registers
;@   set     st0 = 1.5, xmm0 = dword(1, 2, 3, 4), mxcsr = 0x1f80
;@   call    floats
;@   expect  st0 = 2.5, st1 = 1.5, st0 = 0x4000a000000000000000, st0 > 2
;@   expect  xmm1 = dword(2, 4, 6, 8), xmm1 = 0x00000008000000060000000400000002, xmm0 != 0
;@   expect  fcw = 0x37f, mxcsr = 0x1f80
;@   expect  unchanged xmm0, xmm7, mxcsr, ebx
;@ case lanes of floats
;@   set     xmm3 = float(1.5, -2), mm1 = word(1, 2, 3, 4)
;@   code    movaps xmm4, xmm3
;@   code    paddw mm1, mm1
;@   expect  xmm4 = float(1.5, -2, 0, 0), mm1 = qword(0x0008000600040002), mm1 = word(2)
"""


@pytest.fixture
def case_file(pytester):
    pytester.makeini("[pytest]\nmarkers =\n    slow: takes long\n    level(n, why): how deep")

    def run(text, *arguments, **files):
        pytester.makefile(".asm", test_words=ROUTINES + text, **files)
        return run_within(pytester, *arguments)

    return run


def test_the_lines_of_a_case_do_what_they_say(case_file):
    result = case_file(HOLD, "-rA")
    result.assert_outcomes(passed=19, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines_random([
        "PASSED test_words.asm::values[[]eax=0x80000000]",
        "PASSED test_words.asm::pairs[[]n=5,twice=10,CF=1]",
        "SKIPPED*the routine isn't written",
        "XFAIL test_words.asm::known to fail - nobody mended it",
    ])  # fmt: skip


def test_marked_cases_are_selected_by_their_marks(case_file):
    case_file(HOLD, "-m", "slow or level").assert_outcomes(passed=1, deselected=20)


FAIL = {  # what is written, and what the failure says
    "abi cdecl\n;@ call ebx_goes": ["ebx was 0xa55e0b0b and is 0x1*", "esp is off by +4*", "DF is set*"],
    "abi cdecl\n;@ call left": ["st1 is in use: cdecl returns with nothing but a result in st0*"],
    "abi stdcall\n;@ args 1, 2\n;@ call sum": ["esp is off by -8*the return address and the arguments removed"],
    "call double\n;@ expect never within 100": ["double came back after 2 instructions"],
    "set st0 = 1.5\n;@ call floats\n;@ expect st0 = 3, st7 = 1": ["st0 is 2.5, expected = 3", "st7 is empty*"],
    "set xmm0 = float(1)\n;@ call floats\n;@ expect xmm1 = dword(1), xmm0 = float(2)": [
        "xmm1 is (0x7f000000), expected = dword(1)",
        "xmm0 is (1.0), expected = float(2)",
    ],
    "set xmm0 = 1\n;@ call floats\n;@ expect unchanged xmm1, st0": ["xmm1 was 0x0 and is 0x2*", "st0 was*"],
}
MISTAKES = {
    "each eax": "'eax' gives no values",
    "each al = 1": "al cannot be set; registers of 32 bits and flags can",
    "each eax = 1, 1": "1 is given twice",
    "each (a, b) = (1, 2), 3": "3 is no (a, b)",
    "each a = 1\n;@ each a = 2": "a already has values",
    "abi pascal": "there is no calling convention 'pascal': there are cdecl, stdcall, fastcall, regparm and none",
    "mark unknown": "'unknown' not found in `markers`*register it",
    "mark slow(x)": "the arguments of slow are not numbers",
    "object x.o": "objects belong to the whole file",
    "extern puts = 1": "there are no objects that need it",
    "fixture nothing": "there is no fixture nothing",
    "set xmm0 = byte(300)": "300 does not fit into 8 bits",
    "set mm0 = float(1, 2, 3)": "mm0 has room for 2 of float, not for 3",
    "set fsw = 1": "fsw cannot be set",
    "abi cdecl\n;@ args 0x100000000": "0x100000000 has more than 32 bits; write qword(0x100000000)",
    "fuel 5\n;@ expect never within 5": "the number of instructions is given twice",
    "expect never again": "never again is incomplete; write ;@ expect never within 1000",
}


def test_an_expectation_that_does_not_hold_fails_with_the_reason(case_file):
    text = ""
    for number, lines in enumerate(FAIL):
        text += f";@ case number {number}\n;@ {lines}\n;@ expect eflags >= 0\n"
    result = case_file(text, "--strict-markers")
    result.assert_outcomes(failed=len(FAIL))
    for messages in FAIL.values():
        result.stdout.fnmatch_lines([f"test_words.asm:*: {message}" for message in messages])


def test_a_mistake_in_a_line_of_a_case_is_shown_with_its_place(pytester):
    pytester.makeini("[pytest]\nmarkers =\n    slow: takes long\naddopts = --strict-markers")
    files = {
        f"test_{number:02}": f"{ROUTINES}\n;@ case x\n;@ {lines}\n;@ call double\n;@ expect eax = 0\n"
        for number, lines in enumerate(MISTAKES)
    }
    pytester.makefile(".asm", **files)
    result = run_within(pytester)
    output = result.stdout.str()
    assert "Traceback" not in output
    assert result.parseoutcomes().get("passed", 0) == 0
    for number, message in enumerate(MISTAKES.values()):
        result.stdout.fnmatch_lines([f"*test_{number:02}.asm:*{message}*"])


def test_the_ini_option_checks_the_convention_in_every_call_and_none_turns_it_off(pytester):
    cases = ";@ case broken\n;@ call ebx_goes\n;@ expect eax >= 0\n"
    cases += ";@ case free\n;@ abi none\n;@ call ebx_goes\n;@ expect ebx = 1\n"
    pytester.makefile(".asm", test_words=ROUTINES + cases)
    pytester.makepyfile(
        test_python=f"""
        import pytest

        def test_python(bare_cpu):
            bare_cpu.load({ROUTINES!r})
            assert bare_cpu.call("sum", args=[40, 2]).eax == 42
            assert bare_cpu.call("ebx_goes", abi="none").ebx == 1
            with pytest.raises(AssertionError, match="ebx_goes breaks its calling convention: ebx was .*; DF is set"):
                bare_cpu.call("ebx_goes")
    """
    )
    pytester.makeini("[pytest]\ncallgate_abi = cdecl")
    run_within(pytester).assert_outcomes(passed=2, failed=1)
    pytester.makeini("[pytest]\ncallgate_abi = pascal")
    result = run_within(pytester)
    assert "callgate_abi: there is no calling convention 'pascal'" in result.stdout.str() + result.stderr.str()


FIXTURES = """
import pytest

@pytest.fixture
def says_hi(bare_cpu):
    def puts(text):
        assert bare_cpu.text(text) == "hi"
        return 40
    return puts

@pytest.fixture
def absent():
    pytest.skip("no compiler")
"""


def test_a_case_file_can_use_objects_functions_and_fixtures(pytester):
    """An object that our own assembler made would prove nothing: GNU as makes it."""
    source = '.globl greet\ngreet: push $text\ncall puts\nadd limit, %eax\nadd $4, %esp\nret\ntext: .asciz "hi"\n'
    (pytester.path / "greet.s").write_text(source)
    host_programs.run("as", "--32", "-g", "greet.s", "-o", "greet.o", folder=pytester.path)
    pytester.makeconftest(FIXTURES)
    pytester.makefile(
        ".asm",
        test_greet="""
limit:  .long   2
own:    mov     eax, 50
        ret
;@ object greet.o
;@ abi cdecl
;@ case a fixture's function answers
;@   extern puts = says_hi
;@   call greet
;@   expect eax = 42
;@ case a routine of this file answers
;@   extern puts = own
;@   call greet
;@   expect eax = 52
;@ case nobody answers
;@   call greet
;@   expect eax = 0
;@ case a fixture skips
;@   fixture absent
;@   call greet
;@   expect eax = 0
;@ case nobody is called so
;@   extern puts = nobody
;@   call greet
;@   expect eax = 0
""",
    )
    result = run_within(pytester, "-rfs")
    result.assert_outcomes(passed=2, failed=2, skipped=1)
    result.stdout.fnmatch_lines([
        "*test_greet.asm:15: puts was called, which no object defines: give it with ;@ extern puts*",
        "*test_greet.asm:*puts = nobody names no label of the test's own source, and no fixture*",
        "FAILED test_greet.asm::nobody is called so - puts = nobody names no label*",
        "SKIPPED*no compiler",
    ])  # fmt: skip
    assert "Traceback" not in result.stdout.str()


def test_a_changed_object_and_a_changed_file_that_its_test_includes_are_read_again(bare_cpu, tmp_path):
    bare_cpu.folder = tmp_path

    def built(value):
        (tmp_path / "lib.s").write_text(f".globl give\ngive: mov ${value}, %eax\nret\n")
        host_programs.run("as", "--32", "lib.s", "-o", "lib.o", folder=tmp_path)

    def given():
        bare_cpu.reset()
        bare_cpu.load("lib.o", "more.asm")
        return bare_cpu.call("more").eax

    (tmp_path / "more.inc").write_text("MORE = 1\n")
    (tmp_path / "more.asm").write_text('.include "more.inc"\nmore: call give\n add eax, MORE\n ret\n')
    built(10)
    assert given() == 11
    (tmp_path / "more.inc").write_text("MORE = 2\n")
    assert given() == 12
    built(20)
    assert given() == 22


SETTINGS = ";@ object greet.o\n;@ abi cdecl\ngreet: ret\n"
OWN_CODE = ";@ object greet.o\n;@ case own code\n;@   code  nop 5\n;@   expect eax = 0\n"
OFF = ";@ object greet.o\n.if 0\n;@ case off\n;@   call greet\n;@   expect eax = 5\n.endif\n"
COLONS = """
f: ret
;@ case a::b
;@   each   text = "c::d", "e"
;@   set    [0x20000] = text
;@   call   f
;@   expect [0x20000] = text
"""


def test_objects_and_values_follow_the_rules_of_other_lines_of_cases(pytester):
    """Settings with no case, a mistake in a case's own code, a case that is switched off, `::` in a test's name."""
    (pytester.path / "greet.s").write_text(".globl greet\ngreet: ret\n")
    host_programs.run("as", "--32", "greet.s", "-o", "greet.o", folder=pytester.path)
    pytester.makefile(".asm", test_own=OWN_CODE, test_off=OFF, test_settings=SETTINGS, test_colons=COLONS)
    names = ["test_own.asm", "test_off.asm", "test_settings.asm", 'test_colons.asm::a:b[text="c:d"]']
    result = run_within(pytester, "-rfs", *names)
    result.assert_outcomes(passed=1, failed=1, skipped=1, errors=1)
    result.stdout.fnmatch_lines([
        "test_settings.asm:1:4: ;@ object is for cases, and the file has none; *",
        "test_own.asm:3:*",
        "    ;@   code  nop 5",
        "FAILED test_own.asm::own code - *",
    ])  # fmt: skip


def test_a_register_that_is_not_given_a_number_is_an_error(bare_cpu):
    bare_cpu.load("f: ret\n")
    with pytest.raises(ValueError, match="'1' is not a number"):
        bare_cpu.call("f", xmm0="1")
    with pytest.raises(ValueError, match=r"eax is given 1\.5"):
        bare_cpu.call("f", eax=1.5)
