"""Every manager that the kernel makes has a unit test here, and none of these tests needs the emulator."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from callgate.kernel import kernel

HERE = Path(__file__).parent
PLAIN = HERE.parent / "support" / "plain"
WITHOUT_EMULATOR = """
import importlib.util
import sys

import pytest

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("unicorn", "keystone"):
            raise ImportError(f"a unit test of a manager imports {name}")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
"""
IMPORT_ALL = """
for number, path in enumerate(sys.argv[2:]):
    spec = importlib.util.spec_from_file_location(f"test_{number}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
RUN_ALL = """
sys.exit(pytest.main(["-q", "-p", "pytest_timeout", "-p", "no:cacheprovider", *sys.argv[2:]]))
"""


def classes_made(path: Path) -> set[str]:
    """Return the names of classes that a file's code calls."""
    tree = ast.parse(path.read_text())
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name) and function.id[0].isupper()}


def test_every_manager_that_the_kernel_makes_is_made_in_a_unit_test() -> None:
    managers = classes_made(Path(kernel.__file__)) - {"AssertionError"}
    assert len(managers) > 50
    tested = set[str]().union(*map(classes_made, [*HERE.rglob("test_*.py"), *PLAIN.glob("*.py")]))
    assert sorted(managers - tested) == []


def run_without_emulator(code: str, *arguments: str) -> None:
    """Run code in a process that can import neither the emulator nor Keystone; it must succeed."""
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EMULATOR + code, str(PLAIN), *arguments],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]


@pytest.mark.thorough(only=True)
def test_unit_tests_of_managers_import_neither_the_emulator_nor_keystone() -> None:
    run_without_emulator(IMPORT_ALL, *map(str, sorted(set(HERE.rglob("test_*.py")) - {Path(__file__)})))


@pytest.mark.thorough(only=True)
def test_unit_tests_of_managers_pass_where_the_emulator_and_keystone_cannot_be_imported() -> None:
    run_without_emulator(RUN_ALL, f"--confcutdir={HERE}", f"--ignore={__file__}", str(HERE))
