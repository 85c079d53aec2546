"""Starting programs: from a volume, from an image in memory, and the shell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from callgate.kernel.abi import limits
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.core.errors import CallerError, PolicyError
from callgate.kernel.core.records import Endpoints, EndpointState, Process, Tasks
from callgate.kernel.files.paths import resolve
from callgate.kernel.programs.executable import Executable, parse_elf
from callgate.kernel.programs.images import program_executable
from callgate.kernel.tasks.processes import Processes

ReadAll = Callable[[EndpointState, tuple[int, int], int, int], Awaitable[bytes]]


class Programs:
    """Makes processes of ELF files."""

    def __init__(self, tasks: Tasks, processes: Processes, endpoints: Endpoints, read_all: ReadAll) -> None:
        """`read_all` returns a file's bytes: (volume, (address, length of the path), limit in bytes, parent)."""
        self.tasks = tasks
        self.processes = processes
        self.endpoints = endpoints
        self.read_all = read_all

    async def load(self, path: bytes, address: int, arguments: bytes, *, parent: int) -> Process:
        """Start the program at an absolute path that also lies at kernel address `address`.

        PolicyError: IS_DIRECTORY, NOT_EXECUTABLE, an error of reading the file, or no room for a process.
        """
        endpoint, rest = resolve(self.endpoints, path)
        if endpoint is None:
            raise CallerError(ErrorCode.IS_DIRECTORY)
        where = (address + len(path) - len(rest), len(rest))
        image = await self.read_all(endpoint, where, limits.PROGRAM_BYTES, parent)
        name = rest.rpartition(b"/")[2].decode("utf-8", "replace")
        return self.start(parse_elf(image), name, arguments, parent)

    def start(self, program: Executable, name: str, arguments: bytes, parent: int) -> Process:
        """Start a program from memory; if there is no room, PolicyError, and the new process is removed."""
        process = self.processes.create(name, parent=parent)
        try:
            entry = self.processes.load(process, program, arguments)
            self.processes.start(process, entry)
        except PolicyError:
            self.processes.discard(process)
            raise
        return process

    def start_shell(self, arguments: bytes) -> None:
        """Start /rom/shell; the system ends with it."""
        process = self.start(program_executable("shell"), "shell", arguments, 0)
        process.program = "shell"
        self.tasks.shell = process.number
