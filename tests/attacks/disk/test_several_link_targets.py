"""READ_LINKS, by which `ls -l` asks for several links at once, of servers that answer it wrongly, in part or not."""

import struct
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE
from callgate.kernel.servers import volumes
from callgate.server.errors import FileSystemError
from callgate.server.gate import allocate
from callgate.server.hosted import operation
from callgate.server.listing import ListedFile, build_pages
from callgate.server.message import Data, Object, Registers, RegisterValues, Reply, Request

Arenas = Callable[..., Any]
NAMES = ("a", "b", "c", "d", "e")
SEVERAL, ALONE, LISTING = Operation.READ_LINKS, Operation.READ_LINK, Operation.LOCK_DIRECTORY
Death = RuntimeError("a bug")


def told(*targets: bytes) -> bytes:
    return b"".join(struct.pack("<H", len(target)) + target for target in targets)


class Links(servers.Silent):
    """Has five links; answers READ_LINKS with `several`, one after the other, and READ_LINK with the link's name."""

    several: ClassVar[list[bytes | Exception | Reply]] = []
    broken: ClassVar[str] = ""

    @operation(Operation.LOCK_DIRECTORY)
    async def lock_directory(self, request: Request) -> Reply:
        address = await allocate(4096)
        files = [ListedFile("0", FileAttributes(0)), *(ListedFile(name, FileAttributes.SYMLINK) for name in NAMES)]
        self.memory.write(address, build_pages(files, 0))
        return Object(address, 4096, RegisterValues(ecx=1, edx=1, edi=len(files)))  # version 0: nothing is kept

    @operation(Operation.READ_LINK)
    async def read_link(self, request: Request) -> Reply:
        if request.path() == self.broken:
            raise FileSystemError(ErrorCode.IO_ERROR, "no")
        return Data(b"alone " + request.data, RegisterValues())

    @operation(Operation.READ_LINKS)
    async def read_links(self, request: Request) -> Reply:
        answer = self.several.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Data(answer, RegisterValues()) if isinstance(answer, bytes) else answer


@pytest.fixture
def listing(arena: Arenas, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], list[Operation]]]:
    """Return what `ls -l` prints after each name, and the operations that the server has been asked for."""
    monkeypatch.setattr(servers.Silent, "answered", [])
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Links])

    def run(*several: bytes | Exception | Reply, broken: str = "") -> tuple[list[str], list[Operation]]:
        monkeypatch.setattr(Links, "several", list(several))
        monkeypatch.setattr(Links, "broken", broken)
        made = arena(MemoryMedium(servers.IMAGE), commands="ls -l /d0")
        made.run()
        assert made.kernel.check() == []
        lines = made.output.decode().splitlines()
        begin = next(at for at, line in enumerate(lines) if line.endswith(" 0"))
        asked = [each for each in servers.Silent.answered if each in (SEVERAL, ALONE)]
        return [line.rpartition("      0 ")[2].strip() for line in lines[begin + 1 :]], asked

    return run


ALL = [f"{name} -> {name.upper()}" for name in NAMES]
EACH = [f"{name} -> alone {name}" for name in NAMES]
CAPITALS = [name.upper().encode() for name in NAMES]


def test_links_of_a_listing_are_asked_for_at_once(listing: Any) -> None:
    assert listing(told(*CAPITALS)) == (ALL, [SEVERAL])


@pytest.mark.parametrize(
    ("answers", "asked", "first"),
    [
        ([told(*CAPITALS[:3]), told(*CAPITALS[3:])], [SEVERAL, SEVERAL], 5),
        ([told(*CAPITALS, b"more", b"than asked")], [SEVERAL], 5),
        ([told(*CAPITALS[:3]), b""], [SEVERAL, SEVERAL, ALONE, ALONE], 3),
        ([told(*CAPITALS[:4])], [SEVERAL, ALONE], 4),
        ([told(*CAPITALS[:4]) + b"\xff\xff"], [SEVERAL, ALONE], 4),
        ([told(*CAPITALS[:4]) + b"\x02\x00x"], [SEVERAL, ALONE], 4),
        ([told(*CAPITALS[:4]) + b"\x01"], [SEVERAL, ALONE], 4),
        ([told(*CAPITALS[:4], b"")], [SEVERAL, ALONE], 4),
        ([FileSystemError(ErrorCode.BAD_CALL, "no")], [SEVERAL, *[ALONE] * 5], 0),
        ([FileSystemError(ErrorCode.IO_ERROR, "no")], [SEVERAL, *[ALONE] * 5], 0),
        ([FileSystemError(ErrorCode.INTERRUPTED, "no")], [SEVERAL, *[ALONE] * 5], 0),
        ([b""], [SEVERAL, *[ALONE] * 5], 0),
        ([Registers(RegisterValues(eax=0xFFFF_FFFF))], [SEVERAL, *[ALONE] * 5], 0),
        ([b"x"] * 4, [SEVERAL, ALONE, SEVERAL, ALONE, SEVERAL, ALONE, SEVERAL, ALONE, ALONE], 0),
    ],
)
def test_a_link_that_the_answer_for_several_leaves_out_is_asked_for_alone(
    listing: Any, answers: list[Any], asked: list[Operation], first: int
) -> None:
    assert listing(*answers) == (ALL[:first] + EACH[first:], asked)


def test_a_link_that_cannot_be_read_is_reported_between_the_others(listing: Any) -> None:
    lines, asked = listing(told(*CAPITALS[:2], b"", *CAPITALS[3:]), broken="c")
    assert lines == [*ALL[:2], "c", "ls: /d0/c: disk error", *ALL[3:]]
    assert asked == [SEVERAL, ALONE]


def test_a_server_that_dies_over_several_links_is_reported_for_each_of_them(listing: Any) -> None:
    lines, asked = listing(Death)
    shown = [line for line in lines if "died" not in line or line.startswith("ls: ")]
    assert [line for line in shown if line in NAMES or line.startswith("ls: ")] == [
        text for name in NAMES for text in (name, f"ls: /d0/{name}: the file-system server died")
    ]
    assert asked == [SEVERAL]


def test_the_longest_target_of_several_is_shown_whole_and_its_control_characters_are_not(listing: Any) -> None:
    longest = b"\x1b" + b"x" * (MESSAGE_DATA_SIZE - 2 * 5 - 4 - 1)
    (first, *others), asked = listing(told(longest, *CAPITALS[1:]))
    assert first == "a -> ?" + "x" * (len(longest) - 1)
    assert (others, asked) == (ALL[1:], [SEVERAL])


@pytest.mark.parametrize("silent", [SEVERAL, ALONE])
def test_a_break_ends_a_listing_whose_server_never_answers_for_its_links(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch, silent: Operation
) -> None:
    monkeypatch.setattr(servers.Silent, "answered", [])
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Links])
    monkeypatch.setattr(Links, "silent", frozenset({silent}))
    monkeypatch.setattr(Links, "several", [b""])
    made = arena(MemoryMedium(servers.IMAGE), commands="ls -l /d0; echo $?")
    assert made.run().reason == "halt"
    assert made.system.machine.serial.send_break()
    made.run()
    assert [line.split()[-1] for line in made.output.decode().splitlines()] == ["0", "a", "1"]
    assert ALONE not in servers.Silent.answered
