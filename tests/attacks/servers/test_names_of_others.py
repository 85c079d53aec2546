"""Names that are not there: what a server says of its own names is believed of no other volume, and not for ever."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from callgate.kernel.abi.calls import NAME_ABSENT, Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.limits import ABSENT_NAMES
from callgate.server import FileSystemError, MountedServer, Reply, Request, operation
from callgate.server.message import Failure
from own_servers import OwnServer, Served

Run = Callable[..., Served]


class Honest(OwnServer, MountedServer[int, str]):
    """Has no files.  The diary names the paths that it is asked to open."""

    name = "honest"

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        self.diary.append(request.path())
        raise FileSystemError(ErrorCode.NOT_FOUND, "it is not there")


class Liar(OwnServer, MountedServer[int, str]):
    """Vouches for whatever `code` it answers, and says that directories have changed if `changing`."""

    name = "liar"
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
def run(served: Run) -> Run:
    """Run commands with the liar as d0 and the honest one as d1: `run(commands, **lies)`."""

    def run(commands: str, **lies: Any) -> Served:
        return served(commands, Liar, Honest, **lies)

    return run


def test_a_server_that_vouches_for_a_name_is_asked_once_and_the_server_beside_it_too(run: Run) -> None:
    done = run("cat /d0/x; cat /d1/x; cat /d0/x; cat /d1/x")
    assert (done.diary(Liar), done.diary(Honest)) == (["x"], ["x"])


def test_a_server_poisons_no_name_of_another_volume_by_a_path_that_seems_to_lead_there(run: Run) -> None:
    done = run("cat /d0/d1/x; cat /d0/x; cat /d1/x")
    assert done.diary(Honest) == ["x"]
    assert done.diary(Liar) == ["d1/x", "x"]


def test_a_server_that_says_its_directories_change_makes_no_other_one_be_asked_again(run: Run) -> None:
    done = run("cat /d1/x; cat /d0/x; cat /d0/x; cat /d1/x", changing=True)
    assert done.diary(Honest) == ["x"]
    assert done.diary(Liar) == ["x", "x"], "what it has said before it changed is not believed"


@pytest.mark.parametrize(
    "code", [ErrorCode.IO_ERROR, ErrorCode.CORRUPT, ErrorCode.NO_MEMORY, ErrorCode.SERVER_DIED, 999]
)
def test_a_server_can_vouch_for_no_other_error_than_that_a_name_is_not_there(run: Run, code: int) -> None:
    assert run("cat /d0/x; cat /d0/x", code=code).diary(Liar) == ["x", "x"]


def test_the_names_that_are_kept_for_a_server_are_bounded_whatever_a_client_asks_for(run: Run) -> None:
    wanted = "; ".join(f"cat /d0/{number}" for number in range(ABSENT_NAMES + 20))
    done = run(wanted)
    kept = [endpoint.absent for endpoint in done.system.kernel.state.endpoints.by_number.values()]
    assert sorted(map(len, kept)) == [0, 0, ABSENT_NAMES]
    assert (Operation.OPEN, b"0") not in set().union(*kept), "the name that was asked for longest ago"
