"""The way of an uncached read: each host call of it, and what every part of it takes.

The program opens a file of one page and reads it.  A hosted FAT server answers; nothing of the file is in the cache.
A host call more or less is a change of this way: docs/design.md ("An uncached read") says what each is for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from uncached_reads import ANSWERING, ARRIVING, ASKING, calls_of_read

Sessions = Callable[..., Any]
CONTENT = b"A file of one page.\n" * 20
MOST = 10  # host calls of an uncached read
LATENCY = Latency(command=50_000)  # the disk answers when everybody waits


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uncached")
    (folder / "A.BIN").write_bytes(bytes(128 << 10))  # lies where mounting has read, in front of the file
    (folder / "FILE.TXT").write_bytes(CONTENT)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def test_an_uncached_read_makes_one_host_call_to_ask_three_to_answer_and_four_when_the_data_arrive(
    session: Sessions, image: Path
) -> None:
    made = session(image, programs=[("reader", "r/d0/FILE.TXT")], latency=LATENCY, fast_path=True)
    made.reach("reader", "start")
    calls = calls_of_read(made)
    assert calls == ASKING + ANSWERING + ARRIVING
    assert len(calls) <= MOST
    made.run()
    assert made.processes[0].exit_code == 0
    assert made.output == CONTENT
    assert made.unaccounted() == []
