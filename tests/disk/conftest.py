"""Fixtures of the disk tests: a host tree, and other people's tools as oracles."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.kernel.machine.memory.bus import DmaError

Tool = Callable[..., str]


@pytest.fixture
def tool() -> Tool:
    """Run a program of the host and return its output; skip the test where it is not installed."""

    def run(name: str, *arguments: object, data: bytes = b"") -> str:
        result = host_programs.attempt(name, *arguments, data=data)
        output = result.stdout.decode("utf-8", "replace") + result.stderr.decode("utf-8", "replace")
        assert result.returncode == 0, f"{result.args}\n{output}"
        return output

    return run


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the shapes of names and sizes that matter; a test that changes it takes a copy."""
    root = tmp_path_factory.mktemp("shapes") / "tree"
    (root / "one" / "two" / "three").mkdir(parents=True)
    (root / "many").mkdir()
    (root / "README.TXT").write_text("read me\n")
    (root / "empty").write_bytes(b"")
    (root / "A long name with spaces and (brackets).text").write_text("long\n")
    (root / "Füße.txt").write_text("umlauts\n")
    (root / "日本語のファイル.dat").write_text("kanji\n")
    (root / "𝄞 clef.txt").write_text("beyond the basic plane\n")
    (root / "thirteen.char").write_text("exactly 13 units, no terminator\n")
    (root / ("x" * 251 + ".txt")).write_text("255 units\n")
    (root / ".hidden.two.dots").write_text("dots\n")
    (root / "one" / "two" / "three" / "deep.bin").write_bytes(bytes(range(256)) * 1500)
    for index in range(200):
        (root / "many" / f"a longer name number {index}.txt").write_text(f"{index}\n" * index)
    return root


HIGH = 1 << 32
RAM_SIZE = 4 << 20


@dataclass
class Board:
    """A host for one device: RAM below 4 MiB and from 4 GiB up, a clock, interrupt lines, an event log."""

    clock: int = 0
    low: mmap = field(default_factory=lambda: mmap(-1, RAM_SIZE))  # whose zeros take time only where they are looked at
    high: mmap = field(default_factory=lambda: mmap(-1, RAM_SIZE))
    lines: set[int] = field(default_factory=set)
    rises: list[int] = field(default_factory=list)
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    transfers: list[tuple[int, int, bool]] = field(default_factory=list)
    queue: list[tuple[int, int, Any]] = field(default_factory=list)
    device: Any = None
    scheduled: int = 0

    def schedule(self, delay: int, token: Any) -> int:
        assert delay > 0
        self.scheduled += 1
        heapq.heappush(self.queue, (self.clock + delay, self.scheduled, token))
        return self.scheduled

    def cancel(self, event: int) -> None:
        self.queue = [item for item in self.queue if item[1] != event]
        heapq.heapify(self.queue)

    def raise_line(self, irq: int) -> None:
        if irq not in self.lines:
            self.rises.append(irq)
        self.lines.add(irq)

    def lower_line(self, irq: int) -> None:
        self.lines.discard(irq)

    def memory(self, physical: int, length: int) -> memoryview:
        for base, ram in ((0, self.low), (HIGH, self.high)):
            if base <= physical and physical + length <= base + len(ram):
                return memoryview(ram)[physical - base : physical - base + length]
        raise DmaError(physical, length)

    def dma_done(self, physical: int, length: int, *, to_memory: bool) -> None:
        self.transfers.append((physical, length, to_memory))

    def emit(self, kind: str, **fields: object) -> None:
        self.log.append((kind, fields))

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self.queue:
            return False
        self.clock, _, token = heapq.heappop(self.queue)
        self.device.on_event(token)
        return True

    def run(self) -> None:
        """Let everything happen."""
        while self.step():
            pass

    def plug_in(self, device: Any) -> Any:
        self.device = device
        device.attach(self)
        device.reset()
        return device


@pytest.fixture
def board() -> Board:
    return Board()
