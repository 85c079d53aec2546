"""The options of a session, and what runs its machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from callgate.disk.media.opening import STANDARD_INPUT
from callgate.kernel.common.record import record

if TYPE_CHECKING:
    from callgate.kernel.machine import Stop
    from callgate.kernel.system import System
    from callgate.tools.session.trace import TraceFormat

MIB = 1 << 20


class Driver(Protocol):
    """Runs the machine of a session in place of `System.run`: a debugger."""

    def run(self, system: System) -> Stop:
        """Run a system to its end; KernelPanic as `System.run`."""
        ...

    def waits_on(self) -> list[int]:
        """Return descriptors that end a wait for console input as soon as they can be read."""
        ...

    def speaks(self) -> bool:
        """Whether one of them can be read."""
        ...


@record
class SessionOptions:
    """The options of the command line. Sizes in bytes."""

    images: list[Path]
    commands: str | None = None
    memory: int = 64 * MIB
    high_memory: int = 256 * MIB
    ide: bool = False
    stats: Path | None = None
    trace: Path | None = None
    trace_format: TraceFormat = "text"
    trace_option: str = "--trace"  # what names the file of the trace, in messages
    fuel: int | None = None
    map_edges: bool = False
    fast_path: bool = True
    scratch: bool = False
    mount_deadline: int = 2000  # milliseconds of virtual time
    unplug: Sequence[tuple[int, int]] = ()  # (clock in ns, disk)
    quiet: bool = False
    history: Path | None = None  # instead of the usual place
    keep_history: bool = True
    driver: Driver | None = None

    def problem(self) -> str | None:
        """Return what is wrong with them, None if nothing is."""
        from callgate.kernel.abi.disks.ahci import AHCI_PORTS
        from callgate.kernel.abi.memory import DIRECT_MAP_LIMIT, LARGE_PAGE_SIZE, LOW_MEMORY_LEAST, PAGE_SIZE
        from callgate.tools.session.sizes import text_of

        memory, high = self.memory, self.high_memory
        if not LOW_MEMORY_LEAST <= memory <= DIRECT_MAP_LIMIT or memory % LARGE_PAGE_SIZE:
            least, most = LOW_MEMORY_LEAST // MIB, DIRECT_MAP_LIMIT // MIB
            return f"--memory {text_of(memory)}: low RAM is {least}M to {most}M in steps of 2M"
        if not MIB <= high <= 64 << 30 or high % PAGE_SIZE:
            return f"--high-memory {text_of(high)}: RAM above 4 GiB is 1M to 64G in steps of 4K"
        limit = AHCI_PORTS
        if self.ide:
            from callgate.kernel.abi.disks.ide import IDE_DRIVES

            limit = IDE_DRIVES
        if len(self.images) > limit:
            return f"{len(self.images)} images: {'IDE' if self.ide else 'AHCI'} takes at most {limit}"
        streams = self.images.count(STANDARD_INPUT)
        if streams > 1:
            return "-: standard input is one image, and was named twice"
        if streams and self.commands is None:
            return "-: standard input is the image and cannot be the console too: give commands by -c, or name a file"
        if self.commands is not None and len(self.commands.encode("utf-8", "replace")) > 4000:
            return "-c: the commands are longer than 4000 bytes; write them to standard input instead"
        return None
