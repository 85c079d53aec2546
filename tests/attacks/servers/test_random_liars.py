"""Two servers that answer at random, side by side: neither shows a byte of the other's disk, and nothing is left over.

Most answers are such as a server might give, in the wrong place: sectors that lie scattered, numbers of bytes at edges,
pages that are given back at once, errors, files that are open already, names that are vouched for.  Some are of another
type than they claim, and now and then a server never answers, or breaks.  CALLGATE_LIARS says for how many seeds.
"""

import os
import random
import re
import struct
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, cast

import pytest
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import NAME_ABSENT, OPEN_CLOSES, Operation, ServerCall
from callgate.kernel.abi.directory import FileAttributes
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import Message
from callgate.kernel.abi.volume import SECTOR_ENTRY_COUNT_SHIFT, SECTOR_ENTRY_HOLE
from callgate.kernel.servers import volumes
from callgate.kernel.system import System, SystemOptions
from callgate.server import Data, FileSystemError, HostedServer, Registers, Reply, Request
from callgate.server.gate import allocate, directory_changed, free
from callgate.server.message import Failure, Object, RegisterValues, Sectors, ServerMemory
from ipc_rig import FAST_PATH
from own_servers import OwnServer

SEEDS = int(os.environ.get("CALLGATE_LIARS", "4"))
SECTORS = 4000  # of a disk, after the first one
EDGES = [0, 1, 511, 512, 4095, 4096, 4097, 1 << 16, 1 << 31, (1 << 32) - 1]
WORK = [
    "cat /dN/a /dN/b /dN/c",
    "crc32 /dN/a",
    "ls /dN",
    "cat /dN/x/y",
    "hexdump /dN/a 100 3000",
    "tree /dN",
    "dir /dN",
    "df",
    "poke /dN/a 3000 1 2 3",
    "/dN/prog",
]
COMMANDS = 10
SLICES = 2000  # of a run, at most
SLICE = 50_000  # instructions, at most


class Altered(NamedTuple):
    """A reply that is sent as one of another type, or with another count."""

    reply: Reply
    kind: ServerCall | None
    count: int | None

    def store(self, memory: ServerMemory, address: int, block: int) -> ServerCall:
        kind = self.reply.store(memory, address, block)
        if self.count is not None:
            memory.write(address + offset_of(Message, "count"), struct.pack("<I", self.count))
        return kind if self.kind is None else self.kind


class Liar(OwnServer):
    """Answers everything but VOLUME at random; the bytes of its disk and of its memory are all `fill`."""

    fill: ClassVar[int]
    chance: ClassVar[random.Random]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given: list[int] = []  # addresses of pages
        self.silent = False  # whether there is a request that it will never answer

    def number(self, usual: int) -> int:
        """Return a number of 32 bits, mostly below `usual`."""
        return self.chance.choice(EDGES) if self.chance.random() < 0.3 else self.chance.randrange(usual)

    def entries(self) -> list[int]:
        """Return pieces of the disk and of zeros: in order, backwards, or scattered."""
        chance = self.chance
        count, start = chance.choice([1, 2, 8, 40, 200, 506]), chance.randrange(SECTORS)
        shape, spoilt = chance.choice(["in order", "backwards", "scattered"]), chance.random() < 0.1
        found = []
        for index in range(count):
            first = {"in order": start + 8 * index, "backwards": start - index}.get(shape, chance.randrange(SECTORS))
            first = max(0, min(first, SECTORS))
            more = min(chance.choice([0, 7, 7, chance.randrange(8)]), 7 - first % 8, SECTORS - first)
            entry = first | more << SECTOR_ENTRY_COUNT_SHIFT
            if chance.random() < 0.1:
                entry = SECTOR_ENTRY_HOLE | chance.randrange(8 - more) | more << SECTOR_ENTRY_COUNT_SHIFT
            found.append(chance.getrandbits(64) if spoilt and chance.random() < 0.02 else entry)
        return found

    def registers(self, request: Request) -> RegisterValues:
        chance, asked = self.chance, request.registers
        if request.operation == Operation.OPEN:
            attributes = chance.choice([0, OPEN_CLOSES, OPEN_CLOSES, OPEN_CLOSES | FileAttributes.DIRECTORY])
            return asked._replace(
                eax=self.number(9),
                ebx=FileAttributes.READ_ONLY | attributes,
                ecx=self.number(200_000),
                edx=chance.choice([0, 0, 0, 0, 1]),
                esi=self.number(70_000),
                edi=self.number(4),
            )
        if request.operation == Operation.READ:
            position = asked.edx << 32 | asked.eax
            start = chance.choice([position, position, position // 4096 * 4096, position + 1, self.number(9000)])
            return asked._replace(
                eax=chance.choice([asked.ecx, self.number(9000), 506 * 4096]),
                ecx=start & 0xFFFF_FFFF,
                edx=start >> 32,
                edi=self.number(9),
            )
        return asked._replace(ebx=self.number(3), ecx=self.number(9), edx=self.number(9), edi=self.number(9))

    async def handle(self, request: Request) -> Reply:
        chance = self.chance
        if request.operation == Operation.VOLUME:
            return await super().handle(request)
        if chance.random() < 0.03:
            code = cast(ErrorCode, chance.choice([*ErrorCode, 200, 1 << 31]))
            return Failure(code, request.registers._replace(edi=chance.choice([0, NAME_ABSENT])))
        if chance.random() < 0.02:
            raise FileSystemError(ErrorCode.NOT_FOUND, "a file that may be there the next time")
        if chance.random() < 0.005:
            raise RuntimeError("it breaks")
        if chance.random() < 0.01:
            await directory_changed(chance.choice(EDGES))
        if self.given and chance.random() < 0.2:
            await free(self.given.pop())
        reply = await self.reply(request)
        if chance.random() > 0.03:
            return reply
        kind = chance.choice([None, ServerCall.REPLY_REGISTERS, ServerCall.REPLY_OBJECT, ServerCall.REPLY_SECTORS])
        return cast(Reply, Altered(reply, kind, chance.choice([None, 0, 506, 507, (1 << 32) - 1])))

    async def reply(self, request: Request) -> Reply:
        chance, registers = self.chance, self.registers(request)
        if chance.random() < (0.7 if request.operation in (Operation.OPEN, Operation.READ) else 0.1):
            return Sectors(self.entries(), registers)
        if chance.random() < 0.3:
            size = 4096 * chance.choice([1, 1, 2, 16])
            address = await allocate(size)
            self.memory.write(address, bytes([self.fill]) * size)
            self.given.append(address)
            return Object(address, size - chance.choice([0, 0, 1, 4095]), registers)
        if chance.random() < 0.3:
            return Data(bytes([self.fill]) * chance.choice([0, 1, 4048]), registers)
        return Registers(registers)

    async def serve(self, message: int) -> ServerCall:
        if message and self.chance.random() < 0.004:
            self.silent = True
            return ServerCall.WAIT
        return await super().serve(message)


def liar(name: str, fill: int, seed: int) -> type[Liar]:
    content = bytes([fill]) * (512 * SECTORS)
    return type("Named", (Liar,), {"name": name, "fill": fill, "content": content, "chance": random.Random(seed)})


def sections(commands: list[tuple[int, str]]) -> str:
    """Return the commands with the number of the disk before each, in a line of its own."""
    return "; ".join(f"echo @{disk}@; {command.replace('N', str(disk))}" for disk, command in commands)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_servers_that_answer_at_random_show_nothing_of_each_other_and_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, find_leaks: Callable[[System], list[str]], seed: int
) -> None:
    fills = (0xA1, 0xB2)
    servers = [liar(name, fill, 2 * seed + fill) for name, fill in zip(("one", "two"), fills, strict=True)]
    installed: list[type[HostedServer]] = [*servers]
    monkeypatch.setattr(volumes, "installed_servers", lambda: installed)
    chance, printed = random.Random(seed), list[bytes]()
    commands = [(chance.randrange(2), chance.choice(WORK)) for _ in range(COMMANDS)]
    latency = Latency(command=chance.choice([0, 3000, 20_000]), sector=20)
    options = SystemOptions(
        commands=sections(commands), output=printed.append, latency=latency, scratch=seed % 3 == 0, fast_path=FAST_PATH
    )
    system = System([MemoryMedium(server.disk()) for server in servers], options)
    for _ in range(SLICES):
        stop = system.run(fuel=chance.randrange(1, SLICE))
        assert system.kernel.check() == []
        if stop.reason == "exit":
            break
        if stop.reason == "halt" or chance.random() < 0.02:
            system.machine.serial.send_break()  # or the shell would wait for a server that never answers
    assert stop.reason == "exit"
    system.run(fuel=100 * SLICE)  # until the disks have brought what was still to come
    _, *parts = re.split(rb"@([01])@\n", b"".join(printed))  # what a file holds may end without a line's end
    assert len(parts) == 2 * COMMANDS
    for disk, text in zip(parts[::2], parts[1::2], strict=True):
        assert bytes([fills[1 - int(disk)]]) not in text
    silent = any(isinstance(server, Liar) and server.silent for server in system.kernel.hosted.servers.values())
    assert silent or find_leaks(system) == []
    system.close()
