"""`callgate trace`: its formats, where it writes, and how it ends."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from forked import DEVNULL, Forked

FORMATS = ("svg", "html", "perfetto-trace", "txt", "jsonl")
Command = Callable[..., Any]


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_written_by_name_the_same_each_time_and_again_over_itself(
    command_line: Command, form: str
) -> None:
    first = command_line("trace", "-q", "-c", "cat README.TXT; false", "-o", f"a.{form}")
    assert (first.status, first.stdout) == (1, b"")
    assert b"callgate" in first.stderr, "the console is on standard error"
    written = Path(f"a.{form}").read_bytes()
    again = command_line("trace", "-q", "-c", "cat README.TXT; false", "-o", f"a.{form}")
    assert (again.status, Path(f"a.{form}").read_bytes()) == (1, written)


@pytest.mark.thorough(one_in=5)
@pytest.mark.parametrize("form", ["perfetto-trace", "svg", "html", "txt", "jsonl"])
def test_standard_output_is_given_what_a_file_would_hold(command_line: Command, form: str) -> None:
    command_line("trace", "-q", "-c", "dir; false", "-o", f"a.{form}")
    piped = command_line("trace", "-q", "-c", "dir; false", "-o", "-", "--format", form)
    assert (piped.status, piped.stdout) == (1, Path(f"a.{form}").read_bytes())


def test_lines_are_those_of_the_trace_of_boot(command_line: Command) -> None:
    command_line("boot", "-q", "-c", "dir", "--trace", "boot.txt")
    command_line("trace", "-q", "-c", "dir", "-o", "trace.txt")
    assert Path("boot.txt").read_bytes() == Path("trace.txt").read_bytes()


def test_the_ledger_and_the_recording_of_a_run_that_is_drawn_are_those_of_a_boot(command_line: Command) -> None:
    rest = ("-q", "-c", "cat README.TXT", "--map-edges", "--mount-deadline", "3000")
    command_line("boot", *rest, "--stats", "boot.json", "--record", "boot.cgr")
    command_line("trace", *rest, "--stats", "trace.json", "--record", "trace.cgr", "-o", "a.svg")
    command_line("map", *rest, "--stats", "map.json", "--record", "map.cgr", "-o", "a.txt")
    ledgers = [json.loads(Path(f"{name}.json").read_text()) for name in ("boot", "trace", "map")]
    assert ledgers[0]["operations"]
    assert ledgers[0] == ledgers[1] == ledgers[2]
    assert Path("boot.cgr").read_bytes() == Path("trace.cgr").read_bytes() == Path("map.cgr").read_bytes()


@pytest.mark.parametrize("arguments", [("trace", "-c", "df", "-o", "-", "--format", "svg"), ("map",)])
def test_a_ledger_and_a_picture_do_not_both_go_to_standard_output(
    command_line: Command, arguments: tuple[str, ...]
) -> None:
    refused = command_line(*arguments, "--stats", "-")
    assert (refused.status, refused.stdout) == (2, b"")
    assert "--stats -: standard output takes what -o writes; name a file for one of them" in refused.messages


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_another_kind_is_not_overwritten(command_line: Command, form: str) -> None:
    Path(f"a.{form}").write_text("<svg>mine</svg>\n")
    refused = command_line("trace", "-q", "-c", "dir", "-o", f"a.{form}")
    assert refused.status == 2
    assert refused.messages.startswith(f"callgate: -o a.{form}: already exists, and is not a ")
    assert Path(f"a.{form}").read_text() == "<svg>mine</svg>\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.htm", "did you mean a.html?"),
        ("a.SVG", "did you mean a.svg?"),
        ("a.perfeto-trace", "did you mean a.perfetto-trace?"),
        ("a.doc", "no format is called 'doc'; end it with one of svg, html"),
        ("a", "the name does not say which format; end it with one of"),
        ("-", "say with --format which of svg, html"),
    ],
)
def test_a_name_without_a_format_is_refused_with_the_likeliest_one(
    command_line: Command, name: str, words: str
) -> None:
    refused = command_line("trace", "-c", "dir", "-o", name)
    assert (refused.status, refused.stdout) == (2, b"")
    assert words in " ".join(refused.messages.split())
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("none/a.svg", "none/a.svg: No such file or directory"),
        (".", None),
        ("/dev/full", "/dev/full: cannot be written: No space left on device"),
    ],
)
def test_an_output_that_cannot_be_written_is_named(command_line: Command, output: str, words: str | None) -> None:
    result = command_line("trace", "-q", "-c", "true", "-o", output, "--format", "svg")
    assert result.status in (1, 2)
    assert "Traceback" not in result.messages
    if words:
        assert words in result.messages


def test_a_run_that_is_out_of_fuel_or_has_no_image_ends_as_a_boot_does(command_line: Command) -> None:
    ended = command_line("trace", "-q", "-c", "dir", "--fuel", "12000", "-o", "a.svg")
    assert (ended.status, "out of fuel" in ended.messages) == (4, True)
    assert ET.parse("a.svg").getroot().tag.endswith("svg"), "what has happened until then is drawn"
    missing = command_line("trace", "-q", "no.img", "-c", "dir", "-o", "b.svg")
    assert missing.status == 5
    assert not Path("b.svg").exists()


def test_one_request_is_drawn_alone_and_a_number_that_no_request_has_is_named(command_line: Command) -> None:
    assert command_line("trace", "-q", "-c", "df", "--request", "6", "-o", "a.svg").status == 0
    assert set(re.findall(r"#\d+ \w+", Path("a.svg").read_text())) >= {"#6 FREE_SPACE", "#6 done"}
    assert set(re.findall(r">#(\d+) ", Path("a.svg").read_text())) == {"6"}
    missing = command_line("trace", "-q", "-c", "df", "--request", "9", "-o", "b.svg")
    assert missing.status == 1
    assert missing.messages.endswith("callgate: b.svg: not written: there was no request 9; the run had 8\n")
    page = command_line("trace", "-q", "-c", "df", "--request", "6", "-o", "c.html")
    assert (page.status, "give -o OUT.svg" in page.messages, Path("c.html").exists()) == (2, True, False)


def test_an_ide_disk_and_a_disk_that_is_unplugged_are_drawn(command_line: Command) -> None:
    result = command_line("trace", "-q", "--ide", "-c", "dir", "--unplug-at", "9000", "-o", "a.svg")
    assert result.status != 2
    assert "channel 0.0" in Path("a.svg").read_text()


@pytest.mark.thorough(only=True)
def test_ctrl_c_ends_a_run_and_what_has_happened_is_written(tmp_path: Path) -> None:
    output = tmp_path / "a.html"
    run = Forked("trace", "-q", "-c", "cat PATTERN.BIN; " * 30, "-o", output, stdout=DEVNULL)
    assert run.stderr.read(1), "the guest prints more than a pipe takes"
    os.kill(run.pid, signal.SIGINT)
    _, messages = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"interrupted after" in messages
    text = output.read_text()
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["requests"]


def test_ctrl_c_while_a_picture_is_drawn_says_that_it_is_not_complete(
    command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_recorder: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("callgate.tools.pictures.recorder.Recorder.finish", interrupted)
    result = command_line("trace", "-q", "-c", "true", "-o", "a.svg")
    assert result.status == 130
    assert "callgate: a.svg: interrupted while it was written; it is not complete" in result.messages


@pytest.mark.parametrize("number", ["x", "0", "-1"])
def test_what_is_no_number_of_a_request_is_refused_with_where_numbers_are_found(
    command_line: Command, number: str
) -> None:
    refused = command_line("trace", "-c", "df", "--request", number, "-o", "a.svg")
    assert refused.status == 2
    said = " ".join(refused.messages.split())
    assert f"'{number}' is not a number from 1 on; the whole diagram" in said
    assert not Path("a.svg").exists()
