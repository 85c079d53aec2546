"""Each row of the table of privileged instructions, executed in each ring: it does what the row says."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from callgate.kernel.machine import Machine
from privileged_cases import CASES
from rings import Case, Rings

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


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[int, Case], str]]:
    """Run a case in a ring, on a machine that goes back to its beginning; a new one takes four times as long."""
    with Machine(memory=4 << 20, high_memory=0, ctrl_c=False) as machine:
        rings = Rings(machine)
        beginning = machine.snapshot()

        def once(ring: int, case: Case) -> str:
            machine.restore(beginning)
            rings.end = None
            return rings.run(ring, case)

        yield once


@pytest.mark.parametrize("name", CASES)
def test_an_instruction_does_in_each_ring_what_its_row_says(run: Callable[[int, Case], str], name: str) -> None:
    found = [run(ring, CASES[name]) for ring in RINGS]
    assert found == [cell.rpartition(HERE)[2] for cell in TABLE[name]]
