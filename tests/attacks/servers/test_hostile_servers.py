"""Servers that break: the kernel lives on, clients get an error, nothing is lost."""

import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import ImageFile, MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.memory import KERNEL_BASE, USER_HEAP
from callgate.kernel.abi.message import Message
from callgate.kernel.servers import volumes
from callgate.kernel.servers.hosted_servers import HandlerStuck
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from callgate.server.fat.server import FatServer
from callgate.server.gate import allocate
from callgate.server.hosted import HostedServer, operation
from callgate.server.message import Data, Registers, RegisterValues, Reply, Request
from ipc_rig import FAST_PATH

LONG = 100_000_000  # rounds of a loop: over a second on any host
MAGIC = b"hostile server's disk"


class Hostile(HostedServer):
    """Claims disks that begin with MAGIC; `attack` says what it does when a directory is asked for."""

    name = "hostile"
    attack = ""

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        return "hostile" if first.startswith(MAGIC) else None

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        return Data(b"EVIL", RegisterValues())

    @operation(Operation.FREE_SPACE)
    async def free_space(self, request: Request) -> Reply:
        return Registers(RegisterValues(ecx=512))

    async def serve(self, message: int) -> ServerCall:
        if message:
            page = Message.from_buffer_copy(self.memory.read(message, 4096))
            if page.operation == Operation.LOCK_DIRECTORY:
                return await getattr(self, self.attack)(message)
        return await super().serve(message)

    # Death.

    async def raise_an_error(self, message: int) -> ServerCall:
        raise ZeroDivisionError("on purpose")

    async def read_bad_memory(self, message: int) -> ServerCall:
        self.memory.read(0x10, 4)
        raise AssertionError("not reached")

    async def read_the_kernel(self, message: int) -> ServerCall:
        self.memory.read(KERNEL_BASE, 4)
        raise AssertionError("not reached")

    async def loop_in_python(self, message: int) -> ServerCall:
        while True:
            pass

    async def swallow_the_end_of_its_time(self, message: int) -> ServerCall:
        for _ in range(3):
            with suppress(HandlerStuck):
                for _ in range(LONG):
                    pass
                raise AssertionError("it computed for as long as it wanted")
        raise AssertionError("it was interrupted again and again")

    async def read_again_and_again(self, message: int) -> ServerCall:
        while True:
            self.memory.read(message, 4)

    async def write_again_and_again(self, message: int) -> ServerCall:
        while True:
            self.memory.write(message, bytes(4096))

    async def end_the_emulator(self, message: int) -> ServerCall:
        raise SystemExit(0)

    async def loop_in_its_end(self, message: int) -> ServerCall:
        try:
            await self.loop_through_the_gate(message)
        finally:
            await self.loop_in_python(message)

    async def read_in_its_end(self, message: int) -> ServerCall:
        try:
            await self.loop_through_the_gate(message)
        finally:
            await self.read_again_and_again(message)

    async def loop_through_the_gate(self, message: int) -> ServerCall:
        while True:
            await allocate(4096)
            self.memory.write(message + 2048, b"x")

    # Lies.

    def reply(self, message: int, kind: ServerCall, count: int, data: bytes) -> ServerCall:
        self.memory.write(message + 8, struct.pack("<I", count))
        self.memory.write(message + 48, data)
        return kind

    async def give_pages_of_others(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_OBJECT, 0, struct.pack("<II", KERNEL_BASE + 0x10_0000, 4096))

    async def give_pages_it_has_not(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_OBJECT, 0, struct.pack("<II", USER_HEAP + 0x80_0000, 8192))

    async def give_an_absurd_object(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_OBJECT, 0, struct.pack("<II", USER_HEAP, 0xFFFF_F000))

    async def give_too_many_sectors(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_SECTORS, 100_000, b"")

    async def give_sectors_of_others(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_SECTORS, 1, struct.pack("<Q", 1 << 40))

    async def give_no_pages(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_NONE, 0, b"")

    async def give_too_much_data(self, message: int) -> ServerCall:
        return self.reply(message, ServerCall.REPLY_DATA, 1 << 30, b"")


DEATHS = {
    "raise_an_error": "ZeroDivisionError: on purpose",
    "read_bad_memory": "bad address 0x00000010 for read",
    "read_the_kernel": "bad address 0xc0000000 for read",
    "loop_in_python": "did not return within",
    "loop_through_the_gate": "gate calls for one request",
    "swallow_the_end_of_its_time": "AssertionError: it was interrupted again and again",
    "read_again_and_again": "touched memory more than 10000 times in one step",
    "write_again_and_again": "touched more than 16 MiB of memory in one step",
    "end_the_emulator": "SystemExit: 0",
    "loop_in_its_end": "HandlerStuck when it was ended",
    "read_in_its_end": "HandlerStuck when it was ended",
}
LIES = {
    "give_pages_of_others": "is not the server's own",
    "give_pages_it_has_not": "is not the server's own",
    "give_an_absurd_object": "object of 4294963200 bytes",
    "give_too_many_sectors": "100000 sector entries",
    "give_sectors_of_others": "lies outside the partition",
    "give_too_much_data": "1073741824 bytes of data",
    "give_no_pages": "",  # which breaks the protocol only for what was asked
}


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., object]]:
    """Boot a hostile server's disk beside a good one: `attacked(name, commands)`."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Hostile, FatServer])
    folder, good = tmp_path / "good", tmp_path / "good.img"
    folder.mkdir()
    (folder / "GOOD.TXT").write_bytes(b"good\n")
    create_image(good, folder, fs="fat16", size=16 << 20)
    systems: list[System] = []

    def boot(attack: str, commands: str) -> tuple[System, bytes, list[str]]:
        Hostile.attack = attack
        output: list[bytes] = []
        log: list[str] = []
        evil = MemoryMedium(MAGIC.ljust(1 << 16, b"\0"))
        options = SystemOptions(commands=commands, log=log.append, output=output.append, fast_path=FAST_PATH)
        system = System([evil, ImageFile(good)], options)
        systems.append(system)
        system.kernel.hosted.step_seconds = 0.1
        system.kernel.hosted.steps_limit = 500
        stop = system.run(fuel=50_000_000)
        assert stop.reason == "exit", (stop, log)
        return system, b"".join(output), log

    yield boot
    for system in systems:
        system.close()


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize("attack", DEATHS)
def test_a_server_that_breaks_dies_alone(attacked: Callable[..., tuple[System, bytes, list[str]]], attack: str) -> None:
    system, output, log = attacked(attack, "ls /d0; echo $?; ls /d0; cat /d1/GOOD.TXT; hello")
    assert b"ls: /d0: the file-system server died\n1\n" in output
    assert output.endswith(b"good\nhello from ring 3, arguments: \n")
    assert any(DEATHS[attack] in line for line in log), log
    assert system.statistics()["servers"]["d0"]["aborted"] == 1, "the request during which it died"  # type: ignore[index]
    assert leaks(system.kernel) == []


@pytest.mark.parametrize("attack", LIES)
def test_a_server_that_lies_is_not_believed(
    attacked: Callable[..., tuple[System, bytes, list[str]]], attack: str
) -> None:
    system, output, log = attacked(attack, "ls /d0; cat /d1/GOOD.TXT")
    assert output == b"ls: /d0: the file-system server broke the protocol\ngood\n"
    assert any(LIES[attack] in line for line in log), log
    assert leaks(system.kernel) == []
