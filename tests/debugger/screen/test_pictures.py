"""The screen as text, pane by pane, and the picture of the documents: byte for byte what is kept.

`pytest --refresh-transcripts` writes what is shown now; read the difference, and look at the picture.
"""

import difflib
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from callgate.kernel.system import System
from debugger_screen import FREE_SPACE, Driven, drive

FOLDER = Path(__file__).parent / "pictures"
SVG = Path(__file__).parents[3] / "docs" / "pictures" / "debug-screen.svg"
FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # names files on the network


def compare(request: pytest.FixtureRequest, path: Path, made: str) -> None:
    """Fail with the difference, or write the file anew."""
    kept = path.read_text("utf-8") if path.exists() else ""
    if made == kept:
        return
    if request.config.getoption("--refresh-transcripts"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(made, "utf-8")
        pytest.skip(f"{path.name} has been refreshed")
    lines = difflib.unified_diff(kept.splitlines(), made.splitlines(), path.name, "what is shown now", lineterm="")
    pytest.fail("\n".join([*lines, "if this is what it should be: pytest --refresh-transcripts"]), pytrace=False)


def section(title: str, rows: list[str]) -> str:
    return "\n".join([f"== {title}", *rows, ""])


@pytest.mark.thorough(only=True)
def test_each_pane_shows_a_request_that_is_about_to_be_loaded_in_80_columns(
    request: pytest.FixtureRequest, boot_demo: Callable[[str], System]
) -> None:
    made = []

    async def scenario(driven: Driven) -> None:
        made.append(section("before the first instruction", await driven.still_rows()))
        await driven.enter(FREE_SPACE)
        await driven.press("1", "escape", "c")
        made.append(section("the request is about to be loaded", await driven.still_rows()))
        await driven.press("p", "d")
        made.append(section("the next phase, instructions", await driven.still_rows()))
        for number, name in enumerate(("threads", "memory", "walk", "tables", "disk", "console", "output"), 2):
            await driven.press("escape", str(number))
            made.append(section(name, (await driven.still_rows())[10:19]))

    drive(boot_demo("df"), scenario)
    compare(request, FOLDER / "80x24.txt", "\n".join(made))


@pytest.mark.thorough(only=True)
def test_a_large_screen_shows_code_registers_threads_and_the_request_at_once(
    request: pytest.FixtureRequest, boot_demo: Callable[[str], System]
) -> None:
    made = []

    async def scenario(driven: Driven) -> None:
        assert "[3 Memory]" in "\n".join(await driven.still_rows()), "the IPC pane is shown at the side already"
        await driven.enter(FREE_SPACE)
        await driven.press("c", "p", "3", "escape")
        made.append(section("the handler is called", await driven.still_rows()))

    drive(boot_demo("df"), scenario, size=(200, 60))
    compare(request, FOLDER / "200x60.txt", "\n".join(made))


@pytest.mark.thorough(only=True)
def test_the_picture_of_the_documents_is_what_the_screen_shows(
    request: pytest.FixtureRequest, boot_demo: Callable[[str], System]
) -> None:
    made = []

    async def scenario(driven: Driven) -> None:
        await driven.enter(FREE_SPACE)
        await driven.press("1", "escape", "c", "p", "p", "p", "P")
        made.append(FONT.sub("", driven.app.export_screenshot(title="callgate debug")))

    drive(boot_demo("df"), scenario, size=(100, 30))
    assert "://" not in re.sub(r'xmlns="[^"]*"|<!--.*?-->', "", made[0], flags=re.DOTALL), "it loads something"
    compare(request, SVG, made[0] + "\n")
