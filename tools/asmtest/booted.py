"""A booted system for tests: at the shell's prompt, restored from a snapshot for each test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callgate.disk.media import open_image
from callgate.kernel.core.errors import KernelPanic
from callgate.kernel.core.records import Process
from callgate.kernel.machine import Stop
from callgate.kernel.machine.memory.outside import Outside
from callgate.kernel.machine.observation.ledger import Counts
from callgate.kernel.programs.images import program_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.asmtest.board.attached import Attached
from callgate.tools.recording import Occurred

BOOT_FUEL: Final = 500_000_000  # instructions after which a boot is taken to hang
HIGH_MEMORY: Final = 64 << 20
LINES_SHOWN: Final = 100  # the last ones of output and log in a failure


class BootError(RuntimeError):
    """The system did not reach its prompt."""


class CommandError(AssertionError):
    """A command after which the shell did not return to its prompt; the text has output, log and status."""


class BootedSystem:
    """One system, booted once; `reset` brings it back to the prompt.

    `output` is the output of the guest since, `log` the lines of the kernel's log since, `stop` how the last run
    ended; `system` and `machine` are those of the command line.
    """

    def __init__(self, images: Sequence[Path] = ()) -> None:
        """Boot with disk images, read-only; BootError if the shell does not begin to wait for input."""
        self.printed: list[bytes] = []
        self.log: list[str] = []
        options = SystemOptions(high_memory=HIGH_MEMORY, output=self.printed.append, log=self.log.append)
        self.system = System([open_image(image) for image in images], options)
        self.machine = self.system.machine
        self.stop: Stop | None = None
        self.panic = ""
        stop = self.system.run(fuel=BOOT_FUEL)
        if stop.reason != "halt" or self.system.exit_code is not None:
            self.system.close()
            raise BootError(f"the boot ended by {stop}; it said: {' / '.join(self.log) or 'nothing'}")
        self.kept = self.system.snapshot()
        self.began_with = list(self.system.media)
        self.occurred: list[Occurred] = []  # from outside since the reset: while it booted, nothing came
        self.next = self.machine.outside
        self.machine.outside = self._from_outside
        self.attached = Attached(self.machine)

    def _from_outside(self, what: Outside) -> None:
        """Keep what comes from outside, for a recording.  A test that goes back makes another run of it."""
        self.next(what)
        position = self.machine.position
        while self.occurred and self.occurred[-1].position > position:
            self.occurred.pop()
        self.occurred.append(Occurred(position, what))

    @property
    def output(self) -> bytes:
        """The output of the guest since the reset."""
        return b"".join(self.printed)

    @property
    def ledger(self) -> Counts:
        """Every counter now; subtract an earlier value."""
        return self.machine.ledger.counts()

    def reset(self) -> None:
        """Go back to the prompt."""
        self.system.snapshots.restore(self.kept)
        self.attached.note()
        self.printed.clear()
        self.log.clear()
        self.occurred.clear()
        self.stop = None
        self.panic = ""

    def leave(self) -> None:
        """Take off breakpoints, probes and listeners that a test has left on the machine since the reset."""
        self.attached.drop()

    def type(self, line: str) -> None:
        """Give the shell a line of input; nothing runs yet."""
        self.machine.serial.feed(line.encode() + b"\n")

    def run(self, *, until: int | str | None = None, fuel: int = BOOT_FUEL) -> Stop:
        """Run until the guest waits for input; or until an address, a label or an event like `ipc.reply`.

        `fuel` bounds the instructions.  KernelPanic if the kernel gives up, KeyboardInterrupt at Ctrl-C.
        """
        try:
            self.stop = self.system.run(until=until, fuel=fuel)
        except KernelPanic as panic:
            self.panic = str(panic)
            raise
        if self.stop.reason == "interrupted":
            raise KeyboardInterrupt
        return self.stop

    def command(self, line: str, *, fuel: int = BOOT_FUEL) -> str:
        """Type a line, run until the shell is at its prompt again, return the output.

        CommandError if it does not return: the command does not end within `fuel` instructions or waits for
        input itself, the shell has ended, the kernel has given up.
        """
        before = len(self.output)
        self.type(line)
        wrong = self._run_command(fuel)
        if wrong:
            raise CommandError("\n".join([f"{line!r}: {wrong}", *self.describe()]))
        return self.output[before:].decode("utf-8", "replace")

    def _run_command(self, fuel: int) -> str:
        """Run until the shell waits for input; return why it does not, if so."""
        try:
            stop = self.run(fuel=fuel)
        except KernelPanic:
            return "the kernel has given up"
        if self.system.exit_code is not None:
            return f"the shell has ended with status {self.system.exit_code}"
        if stop.reason == "fuel":
            return f"no end within {fuel} instructions"
        if stop.reason != "halt":
            return f"the run ended by {stop}"
        kernel, shell = self.system.kernel, self._shell()
        waits = kernel.processes.waits_for_input
        if shell is not None and any(map(waits, shell.threads)):
            return ""
        waiting = [thread.name for thread in kernel.state.tasks.threads.values() if waits(thread)]
        if waiting:
            return f"{waiting[0]} waits for input; what it is to read can be given with booted.type and booted.run"
        return "no thread can run, and no program waits for input"

    def _shell(self) -> Process | None:
        return self.system.kernel.state.tasks.processes.get(self.system.kernel.state.tasks.shell)

    @property
    def status(self) -> int | None:
        """The number that `echo $?` would print: the status of the last command; None if the shell is gone."""
        shell = self._shell()
        if shell is None or not shell.threads:
            return None
        memory = self.system.kernel.processes.memory_of(shell)
        return int.from_bytes(memory.read(program_image("shell").address("status"), 4), "little")

    def describe(self) -> list[str]:
        """Return output, log and status since the reset, as a failure shows them; a panic's report included."""
        lines = []
        for title, text in (("output", self.output.decode("utf-8", "replace")), ("log", "\n".join(self.log))):
            found = text.splitlines()[-LINES_SHOWN:]
            lines += [f"{title}:", *(f"  {line}" for line in found)] if found else [f"{title}: nothing"]
        if self.panic:
            lines += ["panic:", *(f"  {line}" for line in self.panic.splitlines())]
        ended = self.system.exit_code
        state = f"the shell has ended with {ended}" if ended is not None else f"$? is {self.status}"
        return [*lines, f"status: {state}; the last run ended by {self.stop or 'nothing, there was none'}"]

    def close(self) -> None:
        """Close the system."""
        self.system.close()
