"""docs/machine.md: its sessions, typed in."""

import doctest
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "machine.md"


def test_the_sessions_of_the_document_go_as_it_says():
    result = doctest.testfile(str(DOCUMENT), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 20
    assert result.failed == 0
