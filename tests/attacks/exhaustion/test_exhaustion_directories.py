"""A program that locks directories without end: the page tables of their windows count before they are made."""

from collections.abc import Callable
from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.servers import volumes
from callgate.kernel.tasks.shares import frames_of

HELD = 0
PAGES = 60


@pytest.mark.parametrize("spare", range(2, 6))
def test_locked_directories_take_no_more_frames_than_a_process_may_have(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Silent])
    made = arena(MemoryMedium(servers.IMAGE))
    most: list[int] = []

    def start() -> None:
        program = made.start("hoarder_of_locks", PAGES=PAGES)
        made.attackers.append(program)
        monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", frames_of(program) + PAGES + spare)
        lock = made.kernel.directories.lock

        async def watched(process: Any, *arguments: Any, **more: Any) -> Any:
            try:
                return await lock(process, *arguments, **more)
            finally:
                most.append(frames_of(process))

        made.kernel.directories.lock = watched

    made.wanted.append(start)
    assert made.run(20_000_000).reason == "halt"
    assert made.results == [HELD], made.log
    assert max(most, default=0) <= limits.FRAMES_OF_PROCESS
    made.assert_unharmed()
