"""A version of a directory that is held while the directory changes: it stays as it was, and is given back once."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes
from callgate.server import (
    Data,
    FileSystemError,
    ListedFile,
    MountedServer,
    Pages,
    Registers,
    Reply,
    Request,
    build_pages,
    operation,
)

MAGIC = b"a volume that changes while it is read"
SHOWN = 64

Sessions = Callable[..., Any]


class Changing(MountedServer[int, str]):
    """Every OPEN changes its root, which lists how many there have been; it keeps a diary."""

    name = "changing"
    diary: ClassVar[list[str]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.opens = 0

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "changing" if first.startswith(MAGIC) else None

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        return Data(b"", request.registers._replace(eax=VolumeFlags.READ_ONLY, ebx=0, ecx=0))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        def build(version: int) -> Pages:
            files = [ListedFile(f"{self.opens} opens", FileAttributes.READ_ONLY)]
            return Pages(build_pages(files, version), len(files))

        reply = await self.directories.lock("", build)
        self.diary.append(f"lock {reply.registers.edx}")
        return reply

    @operation(Operation.UNLOCK_DIRECTORY)
    async def unlock_directory(self, request: Request) -> Reply:
        self.diary.append(f"unlock {request.registers.edx}")
        await self.directories.unlock(request.registers.edx)
        return Registers(request.registers)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.opens += 1
        await self.directories.retire("")
        self.diary.append("change")
        raise FileSystemError(ErrorCode.NOT_FOUND, "nothing can be opened here")


def run_holder(session: Sessions, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run `holder` to its end."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Changing])
    Changing.diary = []
    made = session(MemoryMedium(MAGIC.ljust(512, b"\0")), programs=[("holder", "/d0 /d0/x")])
    assert made.run().reason == "halt"
    assert made.codes == [0], made.log
    return made


def test_a_process_that_has_a_directory_locked_sees_it_as_it_was_while_others_see_the_new_one(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = run_holder(session, monkeypatch)
    old, new, still = (held.output[at : at + SHOWN] for at in range(0, 3 * SHOWN, SHOWN))
    assert b"0 opens" in old
    assert b"1 opens" in new
    assert still == old


def test_the_server_is_told_of_a_version_when_no_process_has_it_locked_and_not_before(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = run_holder(session, monkeypatch)
    assert Changing.diary == ["lock 1", "change", "lock 2", "unlock 1"], "the current version is kept by the kernel"
    (server,) = held.kernel.hosted.servers.values()
    assert server.directories.locks == 1
    assert held.unaccounted() == []
