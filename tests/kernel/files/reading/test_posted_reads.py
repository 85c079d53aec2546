"""A READ that policy has posted: one host call tells of the reply, whatever it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.abi.errors import ErrorCode
from callgate.server.errors import FileSystemError

Sessions = Callable[..., Any]
MIB = 1 << 20


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posted")
    (folder / "FILE.BIN").write_bytes(bytes(range(256)) * 4096)
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 * MIB)
    return out


def test_policy_hears_of_each_posted_read_that_is_answered_with_sectors_by_one_host_call(
    session: Sessions, image: Path
) -> None:
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")])
    made.reach("reader", "start")
    before = made.system.machine.ledger.counts()
    made.run()
    assert made.processes[0].exit_code == 0
    calls = (made.system.machine.ledger.counts() - before).host_calls
    assert made.counters.requests > 0
    assert calls["replied"] == made.counters.requests + 1, "and of the CLOSE, for which no thread waits"
    assert not {"convert", "slot_drop"} & set(calls)
    assert made.unaccounted() == []


def test_policy_hears_of_a_posted_read_that_is_refused_by_one_host_call(session: Sessions, image: Path) -> None:
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")])
    made.reach("reader", "start")
    (server,) = (server for server in made.kernel.hosted.servers.values() if server.name == "fat")

    async def refuse(_request: object) -> object:
        raise FileSystemError(ErrorCode.IO_ERROR, "refused")

    server.read = refuse
    made.run()
    assert made.processes[0].exit_code != 0
    calls = made.system.machine.ledger.counts().host_calls
    assert made.counters.requests == 1
    assert calls["replied"] == 2, "of the READ, and of the CLOSE, for which no thread waits"
    assert "slot_drop" not in calls
    assert made.unaccounted() == []
