"""A shell at its prompt, booted once for each file of tests."""

from collections.abc import Iterator

import pytest
from callgate.disk.images.builder import create_image
from shell_console import FLOOD, HOG, NAMES, PARENT, READER, SPIN, Console, program


@pytest.fixture(scope="module")
def booted_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("shell")
    root = folder / "root"
    for name in ("docs/deep", "Many", "My files", "Um"):
        (root / name).mkdir(parents=True)
    for number in range(NAMES):
        (root / "Many" / f"name{number:02}.txt").write_text(f"{number}\n")
    files = {
        "README.TXT": b"readme\n", "REPORT.TXT": b"report\n", "notes": b"no dot\n", "2nd-a": b"", "2ND-B": b"",
        "docs/a.txt": b"a\n", "docs/b.txt": b"b\n", "docs/c.bin": b"c\n",
        "My files/it's.txt": b"quoted\n", "My files/Größe.txt": b"size\n",
        "Um/ä1": b"", "Um/å1": b"", "big": b"x" * (1 << 20), "spin": program(SPIN), "sink": program(READER),
        "flood": program(FLOOD), "parent": program(PARENT), "hog": program(HOG),
    }  # fmt: skip
    for name, data in files.items():
        (root / name).write_bytes(data)
    create_image(folder / "shell.img", root)
    console = Console(folder / "shell.img")
    yield console
    console.system.close()


@pytest.fixture
def console(booted_console: Console) -> Console:
    booted_console.reset()
    return booted_console
