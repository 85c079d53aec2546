"""Each row of the table of privileged instructions, executed in each ring: it does what the row says."""

from pathlib import Path

import pytest
from callgate.kernel.machine import Machine
from privileged_cases import CASES
from rings import Rings

NOTES = Path(__file__).parents[3] / "docs" / "emulator-notes.md"
RINGS = range(4)
HERE = ", here "


def table() -> dict[str, list[str]]:
    """Return the cells of the four rings of each row of the document."""
    section = NOTES.read_text().partition("## Privileged instructions\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    found = {name: cells[:4] for name, *cells in rows if name not in ("instruction", "---")}
    assert len(found) == len(rows) - 2 * section.count("\n### "), "a row is there twice"
    return found


TABLE = table()


def test_the_document_and_the_tests_name_the_same_instructions() -> None:
    assert list(TABLE) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_instruction_does_in_each_ring_what_its_row_says(name: str) -> None:
    found = []
    for ring in RINGS:
        with Machine(memory=4 << 20, high_memory=0, ctrl_c=False) as machine:
            found.append(Rings(machine).run(ring, CASES[name]))
    assert found == [cell.rpartition(HERE)[2] for cell in TABLE[name]]
