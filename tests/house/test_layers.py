"""The order of rooms, as `make lint` enforces it: an import upwards, planted in any room, is found."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import grimp
import pytest
from grimp import ImportGraph
from importlinter import Contract
from importlinter.configuration import configure
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).parents[2]
LINTER: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
configure()
KINDS: dict[str, type[Contract]] = {"layers": LayersContract, "acyclic_siblings": AcyclicSiblingsContract}


@pytest.fixture(scope="module")
def graph() -> ImportGraph:
    """The graph of imports in the whole project, imports for typing included."""
    return grimp.build_graph(*LINTER["root_packages"], cache_dir=None)


def kept(options: dict[str, Any], graph: ImportGraph) -> bool:
    """Whether a contract holds for a graph."""
    plain = {name: str(value) if isinstance(value, bool) else value for name, value in options.items()}
    contract = KINDS[options["type"]](options["name"], LINTER, plain)
    return bool(contract.check(deepcopy(graph), verbose=False).kept)  # a check may change its graph


def contracts(kind: str) -> list[dict[str, Any]]:
    return [options for options in LINTER["contracts"] if options["type"] == kind]


def neighbours() -> Iterator[Any]:
    """Yield, for each room that has one above it, the contract and two names: the lower one and the upper one."""
    for options in contracts("layers"):
        prefix = "".join(f"{container}." for container in options.get("containers", ()))
        layers = [[room.strip() for room in layer.split("|")] for layer in options["layers"]]
        for upper, lower in pairwise(layers):
            for room in lower:
                yield pytest.param(options, f"{prefix}{room}", f"{prefix}{upper[0]}", id=f"{prefix}{room}")
        for layer in layers:
            for one, other in permutations(layer, 2):
                title = f"{prefix}{one} beside {other}"
                yield pytest.param(options, f"{prefix}{one}", f"{prefix}{other}", id=title)


def modules_of(graph: ImportGraph, room: str) -> list[str]:
    return sorted({room} | graph.find_descendants(room))


def test_every_room_is_in_the_order_and_no_room_has_a_circle(graph: ImportGraph) -> None:
    assert [options["name"] for kind in KINDS for options in contracts(kind) if not kept(options, graph)] == []


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("options", "lower", "upper"), list(neighbours()))
def test_an_import_of_the_room_above_or_beside_breaks_the_contract(
    graph: ImportGraph, options: dict[str, Any], lower: str, upper: str
) -> None:
    importer, imported = modules_of(graph, lower)[-1], modules_of(graph, upper)[-1]
    graph.add_import(importer=importer, imported=imported)
    try:
        assert not kept(options, graph), f"{importer} may import {imported}"
    finally:
        graph.remove_import(importer=importer, imported=imported)


def test_two_files_of_one_room_that_import_each_other_break_the_contract(graph: ImportGraph) -> None:
    first, second = "callgate.kernel.tasks.scheduler", "callgate.kernel.tasks.threads"
    assert graph.direct_import_exists(importer=second, imported=first)
    graph.add_import(importer=first, imported=second)
    try:
        broken = [options["name"] for options in contracts("acyclic_siblings") if not kept(options, graph)]
    finally:
        graph.remove_import(importer=first, imported=second)
    assert broken == ["kernel: no import circle within a room"]


@pytest.mark.thorough(only=True)
def test_lint_fails_in_a_copy_of_the_project_with_one_import_upwards(tmp_path: Path) -> None:
    copy = tmp_path / "callgate"
    copy.mkdir()
    for top in ("kernel", "asm", "server", "disk", "tools"):
        shutil.copytree(ROOT / top, copy / top, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    file = copy / "kernel" / "core" / "errors.py"
    file.write_text(file.read_text() + "\nimport callgate.kernel.tasks.scheduler\n")
    # The copy is to be found, and not the installed project.
    program = (
        "import sys; sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]; "
        "from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "callgate.kernel.core.errors -> callgate.kernel.tasks.scheduler" in result.stdout
