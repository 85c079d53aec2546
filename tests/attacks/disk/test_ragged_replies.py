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


#: Whole blocks that follow each other are checked as one piece: by the numbers of its ends.
RUNS = {
    "a run that leaves the partition": ([entry(SECTORS - 16 + 8 * at, 8) for at in range(3)], "sector 64 lies outside"),
    "a run of 506 blocks": ([entry(8 * at, 8) for at in range(506)], "sector 64 lies outside"),
    "a run from far outside": ([entry((1 << 60) - 24 + 8 * at, 8) for at in range(3)], f"sector {(1 << 60) - 24} lies"),
    "a run that wraps at 64 bits": ([(-8 + 8 * at) % (1 << 64) for at in range(3)], "a hole of 8 sectors at"),
    "a run of parts of blocks": ([entry(SECTORS - 8 + 8 * at, 1) for at in range(3)], "sector 64 lies outside"),
    "a run over the ends of blocks": ([entry(4 + 8 * at, 8) for at in range(3)], "8 sectors at 4 cross a block"),
}


class Ragged(synthetic.Synthetic):
    """Answers READ with entries, or with their bytes as data."""

    answer: ClassVar[tuple[ServerCall, list[int]]]

    async def serve(self, message: int) -> ServerCall:
        kind = await super().serve(message)
        if kind is not ServerCall.REPLY_SECTORS:
            return kind
        kind, given = self.answer
        self.memory.write(message + 8, struct.pack("<I", len(given)))
        self.memory.write(message + 48, struct.pack(f"<{len(given)}Q", *given))
        return kind


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_reader_is_refused_what_its_server_cannot_give(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    kind, given, reason = ANSWERS[answer]
    read_what_is_no_data(arena, monkeypatch, (kind, [given]), reason)


@pytest.mark.parametrize("run", RUNS)
def test_a_reader_is_refused_a_run_of_blocks_that_are_not_all_of_its_partition(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    given, reason = RUNS[run]
    read_what_is_no_data(arena, monkeypatch, (ServerCall.REPLY_SECTORS, given), reason)


def read_what_is_no_data(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, answer: tuple[ServerCall, list[int]], reason: str
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Ragged])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(4096, [(8, 8)])})
    monkeypatch.setattr(Ragged, "answer", answer, raising=False)
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
