"""Which sectors of which disk a transfer by DMA has brought."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from callgate.disk.drives.ata import Code
from callgate.kernel.abi.memory import SECTOR_SIZE
from callgate.kernel.machine.observation.stream import Event
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.target import Target

COMMAND: Final = "disk.command"
IN_FLIGHT: Final = 256  # commands, of all ports and channels together


class Read(NamedTuple):
    """A part of a read: `size` bytes from `offset` on of a disk's medium, to physical memory."""

    disk: int
    offset: int
    physical: int
    size: int
    moment: Moment
    clock: int  # virtual time in ns
    command: str  # that the controller carries out, in words; "" if it is not known

    def has(self, physical: int) -> bool:
        """Whether it has brought the byte at a physical address."""
        return self.physical <= physical < self.physical + self.size


class Reads:
    """Notes what is read from the media of a system for as long as the context lasts."""

    def __init__(self, target: Target, moment: Callable[[], Moment]) -> None:
        """`moment` returns where the run stands."""
        self.machine = target.machine
        self.moment = moment
        self.media = target.system.media if target.has_kernel else []
        self.found: list[Read] = []
        self.plain: list[tuple[object, Callable[[int, Sequence[memoryview]], None]]] = []
        self.commands: deque[Event] = deque(maxlen=IN_FLIGHT)  # that controllers have begun, the last one at the end
        self.listener = self.commands.append

    def __enter__(self) -> Self:
        if COMMAND in self.machine.stream.kinds:
            self.machine.stream.subscribe(self.listener, [COMMAND], again=True)
        for disk, medium in enumerate(self.media):
            plain = medium.read_into
            self.plain.append((medium, plain))
            setattr(medium, "read_into", self._noted(disk, plain))  # noqa: B010 - a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.stream.unsubscribe(self.listener)
        for medium, _ in self.plain:
            delattr(medium, "read_into")

    def _noted(
        self, disk: int, plain: Callable[[int, Sequence[memoryview]], None]
    ) -> Callable[[int, Sequence[memoryview]], None]:
        def read_into(lba: int, views: Sequence[memoryview]) -> None:
            offset, command = lba * SECTOR_SIZE, self._command(lba)
            for view in views:
                physical = self._physical(view)
                if physical is not None:
                    now = self.moment(), self.machine.clock.now
                    self.found.append(Read(disk, offset, physical, len(view), *now, command))
                offset += len(view)
            plain(lba, views)

        return read_into

    def _command(self, lba: int) -> str:
        """Return in words the last command that reads from a sector on, as a controller has told of it."""
        for event in reversed(self.commands):
            if event.fields["lba"] == lba:
                return command_in_words(event.fields)
        return ""

    def _physical(self, view: memoryview) -> int | None:
        """Return the physical address of a view of RAM; None for memory of the controller's own."""
        if not len(view) or view.readonly:
            return None
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        for region in self.machine.ram.regions:
            if region.address <= address < region.address + region.size:
                return region.base + address - region.address
        return None

    def last(self, physical: int) -> Read | None:
        """Return the last read that has brought the bytes at a physical address, None if there is none."""
        return next((read for read in reversed(self.found) if read.has(physical)), None)

    def in_words(self, read: Read | None, physical: int) -> str:
        """Return where the bytes at a physical address come from by a read; "" by none."""
        if read is None:
            return ""
        place = place_in_words(self.media, read.disk, read.offset + physical - read.physical)
        return f"{place}\n  by {read.command}" if read.command else place


def place_in_words(media: Sequence[object], disk: int, at: int) -> str:
    """Return a byte of a disk's medium: its sector, the byte in it, and the byte of the image."""
    path = getattr(media[disk], "path", None)
    image = f" of {path.name}" if path is not None else ""
    return f"disk d{disk}, sector {at // SECTOR_SIZE}, byte {at % SECTOR_SIZE}: byte {at:,}{image}"


def command_in_words(fields: Mapping[str, object]) -> str:
    """Return what `disk.command` tells: the command by name, where it was issued, and its first sector."""
    code, lba = int(str(fields["code"])), fields["lba"]
    name = Code(code).name if code in set(Code) else f"command {code:#x}"
    where = f"slot {fields['slot']} of port {fields['port']}" if "port" in fields else f"channel {fields['channel']}"
    return f"{name} from sector {lba} on, {where}"
