"""A terminal of the tests ends with the process of the test, however that ends."""

import os
import time
from pathlib import Path

import pytest
from debugger_terminal import PATIENCE, Terminal


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.thorough(only=True)
def test_neither_the_terminal_nor_the_debugger_outlives_the_process_of_the_test(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.debug("-c", "df")
    terminal.sees("instruction 0 |")
    processes = [int((tmp_path / "pid").read_text()), int(terminal.tmux("display", "-p", "#{pid}"))]
    assert all(map(runs, processes))
    terminal.abandon()
    end = time.monotonic() + PATIENCE
    while any(map(runs, processes)):
        assert time.monotonic() < end
        time.sleep(0.05)
