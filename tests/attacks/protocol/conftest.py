"""Silent servers, as each test finds them, and a volume that answers."""

from pathlib import Path

import pytest
import silent_servers as servers
from callgate.disk.images.builder import create_image
from ipc_rig import rig

__all__ = ["rig"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("silent", frozenset()), ("answered", [])):
        monkeypatch.setattr(servers.Silent, name, value)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Return the image of a volume that answers."""
    folder, image = tmp_path / "good", tmp_path / "good.img"
    folder.mkdir()
    (folder / "GOOD.TXT").write_bytes(b"good\n")
    create_image(image, folder, fs="fat16", size=16 << 20)
    return image
