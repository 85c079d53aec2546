"""`pytest --asm-cov` in a project of its own: its counts, its reports, its failures."""

from importlib.resources import files

import host_programs
import pytest
from callgate.kernel.system import SystemOptions, boot
from callgate.tools.asmtest.coverage.measuring import Coverage, Key
from plugin_runs import run_within

pytest_plugins = ["pytester"]

ROUTINE = """
sign:   test    eax, eax
        js      minus
        mov     eax, 1
        ret
minus:  mov     eax, -1
        ret
nobody: jmp     nobody
"""
CASES = """
        .include "sign.asm"
;@ case plus
;@   set eax = 5
;@   call sign
;@   expect eax = 1
"""
PYTHON = """
def test_minus(bare_cpu):
    bare_cpu.load("sign.asm")
    assert bare_cpu.call("sign", eax=-5).eax == 0xFFFF_FFFF
"""


@pytest.fixture
def project(pytester):
    pytester.makefile(".asm", sign=ROUTINE)
    return pytester


def run(project, *arguments):
    return run_within(project, *arguments)


def test_coverage_by_cases_alone_names_the_direction_that_is_not_taken(project):
    project.makefile(".asm", test_sign=CASES)
    result = run(project, "--asm-cov", "--asm-cov-report=term-missing")
    result.stdout.fnmatch_lines([
        "file*instructions*directions*",
        "sign.asm       4/7      57.1       1/2      50.0",
        "total          4/7      57.1       1/2      50.0",
        "sign.asm:2: js      minus: never jumps",
        "sign.asm:5: minus:  mov     eax, -1: never executed",
        "sign.asm:6: ret: never executed",
        "sign.asm:7: nobody: jmp     nobody: never executed",
    ])  # fmt: skip
    assert "test_sign.asm" not in result.stdout.str().split("coverage of assembly")[1]


def test_coverage_of_cases_and_python_adds_up_and_the_limit_is_checked(project):
    project.makefile(".asm", test_sign=CASES)
    project.makepyfile(PYTHON)
    result = run(project, "--asm-cov", "--asm-cov-fail-under=85")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["sign.asm       6/7      85.7       2/2     100.0"])
    result = run(project, "--asm-cov", "--asm-cov-fail-under=86")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["coverage of 85.71 % is less than 86 %"])


@pytest.mark.thorough(only=True)
def test_coverage_of_the_workers_of_a_parallel_run_adds_up(project):
    project.makefile(".asm", test_sign=CASES)
    project.makepyfile(PYTHON)
    result = project.runpytest_subprocess("-n", "2", "--dist", "loadfile", "--asm-cov")
    result.stdout.fnmatch_lines(["sign.asm       6/7      85.7       2/2     100.0"])


def test_coverage_is_written_as_lcov_and_annotated_listings(project):
    project.makefile(".asm", test_sign=CASES)
    run(project, "--asm-cov", "--asm-cov-report=lcov:out.info", "--asm-cov-report=annotate:listings")
    lines = (project.path / "out.info").read_text().splitlines()
    assert lines == [
        "TN:", f"SF:{project.path / 'sign.asm'}", "BRDA:2,0,0,0", "BRDA:2,0,1,1", "BRF:2", "BRH:1",
        "DA:1,1", "DA:2,1", "DA:3,1", "DA:4,1", "DA:5,0", "DA:6,0", "DA:7,0", "LF:7", "LH:4", "end_of_record",
    ]  # fmt: skip
    listing = (project.path / "listings" / "sign.asm.cover").read_text().splitlines()
    assert listing[:2] == ["> sign:   test    eax, eax", "!         js      minus    <-- never jumps"]
    assert listing[4:6] == ["- minus:  mov     eax, -1", "-         ret"]


def test_coverage_distinguishes_programs_at_the_same_addresses(project):
    """Ten programs in turn on one bare CPU: coverage of one is not taken for another's."""
    project.makepyfile("""
        def test_turns(bare_cpu):
            for text in ("f: nop\\n nop\\n nop\\n ret\\n", '.include "sign.asm"\\n') * 5:
                bare_cpu.reset()
                bare_cpu.load(text)
                bare_cpu.call("f" if "f:" in text else "sign", eax=-1)
    """)
    result = run(project, "--asm-cov", "--asm-cov-report=term-missing")
    result.stdout.fnmatch_lines(["sign.asm:3: mov     eax, 1: never executed", "sign.asm:4: ret: never executed"])


def test_coverage_of_objects_is_measured_by_their_lines_of_c(project):
    source = "int sign(int a) {\n    if (a < 0)\n        return -1;\n    return 1;\n}\n"
    (project.path / "sign.c").write_text(source)
    host_programs.run("gcc", "-m32", "-g", "-O0", "-fno-pie", "-c", "sign.c", folder=project.path)
    project.makepyfile("""
        def test_c(bare_cpu):
            bare_cpu.load("sign.o")
            assert bare_cpu.call("sign", args=[4]).eax == 1
    """)
    result = run(project, "--asm-cov", "--asm-cov-report=term-missing")
    result.stdout.fnmatch_lines(["sign.c:2: j*: always jumps", "sign.c:3: mov eax, 0xffffffff: never executed"])


def test_coverage_of_a_booted_system_includes_kernel_and_programs(project):
    kernel, user = (files(f"callgate.asm.{name}") for name in ("kernel", "user"))
    project.makepyfile("""
        def test_echo(booted):
            assert "hello" in booted.command("echo hello")
    """)
    commands = user / "shell" / "commands" / "shell_commands.asm"
    options = (f"--asm-cov={kernel}/entry/boot.asm", f"--asm-cov={commands}", "--asm-cov-report=lcov:x")
    result = run(project, *options)
    assert result.ret == 0
    found = (project.path / "x").read_text()
    boot, shell = (part for part in found.split("end_of_record") if "SF:" in part)
    assert boot.count(",1\n") > 20  # runs below 4 GiB - 1 GiB, and is the same code
    lines = commands.read_text().splitlines()
    places = {line.rstrip(":"): number for number, line in enumerate(lines, 1)}
    assert f"DA:{places['command_echo'] + 1},1\n" in shell
    assert f"DA:{places['command_help'] + 1},0\n" in shell


def test_coverage_of_a_server_is_its_own_also_after_a_direct_switch() -> None:
    def executed(*, fast_path: bool) -> dict[Key, int]:
        coverage = Coverage()
        with boot(options=SystemOptions(commands="ls /rom", fast_path=fast_path)) as system:
            coverage.watch_system(system)
            system.run()
            assert bool(system.machine.ledger.counts().fast_requests) is fast_path
        return {key: flags for key, (_, _, flags) in coverage.results().items() if "/asm/user/" in str(key[0])}

    assert executed(fast_path=True) == executed(fast_path=False)


MISTAKES = {
    ("--asm-cov-report=term",): "do nothing without --asm-cov",
    ("--asm-cov", "--asm-cov-report=html"): "there are term, term-missing, lcov, annotate",
    ("--asm-cov", "--asm-cov-report=term:x"): "the terminal has no file; write term",
    ("--asm-cov=nowhere",): "there is no such file or folder",
}


def test_mistaken_coverage_options_are_errors(project):
    for options, message in MISTAKES.items():
        result = run(project, *options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert message in result.stdout.str() + result.stderr.str()


def test_coverage_leaves_no_watcher_on_the_machine(project):
    from callgate.kernel.system import System
    from callgate.tools.asmtest.bare.cpu import BareCpu

    before = list(BareCpu.watchers), list(System.watchers)
    project.makefile(".asm", test_sign=CASES)
    run(project).assert_outcomes(passed=1)
    run(project, "--asm-cov").assert_outcomes(passed=1)
    assert (BareCpu.watchers, System.watchers) == before
