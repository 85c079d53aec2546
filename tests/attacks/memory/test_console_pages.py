"""Bytes that leave by DMA are those of the caller's page at that moment, whatever becomes of the page meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image

Sessions = Callable[..., Any]
CONTENT = b"".join(b"line %06d of a file that leaves by DMA\n" % number for number in range(2000))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    (folder / "FILE.TXT").write_bytes(CONTENT)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=8 << 20)
    return out


def test_a_page_that_is_taken_away_after_it_was_touched_is_fetched_again_and_no_other_is_sent(
    session: Sessions, image: Path
) -> None:
    made = session(image, programs=[("reader", "p/d0/FILE.TXT")])
    address, pieces, taken = made.kernel.guest.address("serial_write.touched"), 0, 0
    while made.run(until=address).reason == "until":
        if pieces and taken < 4:  # not the first one: a piece that has been sent must not be sent again instead
            taken += made.kernel.letting_go.reclaim()
        pieces += 1
        made.system.machine.step()
    assert taken == 4
    assert made.codes == [0]
    assert made.output == CONTENT
    assert made.unaccounted() == []


def test_a_machine_whose_console_has_no_dma_prints_the_same(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "p/d0/FILE.TXT")])
    devices = made.system.machine.ports.bus.devices
    for port in range(0x400, 0x404):
        del devices[port]
    assert made.run().reason == "halt"
    assert (made.codes, made.output) == ([0], CONTENT)


def test_the_cpu_touches_one_byte_of_each_page_that_is_written_to_the_console(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "p/d0/FILE.TXT")])
    assert made.run().reason == "halt"
    assert made.output == CONTENT
    counts = made.system.machine.ledger.counts()
    pages = -(-len(CONTENT) // 4096)
    tail = len(CONTENT) % 4096  # of the last page, which is a copy, and too little for DMA
    assert counts.cpu_file_bytes["kernel"] == pages - 1 + tail
    assert counts.dma_bytes["write"] == len(CONTENT) - tail
