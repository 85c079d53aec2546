"""Names that are not there: what a server says of its own names is believed of no other volume, and not for ever."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import NAME_ABSENT, Operation
from callgate.kernel.abi.directory import VolumeFlags
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import ABSENT_NAMES
from callgate.kernel.servers import volumes
from callgate.kernel.system import System, SystemOptions
from callgate.server import Data, FileSystemError, HostedServer, MountedServer, Reply, Request, operation
from callgate.server.message import Failure

SECTOR = 512
LIAR, HONEST = b"it lies about names", b"it has the names it says"
Run = Callable[..., System]


class Named(MountedServer[int, str]):
    """The base of both: its diary names the paths that it is asked to open."""

    magic = b""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.diary: list[str] = []

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return cls.name if first.startswith(cls.magic) else None

    @operation(Operation.VOLUME)
    async def volume_label(self, request: Request) -> Reply:
        return Data(b"", request.registers._replace(eax=VolumeFlags.READ_ONLY, ebx=0, ecx=0))


class Honest(Named):
    """Has no files."""

    name, magic = "honest", HONEST

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.diary.append(request.path())
        raise FileSystemError(ErrorCode.NOT_FOUND, "it is not there")


class Liar(Named):
    """Vouches for whatever `code` it answers, and says that directories have changed if `changing`."""

    name, magic = "liar", LIAR
    code: ClassVar[Any] = ErrorCode.NOT_FOUND
    changing: ClassVar[bool] = False

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.diary.append(request.path())
        if self.changing:
            for version in range(4):
                await self.directories.retire(version)
        return Failure(self.code, request.registers._replace(edi=NAME_ABSENT))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, find_leaks: Callable[[System], list[str]]) -> Run:
    """Run commands with the liar as d0 and the honest one as d1; return the system."""

    def run(commands: str, **liar: Any) -> System:
        for name, value in liar.items():
            monkeypatch.setattr(Liar, name, value)
        servers: list[type[HostedServer]] = [Liar, Honest]
        monkeypatch.setattr(volumes, "installed_servers", lambda: servers)
        disks = [MemoryMedium(magic.ljust(SECTOR, b"\0")) for magic in (LIAR, HONEST)]
        system = System(disks, SystemOptions(commands=commands))
        system.run(fuel=50_000_000)
        assert find_leaks(system) == []
        return system

    return run


def diary(system: System, kind: type[Named]) -> list[str]:
    """Return what a server was asked to open."""
    (server,) = [server for server in system.kernel.hosted.servers.values() if isinstance(server, kind)]
    return server.diary


def test_a_server_that_vouches_for_a_name_is_asked_once_and_the_server_beside_it_too(run: Run) -> None:
    system = run("cat /d0/x; cat /d1/x; cat /d0/x; cat /d1/x")
    assert (diary(system, Liar), diary(system, Honest)) == (["x"], ["x"])


def test_a_server_poisons_no_name_of_another_volume_by_a_path_that_seems_to_lead_there(run: Run) -> None:
    system = run("cat /d0/d1/x; cat /d0/x; cat /d1/x")
    assert diary(system, Honest) == ["x"]
    assert diary(system, Liar) == ["d1/x", "x"]


def test_a_server_that_says_its_directories_change_makes_no_other_one_be_asked_again(run: Run) -> None:
    system = run("cat /d1/x; cat /d0/x; cat /d0/x; cat /d1/x", changing=True)
    assert diary(system, Honest) == ["x"]
    assert diary(system, Liar) == ["x", "x"], "what it has said before it changed is not believed"


@pytest.mark.parametrize(
    "code", [ErrorCode.IO_ERROR, ErrorCode.CORRUPT, ErrorCode.NO_MEMORY, ErrorCode.SERVER_DIED, 999]
)
def test_a_server_can_vouch_for_no_other_error_than_that_a_name_is_not_there(run: Run, code: int) -> None:
    assert diary(run("cat /d0/x; cat /d0/x", code=code), Liar) == ["x", "x"]


def test_the_names_that_are_kept_for_a_server_are_bounded_whatever_a_client_asks_for(run: Run) -> None:
    wanted = "; ".join(f"cat /d0/{number}" for number in range(ABSENT_NAMES + 20))
    system = run(wanted)
    kept = [endpoint.absent for endpoint in system.kernel.state.endpoints.by_number.values()]
    assert sorted(map(len, kept)) == [0, 0, ABSENT_NAMES]
    assert (Operation.OPEN, b"0") not in set().union(*kept), "the name that was asked for longest ago"
