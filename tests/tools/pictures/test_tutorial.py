"""docs/debugging.md: its diagram of a request, and what its page says, as `callgate trace` makes them.

`pytest --refresh-transcripts` writes what is made now; what the page says needs CALLGATE_THOROUGH=1 and a browser.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Page

DOCUMENT = Path(__file__).parents[3] / "docs" / "debugging.md"
DIAGRAM = DOCUMENT.parent / "pictures" / "free-space.svg"
COMMAND = re.compile(r"callgate trace -c df --request \d+ -o free-space\.svg")
BLOCK = re.compile(r"(?<=^```page\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
PROMPT = "key "


def compare(request: pytest.FixtureRequest, path: Path, made: str) -> None:
    if request.config.getoption("--refresh-transcripts"):
        path.write_text(made, "utf-8")
    assert path.read_text("utf-8") == made


def test_the_diagram_of_the_tutorial_is_what_its_command_draws(
    request: pytest.FixtureRequest, command_line: Callable[..., Any]
) -> None:
    command = COMMAND.search(DOCUMENT.read_text("utf-8"))
    assert command
    _, *arguments = command[0].split()
    assert command_line(*arguments).status == 0
    compare(request, DIAGRAM, Path("free-space.svg").read_text("utf-8"))


@pytest.mark.thorough(only=True)
def test_the_page_says_at_each_key_what_the_tutorial_shows(
    request: pytest.FixtureRequest, command_line: Callable[..., Any], show: Callable[[str, str], Page]
) -> None:
    assert command_line("trace", "-c", "df", "-o", "df.html").status == 0
    page = show("df.html", Path("df.html").read_text("utf-8"))

    def said(block: re.Match[str]) -> str:
        lines = []
        for line in block[0].splitlines():
            if line.startswith(PROMPT):
                for key in line.removeprefix(PROMPT).split():
                    page.press(key)
                words = page.evaluate("document.getElementById('said').textContent")
                lines += [line, words.replace(". Cost of", ".\nCost of").replace(" ns. ", " ns.\n")]
        return "".join(f"{line}\n" for line in lines)

    text = DOCUMENT.read_text("utf-8")
    assert BLOCK.search(text)
    compare(request, DOCUMENT, BLOCK.sub(said, text))
    assert page.complaints == []
