"""A reader of a slow disk keeps its server busy for no longer than the server takes to answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from callgate.disk.drives.latency import Latency
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.message import ReplyType

Sessions = Callable[..., Any]


def test_a_server_answers_others_while_the_disk_brings_what_it_has_replied(session: Sessions, tmp_path: Path) -> None:
    """Its only thread serves every request of another client between its reply to READ and the data's arrival."""
    folder, image = tmp_path / "slow", tmp_path / "slow.img"
    folder.mkdir()
    (folder / "SMALL.BIN").write_bytes(bytes(64 << 10))
    create_image(image, folder, fs="fat16", size=16 << 20)
    programs = [("reader", "c/d0/SMALL.BIN"), ("asker", "50")]
    made = session(image, programs=programs, trace=True, latency=Latency(command=2_000_000, sector=300))
    assert made.run().reason == "halt"
    assert made.codes == [0, 0], made.log
    kinds = [event.kind for event in made.events]
    replied = next(
        index
        for index, event in enumerate(made.events)
        if event.kind == "ipc.reply" and int(str(event.fields["type"]), 0) == ReplyType.SECTORS
    )
    ready = kinds.index("file.ready", replied)
    assert kinds[replied + 1 : ready].count("ipc.reply") >= 40
    assert made.unaccounted() == []
