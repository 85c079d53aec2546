"""Servers that lie in the data that come with the answer to OPEN, and about files that they were to close with it."""

from collections.abc import Callable
from typing import ClassVar, NamedTuple, cast

import pytest
from callgate.kernel.abi.calls import OPEN_CLOSES, Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.volume import SECTOR_ENTRY_COUNT_SHIFT, SECTOR_ENTRY_HOLE
from callgate.server import Registers, Reply, Request, operation
from callgate.server.message import Sectors, ServerMemory
from callgate.server.pieces import cut
from own_servers import OwnServer, Served

SECTORS = 64
SIZE = 5000
EIGHT = 7 << SECTOR_ENTRY_COUNT_SHIFT
Run = Callable[..., Served]


class Disguised(NamedTuple):
    """A reply of another type whose page holds a sectors reply."""

    sectors: Sectors
    kind: ServerCall

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        self.sectors.store(memory, address, block)
        return self.kind


class Liar(OwnServer):
    """Answers OPEN with `entries` and `covered`, whatever was asked; READ with the truth, CLOSE with nothing."""

    name = "liar"
    content = b"".join(bytes([64 + number]) * 512 for number in range(1, SECTORS))
    entries: ClassVar[list[int]] = []
    covered: ClassVar[int] = SIZE
    attributes: ClassVar[int] = FileAttributes.READ_ONLY
    size: ClassVar[int] = SIZE
    kind: ClassVar[ServerCall] = ServerCall.REPLY_SECTORS

    @operation(Operation.OPEN)
    async def open(self, request: Request) -> Reply:
        asked = request.registers
        self.diary.append(f"open {bool(asked.ecx)} {asked.esi}")
        registers = asked._replace(
            eax=7 + len(self.diary), ebx=self.attributes | OPEN_CLOSES, ecx=self.size, edx=0, esi=self.covered, edi=0
        )
        if not self.entries:
            return Registers(registers)
        return cast(Reply, Disguised(Sectors(self.entries, registers), self.kind))

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


TRUTH = Liar.disk()[8 * 512 : 8 * 512 + SIZE]
TRUE = cut(0, 8, 10)


@pytest.fixture
def run(served: Run) -> Run:
    """Run commands on a disk of the liar: `run(commands, **lies)`."""

    def run(commands: str, **lies: object) -> Served:
        return served(commands, Liar, **lies)

    return run


def test_true_first_data_are_read_without_a_read(run: Run) -> None:
    done = run("cat /d0/f", entries=TRUE)
    assert (done.output, done.diary(Liar)) == (TRUTH, ["open True 0", "close 8"])


@pytest.mark.parametrize(
    "entries",
    [[SECTORS | EIGHT], [1 << 50 | EIGHT], [SECTORS - 4 | EIGHT], [4 | EIGHT], [SECTOR_ENTRY_HOLE | 4 | EIGHT]],
    ids=["outside", "far outside", "across the end", "across a block", "zeros across a page"],
)
def test_sectors_that_are_not_the_servers_own_refuse_the_open(run: Run, entries: list[int]) -> None:
    done = run("cat /d0/f", entries=entries)
    assert done.output == b"cat: /d0/f: " + message(ErrorCode.BAD_REPLY) + b"\n"
    assert done.diary(Liar)[0] == "open True 0"


@pytest.mark.parametrize("covered", [0, 1, 511, 4097, 0xFFFF_FFFF], ids=hex)
@pytest.mark.parametrize("entries", [TRUE[:1], TRUE, [SECTOR_ENTRY_HOLE | EIGHT]], ids=["page", "all", "zeros"])
def test_a_false_number_of_bytes_gives_no_byte_that_is_not_the_files(
    run: Run, covered: int, entries: list[int]
) -> None:
    done = run("cat /d0/f", entries=entries, covered=covered)
    data = done.output.partition(b"cat: ")[0]
    assert len(data) <= SIZE
    assert all(byte in (0, true) for byte, true in zip(data, TRUTH, strict=False)), done.diary(Liar)


@pytest.mark.parametrize("kind", [ServerCall.REPLY_REGISTERS, ServerCall.REPLY_DATA], ids=lambda kind: kind.name)
@pytest.mark.parametrize("entries", [TRUE, [SECTORS | EIGHT]], ids=["true", "outside"])
def test_sectors_in_a_reply_that_is_not_checked_for_them_are_not_taken(
    run: Run, kind: ServerCall, entries: list[int]
) -> None:
    """Only CONVERT of a sectors reply has looked at them; the data are asked for by a READ."""
    done = run("cat /d0/f", entries=entries, kind=kind)
    assert (done.output, done.diary(Liar)[:2]) == (TRUTH, ["open True 0", "read 0"])


def test_data_that_came_without_being_wanted_are_not_taken(run: Run) -> None:
    done = run("crc32 /d0/f", entries=[SECTOR_ENTRY_HOLE | EIGHT], covered=4096)
    assert done.diary(Liar)[:2] == ["open False 0", "read 0"]
    assert run("crc32 /d0/f", entries=[]).output == done.output


SCATTERED = 506  # sectors, each in a block of its own, the last one first


def test_first_data_that_lie_scattered_over_the_disk_are_those_of_the_file(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many entries as a reply holds, no two of which one disk request can bring."""
    sectors = [16 * (SCATTERED - index) + index % 8 for index in range(SCATTERED)]
    disk = bytearray(512 * 16 * (SCATTERED + 1))
    for sector in sectors:
        disk[512 * sector : 512 * (sector + 1)] = sector.to_bytes(2, "little") * 256
    monkeypatch.setattr(Liar, "content", bytes(disk[512:]))
    size = 512 * SCATTERED
    done = run("cat /d0/f", entries=sectors, covered=size, size=size)
    assert done.output == b"".join(sector.to_bytes(2, "little") * 256 for sector in sectors)


def test_data_of_a_directory_leave_nothing(run: Run) -> None:
    done = run("cat /d0/f", entries=TRUE, attributes=FileAttributes.DIRECTORY)
    assert done.output == b"cat: /d0/f: " + message(ErrorCode.IS_DIRECTORY) + b"\n"


def test_a_file_goes_with_the_next_open_of_its_own_server_and_with_no_other(run: Run) -> None:
    diary = run("cat /d0/f /rom/nofile /d0/g", entries=TRUE).diary(Liar)
    assert diary == ["open True 0", "open True 8", "close 9"]


def message(code: ErrorCode) -> bytes:
    """Return the shell's sentence for an error."""
    return ERROR_TEXT[code].encode()
