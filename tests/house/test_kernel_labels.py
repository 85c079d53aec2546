"""Labels of the kernel that checks and tools know by name: all are there, and all stand in one list."""

import re
from pathlib import Path

import pytest
from callgate.kernel.programs import kernel_labels
from callgate.kernel.programs.images import kernel_image

ROOT = Path(__file__).parents[2]
FOLDERS = ("kernel/watching", "tools")
OTHERS = {"system_calls"}  # a label that is the name of other things as well, with a _ or . as all that are compared
QUOTED = re.compile(r"""["']([\w.]+)["']""")
NAMES = {name: value for name, value in vars(kernel_labels).items() if name.isupper() and isinstance(value, str)}


@pytest.fixture(scope="module")
def labels() -> set[str]:
    return {name for name, symbol in kernel_image().symbols.items() if symbol.kind != "constant"}


def test_every_label_of_the_list_is_one_of_the_assembled_kernel(labels: set[str]) -> None:
    assert len(NAMES) > 20
    assert set(NAMES.values()) <= labels
    assert len(set(NAMES.values())) == len(NAMES)
    assert {*kernel_labels.DIRECT_SWITCHES} < labels


def test_checks_and_tools_name_no_label_of_the_kernel_but_by_the_list(labels: set[str]) -> None:
    telling = {label for label in labels if "_" in label or "." in label} - OTHERS
    assert "take_slot" in QUOTED.findall("at('take_slot')"), "what the search would find"
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in telling.intersection(QUOTED.findall(path.read_text("utf-8")))
    ]
    assert found == []
