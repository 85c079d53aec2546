"""A system with one native server and checking clients, nothing else: whole message flows without a shell."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from callgate.asm.assembler import Program
from callgate.asm.assembler.cache import assemble_cached
from callgate.kernel.abi.calls import OPERATION_SERVER_DEFINED
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.records import PRIORITY_USER, EndpointState, Process, Thread
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Stop
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.programs.executable import Executable, parse_elf
from callgate.kernel.system import System, SystemOptions
from callgate.kernel.watching.leaks import leaks
from callgate.tools.asmtest.board.programs import shipped_folders

TESTS = Path(__file__).parents[2]
PROGRAMS = (TESTS / "kernel" / "ipc" / "programs", TESTS / "attacks" / "servers" / "programs")
FUEL = 5_000_000
# Set, the variable has policy asked at each handoff, in all systems that these tests make.
FAST_PATH = not os.environ.get("CALLGATE_NO_FAST_PATH")
CLIENT_ORIGIN = 0x0080_0000  # where no server lies, so that a stop in a client is in no server


@cache
def program(name: str, origin: int = 0x40_0000, **defines: int) -> Program:
    """Assemble a program of these tests."""
    include = [*shipped_folders()]
    source = next(path for folder in PROGRAMS if (path := folder / f"{name}.asm").exists())
    return assemble_cached(source, origin=origin, include_dirs=include, defines=defines)


@cache
def executable(name: str, origin: int = 0x40_0000, **defines: int) -> Executable:
    """Return a program as the kernel loads it."""
    return parse_elf(program(name, origin, **defines).elf(debug=False))


@dataclass
class Client:
    """The parameters of a client process."""

    operation: int = 0  # counted from OPERATION_SERVER_DEFINED
    count: int = 1
    seed: int = 0x1000
    priority: int = PRIORITY_USER
    program: str = "client"
    entries: int = 0  # of a batch, for the program "batcher" …
    library: int = 0  # … and whether it is made by the library

    @property
    def defines(self) -> dict[str, int]:
        """What the program is assembled with."""
        return {"ENTRIES": self.entries, "LIBRARY": self.library} if self.entries else {}


@dataclass
class Rig:
    """A booted system; `clients` are the processes in the order given."""

    server: str
    wanted: list[Client]
    defines: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    clients: list[Process] = field(default_factory=list)
    events: list[tuple[str, int, dict[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings: dict[str, Any] = {"fast_path": FAST_PATH, **self.options}
        options = SystemOptions(shell=False, memory=16 << 20, prepare=self.prepare, log=self.log.append, **settings)
        self.system = System([], options)
        self.kernel = self.system.kernel
        self.machine = self.system.machine

    def prepare(self, kernel: Kernel) -> None:
        image = executable(self.server, **self.defines)
        self.endpoint_state = kernel.servers.start_native(self.server, "rig", hidden=True, executable=image)
        for client in self.wanted:
            self.clients.append(self.start(client))

    def start(self, client: Client) -> Process:
        """Start one more client."""
        target = self.endpoint_state.number << 16 | OPERATION_SERVER_DEFINED + client.operation
        process = self.kernel.processes.create(client.program)
        arguments = pack("<3I", target, client.count, client.seed)
        image = executable(client.program, CLIENT_ORIGIN, **client.defines)
        entry = self.kernel.processes.load(process, image, arguments)
        self.kernel.processes.start(process, entry, priority=client.priority)
        return process

    def start_client(self, **different: Any) -> Process:
        """Start one more client, outside the list."""
        return self.start(Client(**different))

    def attention(self) -> None:
        """Interrupt a CPU that may be halted, so that it sees changes from outside."""
        self.machine.pic.lower_line(IRQ)
        self.machine.pic.raise_line(IRQ)

    @staticmethod
    def error(name: str) -> ErrorCode:
        """Return an error code by name."""
        return ErrorCode[name]

    def run(self, fuel: int = FUEL) -> Stop:
        """Run until nothing more happens."""
        return self.system.run(fuel=fuel)

    def trace(self) -> None:
        """Collect events from now on."""

        def keep(event: Event) -> None:
            self.events.append((event.kind, int(str(event.fields.get("thread", 0))), dict(event.fields)))

        self.system.trace(keep)

    def happened(self, kind: str) -> list[int]:
        """Return the numbers of the threads to which an event happened, in order."""
        return [thread for name, thread, _ in self.events if name == kind]

    @property
    def endpoint(self) -> EndpointState:
        """The server's endpoint; another object after a restore."""
        return self.kernel.state.endpoints.by_number[self.endpoint_state.number]

    @property
    def block(self) -> ControlBlock:
        """The endpoint's block."""
        return self.kernel.slots.block(self.endpoint)

    @property
    def requests(self) -> int:
        """Requests to the server so far, whichever way they took."""
        return self.block["tail"] + self.block["fast"]

    @property
    def codes(self) -> list[int | None]:
        """The clients' exit codes, None while one lives."""
        return [client.exit_code for client in self.clients]

    def threads(self) -> list[Thread]:
        """Return the clients' threads, before they end."""
        return [client.threads[0] for client in self.clients]

    def label(self, name: str) -> int:
        """Return the address of a label of the checking client."""
        return self.label_of("client", name)

    def label_of_client(self, name: str) -> int:
        """Return the address of a label of the first client's program."""
        return self.label_of(self.wanted[0].program, name, **self.wanted[0].defines)

    @staticmethod
    def label_of(client: str, name: str, **defines: int) -> int:
        """Return the address of a label of a client program."""
        return program(client, CLIENT_ORIGIN, **defines).address(name)

    def unaccounted(self) -> list[str]:
        """Return the leaks after the last client has ended."""
        return leaks(self.kernel)


class Rigs:
    """Makes rigs and closes them."""

    def __init__(self) -> None:
        self.made: list[Rig] = []

    def __call__(
        self, server: str, *clients: dict[str, Any], options: dict[str, Any] | None = None, **defines: int
    ) -> Rig:
        """Make a rig; each client is a dictionary of what differs from `Client`'s defaults."""
        rig = Rig(server, [Client(**client) for client in clients], defines, options or {})
        self.made.append(rig)
        return rig


@pytest.fixture
def rig() -> Iterator[Rigs]:
    rigs = Rigs()
    yield rigs
    for made in rigs.made:
        made.system.close()
