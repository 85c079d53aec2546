"""A file-system server from somebody else's package: found by its entry point, booted, and its files printed."""

import importlib
import io
import random
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.media import MemoryMedium

DOCUMENT = Path(__file__).parents[2] / "docs" / "writing-a-server.md"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the document's server on the path as an installed package; return the name of its module."""
    server, _ = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    entry_points = re.search(r"```toml\n\[project\.(.*?)\]\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert entry_points is not None
    site = tmp_path / "site"
    information = site / "tarserver-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "tarserver.py").write_text(server, "utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tarserver\nVersion: 1.0\n")
    name, value = entry_points[2].split("=")
    assert entry_points[1] == 'entry-points."callgate.servers"'
    (information / "entry_points.txt").write_text(f"[callgate.servers]\n{name.strip()} = {value.strip()[1:-1]}\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "tarserver", raising=False)
    return "tarserver"


def test_the_server_of_the_document_serves_a_volume_of_a_booted_system(
    boot: Callable[..., Any], installed: str, find_leaks: Callable[..., list[str]]
) -> None:
    source = random.Random(1)
    files = {"hello.txt": b"hello from a tape\n", "docs/big.bin": source.randbytes(300_000), "docs/empty": b""}
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            information = tarfile.TarInfo(name)
            information.size = len(data)
            tar.addfile(information, io.BytesIO(data))
    run = boot("ls /d0; cat /d0/hello.txt /d0/docs/empty /d0/docs/big.bin", MemoryMedium(archive.getvalue()))
    assert run.status == 0, run.log
    assert any("/d0: tar" in line for line in run.log), run.log
    listing = run.output[: -len(files["hello.txt"] + files["docs/big.bin"])]
    assert sorted(listing.split()) == [b"docs", b"hello.txt"]
    assert run.output.endswith(files["hello.txt"] + files["docs/big.bin"])
    assert find_leaks(run.system) == []
    assert installed in sys.modules
