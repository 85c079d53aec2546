"""A tree of files, and an image of it."""

import os
import random
from pathlib import Path

import pytest
from callgate.disk.images.builder import create_image
from copied import MODIFIED


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of the host, with dates."""
    root = tmp_path / "tree"
    (root / "docs" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "README.TXT").write_text("read me\n")
    (root / "docs" / "long name, Füße.text").write_bytes(random.Random(1).randbytes(70_001))
    (root / "docs" / "one.txt").write_text("one\n")
    (root / "docs" / "two.txt").write_text("two\n")
    (root / "docs" / "deep" / "none").touch()
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (MODIFIED, MODIFIED))
    return root


@pytest.fixture
def image(tree: Path, tmp_path: Path) -> Path:
    create_image(tmp_path / "a.img", tree)
    return Path("a.img")
