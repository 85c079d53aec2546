"""The boot loader: the work of a board and a loader before the guest's first instruction.

It puts the kernel image into memory, writes the boot-information page and the first page tables, makes the first two
threads, and sets the CPU to the entry point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from callgate.asm.assembler import Program
from callgate.disk.ahci.controller import MMIO_BASE, AhciController
from callgate.disk.drives.latency import Latency
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.boot import BOOT_MAGIC, BootInformation
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.abi.thread import TaskState
from callgate.kernel.common.record import record
from callgate.kernel.core.records import PRIORITY_IDLE, Thread
from callgate.kernel.kernel import Kernel
from callgate.kernel.memory.page_tables import KERNEL_CODE, KERNEL_DATA, KERNEL_DEVICE, KERNEL_READ
from callgate.kernel.servers.mounting import MOUNT_DEADLINE
from callgate.kernel.tasks.threads import FIRST_JOB

if TYPE_CHECKING:
    from callgate.disk.ide.controller import IdeController


def unlogged(_line: str) -> None:
    """Drop a line of the boot log."""


@record(eq=True)
class SystemOptions:
    """The parts and options of a system. Sizes in bytes."""

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
    observe_operations: bool = False  # add up the cost of each operation (kernel/watching/costs.py)
    map_edges: bool = False  # map pages that hold neighbours' data too, instead of copying: leaks, for comparison
    fast_path: bool = True  # hand the CPU over without asking policy where there is nothing to choose
    scratch: bool = False  # programs may write to mapped files; the changes end with the machine
    places: int = 0  # AHCI ports, if more than there are disks: for disks that are plugged in later
    mount_deadline: int = MOUNT_DEADLINE  # nanoseconds of virtual time that a server has to mount its volume
    log: Callable[[str], None] = unlogged
    urgent: Callable[[str], None] | None = None  # faults and ends of servers, if `log` is not to have them
    output: Callable[[bytes], None] | None = None
    source: Callable[[int], bytes | None] | None = None


class Loader:
    """The boot loader: memory as the guest's first instruction finds it."""

    def __init__(self, kernel: Kernel, controller: AhciController | IdeController, options: SystemOptions) -> None:
        self.machine = kernel.machine
        self.kernel = kernel
        self.controller = controller
        self.options = options

    def load(self) -> None:
        """Span memory and set the CPU to the entry point."""
        image = self.kernel.image
        for section in image.sections:
            self.machine.ram.write(section.load, section.data)
        self.kernel.scheduler.ask_always(always=not self.options.fast_path)
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
        kernel.memory.tables.make_kernel_space(kernel.state.space, sections, self.options.memory)
        for base, size in self.controller.mmio:
            for offset in range(0, size, PAGE_SIZE):
                linear = layout.KERNEL_MMIO + base - MMIO_BASE + offset
                kernel.memory.tables.map_kernel(kernel.state.space, linear, base + offset, KERNEL_DEVICE)

    def _descriptors(self) -> None:
        address = self.kernel.guest.address
        self.kernel.gdt.put_fixed(
            address("task_state"), size_of(TaskState) - 1, address("system_gate"), address("ipc_gate")
        )
        table = self.kernel.guest.physical("server_table")
        self.kernel.gdt.put_server_table(address("server_table"), table, address("server_gate"))
        none = address("no_endpoint")
        self.kernel.gdt.put_no_endpoints(none, address("no_endpoint_end") - 1 - none)

    def _sites(self, image: Program) -> None:
        """Count the instructions that `.ledger` marks in the sources, and those of each thread."""
        for place in ("switch_resume", "ipc_gate.turn", "server_gate.turn", "hand_over_request.turn"):
            self.machine.watch_turns(place, 4 * self.kernel.guest.kernel_words.base)
        for mark in image.marks:
            address = mark.address - KERNEL_BASE if image.symbol_at(mark.address).startswith("start+") else mark.address
            self.machine.count_site(address, mark.name, mark.amount)

    def _threads(self) -> Thread:
        """Make the idle thread and the one that mounts volumes; return the second."""
        kernel = self.kernel
        process = kernel.processes.create("kernel")
        idle = kernel.threads.create(process, "idle", PRIORITY_IDLE, routine="idle")
        kernel.state.scheduler.idle = idle
        kernel.threads.jobs[FIRST_JOB] = self.system_job
        first = kernel.threads.create_kernel("init", "policy_thread", FIRST_JOB)
        kernel.scheduler.start(first)
        return first

    async def system_job(self) -> None:
        """Mount the volumes, then start the shell; an interactive one does not wait for slow volumes."""
        options = self.options
        await self.kernel.start_services(first=options.interactive and options.commands is None)
        if options.prepare is not None:
            options.prepare(self.kernel)
        if options.shell:
            self.kernel.programs.start_shell(self._shell_arguments())

    def _shell_arguments(self) -> bytes:
        options = self.options
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
            low_memory=self.options.memory,
            high_memory=self.options.high_memory,
            page_directory_pointers=pointers,
            first_thread=first.selector,
            ahci_mmio=0 if self.options.ide else layout.KERNEL_MMIO,
            ide_ports=self.controller.ports[0].start if self.options.ide else 0,
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
