"""A family that holds all the memory it may have can request no more data of files: it alone is refused."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.memory.frames import OutOfMemory
from callgate.kernel.servers import volumes

Sessions = Callable[..., Any]
SECTORS = 2048
HOLE = 2 << 20
IMAGE = synthetic.disk(SECTORS)
PIECES = 16


class Ragged(synthetic.Layout):
    """Sectors apart from each other, one in a reply: each page comes in eight pieces, and is incomplete in between.

    The hole after them makes a window so large that it takes a page table.
    """

    def entries(self, sector: int) -> list[int]:
        self.most = 1 if sector < PIECES else 506
        return super().entries(sector)


RUNS: list[tuple[int | None, int]] = [*((8 + 16 * index, 1) for index in range(PIECES)), (None, HOLE // 512)]
SLOW = Latency(command=20_000, sector=10)


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": Ragged(PIECES * 512 + HOLE, RUNS)})
    return synthetic.Synthetic.files


def test_a_page_that_comes_in_pieces_is_whole_although_another_family_may_not_request_the_rest(
    session: Sessions, files: dict[str, Any]
) -> None:
    """Both read one file; the one that may request nothing checks whenever a piece has come."""
    made = session(MemoryMedium(IMAGE), programs=[("hoarder", "/d0/f")], latency=SLOW, memory=16 << 20)
    made.reach("hoarder", "full")
    (hoarder,) = made.processes
    with pytest.raises(OutOfMemory):
        made.kernel.shares.check_list(hoarder)
    refused = []
    post = made.kernel.fetching.post

    async def watched(*arguments: Any, **more: Any) -> Any:
        try:
            return await post(*arguments, **more)
        except OutOfMemory:
            refused.append(made.kernel.scheduler.current.process)
            raise

    made.kernel.fetching.post = watched
    reader = made.start("reader", "k/d0/f")
    assert made.run(fuel=200_000_000, until=lambda: reader.exit_code is not None).reason == "until"
    assert set(refused) == {hoarder}
    assert hoarder.exit_code is None
    assert reader.exit_code == 0, ErrorCode(reader.exit_code - 100)
    words = struct.unpack(f"<{PIECES * 128}I", files["f"].content(IMAGE)[: PIECES * 512])
    assert made.output == struct.pack("<I", sum(words) & 0xFFFF_FFFF)
