"""A booted system for tests: it stands at the shell's prompt, restored from a snapshot for each test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from callgate.disk.media import ImageFile
from callgate.kernel.machine import Stop
from callgate.kernel.machine.ledger import Counts
from callgate.kernel.system import System, SystemOptions

BOOT_FUEL: Final = 500_000_000  # instructions after which a boot is taken to hang
HIGH_MEMORY: Final = 64 << 20


class BootError(RuntimeError):
    """The system did not come to its prompt."""


class BootedSystem:
    """One system, booted once; `reset` brings it back to the prompt.

    `output` is what the guest printed since; `system` and `machine` are those of the command line.
    """

    def __init__(self, images: Sequence[Path] = ()) -> None:
        """Boot with disk images, read-only; BootError if the shell does not begin to wait for input."""
        self.printed: list[bytes] = []
        self.log: list[str] = []
        options = SystemOptions(high_memory=HIGH_MEMORY, output=self.printed.append, log=self.log.append)
        self.system = System([ImageFile(image) for image in images], options)
        self.machine = self.system.machine
        stop = self.system.run(fuel=BOOT_FUEL)
        if stop.reason != "halt" or self.system.exit_code is not None:
            self.system.close()
            raise BootError(f"the boot ended by {stop}; it said: {' / '.join(self.log) or 'nothing'}")
        self.kept = self.system.snapshot()

    @property
    def output(self) -> bytes:
        """What the guest has printed since the reset."""
        return b"".join(self.printed)

    @property
    def ledger(self) -> Counts:
        """Every counter now; subtract an earlier value."""
        return self.machine.ledger.counts()

    def reset(self) -> None:
        """Go back to the prompt."""
        self.system.restore(self.kept)
        self.printed.clear()

    def type(self, line: str) -> None:
        """Give the shell a line of input; nothing runs yet."""
        self.machine.serial.feed(line.encode() + b"\n")

    def run(self, *, until: int | str | None = None, fuel: int = BOOT_FUEL) -> Stop:
        """Run until the guest waits for input; or until an address, a label or an event like `ipc.reply`."""
        return self.system.run(until=until, fuel=fuel)

    def command(self, line: str) -> str:
        """Type a line, run until the guest waits again, return what it printed meanwhile."""
        before = len(self.output)
        self.type(line)
        self.run()
        return self.output[before:].decode("utf-8", "replace")

    def close(self) -> None:
        """Give the system back."""
        self.system.close()
