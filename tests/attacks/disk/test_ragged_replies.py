"""Servers answer READ with what is no data of theirs, or no data: a reader gets an error, and waits for nothing."""

import struct
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.volume import SECTOR_ENTRY_COUNT_SHIFT, SECTOR_ENTRY_HOLE
from callgate.kernel.servers import volumes

Arenas = Callable[..., Any]
SECTORS = 64
DISTURBED = 7


def entry(first: int, sectors: int) -> int:
    return first | (sectors - 1) << SECTOR_ENTRY_COUNT_SHIFT


ANSWERS = {
    "beyond the partition": (ServerCall.REPLY_SECTORS, entry(SECTORS, 8), "sector 64 lies outside the partition"),
    "across its end": (ServerCall.REPLY_SECTORS, entry(SECTORS - 4, 5), "sector 60 lies outside the partition"),
    "across a block": (ServerCall.REPLY_SECTORS, entry(12, 8), "8 sectors at 12 cross a block"),
    "zeros across a page": (ServerCall.REPLY_SECTORS, SECTOR_ENTRY_HOLE | entry(4, 8), "a hole of 8 sectors at 4"),
    "data": (ServerCall.REPLY_DATA, 0, "file data must be sectors or an object"),
}


class Ragged(synthetic.Synthetic):
    """Answers READ with one entry, or with one entry's bytes as data."""

    answer: ClassVar[tuple[ServerCall, int]]

    async def serve(self, message: int) -> ServerCall:
        kind = await super().serve(message)
        if kind is not ServerCall.REPLY_SECTORS:
            return kind
        kind, given = self.answer
        self.memory.write(message + 8, struct.pack("<I", 1))
        self.memory.write(message + 48, struct.pack("<Q", given))
        return kind


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_reader_is_refused_what_its_server_cannot_give(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    *given, reason = ANSWERS[answer]
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Ragged])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(4096, [(8, 8)])})
    monkeypatch.setattr(Ragged, "answer", tuple(given), raising=False)
    # The disk goes on after the partition, as if it were another's.
    medium = MemoryMedium(synthetic.disk(2 * SECTORS))
    made = arena(medium)
    made.run()
    (volume,) = [one for one in made.kernel.state.endpoints.by_number.values() if one.name == "d0"]
    volume.sectors = SECTORS
    made.attackers.append(made.start("whole_reader", b"/d0/f\0"))
    made.system.machine.pic.lower_line(4)
    made.system.machine.pic.raise_line(4)
    assert made.run(20_000_000).reason == "halt"
    assert made.results == [DISTURBED]
    assert any(reason in line for line in made.log), made.log
    made.assert_unharmed()
