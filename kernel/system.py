"""A booted system: machine, devices, kernel and shell in one object that is pleasant to hold.

    with boot("disk.img") as system:
        system.run(until="reply")
        system.thread("fat").regs.eax

`System` does what a boot loader and a board do: it puts the kernel image into memory, writes the
boot-information page and the first page tables, plugs the disks in, and lets go.  From there on it is
the guest that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from callgate.asm.assembler import EventSite as Probe
from callgate.asm.assembler import Program
from callgate.disk.ahci import MMIO_BASE, AhciController
from callgate.disk.ide import COMMAND_BLOCKS, IdeController
from callgate.disk.latency import Latency
from callgate.disk.media import Medium, open_image
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.boot import BOOT_MAGIC, BootInformation
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE
from callgate.kernel.abi.thread import TaskState
from callgate.kernel.address_space import KERNEL_CODE, KERNEL_DATA, KERNEL_DEVICE, KERNEL_READ
from callgate.kernel.costs import OperationCosts
from callgate.kernel.frames import FramePool
from callgate.kernel.images import kernel_image, program_image
from callgate.kernel.kernel import Kernel
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.bus import DeviceBase
from callgate.kernel.machine.event_sites import EventSite
from callgate.kernel.machine.stream import Event
from callgate.kernel.mounting import MOUNT_DEADLINE
from callgate.kernel.records import PRIORITY_IDLE, Thread
from callgate.kernel.snapshots import SystemSnapshot, restore, take
from callgate.kernel.state import KernelState
from callgate.kernel.threads import FIRST_JOB
from callgate.kernel.views import ThreadView

EVENT_PROGRAMS = ("hosted", "null_server", "rom", "shell")
IDE_PLACES = 4
CACHE_COUNTERS = ("hits", "misses", "evictions", "changed", "lost")
PARTITION_COUNTERS = ("replies", "blocking_waits", "full_waits", "bad_replies", "aborted")


@dataclass(slots=True)
class SystemOptions:
    """What a system is made of.  Sizes in bytes."""

    memory: int = 64 << 20
    high_memory: int = 256 << 20
    ide: bool = False  # attach the disks to IDE, whose driver copies, instead of AHCI
    commands: str | None = None
    interactive: bool = False
    columns: int = 0  # of the terminal of an interactive shell; 0: not known, lines are taken for one row
    history: bytes | None = None  # lines of earlier sessions, each with its end, as /rom/history
    shell: bool = True
    prepare: Callable[[Kernel], None] | None = None  # run when volumes are mounted, before the shell
    counter: str = "auto"
    latency: Latency | None = None  # of AHCI disks, in virtual time
    observe_operations: bool = False  # add up what each operation costs (kernel/costs.py)
    map_edges: bool = False  # map pages that hold neighbours' data too, instead of copying: leaks, for comparison
    scratch: bool = False  # programs may write to mapped files; what they write ends with the machine
    places: int = 0  # AHCI ports, if more than there are disks: for those that come later
    mount_deadline: int = MOUNT_DEADLINE  # nanoseconds of virtual time that a server has to mount its volume
    log: Callable[[str], None] = field(default=lambda _line: None)
    urgent: Callable[[str], None] | None = None  # faults and ends of servers, if they are not to go to `log`
    output: Callable[[bytes], None] | None = None
    source: Callable[[int], bytes | None] | None = None


class System:
    """A machine with the kernel on it."""

    watchers: ClassVar[list[Callable[[System], None]]] = []  # told of each system that is made, before it runs

    def __init__(self, media: Sequence[Medium] = (), options: SystemOptions | None = None) -> None:
        """Plug `media` in, in order, and get ready to run; nothing has run yet."""
        self.options = options or SystemOptions()
        self.media = list(media)
        if not 16 << 20 <= self.options.memory <= layout.DIRECT_MAP_LIMIT or self.options.memory % LARGE_PAGE_SIZE:
            raise ValueError("low memory is 16 MiB to 768 MiB, in steps of 2 MiB")
        self.machine = Machine(
            memory=self.options.memory,
            high_memory=self.options.high_memory,
            counter=self.options.counter,
        )
        self.machine.serial.output = self.options.output or (lambda _data: None)
        self.machine.serial.source = self.options.source
        self.controller: AhciController | IdeController = (
            IdeController(self.media)
            if self.options.ide
            else AhciController(self._ports(), latency=self.options.latency)
        )
        self.machine.attach(self.controller)
        self.hand = Hand(self)
        self.machine.attach(self.hand)
        image = kernel_image()
        self.kernel = Kernel(self.machine, image, self._free_memory(image), self.options.log, self.options.urgent)
        self.kernel.map_edges = self.options.map_edges
        self.kernel.scratch = self.options.scratch
        if self.options.history is not None:
            self.kernel.volumes.files["history"] = self.options.history
        self.kernel.mounting.deadline = self.options.mount_deadline
        self._name_places()
        self.kernel.scheduler.observer = self._book_touches
        self.costs = OperationCosts(self.kernel) if self.options.observe_operations else None
        Loader(self).load()
        for watcher in self.watchers:
            watcher(self)

    def _free_memory(self, image: Program) -> KernelState:
        """Return records in which all memory after the kernel image is free."""
        end = max(section.load + section.size for section in image.sections)
        return KernelState(
            low=FramePool(-(-end // PAGE_SIZE) * PAGE_SIZE, self.options.memory),
            high=FramePool(layout.HIGH_MEMORY, layout.HIGH_MEMORY + self.options.high_memory),
        )

    def _book_touches(self, thread: Thread) -> None:
        """Have ring 3's touches of file data booked to the kind of process that runs."""
        self.machine.ledger.user_kind = "server" if thread.process.partition >= 0 else "client"

    def _name_places(self) -> None:
        """Tell the machine the kernel's labels, and the events of the assembly sources."""
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
        return self.machine.run(fuel=fuel, until=until)

    def trace(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on, those of the assembly sources included."""
        self.machine.stream.subscribe(listener)

    def _fields(self, event: Probe, program: str | None) -> dict[str, object] | None:
        """Return an event's fields; None if another program than `program` runs, to which the address means nothing."""
        scheduler = self.kernel.scheduler
        if program is not None and scheduler.current.process.program != program:
            return None
        current = scheduler.state.current
        thread: dict[str, object] = {"thread": current.number if current else 0}
        return thread | {key: self._field(text) for key, text in event.fields}

    def _field(self, text: str) -> int:
        return int(getattr(self.machine.cpu, text)) if text.isalpha() else int(text, 0)

    def snapshot(self) -> SystemSnapshot:
        """Keep machine and policy, to `restore` any number of times; NotQuiescent in the middle of a request."""
        return take(self)

    def restore(self, snapshot: SystemSnapshot) -> None:
        """Go back to a snapshot of this system.  Probes stay; what was printed meanwhile is not taken back."""
        restore(self, snapshot)

    def statistics(self) -> dict[str, object]:
        """Return the ledger of the run as `--stats` writes it: totals, by server, by operation; cache and file data."""
        kernel = self.kernel
        servers = {}
        for partition in kernel.state.endpoints.by_number.values():
            fields = kernel.slots.block(partition)
            counters = {name: fields[name] for name in PARTITION_COUNTERS}
            servers[partition.name] = {"requests": fields["tail"], **counters}
        cache = kernel.cache.state
        return {
            **self.machine.ledger.counts().as_dict(),
            "servers": servers,
            "operations": self.costs.describe() if self.costs else {},
            "cache": {name: getattr(cache, name) for name in CACHE_COUNTERS},
            "file_data": asdict(kernel.state.files.counters),
        }

    def thread(self, name: str) -> ThreadView:
        """Return the first thread whose name contains `name`; KeyError names those that there are."""
        for thread in self.kernel.state.tasks.threads.values():
            if name in thread.name:
                return ThreadView(self, thread)
        names = ", ".join(sorted({thread.name for thread in self.kernel.state.tasks.threads.values()}))
        raise KeyError(f"no thread {name!r}; there are {names}")

    @property
    def exit_code(self) -> int | None:
        """The shell's exit code, None while it runs."""
        return self.kernel.exit_code

    def unplug(self, disk: int) -> None:
        """Take a disk away, by its number in `media`; the guest notices at the next instruction.

        ValueError if there is none.
        """
        self._place(disk)
        self.controller.unplug(disk)

    def plug(self, disk: int, medium: Medium) -> None:
        """Connect a medium in a place, after what was there has been taken away; `close` closes it."""
        place = self._place(disk)
        self.media.append(medium)
        self.controller.plug(place, medium)

    def unplug_at(self, clock: int, disk: int = 0) -> None:
        """Take a disk away when virtual time is `clock` nanoseconds: an instruction each, and what idling skips."""
        self._place(disk)
        self.hand.at(clock, disk)

    def _ports(self) -> list[Medium | None]:
        """Return what is connected to each AHCI port."""
        return [*self.media, *[None] * (self.options.places - len(self.media))]

    def _place(self, disk: int) -> int:
        """Return the place of a disk; ValueError names the places."""
        places = IDE_PLACES if self.options.ide else max(1, len(self._ports()))
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


class Hand(DeviceBase):
    """Whoever takes disks away at a time that was said before: an event of the machine, so that runs repeat."""

    name = "hand"

    def __init__(self, system: System) -> None:
        self.system = system

    def at(self, clock: int, disk: int) -> None:
        """Take a disk away at a time; at once if it is over."""
        self.host.schedule(max(0, clock - self.host.clock), disk)

    def on_event(self, token: Any) -> None:
        """Do it."""
        self.system.controller.unplug(int(token))


class Loader:
    """The boot loader: memory as the guest's first instruction finds it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.machine = system.machine
        self.kernel = system.kernel

    def load(self) -> None:
        """Fill memory and set the CPU to the entry point."""
        image = self.kernel.image
        for section in image.sections:
            self.machine.ram.write(section.load, section.data)
        self._kernel_space(image)
        self._descriptors()
        self.kernel.register()
        self._sites(image)
        first = self._threads()
        self._boot_information(first)
        self.machine.cpu.eip = image.entry - KERNEL_BASE

    def _kernel_space(self, image: Program) -> None:
        kernel = self.kernel
        sections = [
            (
                section.address,
                section.size,
                KERNEL_CODE if section.executable else KERNEL_DATA if section.writable else KERNEL_READ,
            )
            for section in image.sections
        ]
        kernel.memory.tables.make_kernel_space(kernel.state.space, sections, self.system.options.memory)
        for base, size in self.system.controller.mmio:
            for offset in range(0, size, PAGE_SIZE):
                linear = layout.KERNEL_MMIO + base - MMIO_BASE + offset
                kernel.memory.tables.map_kernel(kernel.state.space, linear, base + offset, KERNEL_DEVICE)

    def _descriptors(self) -> None:
        address = self.kernel.guest.address
        self.kernel.gdt.put_fixed(
            address("task_state"), size_of(TaskState) - 1, address("system_gate"), address("ipc_gate")
        )

    def _sites(self, image: Program) -> None:
        """Count what the sources mark: `.ledger` names the instruction that follows it."""
        for mark in image.marks:
            address = mark.address - KERNEL_BASE if image.symbol_at(mark.address).startswith("start+") else mark.address
            self.machine.count_site(address, mark.name, mark.amount)

    def _threads(self) -> Thread:
        """Make the idle thread and the one that mounts volumes; return the latter."""
        kernel = self.kernel
        process = kernel.processes.create("kernel")
        idle = kernel.threads.create(process, "idle", PRIORITY_IDLE, routine="idle")
        kernel.state.scheduler.idle = idle
        kernel.threads.jobs[FIRST_JOB] = self.system_job
        first = kernel.threads.create_kernel("init", "policy_thread", FIRST_JOB)
        kernel.scheduler.start(first)
        return first

    async def system_job(self) -> None:
        """Mount the volumes, then start the shell; a person's does not wait for slow ones."""
        options = self.system.options
        await self.kernel.start_services(first=options.interactive and options.commands is None)
        if options.prepare is not None:
            options.prepare(self.kernel)
        if options.shell:
            self.kernel.programs.start_shell(self._shell_arguments())

    def _shell_arguments(self) -> bytes:
        options = self.system.options
        if options.commands is not None:
            return b"-c " + options.commands.encode("utf-8", "surrogateescape")
        if options.interactive:
            return b"-i %d" % options.columns if options.columns else b"-i"
        return b"-s"

    def _boot_information(self, first: Thread) -> None:
        kernel = self.kernel
        pointers = self._boot_tables()
        information = BootInformation(
            magic=BOOT_MAGIC,
            size=size_of(BootInformation),
            low_memory=self.system.options.memory,
            high_memory=self.system.options.high_memory,
            page_directory_pointers=pointers,
            first_thread=first.selector,
            ahci_mmio=0 if self.system.options.ide else layout.KERNEL_MMIO,
            ide_ports=COMMAND_BLOCKS[0] if self.system.options.ide else 0,
            window_table=KERNEL_BASE
            + kernel.memory.tables.kernel_entry_address(kernel.state.space, layout.KERNEL_WINDOW),
        )
        self.machine.ram.write(layout.BOOT_INFORMATION, bytes(information))

    def _boot_tables(self) -> int:
        """Return page tables that map the first 2 MiB twice: as they are, and at KERNEL_BASE."""
        kernel = self.kernel
        pointers, directories = kernel.memory.tables.new_space(kernel.state.space)
        flags = layout.PTE_PRESENT | layout.PTE_WRITABLE | layout.PTE_LARGE
        kernel.memory.tables.put_entry(directories[1], flags)
        return pointers


def boot(
    *images: str | Path,
    options: SystemOptions | None = None,
) -> System:
    """Boot disk images, opened read-only; ImageError names the one that cannot be used."""
    return System([open_image(Path(image)) for image in images], options)
