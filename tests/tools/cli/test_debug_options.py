"""`callgate debug` from the command line: the options of the machine, and a reader that goes away."""

import subprocess
import sys
from pathlib import Path

import pytest
from callgate.tools.cli.machine_options import OPTIONS
from callgate.tools.cli.main import cli
from click import Context
from click.testing import CliRunner, Result

CALLGATE = Path(sys.executable).with_name("callgate")


def debug(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["debug", *arguments])


def test_each_command_that_boots_has_every_option_of_the_machine_that_means_something_there() -> None:
    of_runs = {"fuel", "quiet", "stats", "record"}  # a debugger ends a run by its commands, and has no boot log
    for name, without in (("boot", set()), ("trace", set()), ("map", set()), ("debug", of_runs)):
        command = cli.get_command(Context(cli), name)
        assert command is not None
        assert set(OPTIONS) - {parameter.name for parameter in command.params} == without, name


def test_options_of_the_machine_make_the_machine(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    arguments = ("-e", "py system.options.ide, system.options.scratch, system.options.mount_deadline", "-e", "quit")
    assert debug("--ide", "--scratch", "--mount-deadline", "7", *arguments).output.endswith("(True, True, 7000000)\n")
    assert debug(*arguments).output.endswith("(False, False, 2000000000)\n")


def test_a_disk_is_unplugged_at_the_time_that_was_said(capfd: pytest.CaptureFixture[str]) -> None:
    result = debug("--unplug-at", "20000", "-c", "df", "-e", "until disk.unplug", "-e", "print clock", "-e", "quit")
    assert "event disk.unplug" in result.output
    assert result.output.rstrip().endswith("= 20000")


def test_options_that_cannot_be_are_refused_by_name(tmp_path: Path) -> None:
    assert "--memory 15M: low RAM is 16M to 768M" in debug("--memory", "15M").output
    assert "--unplug-at 5:3: the last disk is 0" in debug("--unplug-at", "5:3").output
    recording = tmp_path / "run.cgr"
    CliRunner().invoke(cli, ["boot", "-q", "-c", "df", "--record", str(recording)])
    assert "--ide: a recording has its own options" in debug(str(recording), "--ide").output


def test_a_reader_that_goes_away_ends_the_debugger_quietly() -> None:
    lines = [argument for _ in range(40) for argument in ("-e", "help")]
    with subprocess.Popen(
        [CALLGATE, "debug", *lines], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"instruction 0")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 0
