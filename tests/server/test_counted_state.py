"""What servers count as changes of their state, which is what snapshots go by: nothing is forgotten."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler.cache import cache_directory
from callgate.disk.images.demo import demo_image
from callgate.kernel.abi.calls import Operation
from callgate.kernel.common.counted import Counted
from callgate.kernel.common.recent import Recent
from callgate.kernel.watching.snapshots.server_copies import Picklers, ServerCopy
from callgate.kernel.watching.snapshots.server_pickling import ServerPickler
from callgate.kernel.watching.snapshots.sizes import Total
from callgate.server import Pages
from callgate.server.fat.server import FatServer
from callgate.server.open_files import OpenFiles
from callgate.server.testing import Rehearsal
from callgate.server.versions import DirectoryVersions

START, SECTORS = 2048, 49152  # of the demo image's first partition
FILES = ("README.TXT", "PATTERN.BIN", "HELLO", "NO.TXT", "DOCS", "")


@pytest.fixture(scope="module")
def volume() -> bytes:
    with Path(demo_image(cache_directory())).open("rb") as file:
        file.seek(START * 512)
        return file.read(SECTORS * 512)


def everything(server: Any) -> tuple[bytes, list[object]]:
    """Return all that a server holds, by a way that takes nothing apart and knows nothing from before."""
    found = ServerPickler().pickled(server, server.memory)
    assert found[0]
    return found


class Follower:
    """Copies a server after each change, from the copy before; what each copy makes is to be the server."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.picklers = Picklers(Total())
        self.last: ServerCopy | None = None

    def copy(self) -> ServerCopy:
        self.last = ServerCopy(self.server, self.picklers, self.last)
        return self.last

    def check(self) -> None:
        """Fail if what the next copy makes differs from the server; that takes the place of the server."""
        expected = everything(self.server)
        again = self.copy().on(self.server.memory)
        assert everything(again) == expected
        self.server = again


def ask(rehearsal: Rehearsal, dice: random.Random, open_files: list[int], locks: list[int]) -> None:
    """Send a server one request of some kind."""
    path = dice.choice(FILES).encode()
    what = dice.randrange(6)
    if what == 0:
        answer = rehearsal.request(Operation.OPEN, path)
        open_files += [] if answer.error else [answer.registers.eax]
    elif what == 1 and open_files:
        rehearsal.request(Operation.READ, ebx=dice.choice(open_files), eax=dice.randrange(1 << 20), ecx=1 << 16)
    elif what == 2 and open_files:
        rehearsal.request(Operation.CLOSE, eax=open_files.pop(dice.randrange(len(open_files))))
    elif what == 3:
        answer = rehearsal.request(Operation.LOCK_DIRECTORY, path)
        locks += [] if answer.error else [answer.registers.edx]
    elif what == 4 and locks:
        rehearsal.request(Operation.UNLOCK_DIRECTORY, edx=locks.pop(dice.randrange(len(locks))))
    else:
        rehearsal.request(Operation.FREE_SPACE)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_server_that_is_copied_from_its_last_copy_is_what_it_is_after_any_requests(volume: bytes, seed: int) -> None:
    dice = random.Random(seed)
    rehearsal = Rehearsal(FatServer, volume)
    follower = Follower(rehearsal.server)
    follower.check()
    rehearsal.server = follower.server
    rehearsal.start()
    open_files: list[int] = []
    locks: list[int] = []
    for _ in range(150):
        ask(rehearsal, dice, open_files, locks)
        if dice.randrange(2):
            follower.copy()
        if dice.randrange(4) == 0:
            follower.check()
            rehearsal.server = follower.server
    assert follower.last is not None
    assert len(follower.last.parts) < 40, "closed files are forgotten"


def test_a_request_that_finds_everything_known_has_only_the_table_of_open_files_copied(volume: bytes) -> None:
    rehearsal = Rehearsal(FatServer, volume)
    rehearsal.start()
    follower = Follower(rehearsal.server)
    for _ in range(2):
        number = rehearsal.request(Operation.OPEN, b"README.TXT").registers.eax
        rehearsal.request(Operation.CLOSE, eax=number)
        before, after = follower.last, follower.copy()
    assert before is not None
    assert after.own is before.own
    changed = [copy.kind for number, copy in after.parts.items() if before.parts[number] is not copy]
    assert changed == [OpenFiles]


class Holder(FatServer):
    """A server that has not been started, with a part to be changed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recent: Recent[str] = Recent(4)
        self.nested: dict[str, Any] = {"numbers": OpenFiles(), "plain": [1]}


async def locked(versions: DirectoryVersions, key: int) -> int:
    """Lock a directory; return the number of the lock."""
    return (await versions.lock(key, lambda _number: Pages(bytes(4096), 3))).registers.edx


async def prepare(server: Holder) -> None:
    """Have something of each kind there."""
    for key in range(3):
        await locked(server.directories, key)
    await server.directories.unlock(1)
    server.files.add([1])  # type: ignore[arg-type]
    server.files.add([2])  # type: ignore[arg-type]
    server.recent.keep("a", "A")
    server.recent.keep("b", "B")
    server.nested["numbers"].add("x")


CHANGES: dict[str, Callable[[Holder], Any]] = {
    "a directory is locked": lambda server: locked(server.directories, 1),
    "a new directory is locked": lambda server: locked(server.directories, 7),
    "a directory is unlocked": lambda server: server.directories.unlock(2),
    "a directory changes": lambda server: server.directories.retire(1),
    "a locked directory changes": lambda server: server.directories.retire(2),
    "a file is opened": lambda server: server.files.add([3]),  # type: ignore[arg-type]
    "a file is closed": lambda server: server.files.remove(1),
    "what is known of a file grows": lambda server: server.files.get(1).append(5),  # type: ignore[attr-defined]
    "something is used again": lambda server: server.recent.get("a"),
    "something is kept": lambda server: server.recent.keep("c", "C"),
    "all is forgotten": lambda server: server.recent.clear(),
    "a part in a dictionary changes": lambda server: server.nested["numbers"].remove(1),
    "a list in a dictionary changes": lambda server: server.nested["plain"].append(2),
    "a part is exchanged": lambda server: setattr(server, "recent", Recent(5)),
    "a part is in two places": lambda server: setattr(server, "another", server.recent),
    "two attributes are one list": lambda server: vars(server).update(one=(both := list[int]()), other=both),
    "an attribute is deleted": lambda server: delattr(server.recent, "weight"),
    "a sentence is noted": lambda server: server.report("damage"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_kind_of_change_of_a_server_is_in_the_next_copy(change: str) -> None:
    rehearsal = Rehearsal(Holder, bytes(512))
    server: Any = rehearsal.server
    rehearsal.drive(prepare(server))
    follower = Follower(server)
    before = follower.copy()
    assert follower.copy().parts == before.parts, "nothing has changed"
    done = CHANGES[change](server)
    if hasattr(done, "send"):
        rehearsal.drive(done)
    expected = everything(server)
    copy = follower.copy()
    assert everything(copy.on(server.memory)) == expected
    assert everything(server) == expected
    assert everything(before.on(server.memory)) != expected
    follower.server = copy.on(server.memory)
    follower.check()
    assert everything(follower.server) == expected


def test_parts_that_lead_to_each_other_stay_one_object_each() -> None:
    rehearsal = Rehearsal(Holder, bytes(512))
    server: Any = rehearsal.server
    server.recent.partner, server.files.partner = server.files, server.recent
    again: Any = Follower(server).copy().on(server.memory)
    assert again.recent.partner is again.files
    assert again.files.partner is again.recent
    assert again.files is not server.files


def test_a_class_that_counts_its_changes_has_no_slots() -> None:
    with pytest.raises(TypeError, match="Slotted counts its changes, and has slots"):

        class Slotted(Counted):
            __slots__ = ("one",)


def test_a_part_that_copies_itself_in_a_way_of_its_own_is_pickled_with_its_server() -> None:
    rehearsal = Rehearsal(Holder, bytes(512))
    server: Any = rehearsal.server
    server.part = Particular()
    copy = Follower(server).copy()
    assert (copy.own, copy.parts, copy.duplicate) == (None, {}, None)
    assert everything(copy.on(server.memory)) == everything(server)


class Particular(Counted):
    """A part whose state is not what its attributes are."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "more": 1}
