"""A real terminal for the screen."""

from collections.abc import Iterator
from pathlib import Path

import host_programs
import pytest
from debugger_terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    host_programs.find("tmux")
    found = Terminal(tmp_path)
    yield found
    found.close()
