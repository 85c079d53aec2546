"""The list of packages and the folders agree: a package missing from it works only in a checkout."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOPS = ("kernel", "asm", "server", "disk", "tools")


def test_every_folder_with_sources_is_a_package_of_the_wheel() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        "callgate." + ".".join(path.parent.relative_to(ROOT).parts)
        for top in TOPS
        for path in (ROOT / top).rglob("*.py")
        if "build" not in path.parts
    }
    assert found == listed


def test_every_package_has_a_docstring() -> None:
    for top in TOPS:
        for path in (ROOT / top).rglob("__init__.py"):
            assert path.read_text().startswith('"""'), path
