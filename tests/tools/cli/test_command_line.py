"""The command line as a user meets it: output, messages, exit codes."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.tools.cli.main import run, take_any_text
from forked import Forked

Callgate = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def callgate(command_line: Callable[..., Any]) -> Callgate:
    """Run `callgate`: in this process, or in one of its own if it gets input or a stream of the host."""

    def run(
        *arguments: str | Path, text: str | None = None, stdout: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        if text is None and stdout == subprocess.PIPE:
            outcome = command_line(*arguments)
            return subprocess.CompletedProcess(
                arguments, outcome.status, outcome.stdout.decode(), outcome.stderr.decode()
            )
        with Forked(*arguments, stdin=subprocess.PIPE, stdout=stdout) as process:
            output, errors = process.communicate((text or "").encode())
        return subprocess.CompletedProcess(arguments, process.wait(), output.decode(), errors.decode())

    return run


def test_booting_without_an_image_boots_the_demo(callgate: Callgate) -> None:
    result = callgate("boot", "-c", "dir; cat EMPTY.DAT; exit 7")
    assert result.returncode == 7
    assert "README.TXT" in result.stdout
    assert "/d0p1: fat16, label DEMO" in result.stderr
    assert "/d0p2: fat32, label SECOND" in result.stderr


def test_commands_come_through_a_pipe_without_echo_or_prompt(callgate: Callgate) -> None:
    result = callgate("boot", "-q", text="echo one\r\necho two\nexit 3\necho never\n")
    assert (result.stdout, result.stderr, result.returncode) == ("one\ntwo\n", "", 3)


def test_the_end_of_input_ends_the_shell(callgate: Callgate) -> None:
    result = callgate("boot", "-q", text="false\n")
    assert (result.stdout, result.returncode) == ("", 1)


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly() -> None:
    with Forked("boot", "-q", "-c", "cat PATTERN.BIN") as process:
        assert process.stdout.read(8) == bytes([0, 0, 0, 0, 1, 0, 0, 0])
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["boot", "missing.img"], 5, "missing.img: there is no such file"),
        (["boot", "."], 5, "is a directory, not a disk image; make an image of it: callgate disk create"),
        (["bot"], 2, "Did you mean 'boot'?"),
        (["boot", "--memory", "1M"], 2, "--memory 1M: low RAM is 16M to 768M"),
        (["boot", "--high-memory", "70000001"], 2, "--high-memory 70000001: RAM above 4 GiB is 1M to 64G"),
        (["boot", "--memory", "lots"], 2, "'lots' is not a size"),
        (["boot", "--fuel", "0"], 2, "--fuel"),
        (["asm", "missing.asm"], 1, "missing.asm"),
    ],
)
def test_wrong_arguments_of_callgate_are_named(
    callgate: Callgate, arguments: list[str], code: int, message: str
) -> None:
    result = callgate(*arguments)
    assert message in result.stderr
    assert result.returncode == code
    assert "Traceback" not in result.stderr


def test_an_empty_image_ends_with_the_exit_code_of_a_bad_image(callgate: Callgate, tmp_path: Path) -> None:
    (tmp_path / "empty.img").touch()
    result = callgate("boot", tmp_path / "empty.img")
    assert result.returncode == 5
    assert "is empty" in result.stderr


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this host has no /dev/full")


@FULL
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("boot", "-q", "-c", "dir"), "callgate: standard output: cannot be written: No space left on device\n"),
        (("disk", "inspect", "--help"), "callgate: standard output: cannot be written: No space left on device\n"),
    ],
)
def test_output_that_cannot_be_written_is_reported(
    callgate: Callgate, arguments: tuple[str, ...], message: str
) -> None:
    with Path("/dev/full").open("w") as full:
        result = callgate(*arguments, stdout=full.fileno())
    assert (result.returncode, result.stderr) == (1, message)


@FULL
@pytest.mark.parametrize("option", ["--trace", "--stats"])
def test_reports_that_cannot_be_written_are_reported(callgate: Callgate, option: str) -> None:
    result = callgate("boot", "-q", "-c", "echo done", option, "/dev/full")
    assert result.returncode == 1
    assert result.stderr == "callgate: /dev/full: cannot be written: No space left on device\n"


def test_commands_may_be_given_one_by_one(callgate: Callgate) -> None:
    result = callgate("boot", "-q", "-c", "echo one", "-c", "echo two; exit 3")
    assert (result.stdout, result.returncode) == ("one\ntwo\n", 3)


@pytest.mark.parametrize("option", ["--trace", "--stats"])
def test_no_command_is_run_when_its_report_could_not_be_written(
    callgate: Callgate, tmp_path: Path, option: str
) -> None:
    missing = tmp_path / "missing" / "file"
    result = callgate("boot", "-q", "-c", "echo done", option, missing)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"callgate: {missing}: No such file or directory\n"


@pytest.mark.thorough(one_in=2)
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_the_shell_has_closed_are_no_files_and_lost_output_is_an_error(
    tmp_path: Path, closed: str
) -> None:
    # The image must not be taken for the console because it gets the console's number.
    image = tmp_path / "a.img"
    arguments = [sys.executable, "-c", "from callgate.tools.cli.main import main; main()"]
    create_image(image, tmp_path)
    before = image.read_bytes()
    line = f'exec "$@" {closed}'
    boot = ["sh", "-c", line, "sh", *arguments, "boot", "-q", str(image), "-c", "echo done; exit 5"]
    result = subprocess.run(boot, capture_output=True, text=True, timeout=100, check=False)
    unheard = closed not in ("<&-", "2>&-")  # standard output is closed: a success would be a lie
    message = "callgate: standard output: cannot be written: Bad file descriptor\n"
    assert result.returncode == (1 if unheard else 5)
    assert result.stderr == (message if closed == ">&-" else "")
    assert result.stdout == ("" if unheard else "done\n")
    assert image.read_bytes() == before


def test_bytes_that_are_no_text_and_characters_that_a_terminal_lacks_are_no_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"type \xff\n"), "utf-8"))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, "ascii"))
    take_any_text()
    sys.stdout.write(f"{sys.stdin.readline()}\N{HORIZONTAL ELLIPSIS}\n")
    sys.stdout.flush()
    assert shown.getvalue() == b"type \\udcff\n\\u2026\n"


def test_running_out_of_fuel_has_its_own_exit_code(callgate: Callgate) -> None:
    result = callgate("boot", "-q", "--fuel", "5000", "-c", "dir")
    assert result.returncode == 4
    assert "out of fuel" in result.stderr


def test_stats_and_traces_can_be_written_to_files(callgate: Callgate, tmp_path: Path) -> None:
    for name in ("a", "b"):
        files = ("--stats", tmp_path / f"{name}.json", "--trace", tmp_path / f"{name}.txt")
        result = callgate("boot", "-q", "-c", "cat README.TXT", *files)
        assert result.returncode == 0, result.stderr
    stats = json.loads((tmp_path / "a.json").read_text())
    keys = {
        *("guest_instructions", "host_calls", "cr3_loads", "pte_writes", "tlb_invalidations", "ring_changes"),
        *("exceptions", "cpu_file_bytes", "dma_bytes", "blocking_waits", "requests"),
    }
    assert keys <= set(stats)
    operations = stats["operations"]
    # Opened once, which brings the directory entry's file number and size, and where its bytes lie: there is no READ.
    assert {name: operations[name]["n"] for name in ("OPEN", "CLOSE")} == {"OPEN": 1, "CLOSE": 1}
    assert "READ" not in operations
    assert sum(operation["n"] for operation in operations.values()) == stats["requests"]
    assert all(keys <= set(operation) for operation in operations.values())
    assert [operations[name]["requests"] for name in ("OPEN", "CLOSE")] == [1, 1]
    assert stats["cache"]["misses"] > 0
    assert stats["file_data"]["requests"] == 0
    trace = (tmp_path / "a.txt").read_text()
    assert trace == (tmp_path / "b.txt").read_text()
    steps = ["ipc.take", "ipc.fill", "ipc.post", "ipc.fetch", "ipc.map", "ipc.reply", "ipc.unmap", "ipc.wake"]
    positions = [trace.index(step) for step in steps]
    assert positions == sorted(positions)


def test_asm_writes_an_executable_and_names_errors(callgate: Callgate, tmp_path: Path) -> None:
    good = tmp_path / "good.asm"
    good.write_text("start:\n  mov eax, 1\n  ret\n")
    result = callgate("asm", good, "--listing")
    assert result.returncode == 0, result.stderr
    assert "b801000000" in result.stdout
    assert (tmp_path / "good.elf").read_bytes().startswith(b"\x7fELF")
    bad = tmp_path / "bad.asm"
    bad.write_text("start:\n  mov al, 300\n")
    result = callgate("asm", bad)
    assert result.returncode == 1
    assert f"{bad}:2:" in result.stderr


def test_the_program_in_the_document_runs_as_it_says(
    callgate: Callgate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/writing-a-program.md: the commands there print the output there."""
    document = (Path(__file__).parents[3] / "docs" / "writing-a-program.md").read_text()
    source, console = (re.findall(f"```{kind}\n(.*?)```", document, re.DOTALL)[0] for kind in ("asm", "console"))
    monkeypatch.chdir(tmp_path)
    Path("count.asm").write_text(source)
    printed = ""
    for line in console.splitlines():
        if line.startswith("$ callgate "):
            result = callgate(*shlex.split(line)[2:])
            assert result.returncode == 0, (line, result.stderr)
            printed += result.stdout
        elif line.startswith("$ "):
            subprocess.run(line[2:], shell=True, check=True)  # noqa: S602
    assert printed == "".join(f"{line}\n" for line in console.splitlines() if not line.startswith("$"))


def test_asm_looks_for_included_files_in_folders_that_are_named(callgate: Callgate, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "ten.asm").write_text("ten: mov eax, 10\n  ret\n")
    (tmp_path / "a.asm").write_text('.include "ten.asm"\nstart: call ten\n')
    missing = callgate("asm", tmp_path / "a.asm")
    assert missing.returncode == 1
    assert "ten.asm cannot be found" in missing.stderr
    assert callgate("asm", tmp_path / "a.asm", "-I", tmp_path / "library").returncode == 0


def test_a_directory_becomes_an_image_that_boots(callgate: Callgate, tmp_path: Path) -> None:
    (tmp_path / "files" / "sub").mkdir(parents=True)
    (tmp_path / "files" / "README.TXT").write_text("made by callgate\n")
    (tmp_path / "files" / "sub" / "a long name.txt").write_text("below\n")
    image = tmp_path / "out.img"
    for options in (["--fs", "fat12"], ["--fs", "fat16", "--mbr"], ["--fs", "fat32", "--gpt"]):
        made = callgate("disk", "create", image, "--from", tmp_path / "files", "--force", *options)
        assert made.returncode == 0, made.stderr
        shown = json.loads(callgate("disk", "inspect", image, "--json").stdout)
        assert shown["problems"] == []
        booted = callgate("boot", "-q", image, "-c", "cat README.TXT 'sub/a long name.txt'")
        assert (booted.stdout, booted.returncode) == ("made by callgate\nbelow\n", 0)


def test_a_missing_directory_is_named_and_leaves_nothing(callgate: Callgate, tmp_path: Path) -> None:
    result = callgate("disk", "create", tmp_path / "out.img", "--from", tmp_path / "nothing")
    assert result.returncode == 1
    assert "nothing" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_asm_reads_standard_input_and_writes_to_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> bytes:
        with Forked("asm", *arguments, stdin=subprocess.PIPE) as process:
            output, errors = process.communicate(b"start: nop\n")
        assert (process.returncode, errors) == (0, b"")
        return output

    for source in ("-", "/dev/stdin"):
        assert run(source).startswith(b"\x7fELF")
    assert run("-", "-o", "x.elf", "--listing").endswith(b"start: nop\n")
    assert (tmp_path / "x.elf").read_bytes().startswith(b"\x7fELF")
    assert [path.name for path in tmp_path.iterdir()] == ["x.elf"]


def test_asm_writes_flat_binaries(callgate: Callgate, tmp_path: Path) -> None:
    source = tmp_path / "boot.asm"
    source.write_text("start: mov eax, [value]\n.data\nvalue: .long 7\n.bss\n.space 64\n")
    result = callgate("asm", source, "--format", "binary", "--origin", "0x7c00")
    assert result.returncode == 0, result.stderr
    image = (tmp_path / "boot.bin").read_bytes()
    assert image == bytes.fromhex("a1107c0000").ljust(16, b"\0") + bytes.fromhex("07000000")
    refused = callgate("asm", source, "--origin", "0x7c00")
    assert refused.returncode == 2
    assert "sections begin at multiples of 4096; write 0x7000 or 0x8000" in refused.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_asm_names_the_file_that_cannot_be_written(callgate: Callgate, tmp_path: Path) -> None:
    source = tmp_path / "a.asm"
    source.write_text("nop\n")
    result = callgate("asm", source, "-o", "/dev/full")
    assert result.returncode == 1
    assert result.stderr == "Error: Could not open file '/dev/full': No space left on device\n"


def test_ctrl_c_while_the_command_line_is_imported_ends_it_without_a_traceback(tmp_path: Path) -> None:
    # Instead of click, a module with the same name that presses Ctrl-C while it is imported.
    (tmp_path / "click.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(9): pass\n"
    )
    command = Path(sys.executable).with_name("callgate")
    done = subprocess.run(
        [command, "--help"], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_while_a_class_is_made_is_one_as_any_and_another_error_is_not() -> None:
    # CPython 3.11 makes a RuntimeError of whatever `__set_name__` raises.
    class Pressed:
        def __set_name__(self, _owner: type, _name: str) -> None:
            raise KeyboardInterrupt

    def importing(**_options: object) -> None:
        type("Cpu", (), {"eax": Pressed()})

    def failing(**_options: object) -> None:
        raise RuntimeError("something else")

    assert run(importing) == 130
    with pytest.raises(RuntimeError, match="something else"):
        run(failing)
