"""What is kept in the repository: sources, not what programs leave behind."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LARGEST = 200_000  # bytes; the largest picture has 120,000
NOT_TEXT = (".gz",)  # small images that other tools have made, compressed


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout of git")
def test_every_file_of_the_repository_is_text_and_none_is_large() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    there = [path for path in files if path.is_file()]
    assert len(there) > 500
    assert [path.name for path in there if path.stat().st_size > LARGEST] == []
    binary = [path for path in there if path.suffix not in NOT_TEXT and b"\0" in path.read_bytes()]
    assert [path.name for path in binary] == []
