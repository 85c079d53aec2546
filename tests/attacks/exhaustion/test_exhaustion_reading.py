"""Programs that are too large to be read, and files that are closed while they are read."""

from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes

IMAGE = synthetic.disk(2048)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, synthetic.Layout]:
    """The files of the synthetic disk, for the test to fill."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "files", {})
    return synthetic.Synthetic.files


def test_nothing_is_read_of_a_program_that_is_too_large(
    arena: Callable[..., Any], files: dict[str, synthetic.Layout]
) -> None:
    size = limits.PROGRAM_BYTES + 4096
    files["f"] = synthetic.Layout(size, [(None, size // 512)])
    made = arena(MemoryMedium(IMAGE), commands="/d0/f; echo $?")
    assert made.run().reason == "exit"
    assert files["f"].reads == []
    assert b"\n0\n" not in made.output


@pytest.mark.parametrize("nanoseconds", [100_000, 250_000])
def test_data_of_a_file_that_was_closed_meanwhile_come_into_no_window(
    session: Callable[..., Any], files: dict[str, synthetic.Layout], nanoseconds: int
) -> None:
    """Another file has its place in the process by then, and another process has the closed one open."""
    files["a"] = synthetic.Layout(64 * 4096, [(64, 512)])
    files["b"] = synthetic.Layout(4096, [(1024, 8)])
    closer = ("closer", f"{nanoseconds:08x}/d0/a /d0/b")
    made = session(MemoryMedium(IMAGE), programs=[("idler", "/d0/a /d0/b"), closer], latency=Latency(command=300_000))
    assert made.run().reason == "halt"
    assert files["b"].content(IMAGE) in made.output
    assert made.codes[-1] != 0, "the reader was told"
    assert made.unaccounted() == []


@pytest.mark.timeout(30)
@pytest.mark.parametrize("nanoseconds", [1_000, 100_000])
def test_a_reader_of_a_file_that_only_its_own_program_had_open_and_has_closed_is_told(
    session: Callable[..., Any], files: dict[str, synthetic.Layout], nanoseconds: int
) -> None:
    """The file is gone: a request for its data would be made for no thread, and again and again."""
    files["a"] = synthetic.Layout(64 * 4096, [(64, 512)])
    files["b"] = synthetic.Layout(4096, [(1024, 8)])
    closer = ("closer", f"{nanoseconds:08x}/d0/a /d0/b")
    made = session(MemoryMedium(IMAGE), programs=[closer], latency=Latency(command=300_000))
    assert made.run().reason == "halt"
    assert made.output == files["b"].content(IMAGE)
    assert made.codes == [ErrorCode.BAD_HANDLE]
    assert made.unaccounted() == []
