"""Servers that answer READ with anything: the kernel lives on, nothing stays held, no program sees data of others."""

import os
import random
import struct
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import synthetic_server as synthetic
from callgate.disk.drives.latency import Latency
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation, ServerCall
from callgate.kernel.abi.file import SpanState
from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.message import Message
from callgate.kernel.abi.thread import HostedBlock
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.server.gate import allocate
from callgate.server.hosted import operation
from callgate.server.message import Reply, Request

Sessions = Callable[..., Any]
SEEDS = int(os.environ.get("CALLGATE_HOSTILE_SEEDS", "2"))
SLICE = 20_000
SLICES = 500
SECTORS = 4096
IMAGE = synthetic.disk(SECTORS)
SIZE = 200 * 512 + 77
FIRST = 512
OBJECT = b"a server's own memory.."
POISON = bytes.fromhex("a5c35a3ca5c35a3c")
INTERESTING = [0, 1, 511, 512, 513, 4095, 4096, 4097, SIZE - 1, SIZE, SIZE + 1, 1 << 31, (1 << 32) - 1, (1 << 32) - 512]
REPLIES = [
    ServerCall.REPLY_NONE,
    ServerCall.REPLY_REGISTERS,
    ServerCall.REPLY_DATA,
    ServerCall.REPLY_OBJECT,
    ServerCall.REPLY_SECTORS,
]
REGISTERS = ["eax", "ecx", "edx", "edi", "count", "eflags"]
QUICK = Latency(command=2_000, sector=10, reorder=True)


class Liar(synthetic.Synthetic):
    """Answers half of all READs with something other than the truth."""

    source: ClassVar[random.Random] = random.Random(0)
    own: ClassVar[dict[int, int]] = {}

    async def serve(self, message: int) -> ServerCall:
        reading = message and Message.from_buffer_copy(self.memory.read(message, 4096)).operation == Operation.READ
        kind = await super().serve(message)
        if reading and self.source.random() < 0.5:
            for _ in range(self.source.choice([1, 1, 2, 4])):
                kind = await self.lie(message, kind)
        return kind

    def place(self, message: int, name: str) -> int:
        """Return where this part of the reply is taken from: registers from the block, the rest from the page."""
        if name == "count":
            return message + offset_of(Message, name)
        return self.blocks[message] + offset_of(HostedBlock, name)

    async def lie(self, message: int, kind: ServerCall) -> ServerCall:
        source = self.source
        way = source.randrange(6)
        if way == 0:
            return source.choice(REPLIES)
        if way == 1:
            name = source.choice(REGISTERS)
            value = source.choice([*INTERESTING, source.randrange(1 << 32)])
            self.memory.write(self.place(message, name), struct.pack("<I", value))
        elif way == 2:
            name = source.choice(REGISTERS[:2])
            at = self.place(message, name)
            (value,) = struct.unpack("<I", self.memory.read(at, 4))
            value = value + source.choice([-4096, -512, -1, 1, 512, 4096]) & 0xFFFF_FFFF
            self.memory.write(at, struct.pack("<I", value))
        elif way == 3:
            for _ in range(source.randrange(1, 20)):
                at = message + offset_of(Message, "data") + 8 * source.randrange(40)
                entry = source.randrange(SECTORS) | source.randrange(16) << 60
                self.memory.write(at, struct.pack("<Q", entry))
        elif way == 4:
            # A start and a size that cover whatever was asked for, with more or less to show for it.
            page = Message.from_buffer_copy(self.memory.read(message, 4096))
            ecx = int.from_bytes(self.memory.read(self.place(message, "ecx"), 4), "little")
            start = source.choice([0, 512, ecx // 2, max(0, ecx - source.randrange(5000))])
            count = source.choice([page.count, 0, 1, 2, source.randrange(60)])
            self.memory.write(message + offset_of(Message, "count"), struct.pack("<I", count))
            self.memory.write(self.place(message, "eax"), struct.pack("<I", source.choice([SIZE, 1 << 31])))
            self.memory.write(self.place(message, "ecx"), struct.pack("<II", start, 0))
        else:
            size = source.choice([0, 1, 4096, 5000, 40_960])
            address = await allocate(max(size, 1))
            if size:
                self.memory.write(address, (OBJECT * (size // len(OBJECT) + 1))[:size])
            self.memory.write(message + offset_of(Message, "data"), struct.pack("<II", address, size))
            return ServerCall.REPLY_OBJECT
        return kind


def fill_free_memory(made: Any) -> None:
    """Fill all memory that was never allocated."""
    for pool in (made.kernel.memory.low, made.kernel.memory.high):
        view = made.system.machine.ram.view(pool.next, pool.limit - pool.next)
        view[:] = POISON * (len(view) // len(POISON))


def contradictions(made: Any) -> list[str]:
    """Return what is wrong with spans that are READY: their order, their sizes, whose their pages are."""
    kernel, found = made.kernel, []
    blocks = kernel.cache.state.blocks
    for file in kernel.files.objects.values():
        end = 0
        for span in file.spans:
            if not end <= span.position < span.end <= file.size:
                found.append(f"{span.position} to {span.end} behind {end} of {file.size}")
            end = span.end
            held = {first for kind, first, _ in span.pins if kind == "frame"} | set(span.private)
            held |= {blocks[key].frame for run in span.blocks for key in run.keys}
            held.add(kernel.memory.zero_frame())
            if span.begun is not None and span.begun.source & -4096 not in held:
                found.append(f"{span.begun.source:#x} taken over and not held")
            if span.state is not SpanState.READY:
                continue
            pages = file.page_of(span.end - 1) - span.first_page + 1
            if span.first_page != file.page_of(span.position) or len(span.frames) != pages:
                found.append(f"{len(span.frames)} frames for {pages} pages from {span.position}")
            found += [f"{frame:#x} mapped and not held" for frame in set(span.frames) - held]
    return found


def attention(made: Any) -> None:
    """Have killed threads notice it."""
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


@pytest.mark.parametrize("high_memory", [1 << 20, 16 << 20])
def test_false_replies_of_a_server_about_a_file_harm_only_its_readers(
    session: Sessions, monkeypatch: pytest.MonkeyPatch, high_memory: int
) -> None:
    """CALLGATE_HOSTILE_SEEDS says how many runs."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Liar])
    for seed in range(SEEDS):
        Liar.source = source = random.Random(seed)
        runs: list[tuple[int | None, int]] = [(source.randrange(8, 2000), source.randrange(1, 120)) for _ in range(40)]
        Liar.files = {"f": synthetic.Layout(SIZE, runs, source.choice([506, 40, 3]))}
        Liar.released, Liar.held = [], {}
        programs = [("reader", f"{way}/d0/f") for way in source.sample("eprtbck", 3)]
        made = session(
            MemoryMedium(IMAGE),
            MemoryMedium(POISON * (1 << 13)),
            programs=programs,
            memory=16 << 20,
            high_memory=high_memory,
            map_edges=seed % 4 == 0,
            latency=QUICK,
        )
        fill_free_memory(made)
        for _ in range(SLICES):
            if made.run(fuel=SLICE).reason == "halt":
                break
            assert contradictions(made) == [], seed
        assert POISON not in made.output, seed
        for process in made.processes:
            if process.number in made.kernel.state.tasks.processes:
                made.kernel.processes.kill(process, 1)
        attention(made)
        assert made.run(fuel=30_000_000).reason == "halt", seed
        assert made.unaccounted() == [], seed
        made.system.close()


class RefusesOnce(synthetic.Synthetic):
    """Gives the first sector of a file, refuses the next ones once, and gives them later."""

    refused: ClassVar[bool]

    @operation(Operation.READ)
    async def read(self, request: Request) -> Reply:
        layout = next(iter(self.files.values()))
        layout.fails_at = None if self.refused else FIRST
        RefusesOnce.refused |= request.registers.eax >= FIRST
        return await super().read(request)


def test_the_rest_of_a_page_may_come_while_its_reader_requests_the_next_data(
    session: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over data that the reader was about to be given; the reader checks again then."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [RefusesOnce])
    RefusesOnce.files = {"f": synthetic.Layout(SIZE, [(64, 201)])}
    RefusesOnce.refused = False
    made = session(MemoryMedium(IMAGE), programs=[("reader", "e/d0/f")])
    made.reach("reader", "start")
    (server,) = (found for found in made.kernel.state.endpoints.by_number.values() if found.name == "d0")
    made.kernel.releases.taken(server)
    made.kernel.releases.add(server, Operation.CLOSE, 5)  # which comes between the reader's requests
    assert made.run().reason == "halt"
    assert made.output == RefusesOnce.files["f"].content(IMAGE)
    assert made.codes == [0]
    assert made.unaccounted() == []
