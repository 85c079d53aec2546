"""A booted system: machine, devices, kernel and shell in one object.

    with boot("disk.img") as system:
        system.run(until="reply")
        system.thread("fat").regs.eax

`System` does what a boot loader and a board do: it puts the kernel image into memory, writes the
boot-information page and the first page tables, and plugs the disks in. From then on the guest runs.

What only a debugger, a test or a report wants of it is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from callgate.asm.assembler import EventSite as Probe
from callgate.asm.assembler import Program
from callgate.disk.ahci.controller import AhciController
from callgate.disk.hot_plug import HotPlug
from callgate.disk.media import Medium, open_image
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.memory import LARGE_PAGE_SIZE, LOW_MEMORY_LEAST, PAGE_SIZE
from callgate.kernel.boot import Loader, SystemOptions
from callgate.kernel.common.record import as_dict
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.memory.outside import Plug, Unplug
from callgate.kernel.machine.observation.event_sites import EventSite
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.programs.images import EVENT_PROGRAMS, kernel_image, program_image
from callgate.kernel.servers.hosted_servers import ALARM
from callgate.kernel.state import KernelState
from callgate.kernel.watching.checks import Checks

if TYPE_CHECKING:
    from callgate.disk.ide.controller import IdeController
    from callgate.kernel.machine.snapshot import Keep
    from callgate.kernel.watching.costs import OperationCosts
    from callgate.kernel.watching.requests import SlotView
    from callgate.kernel.watching.snapshots.system_snapshots import Snapshots, SystemSnapshot
    from callgate.kernel.watching.thread_view import ThreadView

__all__ = ["System", "SystemOptions", "boot"]

CACHE_COUNTERS = ("hits", "misses", "evictions", "changed", "lost")
ENDPOINT_COUNTERS = ("replies", "blocking_waits", "full_waits", "bad_replies", "aborted")


class System:
    """A machine with the kernel on it."""

    watchers: ClassVar[list[Callable[[System], None]]] = []  # called with each system that is made, before it runs

    def __init__(self, media: Sequence[Medium] = (), options: SystemOptions | None = None) -> None:
        """Plug `media` in, in order, and get ready to run; nothing has run yet."""
        self.options = options or SystemOptions()
        self.media = list(media)
        if (
            not LOW_MEMORY_LEAST <= self.options.memory <= layout.DIRECT_MAP_LIMIT
            or self.options.memory % LARGE_PAGE_SIZE
        ):
            raise ValueError("low memory is 16 MiB to 768 MiB, in steps of 2 MiB")
        self.machine = Machine(
            memory=self.options.memory,
            high_memory=self.options.high_memory,
            counter=self.options.counter,
        )
        self.machine.serial.output = self.options.output or (lambda _data: None)
        self.machine.serial.source = self.options.source
        self.controller = self._controller()
        self.machine.attach(self.controller)
        self.hot_plug = HotPlug(self.controller)
        self.machine.attach(self.hot_plug)
        image = kernel_image()
        self.kernel = Kernel(self.machine, image, self._free_memory(image), self.options.log, self.options.urgent)
        self.checks = Checks(self.kernel)
        self.kernel.check = self.checks.check
        self.kernel.map_edges = self.options.map_edges
        self.kernel.scratch = self.options.scratch
        if self.options.history is not None:
            self.kernel.volumes.files["history"] = self.options.history
        self.kernel.mounting.deadline = self.options.mount_deadline
        self._name_places()
        self.costs: OperationCosts | None = None
        if self.options.observe_operations:
            from callgate.kernel.watching.costs import OperationCosts

            self.costs = OperationCosts(self.kernel)
        Loader(self.kernel, self.controller, self.options).load()
        for watcher in self.watchers:
            watcher(self)

    def _controller(self) -> AhciController | IdeController:
        if self.options.ide:
            from callgate.disk.ide.controller import IdeController

            return IdeController(self.media)
        return AhciController(self._ports(), latency=self.options.latency)

    def _free_memory(self, image: Program) -> KernelState:
        """Return records in which all memory after the kernel image is free."""
        end = max(section.load + section.size for section in image.sections)
        return KernelState(
            low=FramePool(-(-end // PAGE_SIZE) * PAGE_SIZE, self.options.memory),
            high=FramePool(layout.HIGH_MEMORY, layout.HIGH_MEMORY + self.options.high_memory),
        )

    def _name_places(self) -> None:
        """Give the machine the kernel's labels, and the events of the assembly sources."""
        image, machine = self.kernel.image, self.machine
        machine.symbols = image.symbol_at
        labels = (symbol for symbol in image.symbols.values() if symbol.kind != "constant")
        machine.addresses = {label.name: label.address for label in labels}
        machine.event_sites.provide(self._event_sites)

    def _event_sites(self) -> Iterator[EventSite]:
        for event in self.kernel.image.events:
            yield EventSite(event.address, event.name, partial(self._fields, event, None))
        for name in EVENT_PROGRAMS:
            for event in program_image(name).events:
                yield EventSite(event.address, event.name, partial(self._fields, event, name))

    def run(self, *, fuel: int | None = None, until: int | Callable[[], bool] | str | None = None) -> Stop:
        """Run the machine: `Machine.run`, to which the kernel's labels and the events are known."""
        with ALARM.kept():
            return self.machine.run(fuel=fuel, until=until)

    def trace(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on, those of the assembly sources included."""
        self.machine.stream.subscribe(listener)

    def _fields(self, event: Probe, program: str | None) -> dict[str, object] | None:
        """Return an event's fields; None if another program than `program` runs at its address."""
        scheduler = self.kernel.scheduler
        if program is not None and scheduler.current.process.program != program:
            return None
        current = scheduler.running
        thread: dict[str, object] = {"thread": current.number if current else 0}
        return thread | {key: self._field(text) for key, text in event.fields}

    def _field(self, text: str) -> int:
        return int(getattr(self.machine.cpu, text)) if text.isalpha() else int(text, 0)

    @cached_property
    def snapshots(self) -> Snapshots:
        """What takes and restores snapshots."""
        from callgate.kernel.watching.snapshots.system_snapshots import Snapshots

        return Snapshots(self.kernel)

    def snapshot(self, keep: Keep | None = None) -> SystemSnapshot:
        """Keep machine and policy, to `restore` any number of times; NotQuiescent in the middle of a request.

        `keep` keeps the memory in another way than a file of its own.
        """
        return self.snapshots.take(keep)

    def restore(self, snapshot: SystemSnapshot) -> None:
        """Go back to a snapshot of this system.  Probes stay; output that was printed meanwhile is not undone."""
        self.snapshots.restore(snapshot)

    def statistics(self) -> dict[str, object]:
        """Return the ledger of the run as `--stats` writes it: totals, by server, by operation; cache and file data."""
        kernel = self.kernel
        servers = {}
        for endpoint in kernel.state.endpoints.by_number.values():
            fields = kernel.slots.block(endpoint)
            fast, slow = fields["fast"], fields["tail"]
            counters = {name: fields[name] for name in ENDPOINT_COUNTERS}
            counters["blocking_waits"] += fast
            servers[endpoint.name] = {"requests": fast + slow, "fast": fast, "slow": slow, **counters}
        cache = kernel.cache.state
        return {
            **self.machine.ledger.counts().as_dict(),
            "servers": servers,
            "operations": self.costs.describe() if self.costs else {},
            "cache": {name: getattr(cache, name) for name in CACHE_COUNTERS},
            "file_data": as_dict(kernel.state.files.counters),
        }

    def thread(self, name: str) -> ThreadView:
        """Return the first thread whose name contains `name`; KeyError lists the existing ones."""
        from callgate.kernel.watching.thread_view import ThreadView

        for thread in self.kernel.state.tasks.threads.values():
            if name in thread.name:
                return ThreadView(self.kernel, thread)
        names = ", ".join(sorted({thread.name for thread in self.kernel.state.tasks.threads.values()}))
        raise KeyError(f"no thread {name!r}; there are {names}")

    def slots(self, endpoint: str) -> list[SlotView]:
        """Return the 32 slots of an endpoint as they are now: "d0p1", "rom", or a file system: "fat".  KeyError."""
        from callgate.kernel.watching.requests import endpoint_named, slots

        return slots(self.kernel, endpoint_named(self.kernel, endpoint))

    def request(self, thread: str | None = None) -> SlotView | None:
        """Return the request that a thread waits for or serves, the current one if none is named; None if none."""
        from callgate.kernel.watching.requests import request_of

        record = self.thread(thread).thread if thread else self.kernel.scheduler.current
        return request_of(self.kernel, record)

    @property
    def exit_code(self) -> int | None:
        """The shell's exit code, None while it runs."""
        return self.kernel.exit_code

    def unplug(self, disk: int) -> None:
        """Remove a disk, by its number in `media`; the guest notices at the next instruction.

        ValueError if there is none.
        """
        self._place(disk)
        self.machine.outside(Unplug(disk))
        self.controller.unplug(disk)

    def plug(self, disk: int, medium: Medium) -> None:
        """Connect a medium in a place, after removing the one there; `close` closes it."""
        place = self._place(disk)
        self.machine.outside(Plug(place, len(self.media)))
        self.media.append(medium)
        self.controller.plug(place, medium)

    def unplug_at(self, clock: int, disk: int = 0) -> None:
        """Remove a disk when virtual time is `clock` ns: one for each instruction, and those skipped while idle."""
        self._place(disk)
        self.hot_plug.unplug_at(clock, disk)

    def _ports(self) -> list[Medium | None]:
        """Return what is connected to each AHCI port."""
        return [*self.media, *[None] * (self.options.places - len(self.media))]

    def _place(self, disk: int) -> int:
        """Return the place of a disk; ValueError names the places."""
        from callgate.kernel.abi.disks.ide import IDE_DRIVES

        places = IDE_DRIVES if self.options.ide else max(1, len(self._ports()))
        if not 0 <= disk < places:
            raise ValueError(f"there is no disk {disk}; {places} could be there, from 0 on")
        return disk

    def close(self) -> None:
        """Give memory and files back."""
        self.kernel.release()
        self.machine.close()
        for medium in self.media:
            medium.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        disks = ", ".join(str(medium) for medium in self.media) or "no disks"
        ended = f", ended with {self.exit_code}" if self.exit_code is not None else ""
        return f"<system, {disks}, {len(self.kernel.state.tasks.threads)} threads{ended}, {self.machine!r}>"


def boot(
    *images: str | Path,
    options: SystemOptions | None = None,
) -> System:
    """Boot disk images, opened read-only; ImageError names the one that cannot be used."""
    return System([open_image(Path(image)) for image in images], options)
