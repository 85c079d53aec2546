"""`pytest --asm-record` for cases and `bare_cpu`: a recording of the calls, opened where the test failed."""

import json
import re
import shlex
import shutil

import host_programs
import pytest
from callgate.kernel.abi.calls import HostCall
from callgate.tools.asmtest.bare.cpu import BareCpu
from callgate.tools.asmtest.bare.logging_run import LoggingRun
from callgate.tools.asmtest.recorded import record_calls
from callgate.tools.recording import RecordingError, apply, read_recording, run_to, state_of
from plugin_runs import COMMAND, run_within

pytest_plugins = ["pytester"]

ROUTINES = """
        PORT = HostCall.FIRST_USE
double: add     eax, eax
        .event  doubled value=eax
        ret
store:  mov     [ebx], eax
        ret
ask:    push    ebx
        out     PORT, eax
        mov     ebx, eax
        call    double
        mov     [0x20000], eax
        pop     ebx
        ret
spin:   inc     eax
        jmp     spin
floats: fld1
        faddp
        addps   xmm0, xmm1
        mov     eax, gs:[4]
        ret
"""
SHOUT = """
int puts(const char *);
int total;
int shout(int n) { total += puts("HELLO"); return total + n; }
"""
CASES = """
        .include "routines.asm"

;@ case one is wrong
;@   set     eax = 21
;@   call    double
;@   expect  eax = 43

;@ case two faults
;@   set     eax = 7, ebx = 8
;@   call    store
;@   expect  eax = 7

;@ case three holds
;@   call    double
;@   expect  eax = 0

;@ case four has a mistake
;@   call    double
;@   expect  [no_such_label] = 0

;@ case five comes from Python
;@   set     ebx = 3
;@   host    FIRST_USE: ecx = 5
;@   code    out PORT, eax
;@   code    mov edx, ecx
;@   expect  edx = 4
"""
TESTS = """
from callgate.kernel.abi.calls import HostCall
def test_six_has_several_calls(bare_cpu):
    bare_cpu.load("routines.asm")
    bare_cpu.write(0x20004, b"abcd")
    bare_cpu.segment("gs", 0x20000)
    assert bare_cpu.call("double", eax=4).eax == 8
    def answer(value):
        bare_cpu.machine.cpu.eax = value + 1
        bare_cpu.write(0x20008, b"x" * 5000)
    bare_cpu.on_host_call(HostCall.FIRST_USE, answer)
    assert bare_cpu.call("ask", eax=5).eax == 12
    assert bare_cpu.call("store", faults=True).fault.address == 0
    assert bare_cpu.call("floats", st0=1.5, xmm0=3, xmm1=4).eax == int.from_bytes(b"xxxx", "little")

def test_seven_never_returns(bare_cpu):
    bare_cpu.load("routines.asm")
    bare_cpu.call("spin", fuel=1001)

def test_eight_has_no_answer(bare_cpu):
    bare_cpu.load("routines.asm")
    bare_cpu.call("double", eax=1)
    bare_cpu.call("ask", eax=5)

def test_nine_calls_nothing(bare_cpu):
    bare_cpu.load("routines.asm")
    assert bare_cpu.read(0x20000, 1) == b"x"

def test_ten_differs_the_second_time(bare_cpu):
    bare_cpu.load("routines.asm")
    def answer(value, times=[]):
        times.append(value)
        bare_cpu.machine.cpu.eax = len(times)
    bare_cpu.on_host_call(HostCall.FIRST_USE, answer)
    assert bare_cpu.call("ask", eax=5).eax == 12
"""


@pytest.fixture(scope="module")
def cpu():
    cpu = BareCpu()
    yield cpu
    cpu.close()


@pytest.fixture
def fresh(cpu, tmp_path):
    cpu.reset()
    cpu.folder = cpu.root = tmp_path
    (tmp_path / "routines.asm").write_text(ROUTINES)
    cpu.load("routines.asm")
    return cpu


def report_of(pytester, *arguments):
    (pytester.path / "routines.asm").write_text(ROUTINES)
    (pytester.path / "test_cases.asm").write_text(CASES)
    pytester.makepyfile(test_calls=TESTS)
    return run_within(pytester, "--asm-record", *arguments).stdout.str()


def command_of(report, word):
    """Return the command of the test whose recording has a word in its name."""
    return next(line for line in COMMAND.findall(report) if word in line)


def test_each_failure_names_the_command_that_opens_it_before_its_last_instruction(opened, pytester):
    report = report_of(pytester)
    places = {
        "one": "<double+0x2>  ret",
        "two": "<store>  mov dword ptr [ebx], eax",
        "five": "<__case_22+0x4>  ret",
        "six": "<floats+0xd>  ret",
        "seven": "<spin>  inc eax",
        "eight": "<ask+0x1>  out ",
    }
    assert len(COMMAND.findall(report)) == len(places)
    for word, place in places.items():
        assert place in opened(command_of(report, word)).splitlines()[1], word
    assert report.count("none: the test's last call did something else when it was repeated") == 1
    assert len(list((pytester.path / "recordings").iterdir())) == len(places)


def test_a_recorded_fault_comes_again_and_its_operand_is_followed_to_the_test(opened, pytester):
    shown = opened(command_of(report_of(pytester, "-k", "two"), "two"), "stepi", "stepi", "back stepi", "why ebx", "bt")
    assert "#PF 0x2 at 0x8: there is no IDT, and the call ends here" in shown
    assert "an exception: there is no IDT, and the call ends here" in shown
    assert "ebx = 0x00000008\n  the test, which has set it up for its first call, or left it as it was\n" in shown
    assert "#0  0x00400003 <store>  routines.asm:6\n#1  0x00008000" in shown


def test_all_calls_of_a_test_can_be_walked_both_ways(opened, pytester):
    command = command_of(report_of(pytester, "-k", "six"), "six")
    forward = opened(command, "goto start", *["stepi"] * 16)
    backward = opened(command, *["back stepi"] * 16)
    places = [re.findall(r"  (0x\S+ <.*)", text) for text in (forward, backward)]
    assert places[0][1:] == places[1][::-1]
    names = [place.split()[1] for place in places[0][1:]]
    assert names[:4] == ["<double>", "<double+0x2>", "<ask>", "<ask+0x1>"]
    assert names[11:] == ["<store>", *(f"<floats{at}>" for at in ("", "+0x2", "+0x4", "+0x7", "+0xd"))]
    assert "#PF 0x2 at 0x0: there is no IDT, and the call ends here" in forward
    assert "step phase" in opened(command, "help step phase")


def test_why_and_who_name_what_python_has_changed(opened, pytester):
    command = command_of(report_of(pytester, "-k", "six"), "six")
    shown = opened(command, "events", "why [0x2000c]", "why -c eax", "goto 5", "why -c ebx", "goto 2", "why eax")
    assert "[0x0002000c] = 0x78787878\n  the test's function for first_use\n  at instruction 4, " in shown
    assert re.search(r"doubled value=0x8\n +\S+ +.*\n? *.*doubled value=0xc", shown)  # also of what was passed at once
    assert "ebx = 0x00000006\n  0x00400009 <ask+0x3>  mov ebx, eax" in shown
    assert "eax = 0x00000006\n  the test's function for first_use" in shown
    by_test = "the test, which has set it up for the call that begins here"
    assert f"eax = 0x00000005\n  {by_test}\n  at instruction 2, " in shown


def test_a_run_that_leaves_the_recorded_way_stops_where_python_would_be_asked(opened, pytester):
    command = command_of(report_of(pytester, "-k", "eight"), "eight")
    shown = opened(command, "stepi", "back stepi", "set eip = 0x400006", "continue")
    assert "first_use is answered by Python, which was not asked here in the test" in shown
    assert "goes another way" in shown


def test_a_recording_needs_neither_the_sources_nor_the_folder_of_the_test(opened, pytester, tmp_path):
    command = command_of(report_of(pytester, "-k", "one"), "one")
    words = shlex.split(command)
    moved = tmp_path / "elsewhere" / "moved.cgr"
    moved.parent.mkdir()
    shutil.move(pytester.path / words[2], moved)
    (pytester.path / "routines.asm").unlink()
    shown = opened(f"callgate debug {moved}", "list", "break routines.asm:3", "goto start", "continue")
    assert "=>    5         ret" in shown
    assert str(pytester.path) not in moved.read_text()


def test_a_recording_of_calls_takes_no_image(command_line, pytester):
    words = shlex.split(command_of(report_of(pytester, "-k", "one"), "one"))
    done = command_line("debug", str(pytester.path / words[2]), str(pytester.path / "routines.asm"))
    assert (done.status, "is of a test without disks: name no image after it" in done.messages) == (5, True)


def state_after(path, final):
    """Return the state of another machine on which a recording has been repeated to the end of its last call."""
    recording = read_recording(path)
    with recording.calls().machine as machine:
        for entry in recording.occurred:
            run_to(machine, entry.position)
            apply(machine, entry.what)
        run_to(machine, final)
        return state_of(machine)


def test_another_machine_comes_to_the_same_memory_and_registers(fresh, tmp_path):
    fresh.segment("gs", 0x20000)
    fresh.write(0x20004, bytes(range(256)) * 20)
    fresh.on_host_call(HostCall.FIRST_USE, lambda value: fresh.write(0x30000 + value, b"answer"))
    for number in range(1, 12):
        fresh.enter_ring(0)
        fresh.call("ask", eax=number, CF=number & 1)
        fresh.segment("gs", 0x20000 + number)
        fresh.call("floats", st0=number / 3, xmm0=number << 100, xmm1=7, mm1=number)
        fresh.enter_ring(3)
        fresh.protect(0x40000, 4096, "r" if number % 2 else "rw")
        fresh.call("store", eax=number, ebx=0x40000 + number, faults=True)
    run = LoggingRun(fresh)
    there = state_of(fresh.machine)
    (line,) = record_calls(fresh, tmp_path, "test_it", tmp_path)
    assert line == "callgate debug test_it.cgr"
    assert state_after(tmp_path / "test_it.cgr", run.final) == there


def test_what_a_test_looks_at_afterwards_is_what_it_was_before_the_recording(fresh, tmp_path):
    fresh.call("double", eax=4)
    result = fresh.call("store", eax=1, faults=True)
    kept = fresh.last, dict(fresh.before), list(fresh.journal), fresh.calls
    record_calls(fresh, tmp_path, "test_it", tmp_path)
    assert (fresh.last, fresh.before, fresh.journal, fresh.calls) == kept
    assert fresh.retrace(1) == [result.eip]


def test_what_a_function_for_an_object_does_is_repeated_watched_and_named(fresh, tmp_path, opened):
    (tmp_path / "shout.c").write_text(SHOUT)
    host_programs.run("gcc", "-m32", "-g", "-O0", "-fno-pie", "-c", "shout.c", folder=tmp_path)
    fresh.reset()
    said = []

    def puts(text):
        said.append(fresh.text(text))
        fresh.write(0x20000, b"said")
        return len(said)

    fresh.load("shout.o", extern={"puts": puts})
    fresh.call("shout", args=[1])
    (line,) = record_calls(fresh, tmp_path, "test_it", tmp_path)
    assert line.startswith("none: the test's last call did something else when it was repeated: a function of the")
    puts_of = {"puts": lambda text: fresh.write(0x20000, fresh.read(text, 4)) or 5}
    fresh.reset()
    fresh.load("shout.o", extern=puts_of)
    fresh.call("shout", args=[1])
    fresh.call("shout", args=[2])
    record_calls(fresh, tmp_path, "test_it", tmp_path)
    more = ("why [0x20000]", "who writes [total]", "watch [0x20000]", "goto start", "continue", "goto end", "bt")
    shown = opened(f"callgate debug {tmp_path}/test_it.cgr", *more)
    assert "[0x00020000] = 0x4c4c4548\n  the test's function for puts" in shown
    assert "0x00000005 becomes 0x0000000a, by 0x" in shown
    assert "write of 1 byte at 0x00020000 by the test's function for puts" in shown
    assert re.search(r"#0  0x\S+ <shout\+\S+>  shout.c:4\n#1  0x00008000", shown)


DAMAGE = {
    "no memory": lambda lines: [lines[0].replace('"memory":8388608', '"memory":12'), *lines[1:]],
    "no programs": lambda lines: [lines[0].replace('"programs"', '"program"'), *lines[1:]],
    "another register": lambda lines: [lines[0], lines[1].replace('"eax"', '"eux"'), *lines[2:]],
    "damaged memory": lambda lines: [lines[0], lines[1].replace('"eJ', '"xx'), *lines[2:]],
    "too much memory": lambda lines: [lines[0], lines[1].replace("[[32768,", "[[4294967295,"), *lines[2:]],
    "a machine without end": lambda lines: [lines[0].replace('"memory":8388608', f'"memory":{1 << 50}'), *lines[1:]],
    "a piece without end": lambda lines: [
        lines[0],
        re.sub(r"\[\[32768,\d+", f"[[32768,{1 << 50}", lines[1]),
        *lines[2:],
    ],
    "nothing set up": lambda lines: [lines[0], *lines[2:]],
    "a section without bytes": lambda lines: [lines[0].replace('"contents":[[', '"contents":[[1'), *lines[1:]],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_recording_of_calls_is_refused_by_its_name(fresh, tmp_path, command_line, damage):
    fresh.call("store", faults=True)
    record_calls(fresh, tmp_path, "test_it", tmp_path)
    path = tmp_path / "test_it.cgr"
    lines = path.read_text().splitlines(keepends=True)
    damaged = DAMAGE[damage](lines)
    assert damaged != lines
    path.write_text("".join(damaged))
    done = command_line("debug", str(path), "-e", "quit")
    assert done.status == 5
    assert str(path) in done.messages
    assert "Traceback" not in done.messages


def test_a_recording_whose_run_does_not_come_to_its_positions_is_refused(fresh, tmp_path, command_line):
    fresh.call("double", eax=4)
    fresh.call("store", faults=True)
    record_calls(fresh, tmp_path, "test_it", tmp_path)
    path = tmp_path / "test_it.cgr"
    path.write_text(path.read_text().replace('"at":[2,0,2]', '"at":[9,0,9]').replace('"end":[2,0', '"end":[9,0'))
    done = command_line("debug", str(path), "-e", "quit")
    assert done.status == 5
    assert f"{path}: the recording cannot be repeated" in done.messages


def test_a_recording_of_calls_that_another_version_made_is_refused(fresh, tmp_path):
    fresh.call("double")
    record_calls(fresh, tmp_path, "test_it", tmp_path)
    path = tmp_path / "test_it.cgr"
    head, rest = path.read_text().split("\n", 1)
    path.write_text(json.dumps(json.loads(head) | {"version": "callgate 0"}, separators=(",", ":")) + "\n" + rest)
    with pytest.raises(RecordingError, match="was recorded by callgate 0"):
        read_recording(path).calls()
