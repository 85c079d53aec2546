"""A name that is not there is asked for once: until a directory changes, the disk goes, or the server ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from callgate.disk.media import ImageFile
from callgate.kernel.abi.calls import NAME_ABSENT, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.machine.devices.serial import IRQ
from callgate.server import FileSystemError, MountedServer, Reply, Request, operation
from callgate.server.message import Failure
from own_servers import OwnServer, Served


class Counting(OwnServer, MountedServer[int, str]):
    """Notes what it is asked for; `vouches` or not, and its directory `changes` while it answers or not."""

    name = "counting"
    vouches: ClassVar[bool] = True
    changes: ClassVar[bool] = False

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        self.diary.append(f"lock {request.path()}")
        raise FileSystemError(ErrorCode.NOT_FOUND, "it has no directories")

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.diary.append(f"open {request.path()}")
        if request.path() == "change":
            await self.directories.retire("never listed")
        if self.changes:
            await self.directories.retire("never listed")
        if not self.vouches:
            return Failure(ErrorCode.NOT_FOUND, request.registers._replace(edi=NAME_ABSENT + 1))
        raise FileSystemError(ErrorCode.NOT_FOUND, "it has no files")


@pytest.fixture
def asked(served: Callable[..., Served]) -> Callable[..., list[str]]:
    """Run commands; return what the server was asked for."""

    def run(commands: str, **behaviour: bool) -> list[str]:
        return served(commands, Counting, **behaviour).diary(Counting)

    return run


def test_a_file_that_is_not_there_costs_one_request_however_often_it_is_wanted(
    boot: Callable[..., Any], fat_image: Callable[..., Path]
) -> None:
    image = fat_image({"A.TXT": b"a"})
    requests = []
    for times in (1, 2, 5):
        done = boot("; ".join(["cat /d0/nofile"] * times), image)
        assert done.output.decode() == "cat: /d0/nofile: no such file or directory\n" * times
        requests.append(done.system.machine.ledger.counts().requests)
    assert requests == [requests[0]] * 3


def test_each_operation_learns_for_itself_that_a_name_is_not_there(asked: Any) -> None:
    """A link that leads nowhere cannot be opened, and can be read."""
    assert asked("cat /d0/x; cd /d0/x; cat /d0/x; cd /d0/x") == ["open x", "lock x"]


def test_names_are_asked_for_again_after_a_directory_has_changed_that_nobody_had_listed(asked: Any) -> None:
    assert asked("cat /d0/x; cat /d0/change; cat /d0/x; cat /d0/x") == ["open x", "open change", "open x"]


def test_an_answer_from_before_a_change_is_not_kept(asked: Any) -> None:
    assert asked("cat /d0/x; cat /d0/x", changes=True) == ["open x", "open x"]


def test_a_server_that_does_not_vouch_for_its_answer_is_asked_every_time(asked: Any) -> None:
    assert asked("cat /d0/x; cat /d0/x", vouches=False) == ["open x", "open x"]


def test_a_name_that_was_not_on_a_disk_is_looked_for_on_the_disk_that_takes_its_place(
    session: Callable[..., Any], fat_image: Callable[..., Path]
) -> None:
    empty, full = fat_image({}, name="a.img"), fat_image({"NEW.TXT": b"it is here"}, name="b.img")
    made = session(empty, programs=[("reader", "e/d0/NEW.TXT")])
    assert made.run().reason == "halt"
    (before,) = (one for one in made.kernel.state.endpoints.by_number.values() if one.name == "d0")
    assert list(before.absent) == [(Operation.OPEN, b"NEW.TXT")]
    made.system.unplug(0)
    made.system.plug(0, ImageFile(full))
    assert made.run().reason == "halt"
    made.start("reader", "e/d0/NEW.TXT")
    attention(made)
    assert made.run().reason == "halt"
    assert (made.output, made.codes) == (b"it is here", [100 + ErrorCode.NOT_FOUND, 0])
    assert not before.absent
    assert made.unaccounted() == []


def attention(made: Any) -> None:
    """Have a CPU that may be halted look at what was changed from outside."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)
