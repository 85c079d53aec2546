"""A bench for the disk drivers: the shipped assembly on the real machine, with the real device models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from callgate.asm.assembler import Program
from callgate.asm.assembler.cache import assemble_cached
from callgate.disk.ahci.controller import MMIO_BASE, AhciController
from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.abi.disks.disk import Disk, DiskRequest, DiskStatus
from callgate.kernel.abi.layout import Layout, size_of
from callgate.kernel.abi.memory import HIGH_MEMORY, KERNEL_BASE, KERNEL_LOAD, PAGE_SIZE
from callgate.kernel.abi.thread import KernelWords
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.memory.bus import Device
from callgate.kernel.memory.frames import FramePool
from callgate.kernel.memory.page_tables import KERNEL_DATA, KERNEL_DEVICE, KernelSpace, PageTables
from callgate.tools.asmtest.board.programs import shipped_folders
from callgate.tools.asmtest.coverage.watching import show

LOW_MEMORY = 16 << 20
HIGH_SIZE = 32 << 20
REQUESTS = 0x0080_0000  # physical address of the tests' requests
REQUEST_SPAN = 512
FUEL = 20_000_000
POLL_LIMIT = 5_000  # instead of a million: dead hardware is found 200 times as fast
SECTOR = 512


@cache
def program() -> Program:
    """Return the bench, linked as the kernel is."""
    path = Path(__file__).with_name("bench.asm")
    return assemble_cached(
        path,
        origin=KERNEL_BASE + KERNEL_LOAD,
        load=KERNEL_LOAD,
        entry="start",
        include_dirs=shipped_folders(),
        defines={"POLL_LIMIT": POLL_LIMIT},
    )


@dataclass
class Bench:
    """A machine on which the driver has been initialised; `done` lists finished requests."""

    machine: Machine
    program: Program

    def __post_init__(self) -> None:
        self.done: list[int] = []
        self.next_request = REQUESTS
        self.on_done: Callable[[int], None] = lambda _address: None
        self.machine.host_calls.register(HostCall.DISK_DONE, self._disk_done, "disk_done")
        self.machine.host_calls.register(
            HostCall.BOOT_DONE, lambda _value: self.machine.request_stop("booted"), "boot_done"
        )

    def _disk_done(self, address: int) -> None:
        self.done.append(address)
        self.on_done(address)

    def boot(self, *, ahci: bool, ide: int) -> None:
        """Load the bench, build the kernel's page tables and run the driver's initialisation."""
        ram = self.machine.ram
        for section in self.program.sections:
            ram.write(section.load, section.data)
        self.machine.symbols = self.program.symbol_at
        for mark in self.program.marks:
            self.machine.count_site(mark.address, mark.name, mark.amount)
        frames = FramePool(0x0040_0000, REQUESTS)
        tables = PageTables(ram.low.cast("Q"), frames, lambda _number: None)
        sections = [(s.address, s.size, 0x3 if s.executable else KERNEL_DATA) for s in self.program.sections]
        space = KernelSpace(0)
        tables.make_kernel_space(space, sections, LOW_MEMORY)
        for offset in range(0, 0x2000, PAGE_SIZE):
            tables.map_kernel(space, layout.KERNEL_MMIO + offset, MMIO_BASE + offset, KERNEL_DEVICE)
        pointers, directories = tables.new_space(space)
        tables.put_entry(directories[1], layout.PTE_PRESENT | layout.PTE_WRITABLE | layout.PTE_LARGE)
        words = self.overlay(KernelWords, self.program.address("kernel_words"))
        words.ahci_base = layout.KERNEL_MMIO if ahci else 0
        words.ide_base = ide
        words.window_table = KERNEL_BASE + tables.kernel_entry_address(space, layout.KERNEL_WINDOW)
        cpu = self.machine.cpu
        cpu.esi = pointers
        cpu.eip = self.program.entry - KERNEL_BASE
        stop = self.machine.run(fuel=FUEL)
        assert stop.reason == "booted", (stop, self.machine.name_address(self.machine.cpu.eip))

    def overlay(self, kind: type[Layout], linear: int) -> Any:
        """Return a layout over guest memory."""
        return kind.from_buffer(self.machine.ram.view(linear - KERNEL_BASE, size_of(kind)))

    def disk(self, number: int) -> Any:
        """Return a Disk of the driver's table."""
        return self.overlay(Disk, self.program.address("disk_table") + number * size_of(Disk))

    def request(self, disk: int, lba: int, sectors: int, runs: Sequence[int]) -> int:
        """Make a request for runs of pages: physical address | pages - 1; return its linear address."""
        address = KERNEL_BASE + self.next_request
        self.next_request += REQUEST_SPAN
        request = self.overlay(DiskRequest, address)
        request.disk, request.status = disk, DiskStatus.QUEUED
        request.lba, request.sectors, request.run_count = lba, sectors, len(runs)
        request.runs[: len(runs)] = list(runs)
        return address

    def at(self, address: int) -> Any:
        """Return the request at an address."""
        return self.overlay(DiskRequest, address)

    def status(self, address: int) -> DiskStatus:
        """Return the status of a request."""
        return DiskStatus(self.at(address).status)

    def call(self, routine: str, *, interrupts: bool = False, **registers: int) -> int:
        """Call a routine; return the instructions that it took, those of interrupts included."""
        machine, cpu = self.machine, self.machine.cpu
        stack = self.program.address("stack_top") - 64
        machine.paging.write_linear(stack, self.program.address("returned").to_bytes(4, "little"))
        cpu.esp = stack
        cpu.eflags = 0x202 if interrupts else 2
        cpu.eip = self.program.address(routine)
        for name, value in registers.items():
            setattr(cpu, name, value)
        before = machine.clock.retired
        stop = machine.run(fuel=FUEL, until=self.program.address("returned"))
        assert stop.reason == "until", (stop, machine.name_address(self.machine.cpu.eip))
        assert bool(cpu.eflags & 0x200) == interrupts
        return machine.clock.retired - before

    def submit(self, *addresses: int, interrupts: bool = False) -> None:
        """Submit requests one after the other."""
        for address in addresses:
            before = self.registers()
            self.call("disk_submit", interrupts=interrupts, ebx=address)
            before["ebx"] = address
            assert self.registers() == before

    def registers(self) -> dict[str, int]:
        """Return the general registers but ESP."""
        return {name: getattr(self.machine.cpu, name) for name in ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")}

    def run_until_idle(self) -> None:
        """Let interrupts in until nothing more can happen."""
        stop = self.run_until_stopped()
        assert stop.reason == "halt", (stop, self.machine.name_address(self.machine.cpu.eip))

    def run_until_stopped(self) -> Stop:
        """Let interrupts in until something stops the machine; the stack is cut back."""
        cpu = self.machine.cpu
        cpu.esp = self.program.address("stack_top") - 64
        cpu.eip = self.program.address("rest")
        return self.machine.run(fuel=FUEL)

    def frames(self, count: int, start: int = HIGH_MEMORY, step: int = PAGE_SIZE) -> list[int]:
        """Return physical addresses of pages above 4 GiB."""
        return [start + index * step for index in range(count)]

    def read(self, address: int) -> bytes:
        """Return what a finished request has brought."""
        request = self.at(address)
        runs = [(run & -PAGE_SIZE, run % PAGE_SIZE + 1) for run in request.runs[: request.run_count]]
        data = b"".join(self.machine.ram.read(at, pages * PAGE_SIZE) for at, pages in runs)
        return data[: request.sectors * SECTOR]

    def events(self, name: str) -> list[dict[str, int]]:
        """Return a list that grows by the fields of an event each time one of its sites is passed."""
        seen: list[dict[str, int]] = []
        for event in self.program.events:
            if event.name == name:
                self.machine.probe(event.address, lambda event=event: seen.append(self._fields(event.fields)))
        return seen

    def _fields(self, fields: tuple[tuple[str, str], ...]) -> dict[str, int]:
        cpu = self.machine.cpu
        return {key: getattr(cpu, value) if value.isalpha() else int(value, 0) for key, value in fields}


def content(sectors: int, seed: int = 0) -> bytes:
    """Return a disk's content in which no two sectors are alike."""
    return b"".join(
        (index + (seed << 24)).to_bytes(4, "little") * 4 + bytes([index * 7 + seed & 0xFF]) * (SECTOR - 16)
        for index in range(sectors)
    )


class Maker:
    """Builds benches and gives them back at the end of the test."""

    def __init__(self) -> None:
        self.machines: list[Machine] = []

    def machine(self) -> Machine:
        """Return a machine that is closed at the end."""
        machine = Machine(memory=LOW_MEMORY, high_memory=HIGH_SIZE)
        self.machines.append(machine)
        return machine

    def ahci(self, controller: AhciController) -> Bench:
        """Return a booted bench with an AHCI controller."""
        return self.devices(controller, ahci=True)

    def devices(self, *devices: Device, ahci: bool = False, ide: int = 0) -> Bench:
        """Return a booted bench with devices."""
        bench = Bench(self.machine(), program())
        show(bench.machine, program())
        for device in devices:
            bench.machine.attach(device)
        bench.boot(ahci=ahci, ide=ide)
        return bench


@pytest.fixture
def bench() -> Iterator[Maker]:
    maker = Maker()
    yield maker
    for machine in maker.machines:
        machine.close()


@pytest.fixture(name="content")
def content_fixture() -> Callable[..., bytes]:
    return content
