"""Server processes: the parts of an endpoint's server, and how it is started.

Every server is a ring-3 process with an endpoint block and one thread (more if it starts them); its
program is the native one of the ROM, or the stub that steps hosted handlers (asm/user/servers/server.asm).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.core.errors import PolicyError, ServerFault
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import PRIORITY_SERVER, EndpointState, Process, Thread, Window, WindowKind
from callgate.kernel.ipc.endpoint_lifetimes import EndpointLifetimes
from callgate.kernel.memory.page_tables import USER_DATA, USER_READ
from callgate.kernel.programs.executable import Executable
from callgate.kernel.programs.images import program_executable
from callgate.kernel.programs.rom_image import build_rom
from callgate.kernel.servers.hosted_servers import HandlerStuck, Hosted
from callgate.kernel.servers.mounting import Mounting
from callgate.kernel.tasks.processes import KILLED_EXIT_CODE, Processes
from callgate.kernel.tasks.threads import Threads
from callgate.server.hosted import HostedServer, VolumeGeometry
from callgate.server.raised import describe

HOSTED_BLOCKS = layout.USER_HEAP - PAGE_SIZE  # one page of HostedBlocks below the heap


class Servers:
    """Starting servers."""

    def __init__(
        self,
        guest: Guest,
        threads: Threads,
        processes: Processes,
        lifetimes: EndpointLifetimes,
        hosted: Hosted,
        mounting: Mounting,
    ) -> None:
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.processes = processes
        self.lifetimes = lifetimes
        self.hosted = hosted
        self.mounting = mounting
        self.endpoints = lifetimes.state

    def start_native(
        self,
        program: str,
        name: str,
        *,
        hidden: bool = False,
        image: bytes = b"",
        executable: Executable | None = None,
    ) -> EndpointState:
        """Start a native server; `image` is placed at USER_HEAP, read-only.

        `program` names one of ours, or is a function that returns the executable.
        """
        process = self.processes.create(name)
        with self._all_or_nothing(process):
            endpoint = self._create(process, program, VolumeGeometry(name, 0, 0), -1, executable)
            endpoint.hidden = hidden
            self._give_image(process, image)
            self._start(endpoint, hosted=0)
        return endpoint

    def _give_image(self, process: Process, image: bytes) -> None:
        """Place data at USER_HEAP."""
        for offset in range(0, len(image), PAGE_SIZE):
            frame = self.processes.give_page(process, layout.USER_HEAP + offset, USER_READ)
            piece = image[offset : offset + PAGE_SIZE]
            self.guest.ram.view(frame, len(piece))[:] = piece
        if image:
            process.windows[layout.USER_HEAP] = Window(layout.USER_HEAP, -(-len(image) // PAGE_SIZE), WindowKind.HEAP)

    def start_rom(self, files: dict[str, bytes]) -> EndpointState:
        """Start the server of the read-only volume that holds `files`."""
        endpoint = self.start_native("rom", "rom", image=build_rom(files))
        endpoint.file_system = "rom"
        return endpoint

    def start_hosted(self, server: type[HostedServer], geometry: VolumeGeometry, disk: int) -> EndpointState:
        """Start a hosted server for one endpoint."""
        process = self.processes.create(f"hosted:{geometry.name}")
        with self._all_or_nothing(process):
            endpoint = self._create(process, "hosted", geometry, disk)
            self.processes.give_page(process, HOSTED_BLOCKS, USER_DATA)
            self.hosted.add(process, self._make(server, process, geometry))
            self._start(endpoint, hosted=HOSTED_BLOCKS)
        return endpoint

    def kill(self, process: Process, reason: str, details: Sequence[str] = ()) -> None:
        """End a server process: its requests fail, its volume is gone, other volumes live on.

        `details` are further lines of the log.
        """
        endpoint = self.endpoints.by_number[process.endpoint]
        if not endpoint.dead:
            endpoint.reason = reason
            lines = [f"/{endpoint.name}: server ended: {reason}", *(f"  {line}" for line in details)]
            self.mounting.say_of(endpoint.name, lines, process, urgent=True)
            self.lifetimes.die(endpoint, ErrorCode.SERVER_DIED)
        self.processes.kill(process, KILLED_EXIT_CODE, reason)

    def thread_ended(self, thread: Thread, process: Process) -> None:
        """A server thread has died: its requests would stay unanswered, so the whole server ends."""
        self.lifetimes.forget_server(self.endpoints.by_number[process.endpoint], thread)
        self.kill(process, process.fault or f"thread {thread.number} ended")
        if len(process.threads) == 1:
            self.lifetimes.sweep(self.endpoints.by_number[process.endpoint])

    def _make(self, server: type[HostedServer], process: Process, geometry: VolumeGeometry) -> HostedServer:
        """Return a server object; PolicyError if its class cannot make one, or takes longer than a step may."""
        try:
            with self.hosted.limited():
                return server(self.hosted.memory_of(process), geometry)
        except KeyboardInterrupt:
            raise
        except HandlerStuck as stuck:
            raise ServerFault(ErrorCode.SERVER_DIED, f"{stuck}, and made no server") from None
        except BaseException as error:
            raise ServerFault(ErrorCode.SERVER_DIED, f"its server raised {describe(error)}") from error

    @contextmanager
    def _all_or_nothing(self, process: Process) -> Iterator[None]:
        """Undo a server that cannot be started; its number can be given to another volume."""
        try:
            yield
        except PolicyError as error:
            endpoint = self.endpoints.by_number.get(process.endpoint)
            if endpoint is not None:
                endpoint.process = None
                self.lifetimes.die(endpoint, error.code)
            self.hosted.end_process(process)
            self.processes.discard(process)
            raise

    def _create(
        self,
        process: Process,
        program: str,
        geometry: VolumeGeometry,
        disk: int,
        executable: Executable | None = None,
    ) -> EndpointState:
        process.program = program
        endpoint = self.lifetimes.create(process, disk, geometry.start, geometry.sectors, geometry.name)
        executable = executable or program_executable(program)
        self.processes.load(process, executable, geometry.name.encode())
        endpoint.entry = executable.entry
        return endpoint

    def _start(self, endpoint: EndpointState, *, hosted: int) -> None:
        process = endpoint.process
        assert process is not None
        thread = self.threads.create_user(
            process, process.name, PRIORITY_SERVER, endpoint.entry, layout.USER_STACK_TOP - 16, edi=hosted
        )
        thread.hosted_block = hosted
        self.lifetimes.add_server(endpoint, thread)
        self.scheduler.wake(thread)
