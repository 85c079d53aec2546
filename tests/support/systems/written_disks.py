"""The disk whose files are written to, as a fixture."""

import pytest
import synthetic_server as synthetic
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.servers import volumes
from written_files import Layout


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Layout]:
    """The files of the synthetic disk, none of them read-only, for the test to fill."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "attributes", FileAttributes(0))
    synthetic.Synthetic.files = {}
    synthetic.Synthetic.released = []
    synthetic.Synthetic.held = {}
    return synthetic.Synthetic.files
