"""Servers that lie in the data that come with the answer to OPEN, and about files that they were to close with it."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import OPEN_CLOSES, Operation
from callgate.kernel.abi.directory import FileAttributes, VolumeFlags
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.volume import SECTOR_ENTRY_COUNT_SHIFT, SECTOR_ENTRY_HOLE
from callgate.kernel.servers import volumes
from callgate.kernel.system import System, SystemOptions
from callgate.server import Data, HostedServer, Registers, Reply, Request, operation
from callgate.server.message import Sectors
from callgate.server.pieces import cut

MAGIC = b"its first data are a lie"
SECTORS = 64
DISK = MAGIC.ljust(512, b"\0") + b"".join(bytes([64 + number]) * 512 for number in range(1, SECTORS))
SIZE = 5000
EIGHT = 7 << SECTOR_ENTRY_COUNT_SHIFT
Run = Callable[..., tuple[System, bytes, list[str]]]


class Liar(HostedServer):
    """Answers OPEN with `entries` and `covered`, whatever was asked; READ with the truth, CLOSE with nothing."""

    name = "liar"
    entries: ClassVar[list[int]] = []
    covered: ClassVar[int] = SIZE
    attributes: ClassVar[int] = FileAttributes.READ_ONLY

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.diary: list[str] = []

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "liar" if first.startswith(MAGIC) else None

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        return Data(b"", request.registers._replace(eax=VolumeFlags.READ_ONLY, ebx=0, ecx=0))

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        asked = request.registers
        self.diary.append(f"open {bool(asked.ecx)} {asked.esi}")
        registers = asked._replace(
            eax=7 + len(self.diary), ebx=self.attributes | OPEN_CLOSES, ecx=SIZE, edx=0, esi=self.covered, edi=0
        )
        return Sectors(self.entries, registers) if self.entries else Registers(registers)

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        asked = request.registers
        sector = asked.eax // 512
        self.diary.append(f"read {sector}")
        pieces = cut(self.geometry.start, 8 + sector, 10 - sector, 506)
        return Sectors(pieces, asked._replace(eax=SIZE - sector * 512, ecx=sector * 512, edx=0, edi=0))

    @operation(Operation.CLOSE)
    async def close(self, request: Request) -> Reply:
        self.diary.append(f"close {request.registers.eax}")
        return Registers(request.registers)


TRUTH = DISK[8 * 512 : 8 * 512 + SIZE]
TRUE = cut(0, 8, 10)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, find_leaks: Callable[[System], list[str]]) -> Run:
    """Run commands on a disk of the liar; return the system, the output and what the server was asked."""

    def run(commands: str, **lies: Any) -> tuple[System, bytes, list[str]]:
        for name, value in lies.items():
            monkeypatch.setattr(Liar, name, value)
        servers: list[type[HostedServer]] = [Liar]
        monkeypatch.setattr(volumes, "installed_servers", lambda: servers)
        output: list[bytes] = []
        system = System([MemoryMedium(DISK)], SystemOptions(commands=commands, output=output.append))
        system.run(fuel=50_000_000)
        assert find_leaks(system) == []
        assert system.kernel.check() == []
        (server,) = (one for one in system.kernel.hosted.servers.values() if isinstance(one, Liar))
        return system, b"".join(output), server.diary

    return run


def test_true_first_data_are_read_without_a_read(run: Run) -> None:
    _, output, diary = run("cat /d0/f", entries=TRUE)
    assert (output, diary) == (TRUTH, ["open True 0", "close 8"])


@pytest.mark.parametrize(
    "entries",
    [[SECTORS | EIGHT], [1 << 50 | EIGHT], [SECTORS - 4 | EIGHT], [4 | EIGHT], [SECTOR_ENTRY_HOLE | 4 | EIGHT]],
    ids=["outside", "far outside", "across the end", "across a block", "zeros across a page"],
)
def test_sectors_that_are_not_the_servers_own_refuse_the_open(run: Run, entries: list[int]) -> None:
    _, output, diary = run("cat /d0/f", entries=entries)
    assert output == b"cat: /d0/f: " + message(ErrorCode.BAD_REPLY) + b"\n"
    assert diary[0] == "open True 0"


@pytest.mark.parametrize("covered", [0, 1, 511, 4097, 0xFFFF_FFFF], ids=hex)
@pytest.mark.parametrize("entries", [TRUE[:1], TRUE, [SECTOR_ENTRY_HOLE | EIGHT]], ids=["page", "all", "zeros"])
def test_a_false_number_of_bytes_gives_no_byte_that_is_not_the_files(
    run: Run, covered: int, entries: list[int]
) -> None:
    _, output, diary = run("cat /d0/f", entries=entries, covered=covered)
    data = output.partition(b"cat: ")[0]
    assert len(data) <= SIZE
    assert all(byte in (0, true) for byte, true in zip(data, TRUTH, strict=False)), diary


def test_data_that_came_without_being_wanted_are_not_taken(run: Run) -> None:
    _, output, diary = run("crc32 /d0/f", entries=[SECTOR_ENTRY_HOLE | EIGHT], covered=4096)
    assert diary[:2] == ["open False 0", "read 0"]
    assert run("crc32 /d0/f", entries=[])[1] == output


def test_data_of_a_directory_leave_nothing(run: Run) -> None:
    _, output, _ = run("cat /d0/f", entries=TRUE, attributes=FileAttributes.DIRECTORY)
    assert output == b"cat: /d0/f: " + message(ErrorCode.IS_DIRECTORY) + b"\n"


def test_a_file_goes_with_the_next_open_of_its_own_server_and_with_no_other(run: Run) -> None:
    _, _, diary = run("cat /d0/f /rom/nofile /d0/g", entries=TRUE)
    assert diary == ["open True 0", "open True 8", "close 9"]


def message(code: ErrorCode) -> bytes:
    """Return the shell's sentence for an error."""
    return ERROR_TEXT[code].encode()
