"""docs/gdb.md: the session in it is what gdb prints.

With CALLGATE_THOROUGH=1, `pytest --refresh-transcripts tests/debugger/gdb/test_gdb_document.py` writes what it prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import host_programs
import pytest

DOCUMENT = Path(__file__).parents[3] / "docs" / "gdb.md"
BLOCK = re.compile(r"(?<=^```gdb\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "(gdb) "
MADE_WITH = "13."
#: Lines about files that are read, of which no two versions print the same.
NOISE = re.compile(r"^(Reading |warning: |\[New |process \d+ is executing|\[Switching |determining )")
SHORTER = "set filename-display basename\nset print address off\nset width 118\n"


def session(gdb: Callable[..., str], block: str) -> str:
    """Return a block with its commands' present output."""
    commands = [line.removeprefix(PROMPT) for line in block.splitlines() if line.startswith(PROMPT)]
    marks = "".join(f"echo \\n@@{number}\\n\n{command}\n" for number, command in enumerate(commands))
    out = gdb(f"{SHORTER}{marks}echo \\n@@end\\n\nkill\n")
    parts = re.split(r"^@@(?:\d+|end)\n", out, flags=re.MULTILINE)[1:-1]
    assert len(parts) == len(commands), out
    return "".join(shown(command, part) for command, part in zip(commands, parts, strict=True))


def shown(command: str, output: str) -> str:
    lines = [line.rstrip() for line in output.splitlines() if line.strip() and not NOISE.match(line)]
    text = "".join(f"{line}\n" for line in lines)
    text = re.sub(r"1 \(remote [^)]*\)", "1 (remote)", text)
    return f"{PROMPT}{command}\n{text}"


@pytest.mark.thorough(only=True)
def test_the_session_of_the_document_is_what_gdb_prints(
    gdb: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    version = host_programs.run("gdb", "--version").splitlines()[0].split()[-1]
    if not version.startswith(MADE_WITH):
        pytest.skip(f"the document was made with gdb {MADE_WITH}*, here is {version}")
    text = DOCUMENT.read_text("utf-8")
    now = BLOCK.sub(lambda block: session(gdb, block[0]), text)
    if request.config.getoption("--refresh-transcripts"):
        DOCUMENT.write_text(now, "utf-8")
        return
    assert now == text
