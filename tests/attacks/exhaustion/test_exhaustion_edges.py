"""The block at the end of a disk, of which a server has a copy in low memory, locked again and again."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.tasks import shares
from callgate.kernel.watching.leaks import leaks
from callgate.server.errors import FileSystemError
from callgate.server.gate import lock_blocks, unlock_blocks

SECTORS = 1021  # the last block has five sectors of the disk's
MOST = 120  # frames of a process


class Copying(synthetic.Synthetic):
    """Locks the last blocks until it is refused, unlocks one, and locks them again."""

    locked: ClassVar[list[int]] = []
    refused: ClassVar[list[ErrorCode]] = []

    async def start(self) -> None:
        for _ in range(2):
            try:
                while len(self.locked) < limits.BLOCK_WINDOWS_OF_SERVER:
                    self.locked.append(await lock_blocks(SECTORS - 13, 13))
            except FileSystemError as error:
                self.refused.append(error.code)
            await unlock_blocks(self.locked.pop())


def test_copies_of_edge_blocks_count_as_the_servers_memory_and_a_refusal_keeps_nothing(
    arena: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Copying])
    monkeypatch.setattr(limits, "FRAMES_OF_PROCESS", MOST)
    Copying.locked, Copying.refused = [], []
    made = arena(MemoryMedium(synthetic.disk(SECTORS)), memory=16 << 20)
    made.victim()
    assert made.run().reason == "halt"
    (endpoint,) = (p for p in made.kernel.state.endpoints.by_number.values() if p.name == "d0")
    assert Copying.refused == [ErrorCode.NO_MEMORY] * 2
    assert endpoint.locked_blocks == 2 * len(Copying.locked) > MOST // 2
    assert MOST - 2 <= shares.frames_of(endpoint.process) <= MOST
    blocks = made.kernel.cache.state.blocks
    assert sum(block.locks for block in blocks.values()) == len(Copying.locked), (
        "the whole block of each, and no copied one"
    )
    made.kernel.servers.kill(endpoint.process, "killed by the test")
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    made.run()
    assert endpoint.locked_blocks == 0
    assert leaks(made.kernel) == []
    assert made.kernel.check() == []
    made.assert_unharmed()
