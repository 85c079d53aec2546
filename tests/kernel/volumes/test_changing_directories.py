"""A server whose directory changes: clients see the new version, and a process that holds the old one keeps it."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.servers import volumes
from callgate.kernel.system import System
from callgate.server import (
    Data,
    FileSystemError,
    ListedFile,
    MountedServer,
    Pages,
    Reply,
    Request,
    build_pages,
    operation,
)

MAGIC = b"a changing volume"


class Changing(MountedServer[int, str]):
    """Its root lists how often it was opened; `partial`: no listing of it is to be kept."""

    name = "changing"
    partial = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.opens = 0
        self.listings = 0

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "changing" if first.startswith(MAGIC) else None

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        return Data(b"", request.registers._replace(eax=VolumeFlags.READ_ONLY, ebx=0, ecx=0))

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        self.listings += 1

        def build(version: int) -> Pages:
            files = [ListedFile(f"opened {self.opens} times", FileAttributes.READ_ONLY)]
            return Pages(build_pages(files, version), len(files))

        return await self.directories.lock("", build, lasting=not self.partial)

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.opens += 1
        await self.directories.retire("")
        raise FileSystemError(ErrorCode.NOT_FOUND, "nothing can be opened here")


class Partial(Changing):
    """The same, and no listing lasts."""

    partial = True


@pytest.fixture
def listed(boot: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], int]]:
    """Run commands on a volume of a server; return the lines, and how often the server was asked to list."""

    def run(server: type[Changing], commands: str) -> tuple[list[str], int]:
        monkeypatch.setattr(volumes, "installed_servers", lambda: [server])
        done = boot(commands, MemoryMedium(MAGIC.ljust(512, b"\0")))
        assert done.leaks() == []
        return done.output.decode().splitlines(), asked(done.system)

    return run


def asked(system: System) -> int:
    (server,) = system.kernel.hosted.servers.values()
    assert isinstance(server, Changing)
    return server.listings


def test_an_unchanged_directory_is_requested_once(listed: Any) -> None:
    assert listed(Changing, "ls; ls; ls") == (["opened 0 times"] * 3, 1)


def test_a_directory_that_has_changed_is_requested_again(listed: Any) -> None:
    lines, listings = listed(Changing, "ls; cat x; ls; ls; cat x; ls")
    assert [line for line in lines if line.startswith("opened")] == [f"opened {count} times" for count in (0, 1, 1, 2)]
    assert listings == 3


def test_a_version_that_the_server_does_not_vouch_for_is_requested_every_time(listed: Any) -> None:
    assert listed(Partial, "ls; ls; ls") == (["opened 0 times"] * 3, 3)
