"""The debug adapter in Emacs with dap-mode, an editor that is not ours; Debian has both."""

import re
import sys
from pathlib import Path
from typing import Any

import host_programs
import pytest

ROOT = Path(__file__).parents[4]
MOVES = ("continue", "step", "back step", "phase", "back phase", "back next", "back continue")  # as emacs.el has them


def setup(folder: Path) -> Path:
    """Write the lines that docs/editors.md gives for Emacs."""
    text = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
    file = folder / "setup.el"
    file.write_text("".join(re.findall(r"```elisp\n(.*?)```", text, re.DOTALL)), encoding="utf-8")
    return file


@pytest.mark.thorough(only=True)
@pytest.mark.timeout(100)
def test_emacs_with_dap_mode_as_documented_follows_a_request_both_ways(tmp_path: Path, lines: Any) -> None:
    emacs = host_programs.find("emacs")
    if not list(Path("/usr/share/emacs/site-lisp").glob("elpa*/dap-mode-*")):
        pytest.skip("dap-mode is not installed (Debian: elpa-dap-mode)")
    path = f"{Path(sys.executable).parent}:{host_programs.PATH}"
    script = Path(__file__).with_name("emacs.el")
    arguments = (setup(tmp_path), lines.source, lines.line)
    said = host_programs.run(emacs, "--batch", "-l", script, *arguments, HOME=str(tmp_path), PATH=path, TERM="dumb")
    assert said.split() == [lines.place(move) for move in MOVES]
