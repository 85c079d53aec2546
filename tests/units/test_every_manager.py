"""Every manager that the kernel makes has a unit test here, and none of these tests needs the emulator."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from callgate.kernel import kernel

HERE = Path(__file__).parent
SUPPORT = HERE.parent / "support"
WITHOUT_EMULATOR = """
import sys

import pytest

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("unicorn", "keystone"):
            raise ImportError(f"a unit test of a manager imports {name}")

sys.meta_path.insert(0, Refuse())
sys.exit(pytest.main(sys.argv[1:]))
"""


def classes_made(path: Path) -> set[str]:
    """Return the names of classes that a file's code calls."""
    tree = ast.parse(path.read_text())
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name) and function.id[0].isupper()}


def test_every_manager_that_the_kernel_makes_is_made_in_a_unit_test() -> None:
    managers = classes_made(Path(kernel.__file__)) - {"AssertionError"}
    assert len(managers) > 50
    tested = set[str]().union(*map(classes_made, [*HERE.rglob("test_*.py"), *SUPPORT.glob("plain_*.py")]))
    assert sorted(managers - tested) == []


def test_unit_tests_of_managers_pass_where_the_emulator_and_keystone_cannot_be_imported() -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--confcutdir={HERE}", f"--ignore={__file__}", str(HERE)]
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EMULATOR, *options, "-p", "pytest_timeout"],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
