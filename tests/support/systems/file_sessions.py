"""Programs of these tests, run on a system with disks and no shell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler import Program
from callgate.asm.assembler.cache import assemble_cached
from callgate.disk.media import ImageFile, Medium
from callgate.kernel.core.records import Process
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Stop
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.programs.executable import Executable, parse_elf
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from callgate.tools.asmtest.board.programs import shipped_folders
from ipc_rig import FAST_PATH

PROGRAMS = Path(__file__).parents[2] / "kernel" / "files" / "programs"
FUEL = 400_000_000


@cache
def program(name: str) -> Program:
    """Assemble a program of these tests."""
    include = [PROGRAMS, *shipped_folders()]
    return assemble_cached(next(PROGRAMS.rglob(f"{name}.asm")), include_dirs=include)


@cache
def executable(name: str) -> Executable:
    return parse_elf(program(name).elf(debug=False))


@dataclass
class Session:
    """A booted system and the processes that were started on it, in order."""

    system: System
    log: list[str]
    printed: list[bytes] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stop: Stop | None = None

    @property
    def kernel(self) -> Kernel:
        return self.system.kernel

    @property
    def output(self) -> bytes:
        return b"".join(self.printed)

    @property
    def codes(self) -> list[int | None]:
        return [process.exit_code for process in self.processes]

    def start(self, name: str, argument: str) -> Process:
        process = self.kernel.programs.start(executable(name), name, argument.encode(), 0)
        self.processes.append(process)
        return process

    @staticmethod
    def label(name: str, label: str) -> int:
        """Return the address of a label of a test program."""
        return program(name).address(label)

    def run(self, fuel: int = FUEL, **how: Any) -> Stop:
        self.stop = self.system.run(fuel=fuel, **how)
        return self.stop

    def reach(self, name: str, label: str) -> None:
        """Run until a process of these tests comes to a label of its program; servers have code at that address too."""
        address = self.label(name, label)
        assert self.run(until=address).reason == "until"
        while self.kernel.scheduler.current.process not in self.processes:
            self.system.machine.step()
            assert self.run(until=address).reason == "until"

    @property
    def counters(self) -> Any:
        """The counts of file data."""
        return self.kernel.state.files.counters

    def unaccounted(self) -> list[str]:
        """Return the leaks after every process has ended."""
        return leaks(self.kernel)


@pytest.fixture
def session() -> Iterator[Callable[..., Session]]:
    made: list[Session] = []

    def make(*media: Medium | Path, programs: list[tuple[str, str]], trace: bool = False, **options: Any) -> Session:
        log: list[str] = []
        printed: list[bytes] = []

        def prepare(kernel: Kernel) -> None:
            for name, argument in programs:
                result.start(name, argument)

        disks = [ImageFile(item) if isinstance(item, Path) else item for item in media]
        settings = SystemOptions(
            shell=False, prepare=prepare, log=log.append, output=printed.append, **{"fast_path": FAST_PATH, **options}
        )
        result = Session(System(disks, settings), log, printed)
        if trace:
            result.system.trace(result.events.append)
        made.append(result)
        return result

    yield make
    for one in made:
        one.system.close()
