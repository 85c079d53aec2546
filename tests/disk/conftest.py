"""Fixtures of the disk tests: a host tree, and other people's tools as oracles."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Tool = Callable[..., str]


@pytest.fixture
def tool() -> Tool:
    """Run a program of the host and return its output; skip the test where it is not installed."""

    def run(name: str, *arguments: object, data: bytes | None = None) -> str:
        found = shutil.which(name) or shutil.which(f"/usr/sbin/{name}")
        if found is None:
            pytest.skip(f"{name} is not installed")
        command = [found, *map(str, arguments)]
        environment = {"PATH": "/usr/bin:/bin", "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        result = subprocess.run(command, input=data, capture_output=True, env=environment, check=False)
        output = result.stdout.decode("utf-8", "replace") + result.stderr.decode("utf-8", "replace")
        assert result.returncode == 0, f"{' '.join(command)}\n{output}"
        return output

    return run


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with the shapes of names and sizes that matter."""
    root = tmp_path / "tree"
    (root / "one" / "two" / "three").mkdir(parents=True)
    (root / "many").mkdir()
    (root / "README.TXT").write_text("read me\n")
    (root / "empty").write_bytes(b"")
    (root / "A long name with spaces and (brackets).text").write_text("long\n")
    (root / "Füße.txt").write_text("umlauts\n")
    (root / "日本語のファイル.dat").write_text("kanji\n")
    (root / "𝄞 clef.txt").write_text("beyond the basic plane\n")
    (root / "thirteen.char").write_text("exactly 13 units, no terminator\n")
    (root / ("x" * 251 + ".txt")).write_text("255 units\n")
    (root / ".hidden.two.dots").write_text("dots\n")
    (root / "one" / "two" / "three" / "deep.bin").write_bytes(bytes(range(256)) * 1500)
    for index in range(200):
        (root / "many" / f"a longer name number {index}.txt").write_text(f"{index}\n" * index)
    return root
