"""A disk of more than 2 TiB: sectors whose numbers have the same lower halves are never shown for each other."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media.medium import MediumError, NoDelay
from callgate.kernel.servers import volumes

PART = 1 << 32  # sectors are compared as 32-bit numbers within parts of this size
SECTOR = 512

Sessions = Callable[..., Any]


class Huge(NoDelay):
    """A disk of 2 TiB and a bit more, on which every sector holds its own number; nothing is stored."""

    read_only = True
    sector_count = PART + (1 << 20)

    @staticmethod
    def sector(lba: int) -> bytes:
        return lba.to_bytes(8, "little") * (SECTOR // 8) if lba else synthetic.MAGIC.ljust(SECTOR, b"\0")

    def __getitem__(self, where: slice) -> bytes:
        return b"".join(map(self.sector, range(where.start // SECTOR, where.stop // SECTOR)))

    def read_into(self, lba: int, views: Sequence[memoryview]) -> None:
        for view in views:
            view[:] = self[lba * SECTOR : lba * SECTOR + len(view)]
            lba += len(view) // SECTOR

    def write_from(self, lba: int, views: Sequence[memoryview]) -> None:
        del views
        raise MediumError(lba, "cannot be written")

    def flush(self) -> None:
        """Nothing is ever pending."""

    def close(self) -> None:
        """Nothing is open."""


def shuffled(runs: list[tuple[int, int]]) -> list[tuple[int | None, int]]:
    random.Random(4).shuffle(runs)
    return list(runs)


LAYOUTS = {
    "below": [(64 + 16 * index, 8) for index in range(20)],
    "above": [(PART + 64 + 16 * index, 8) for index in range(20)],
    "across": [(PART - 80 + 8 * index, 8) for index in range(20)],
    "the same lower halves": [(part + 64 + 16 * index, 8) for index in range(20) for part in (0, PART)],
    "lower halves in reverse": [(PART + 64 + 16 * index, 8) for index in range(20)]
    + [(4096 + 64 + 16 * index, 8) for index in range(20)],
}


@pytest.mark.parametrize("where", LAYOUTS)
def test_a_file_on_a_disk_of_more_than_2_tib_is_read(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    runs = shuffled(LAYOUTS[where])
    file = synthetic.Layout(len(runs) * 4096, runs)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [synthetic.Synthetic])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": file})
    latency = Latency(command=30_000, sector=10, reorder=True)
    made = session(Huge(), programs=[("reader", "p/d0/f")], latency=latency)
    assert made.run(20_000_000).reason == "halt"
    assert made.codes == [0], made.log
    assert made.output == file.content(Huge())  # type: ignore[arg-type]
    assert made.unaccounted() == []
