"""READ_LINK of a server that answers with any length, any kind of reply, and any characters."""

import struct
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.message import MESSAGE_DATA_SIZE
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes

Arenas = Callable[..., Any]
ROOM = 16
UNTOUCHED = b"\x55" * 2 * ROOM
DATA, OBJECT = ServerCall.REPLY_DATA, ServerCall.REPLY_OBJECT
REPLIES: list[tuple[tuple[ServerCall, int, bytes], bytes | ErrorCode]] = [
    ((DATA, 5, b"where"), b"where"),
    ((DATA, ROOM, b"0123456789abcdef"), b"0123456789abcdef"),
    ((DATA, ROOM + 1, b"0123456789abcdefg"), ErrorCode.NAME_TOO_LONG),
    ((DATA, MESSAGE_DATA_SIZE, bytes(MESSAGE_DATA_SIZE)), ErrorCode.NAME_TOO_LONG),
    ((DATA, MESSAGE_DATA_SIZE + 1, b"x"), ErrorCode.BAD_REPLY),
    ((DATA, 0xFFFF_FFFF, b"x"), ErrorCode.BAD_REPLY),
    ((DATA, 0, b"x"), ErrorCode.BAD_REPLY),
    ((ServerCall.REPLY_NONE, 5, b"where"), ErrorCode.BAD_REPLY),
    ((ServerCall.REPLY_REGISTERS, 5, b"where"), ErrorCode.BAD_REPLY),
    ((ServerCall.REPLY_SECTORS, 1, bytes(8)), ErrorCode.BAD_REPLY),
    ((OBJECT, 1, b""), ErrorCode.BAD_REPLY),
    ((OBJECT, 0, struct.pack("<II", 0xC000_0000, 4096)), ErrorCode.BAD_REPLY),
    ((DATA, 1, b"x"), b"x"),
]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers.Silent, "answered", [])
    monkeypatch.setattr(servers.Linking, "replies", [reply for reply, _ in REPLIES])
    monkeypatch.setattr(volumes, "installed_servers", lambda: [servers.Linking])


def read_links(arena: Arenas, rounds: int, at: int = 0) -> tuple[Any, list[tuple[int, int, bytes]]]:
    """Return the system, and for each READ_LINK of a program its error code, EAX and memory."""
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    reader = made.start("link_reader", bytes([rounds]) + b"/d0/l\0", ROOM=ROOM, AT=at)
    made.system.machine.pic.lower_line(IRQ)  # the CPU may be halted
    made.system.machine.pic.raise_line(IRQ)
    made.system.run(fuel=10_000_000, until=lambda: reader.exit_code is not None)
    assert reader.exit_code == 0
    size = 5 + len(UNTOUCHED)
    assert len(made.output) == rounds * size
    answers = (made.output[start : start + size] for start in range(0, len(made.output), size))
    return made, [(*struct.unpack_from("<BI", answer), answer[5:]) for answer in answers]


def test_a_link_target_is_written_only_within_the_callers_buffer(arena: Arenas) -> None:
    made, answers = read_links(arena, len(REPLIES))
    for (reply, expected), (code, result, memory) in zip(REPLIES, answers, strict=True):
        if isinstance(expected, ErrorCode):
            assert (code, result, memory) == (expected, expected, UNTOUCHED), reply
        else:
            assert (code, result) == (0, len(expected)), reply
            assert memory == expected + UNTOUCHED[len(expected) :], reply
    assert made.kernel.check() == []


@pytest.mark.parametrize("at", [0xC000_0000, 0xBFFF_FFFD, 0xFFFF_FFF8, 0x1000])
def test_a_link_target_is_not_written_where_its_caller_may_not_write(arena: Arenas, at: int) -> None:
    made, ((code, _, memory),) = read_links(arena, 1, at)
    assert (code, memory) == (ErrorCode.BAD_ADDRESS, UNTOUCHED)
    assert made.kernel.check() == []


def test_a_link_target_for_a_page_of_a_file_is_there_when_the_call_returns(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers.Linking, "replies", [(DATA, 5, b"where")])
    monkeypatch.setattr(servers.Linking, "attributes", FileAttributes(0))
    made = arena(MemoryMedium(servers.IMAGE), scratch=True)
    made.attacker("link_to_window")
    assert made.run().reason == "halt"
    assert made.results == [0]
    made.assert_unharmed()


def test_the_shell_shows_no_control_character_of_a_link_target_and_survives_wrong_replies(arena: Arenas) -> None:
    hostile = b"\x1b[2J\x7f\xc2\x9b31m\0\n"
    servers.Linking.replies[:0] = [(DATA, len(hostile), hostile)]
    made = arena(MemoryMedium(servers.IMAGE), commands=";".join(["ls -l /d0"] * (1 + len(REPLIES))))
    made.run()
    lines = made.output.decode().splitlines()
    assert lines[0].endswith(" l -> ?[2J??31m??")
    assert lines[1].endswith(" l -> where")
    assert [line for line in lines if line.startswith("ls: ")] == (
        ["ls: /d0/l: the file-system server broke the protocol"] * 8
    )
    assert lines[-1].endswith(" l -> x")
    assert all(character.isprintable() for line in lines for character in line)


def test_ls_shows_a_link_without_its_target_where_the_server_does_not_know_links(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Older(servers.Linking):
        operations: ClassVar[dict[int, str]] = {
            key: value for key, value in servers.Linking.operations.items() if key != Operation.READ_LINK
        }

        serve = servers.Silent.serve

    monkeypatch.setattr(volumes, "installed_servers", lambda: [Older])
    made = arena(MemoryMedium(servers.IMAGE), commands="ls -l /d0; echo done")
    made.run()
    assert made.output.decode().split() == ["l----", "0", "l", "done"]
