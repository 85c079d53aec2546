"""Policy does not repeat the work of machine code: sorting sectors, counting arrivals."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.storage.cache import Cache
from callgate.kernel.storage.disk_requests import Run

Sessions = Callable[..., Any]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once")
    (folder / "FILE.BIN").write_bytes(bytes(1 << 20))
    out = folder.with_suffix(".img")
    create_image(out, folder, fs="fat16", size=16 << 20)
    return out


def test_arriving_blocks_are_not_searched_unless_a_thread_waits_for_a_notice(
    session: Sessions, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = session(image, programs=[("reader", "c/d0/FILE.BIN")])
    made.reach("reader", "start")
    cache = made.kernel.cache
    asked: list[Sequence[int]] = []
    read, ended = Cache.read, Cache.ended

    async def note(
        self: Cache, disk: int, numbers: Sequence[int], frames: Sequence[int] | None = None
    ) -> RoutineCall | None:
        asked.append(numbers)
        return await read(self, disk, numbers, frames)

    class Blind:
        """The blocks, while none may be read."""

        def __getattr__(self, name: str) -> None:
            raise AssertionError(f"{name} of blocks was looked at")

        def __getitem__(self, key: object) -> None:
            raise AssertionError(f"block {key} was looked at")

    def end(self: Cache, run: Run, status: Any) -> None:
        blocks, self.state.blocks = self.state.blocks, Blind()  # type: ignore[assignment]  # it only refuses
        try:
            ended(self, run, status)
        finally:
            self.state.blocks = blocks

    monkeypatch.setattr(Cache, "read", note)
    monkeypatch.setattr(Cache, "ended", end)
    made.run()
    assert made.processes[0].exit_code == 0
    assert sum(map(len, asked)) >= 200, "most of the file was read from the disk"
    assert all([*numbers] == sorted(set(numbers)) for numbers in asked), "sorted by machine code already"
    assert all(block.valid for block in cache.state.blocks.values())
