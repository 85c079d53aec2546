"""A system whose volumes are served by classes of a test's own, as a fixture.

`served("cat /d0/f", Liar, Honest, size=3)` boots with a disk for each class, has the shell carry out the commands, with
`Liar.size` 3, and returns when it has ended: nothing is left over then, and the kernel is in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.servers import volumes
from callgate.kernel.system import System, SystemOptions
from callgate.server import Data, HostedServer, Reply, Request, operation

FUEL = 50_000_000


class OwnServer(HostedServer):
    """The base of servers of a test: each claims the disk that begins with its name, and keeps a diary."""

    content: ClassVar[bytes] = b""  # of its disk after the first sector

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.diary: list[str] = []

    @classmethod
    def disk(cls) -> bytes:
        """Return a disk that it claims."""
        return cls.name.encode().ljust(512, b"\0") + cls.content

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return cls.name if first.rstrip(b"\0").partition(b"\0")[0] == cls.name.encode() else None

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        return Data(b"", request.registers._replace(eax=VolumeFlags.READ_ONLY, ebx=0, ecx=0))


@dataclass
class Served:
    """A system after its shell has ended, and what has been printed."""

    system: System
    output: bytes

    def diary(self, kind: type[OwnServer]) -> list[str]:
        """Return the diary of the one server of a class."""
        (server,) = (one for one in self.system.kernel.hosted.servers.values() if isinstance(one, kind))
        return server.diary


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, find_leaks: Callable[[System], list[str]]) -> Callable[..., Served]:
    """Run commands with the first class as /d0, the next one as /d1; `behaviour` sets attributes of the first."""

    def run(commands: str, *servers: type[OwnServer], **behaviour: Any) -> Served:
        for name, value in behaviour.items():
            monkeypatch.setattr(servers[0], name, value)
        installed: list[type[HostedServer]] = list(servers)
        monkeypatch.setattr(volumes, "installed_servers", lambda: installed)
        printed: list[bytes] = []
        disks = [MemoryMedium(server.disk()) for server in servers]
        system = System(disks, SystemOptions(commands=commands, output=printed.append))
        system.run(fuel=FUEL)
        assert find_leaks(system) == []
        assert system.kernel.check() == []
        return Served(system, b"".join(printed))

    return run
