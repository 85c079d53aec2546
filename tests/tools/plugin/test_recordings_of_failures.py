"""`pytest --asm-record`: a test that fails with a booted system leaves a recording, and the command that opens it."""

import re
import shlex

import pytest
from callgate.tools.asmtest.recorded import file_name
from callgate.tools.recording import read_recording
from plugin_runs import COMMAND, run_within

pytest_plugins = ["pytester"]

TESTS = """
    import pytest

    def test_that_passes(booted):
        booted.command("echo one")

    def test_a_command(booted):
        booted.command("echo two")
        print("stands at", booted.machine.position.retired)
        assert booted.command("echo three") == "four"

    @pytest.mark.parametrize("word", ["a/b 'c'", "ü" * 200])
    def test_words(booted, word):
        booted.type("ls")
        assert booted.run(until="gate.system").reason == "halt"

    def test_policy_is_changed(booted):
        booted.machine.cpu.eax = 5
        assert not booted.command("echo five")

    def test_memory_is_changed(booted):
        booted.machine.write_physical(0x200000, b"1234")
        assert False
"""


def test_the_command_of_a_failure_opens_its_recording_where_the_test_failed(opened, pytester):
    pytester.makepyfile(TESTS)
    result = run_within(pytester, "--asm-record")
    result.assert_outcomes(passed=1, failed=5)
    report = result.stdout.str()
    commands = [shlex.split(line) for line in COMMAND.findall(report)]
    files = {words[2] for words in commands}
    assert {f"recordings/{path.name}" for path in (pytester.path / "recordings").iterdir()} == files
    assert len(files) == 4  # none for the test that passes, none for the one that has changed a register unseen
    test = "test_the_command_of_a_failure_opens_its_recording_where_the_test_failed"
    assert f"recordings/{test}.py-test_a_command.cgr" in files
    assert "the test has changed the system in a way that a recording does not know" in report
    for words in commands:
        end = read_recording(pytester.path / words[2]).end
        shown = opened(shlex.join(words))
        last = [line for line in shown.splitlines() if line.startswith("instruction ")][-1]
        assert last.startswith(f"instruction {end.retired:,}")
    words = next(words for words in commands if words[2].endswith("test_a_command.cgr"))
    shown = opened(shlex.join(words), "back continue")
    assert "this is the beginning of the history" in shown


def test_a_recording_of_a_test_does_not_depend_on_the_tests_before_it(pytester):
    pytester.makepyfile(TESTS)
    run_within(pytester, "--asm-record", "-k", "a_command")
    alone = next((pytester.path / "recordings").iterdir()).read_bytes()
    run_within(pytester, "--asm-record", "-k", "passes or command or words")
    names = [path for path in (pytester.path / "recordings").iterdir() if path.name.endswith("test_a_command.cgr")]
    assert [path.read_bytes() for path in names] == [alone]


def test_nothing_is_written_unless_recordings_are_asked_for(pytester):
    pytester.makepyfile("def test_it(booted): assert 0")
    assert "callgate debug" not in run_within(pytester).stdout.str()
    assert [path.name for path in pytester.path.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


def test_the_ini_option_names_a_folder_relative_to_the_root(pytester):
    pytester.makepyfile("def test_it(booted): assert 0")
    pytester.makeini("[pytest]\ncallgate_record = deep/kept here")
    report = run_within(pytester).stdout.str()
    name = "test_the_ini_option_names_a_folder_relative_to_the_root.py-test_it.cgr"
    assert f"""callgate debug 'deep/kept here/{name}' -e "goto end\"""" in report
    assert (pytester.path / "deep" / "kept here" / name).exists()


def test_a_folder_that_is_a_file_is_refused(pytester):
    path = pytester.makepyfile("def test_it(booted): assert 0")
    result = run_within(pytester, "--asm-record", path.name)
    assert "is no folder; write --asm-record=FOLDER" in result.stderr.str()


def test_a_folder_that_cannot_be_written_is_said_beside_the_failure(pytester):
    pytester.makepyfile("def test_it(booted): assert 0")
    (pytester.path / "file").write_text("")
    report = run_within(pytester, "--asm-record=file/within").stdout.str()
    assert re.search(r"none: .*file/within.*: Not a directory", report)
    assert "assert 0" in report


def test_a_panic_is_recorded_up_to_its_instruction(opened, pytester):
    pytester.makepyfile(
        """
        def test_it(booted):
            booted.type("ls")
            booted.run(until="take_slot")
            machine = booted.machine
            place = machine.paging.walk(machine.address("take_slot")).physical
            machine.write_physical(place, bytes([0x0F, 0x0B]))  # UD2
            booted.command("ls")
        """
    )
    report = run_within(pytester, "--asm-record").stdout.str()
    assert "panic" in report
    shown = opened(COMMAND.findall(report)[0], "back to exception", "back step")
    assert "<trap_policy+0x4>" in shown
    assert "event exception vector=0x6" in shown
    assert "<take_slot>" in shown


@pytest.mark.parametrize("test", ["a.py::test[x/y]", "a.py::test[" + "z" * 300, "../../x.py::t", "..", "ä::ö"])
def test_the_name_of_a_recording_is_a_file_name_of_that_test_alone(test):
    name = file_name(test)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\.cgr", name)
    assert len(name) < 120
    assert name != file_name(test + " ")
