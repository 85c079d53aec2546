"""Golden transcripts: the output of commands, byte for byte in `transcripts/*.txt` and in documents.

A transcript is a text with commands, lines that begin with `$ `.  Below each stand its standard output, then
`stderr:` and its standard error if there is any, then its exit status.  What comes before the first command is
for the reader; a line `requires PACKAGE VERSION` there skips the transcript where another version is installed,
because that package words the messages.  The commands of a file run one after the other in an empty directory.
README.md and docs/debugging.md show what a terminal would: both streams as they come, of commands that end with
status 0.

`pytest --refresh-transcripts` writes what the commands print now; read the diff before committing it.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
ROOT = Path(__file__).parents[2]
SHOWN = [ROOT / "README.md", ROOT / "docs" / "debugging.md"]
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
REQUIRES = re.compile(r"^requires (\S+) ([\d.]+)$", re.MULTILINE)
PROMPT = "$ "
NO_NEWLINE = "\\ no newline at the end\n"

Run = Callable[[str], Any]


@pytest.fixture
def refresh(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--refresh-transcripts"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_commands_print_what_their_transcript_holds(
    request: pytest.FixtureRequest, host_line: Run, refresh: bool, path: Path
) -> None:
    golden = path.read_text("utf-8")
    header = golden[: golden.index(f"\n{PROMPT}") + 1]
    for package, wanted in REQUIRES.findall(header):
        if not f"{version(package)}.".startswith(f"{wanted}."):
            pytest.skip(f"{path.name} was made with {package} {wanted}, here is {version(package)}")
    made = header + "\n".join(show(command, host_line(command)) for command in commands(golden))
    compare(path, golden, made, refresh, request.node.nodeid)


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_documents_show_what_their_commands_print(
    request: pytest.FixtureRequest, host_line: Run, refresh: bool, path: Path
) -> None:
    golden = path.read_text("utf-8")
    assert BLOCK.search(golden), f"{path.name} has no console block"
    made = BLOCK.sub(lambda block: "".join(terminal(host_line, block[0])), golden)
    compare(path, golden, made, refresh, request.node.nodeid)


@pytest.mark.parametrize("command", ["callgate boot -c 'dir; false'", "callgate boot --help", "callgate bot"])
def test_commands_run_in_this_process_print_what_they_print_in_a_shell(host_line: Run, command: str) -> None:
    here, there = host_line(command), host_line(f"exec {command}")
    assert (here.stdout, here.stderr, here.status) == (there.stdout, there.stderr, there.status)


def commands(text: str) -> list[str]:
    """Return the commands of a transcript."""
    return [line.removeprefix(PROMPT) for line in text.splitlines() if line.startswith(PROMPT)]


def show(command: str, outcome: Any) -> str:
    """Return a command and its output."""
    text = f"{PROMPT}{command}\n{lines(outcome.stdout)}"
    if outcome.stderr:
        text += f"stderr:\n{lines(outcome.stderr)}"
    return f"{text}exit status {outcome.status}\n"


def terminal(host_line: Run, block: str) -> Iterator[str]:
    """Return the commands of a console block and what a terminal shows of them."""
    for command in commands(block):
        outcome = once(host_line, command)
        assert outcome.status == 0, f"README.md: {command}: exit status {outcome.status}"
        yield f"{PROMPT}{command}\n{lines(outcome.terminal)}"


@cache
def once(host_line: Run, command: str) -> Any:
    """Run a command of documents, some of which show the same one; none needs the files of another."""
    return host_line(command)


def lines(output: bytes) -> str:
    """Return output as whole lines of text that cannot be taken for commands."""
    text = output.decode("utf-8", "backslashreplace")
    assert not commands(text), "a line of output begins like a command"
    return text if text.endswith("\n") or not text else f"{text}\n{NO_NEWLINE}"


def compare(path: Path, golden: str, made: str, refresh: bool, test: str) -> None:
    """Fail with the difference, or write the file anew."""
    if made == golden:
        return
    if refresh:
        path.write_text(made, "utf-8")
        pytest.skip(f"{path.name} has been refreshed")
    difference = difflib.unified_diff(
        golden.splitlines(keepends=True), made.splitlines(keepends=True), path.name, "what is printed now"
    )
    pytest.fail(
        f"{''.join(difference)}\nif this is what it should be: pytest --refresh-transcripts '{test}'", pytrace=False
    )
