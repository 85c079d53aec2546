"""The arena: a system with attackers and a victim, and the conditions at its end.

An attacker is a program in tests/attacks/programs that tries one thing, chosen by the first byte of its argument.
It ends with HELD if the kernel refused, with GAINED if it has gained something that is not its own, or is ended by a
fault. The victim makes requests and reads memory of its own all the while, and ends with HELD if it was not disturbed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler import Program
from callgate.asm.assembler.cache import assemble_cached
from callgate.disk.media import ImageFile, Medium
from callgate.kernel.core.records import PRIORITY_USER, EndpointState, Process
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Stop
from callgate.kernel.programs.executable import Executable, parse_elf
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from callgate.tools.asmtest.board.programs import shipped_folders
from file_sessions import session
from ipc_rig import FAST_PATH

__all__ = ["arena", "program_file", "session"]

PROGRAMS = Path(__file__).parent / "programs"
FUEL = 100_000_000
HELD, GAINED, FAULT = 0, 7, 139


@cache
def program(name: str, **defines: int) -> Program:
    """Assemble an attacker, a victim or a server."""
    include = [PROGRAMS, *shipped_folders()]
    return assemble_cached(next(PROGRAMS.rglob(f"{name}.asm")), include_dirs=include, defines=defines)


@cache
def executable(name: str, **defines: int) -> Executable:
    return parse_elf(program(name, **defines).elf(debug=False))


@dataclass
class Arena:
    """A system, without a shell unless it is given commands, with its attackers and victims."""

    media: list[Medium]
    options: dict[str, Any]
    log: list[str] = field(default_factory=list)
    printed: list[bytes] = field(default_factory=list)
    wanted: list[Callable[[], None]] = field(default_factory=list)
    attackers: list[Process] = field(default_factory=list)
    victims: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = {
            "shell": "commands" in self.options,
            "prepare": self._prepare,
            "fast_path": FAST_PATH,
        } | self.options
        options = SystemOptions(log=self.log.append, output=self.printed.append, **settings)
        self.system = System(self.media, options)

    @property
    def kernel(self) -> Kernel:
        return self.system.kernel

    @property
    def output(self) -> bytes:
        return b"".join(self.printed)

    def attacker(self, name: str, number: int = 0, argument: bytes = b"", **defines: int) -> None:
        """Have an attacker started when volumes are mounted."""
        self.wanted.append(lambda: self.attackers.append(self.start(name, bytes([number + 1]) + argument, **defines)))

    def victim(self, name: str = "victim") -> None:
        """Have a victim started when volumes are mounted, and everything before it in the list."""
        self.wanted.append(lambda: self.victims.append(self.start(name, b"")))

    def start(self, name: str, argument: bytes = b"", *, priority: int = PRIORITY_USER, **defines: int) -> Process:
        """Start a program now."""
        process = self.kernel.processes.create(name)
        entry = self.kernel.processes.load(process, executable(name, **defines), argument)
        self.kernel.processes.start(process, entry, priority=priority)
        return process

    @staticmethod
    def label(name: str, label: str, **defines: int) -> int:
        """Return the address of a label of a program."""
        return program(name, **defines).address(label)

    def server(self, name: str, volume: str, **defines: int) -> EndpointState:
        """Start a native server for a volume of its own; its number is the next free one."""
        return self.kernel.servers.start_native(name, volume, hidden=True, executable=executable(name, **defines))

    def run(self, fuel: int = FUEL) -> Stop:
        """Run until nothing more happens."""
        return self.system.run(fuel=fuel)

    @property
    def results(self) -> list[int | None]:
        """The attackers' exit codes; None while one lives."""
        return [process.exit_code for process in self.attackers]

    def assert_unharmed(self) -> None:
        """Nothing is left over, and no victim has noticed anything."""
        assert [victim.exit_code for victim in self.victims] == [HELD] * len(self.victims), self.log
        assert leaks(self.kernel) == []

    def _prepare(self, _kernel: Kernel) -> None:
        for start in self.wanted:
            start()


@pytest.fixture
def program_file() -> Callable[..., bytes]:
    """A function that returns a program of the arena as an ELF file: `program_file(name, **defines)`."""
    return lambda name, **defines: program(name, **defines).elf(debug=False)


@pytest.fixture
def arena() -> Iterator[Callable[..., Arena]]:
    """Make an arena: `arena(*media, **SystemOptions)`; it is closed when the test is over."""
    made: list[Arena] = []

    def make(*media: Medium | Path, **options: Any) -> Arena:
        disks = [ImageFile(item) if isinstance(item, Path) else item for item in media]
        made.append(Arena(disks, options))
        return made[-1]

    yield make
    for one in made:
        one.system.close()
