"""Options that name a file to be written: existing files are not lost, and `-` is standard output."""

import json
import os
import pty
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from forked import Forked

Command = Callable[..., Any]
REPORTS = pytest.mark.parametrize("option", ["--trace", "--stats"])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "A.TXT").write_text("text\n")
    create_image(tmp_path / "a.img", tmp_path / "files")
    return Path("a.img")


@REPORTS
@pytest.mark.parametrize("spelling", ["a.img", "./a.img", "symbolic", "hard"])
def test_a_report_does_not_overwrite_an_image_of_the_run(
    command_line: Command, image: Path, option: str, spelling: str
) -> None:
    Path("symbolic").symlink_to(image)
    Path("hard").hardlink_to(image)
    before = image.read_bytes()
    outcome = command_line("boot", "-q", image, "-c", "true", option, spelling)
    assert outcome.status == 2
    assert f"callgate: {option} {Path(spelling)}: is " in outcome.messages
    assert outcome.messages.endswith("; name another file\n")
    assert image.read_bytes() == before


@REPORTS
@pytest.mark.parametrize(
    "content", [b"my notes\n", b'{"guest": 1}\n', b"12 monkeys\n", b"[" * 100_000, b'{"clock": 5}', bytes(512)]
)
def test_a_report_does_not_overwrite_a_file_that_is_not_a_report(
    command_line: Command, option: str, content: bytes
) -> None:
    Path("notes").write_bytes(content)
    outcome = command_line("boot", "-q", "-c", "true", option, "notes")
    reason = "already exists, and is not a trace or ledger of callgate; name another file, or remove it"
    assert (outcome.status, outcome.messages) == (2, f"callgate: {option} notes: {reason}\n")
    assert Path("notes").read_bytes() == content


def test_a_report_replaces_an_earlier_one_and_an_empty_file(command_line: Command) -> None:
    Path("t.txt").touch()
    arguments = ("boot", "-q", "-c", "echo done", "--trace", "t.txt", "--stats", "s.json")
    for form in ("text", "jsonl", "jsonl", "text"):
        outcome = command_line(*arguments, "--trace-format", form)
        assert (outcome.status, outcome.stdout) == (0, b"done\n"), outcome.messages
        json.loads(Path("s.json").read_bytes())
    assert Path("t.txt").read_text().splitlines()[-1].split()[1] == "gate.host"


def test_two_reports_in_one_file_are_refused_and_leave_no_file(command_line: Command) -> None:
    outcome = command_line("boot", "-q", "-c", "true", "--trace", "both", "--stats", "./both")
    assert outcome.status == 2
    assert "--stats both: is also the file of --trace; name another file" in outcome.messages
    assert not Path("both").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--trace-format", "jsonl"), "--trace-format says how a trace is written; give --trace FILE as well"),
        (("--history", "h", "--stats", "h"), "--history h: is also the file of a report; name another file"),
        (("--history", "h", "--trace", "h"), "--history h: is also the file of a report; name another file"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    command_line: Command, options: tuple[str, ...], reason: str
) -> None:
    outcome = command_line("boot", "-q", "-c", "true", *options)
    assert outcome.status == 2
    assert outcome.messages.endswith(f"Error: {reason}\n")


@pytest.mark.parametrize("name", ["nothing", "fifo"])
def test_a_report_does_not_follow_a_dangling_link(command_line: Command, name: str) -> None:
    Path(name).symlink_to("elsewhere")
    outcome = command_line("boot", "-q", "-c", "true", "--trace", name)
    assert (outcome.status, Path("elsewhere").exists()) == (2, False)
    assert "is a symbolic link to nothing; name another file" in outcome.messages


@REPORTS
def test_a_report_is_written_to_standard_output_for_a_dash(command_line: Command, option: str) -> None:
    outcome = command_line("boot", "-q", "-c", "echo done", option, "-")
    assert (outcome.status, outcome.messages) == (0, "")
    text = outcome.stdout.decode()
    assert "done\n" in text
    if option == "--stats":
        assert "guest_instructions" in json.loads(text.removeprefix("done\n"))
    assert not Path("-").exists()


def test_a_trace_on_standard_output_is_in_order_with_the_output_of_the_guest(command_line: Command) -> None:
    lines = command_line("boot", "-q", "-c", "echo one; echo two", "--trace", "-").stdout.decode().splitlines()
    first, second = lines.index("one"), lines.index("two")
    assert first + 1 < second
    assert all(line.split()[0].isdigit() for line in lines[first + 1 : second])
    assert "call=WRITE" in lines[first - 1]


def test_disk_create_replaces_an_image_only_when_it_is_told_to(command_line: Command, image: Path) -> None:
    before = image.read_bytes()
    create = ("disk", "create", image, "--from", "files", "--label", "OTHER")
    refused = command_line(*create)
    message = "callgate: a.img: already exists; name another file, or replace it with --force\n"
    assert (refused.status, refused.messages, image.read_bytes()) == (1, message, before)
    assert command_line(*create, "--force").status == 0
    assert image.read_bytes() != before


def test_disk_create_follows_a_symbolic_link_and_keeps_devices(command_line: Command, image: Path) -> None:
    Path("link").symlink_to(image)
    assert command_line("disk", "create", "link", "--from", "files", "--label", "OTHER", "--force").status == 0
    assert Path("link").is_symlink()
    assert b"OTHER" in image.read_bytes()
    os.mkfifo("pipe")
    outcome = command_line("disk", "create", "pipe", "--from", "files", "--force")
    assert (outcome.status, Path("pipe").is_fifo()) == (1, True)
    assert outcome.messages == "callgate: pipe: is not a regular file; name the file that is to be the image\n"


def test_disk_create_writes_an_image_to_standard_output_but_not_to_a_terminal(
    command_line: Command, image: Path
) -> None:
    outcome = command_line("disk", "create", "-", "--from", "files")
    assert (outcome.status, outcome.stdout) == (0, image.read_bytes())
    terminal, side = pty.openpty()
    with Forked("disk", "create", "-", "--from", "files", stdout=side) as done:
        _, said = done.communicate()
    os.close(terminal)
    os.close(side)
    assert done.returncode == 2
    assert b"standard output is a terminal; write the image to a file or a pipe" in said


@pytest.mark.parametrize(("option", "kind"), [("-o", "ELF file"), ("--symbols", "symbol file")])
def test_asm_does_not_overwrite_a_file_that_it_has_not_made(command_line: Command, option: str, kind: str) -> None:
    Path("a.asm").write_text("start: ret\n")
    Path("notes").write_text("my notes\n")
    outcome = command_line("asm", "a.asm", option, "notes")
    assert outcome.status == 2
    assert f"notes already exists, and is not a {kind}; give another name, or remove it" in outcome.messages
    assert Path("notes").read_text() == "my notes\n"
    for _ in range(2):
        assert command_line("asm", "a.asm", option, "made").status == 0


@pytest.mark.parametrize("content", ["image", b"my notes\n", "höher\n".encode(), b"\x7fELF\1\1\1"])
def test_a_flat_binary_does_not_overwrite_an_image_a_text_or_a_program(
    command_line: Command, image: Path, content: bytes | str
) -> None:
    Path("a.asm").write_text("nop\n")
    before = image.read_bytes() if isinstance(content, str) else content
    Path("there").write_bytes(before)
    outcome = command_line("asm", "a.asm", "--format", "binary", "-o", "there")
    assert outcome.status == 2
    assert outcome.messages.endswith("; give another name, or remove it\n")
    assert Path("there").read_bytes() == before


def test_a_flat_binary_replaces_an_earlier_one(command_line: Command) -> None:
    Path("a.asm").write_text(".byte 0x55, 0xaa\n.fill 1024\n")
    for _ in range(2):
        assert command_line("asm", "a.asm", "--format", "binary").status == 0
    Path("a.asm").write_text("nop\n")
    assert command_line("asm", "a.asm", "--format", "binary").status == 0
    assert Path("a.bin").read_bytes() == b"\x90"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="the host has no /dev/shm")  # noqa: S108 - that folder
def test_a_program_made_of_a_source_in_dev_shm_is_written_beside_it(command_line: Command) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        source = Path(folder, "a.asm")
        source.write_text("nop\n")
        outcome = command_line("asm", source, "--format", "binary")
        assert (outcome.status, outcome.stdout) == (0, b"")
        assert source.with_suffix(".bin").read_bytes() == b"\x90"
