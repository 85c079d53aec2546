"""docs/machine.md: its sessions, typed in."""

import doctest
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "machine.md"


def test_the_sessions_in_the_machine_document_run_as_shown():
    result = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 20
    assert result.failed == 0
