"""The resources that a server holds for others are bounded, whether it answers or not, and harm no others."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import silent_servers as servers
import synthetic_server as synthetic
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.message import TOKEN_RELEASES
from callgate.kernel.core.records import EndpointState
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.kernel.watching.check_facts import Facts
from callgate.kernel.watching.check_records import held_by
from callgate.server.fat.server import FatServer
from callgate.server.hosted import operation
from callgate.server.message import Reply, Request

ROUNDS = 40
LIMIT = 40


def patron(rounds: int, disk: str, file: str) -> bytes:
    """Return the argument of patron.asm."""
    return bytes([rounds]) + f"/{disk}\0/{disk}/{file}\0".encode()


@pytest.fixture
def made(arena: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A volume d0 whose server answers neither CLOSE nor UNLOCK_DIRECTORY, nor a batch, and an honest one d1."""
    folder, image = tmp_path / "good", tmp_path / "good.img"
    folder.mkdir()
    (folder / "GOOD.TXT").write_bytes(b"good\n")
    create_image(image, folder, fs="fat16", size=16 << 20)
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Silent, FatServer])
    monkeypatch.setattr(
        servers.Silent, "silent", frozenset([Operation.CLOSE, Operation.UNLOCK_DIRECTORY, Operation.BATCH])
    )
    monkeypatch.setattr(servers.Silent, "answered", [])
    arena = arena(MemoryMedium(servers.IMAGE), ImageFile(image))
    assert arena.run().reason == "halt"
    arena.kernel.releases.limit = LIMIT
    return arena


def run_on(made: Any) -> None:
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
    assert made.run().reason == "halt"


def endpoint_named(made: Any, name: str) -> EndpointState:
    return next(p for p in made.kernel.state.endpoints.by_number.values() if p.name == name)


def test_a_server_that_takes_no_releases_has_no_new_requests_at_its_limit(made: Any) -> None:
    hostile = made.start("patron", patron(ROUNDS, "d0", "f"))
    run_on(made)
    assert hostile.exit_code == 0
    state = endpoint_named(made, "d0")
    assert state.held == LIMIT
    assert len(state.releases.entries) + len(state.releases.posted) == LIMIT
    assert list(made.kernel.slots.tokens(state).values()) == [TOKEN_RELEASES], "one slot, and its own"
    assert set(made.output) == {0, ErrorCode.NO_RESOURCES}
    made.printed.clear()
    innocent = made.start("patron", patron(ROUNDS, "d1", "GOOD.TXT"))
    run_on(made)
    assert innocent.exit_code == 0
    assert made.output == bytes(5 * ROUNDS), "no other client is refused"
    assert endpoint_named(made, "d1").held == held_by(Facts(made.kernel, []), endpoint_named(made, "d1")) <= 2
    assert made.kernel.check() == []


def test_deferred_releases_for_a_dead_server_are_dropped(made: Any) -> None:
    made.start("patron", patron(ROUNDS, "d0", "f"))
    run_on(made)
    state = endpoint_named(made, "d0")
    made.kernel.servers.kill(state.process, "killed by the test")
    run_on(made)
    assert (state.held, state.releases.entries, state.releases.busy, made.kernel.slots.tokens(state)) == (
        0,
        deque(),
        False,
        {},
    )
    fields = made.kernel.slots.block(state)
    assert fields["unused"] | fields["free"] == 0xFFFF_FFFF
    assert made.kernel.check() == []


def test_a_server_that_takes_releases_is_used_without_end(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.Silent, "silent", frozenset())
    endpoint_named(made, "d0").releases.one_by_one = True  # as if it knew no batches
    made.start("patron", patron(ROUNDS, "d0", "f"))
    run_on(made)
    assert made.output == bytes(5 * ROUNDS)
    assert endpoint_named(made, "d0").held == 0
    told = [operation for operation in servers.Silent.answered if operation in servers.Operation.__members__.values()]
    assert told.count(Operation.CLOSE) == told.count(Operation.OPEN) == ROUNDS
    assert told.count(Operation.UNLOCK_DIRECTORY) == told.count(Operation.LOCK_DIRECTORY) == ROUNDS


class OnePageReplies(synthetic.Synthetic):
    """Answers READ with one page of its own memory at a time."""

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        registers = request.registers
        return await self._object(next(iter(self.files.values())), registers.eax, PAGE_SIZE)


def test_a_server_is_told_what_it_may_reuse_although_the_reader_whose_touch_made_room_makes_no_further_call(
    arena: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The touched page is in memory, so the reader does not wait: only the yield lets the kernel's thread run."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [OnePageReplies])
    monkeypatch.setattr(synthetic.Synthetic, "released", [])
    monkeypatch.setattr(synthetic.Synthetic, "held", {})
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(2 * PAGE_SIZE, [(8, 16)])})
    monkeypatch.setattr("callgate.kernel.files.reading.MAPPED_BLOCKS", 1)
    made = arena(MemoryMedium(servers.IMAGE))
    made.wanted.append(lambda: made.attackers.append(made.start("spinner", b"/d0/f\0")))
    assert made.system.run(fuel=5_000_000, until=made.label("spinner", "spin")).reason == "until"
    made.run(fuel=3_000_000)  # the server has its turns, of a millisecond each
    assert made.results == [None]
    assert synthetic.Synthetic.released == [1]
