"""The computer: CPU, memory, clock, buses and the standard devices, behind one facade.

    with Machine() as m:
        m.ram.write(0x1000, code)
        m.cpu.eip = 0x1000
        print(m.run(fuel=1000), m.cpu)

It knows nothing of IPC or files.  `run` alternates between the engine and the work of a CPU between two instructions:
due events, pending interrupts, HLT.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from callgate.kernel.common.near_miss import those_like
from callgate.kernel.machine.blocks.kinds import make_counter
from callgate.kernel.machine.cpu.cpu import Cpu
from callgate.kernel.machine.cpu.exceptions import GP, UD
from callgate.kernel.machine.cpu.fpu import FloatingPoint
from callgate.kernel.machine.cpu.live_fpu import from_cpu
from callgate.kernel.machine.cpu.paging import CR4_TSD, MAXPHYADDR, Paging
from callgate.kernel.machine.cpu.setting import Setting
from callgate.kernel.machine.cpu.tables import DescriptorTables
from callgate.kernel.machine.cpu.translations import Translations
from callgate.kernel.machine.cpu.traps import Traps
from callgate.kernel.machine.device_host import DeviceHost
from callgate.kernel.machine.devices.console_dma import ConsoleDma
from callgate.kernel.machine.devices.pic import InterruptController
from callgate.kernel.machine.devices.ports import Ports
from callgate.kernel.machine.devices.serial import BASE as CONSOLE
from callgate.kernel.machine.devices.serial import DATA, LSR, Serial
from callgate.kernel.machine.devices.timer import Timer
from callgate.kernel.machine.engine.clock import Clock, EventQueue
from callgate.kernel.machine.engine.context import CLOSED
from callgate.kernel.machine.engine.control import Control
from callgate.kernel.machine.engine.counter_state import CounterState, settle_flags
from callgate.kernel.machine.engine.hooks import Hooks
from callgate.kernel.machine.engine.new_engine import new_engine
from callgate.kernel.machine.engine.port_buffer import PortBuffer
from callgate.kernel.machine.filters.filters import Filters
from callgate.kernel.machine.looking import Looking
from callgate.kernel.machine.memory.bus import Device
from callgate.kernel.machine.memory.memory_bus import MemoryBus
from callgate.kernel.machine.memory.outside import Outside, SetRegister
from callgate.kernel.machine.memory.ram import Ram, check_sizes
from callgate.kernel.machine.observation.breakpoints import Breakpoints
from callgate.kernel.machine.observation.event_sites import EventSites
from callgate.kernel.machine.observation.ledger import Ledger
from callgate.kernel.machine.observation.position import Position
from callgate.kernel.machine.observation.stop import Stop
from callgate.kernel.machine.observation.stream import EventStream
from callgate.kernel.machine.observation.turns import WORDS
from callgate.kernel.machine.running import Runner
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

if TYPE_CHECKING:
    from callgate.kernel.machine.snapshot import Keep, Snapshot

HLT = b"\xf4"


class Machine(Looking):
    """A 32-bit x86 computer."""

    def __init__(
        self,
        *,
        memory: int = 64 << 20,
        high_memory: int = 256 << 20,
        counter: str = "auto",
        ctrl_c: bool = True,
    ) -> None:
        """Sizes in bytes, multiples of 4096; `counter` is auto, blocks, native or python (`machine.blocks.kinds`).

        Every byte of RAM above 4 GiB that the CPU loads or stores is counted (`ledger.counts().cpu_file_bytes`).
        `ctrl_c` makes SIGINT end a run between two instructions; without it the signal is left to the process,
        which spares runs of a few instructions two system calls that cost more than they do.
        """
        check_sizes(memory=memory, high_memory=high_memory)
        self.ram = Ram(memory, high_memory)
        self._make_engine(counter)

        # What others fill in.
        self.devices: dict[str, Device] = {}
        self.addresses: Mapping[str, int] = {}
        self.symbols: Callable[[int], str] | None = None
        self.quiescent: Callable[[], str | None] = lambda: None
        self.outside: Callable[[Outside], None] = lambda _what: None  # told of each thing that comes from outside
        self.on_interrupt: Callable[[], bool] | None = None  # Ctrl-C: True if the guest has been told, and continues
        self.dma_watch: Callable[[int, int], None] | None = None  # called for each transfer: physical address, bytes
        self.participants: dict[str, tuple[Callable[[], object], Callable[[Any], None]]] = {}

        self._make_handlers()
        self.runner = Runner(self, ctrl_c=ctrl_c)
        self.breakpoints = Breakpoints(self.counter.sites, self.control, self.address)
        self.event_sites = EventSites(self.counter.sites, self.stream)
        self.descriptors = DescriptorTables(self.cpu, self.paging)

        # It has to have run once before anything else uses it, and a device is reset when it is attached.
        self._warm_up()
        self._attach_standard_devices()

    def _make_engine(self, counter: str) -> None:
        """The engine and its clock; the CPU's registers and page tables."""
        self.memory_bus = MemoryBus(self.ram, 1 << MAXPHYADDR)
        self.uc = new_engine(self.ram)
        self.handle = self.uc._uch  # raw calls are an order of magnitude faster than the binding's
        self.cpu = Cpu(self.uc)
        self.stream = EventStream(lambda: self.clock.now)
        self.counter = make_counter(self.handle.value, counter, self._fail)
        for region in self.ram.regions[1:]:
            self.counter.serve(region)
        self.state = self.counter.state
        self.control = Control(self.state, self.handle)
        self.clock = Clock(self.state)
        self.events = EventQueue()
        self.ledger = Ledger(self.state, self.ram.touched, self.counter.sites.pools)
        self.paging = Paging(self.ram, self.cpu.paging_mode)
        self.cpu.stands = lambda: not self.control.running

    def _make_handlers(self) -> None:
        """The functions that the engine calls, and those that call it."""
        self.traps = Traps(self.cpu, self.paging, self.control, self.ledger, self.stream, self.clock)
        self.traps.counter = self.counter
        self.ports = Ports(self.cpu, self.state, self.paging, self.ledger, self.traps.refuse)
        self.host_calls = self.ports.host_calls
        self.filters = Filters(self.cpu, self.paging, self.counter.sites, self.traps, self.ports, self.state)
        self.translations = Translations(self.cpu, self.paging, self.control, self._translated)
        self.counter.connect(self.cpu, self.translations)
        self.memory_bus.refuses = self.counter.refuses
        self.traps.returns.changed = self.filters.floating.stack.changed = self.translations.changed
        self.counter.repeats.follows_itself = self.filters.follows_itself
        self.hooks = Hooks(self.handle, self._fail, self.control.leave)
        self.console_buffer = self._console_buffer()
        self._add_hooks()

    def _attach_standard_devices(self) -> None:
        self.pic, self.timer, self.serial = InterruptController(), Timer(), Serial(buffer=self.console_buffer)
        self.pic.notify = self.control.stop_soon
        for device in (self.pic, self.timer, self.serial, ConsoleDma(self.serial.send)):
            self.attach(device)

    def _add_hooks(self) -> None:
        hooks, traps = self.hooks, self.traps
        hooks.interrupt(traps.interrupt)
        hooks.invalid(traps.invalid)
        hooks.out(self.ports.out, self.console_buffer)
        hooks.in_(self.ports.in_, self.console_buffer)
        hooks.instruction(x86.UC_X86_INS_RDTSC, self._on_rdtsc)
        hooks.instruction(x86.UC_X86_INS_RDTSCP, self._on_rdtscp)
        for number in (x86.UC_X86_INS_SYSENTER, x86.UC_X86_INS_SYSCALL):
            hooks.entry(number, lambda: traps.refuse(UD, 0))
        for base, size in self.memory_bus.holes():
            hooks.memory(base, size, self.memory_bus.read, self.memory_bus.write)

    def _console_buffer(self) -> PortBuffer | None:
        """Return a buffer for the console's bytes, if the counter, which knows the ring, is host code as well."""
        if not self.counter.native:
            return None
        in_kernel = ctypes.addressof(self.state) + CounterState.in_kernel.offset
        buffer = PortBuffer(CONSOLE + DATA, CONSOLE + LSR, in_kernel)
        self.host_calls.buffered = buffer
        return buffer

    def _translated(self, linear: int, code: bytes, decoded: int) -> None:
        self.counter.repeats.forget(linear, len(code))
        self.filters.scan(linear, code, decoded)

    def _warm_up(self) -> None:
        """Execute one HLT: the engine reports new blocks only once a block has run (`translations`)."""
        self.cpu.reset_task_register()
        self.ram.write(0, HLT)
        uclib.uc_emu_start(self.handle, *([ctypes.c_uint64(0)] * 3), ctypes.c_size_t(0))
        self.ram.write(0, bytes(len(HLT)))
        self.translations.flush_code()
        self.cpu.eip = 0
        self.state.count = self.state.ring_changes = 0
        self.state.quadrants[:] = [0] * 4
        self.state.in_kernel = 1

    # Devices and their host side.

    def attach(self, device: Device) -> None:
        """Plug a device in: its ports, registers and name become known, and it is reset."""
        if device.name in self.devices:
            raise ValueError(f"there is a device {device.name!r} already")
        self.ports.bus.attach(device)
        self.stream.declare(*device.emits)
        for base, size in device.mmio:
            self.memory_bus.claim(base, size, device.mmio_read, device.mmio_write)
        self.devices[device.name] = device
        device.attach(DeviceHost(self, device.name))
        device.reset()

    def only_ticks(self) -> bool:
        """Whether nothing is to come but ticks of the timer, running periodically."""
        return self.timer.periodic and all(event.device == self.timer.name for event in self.events.heap)

    # What a hook may do.

    def _fail(self, error: BaseException) -> None:
        self.control.fail(error)

    def request_stop(self, reason: str, detail: Any = None) -> None:
        """End the run before the next instruction; for host calls, devices and probes."""
        self.control.request_stop(reason, detail)

    def _on_rdtsc(self) -> bool:
        """Read the virtual clock; False if CR4.TSD keeps it for ring 0."""
        settle_flags(self.state)
        if self.cpu.cr4 & CR4_TSD and self.cpu.cpl:
            self.traps.refuse(GP, 0)
            return False
        now = self.clock.now
        self.cpu.eax, self.cpu.edx = now & 0xFFFF_FFFF, now >> 32 & 0xFFFF_FFFF
        return True

    def _on_rdtscp(self) -> None:
        if self._on_rdtsc():
            self.cpu.ecx = 0  # IA32_TSC_AUX of the only CPU

    # Running.

    def run(
        self,
        *,
        fuel: int | None = None,
        until: Callable[[], bool] | int | str | None = None,
        goal: Position | None = None,
    ) -> Stop:
        """Run until something ends it; `fuel` bounds the instructions of this run.

        `goal` is a position: the run ends there, or at the first position after it where the machine can stop, for the
        reason "position".

        `until` is a linear address or a name of `addresses` (stop before its instruction), the kind of an
        event or the last word of one, like `fetch` for `ipc.fetch` (stop before the instruction after it; the
        stop's `detail` is the event), or a function called whenever the machine returns to the host, which is
        at the latest every `running.SLICE` instructions.  KeyError for an unknown name lists the known ones.
        """
        if until is None or not isinstance(until, int | str):
            return self._run(fuel, until, goal)
        if isinstance(until, int) or until in self.addresses:
            with self.probing(self.address(until), lambda: self.request_stop("until", until)):
                return self._run(fuel, None, goal)
        kinds = self._kinds(until)
        listener = self.stream.subscribe(lambda event: self.request_stop("until", event), kinds=kinds, again=True)
        try:
            return self._run(fuel, None, goal)
        finally:
            self.stream.unsubscribe(listener)

    def _check_open(self) -> None:
        if self.handle is None:
            raise ValueError(CLOSED)

    @property
    def position(self) -> Position:
        """Where the run is; `runner.settle` makes a machine that has stopped stand there exactly."""
        return self.traps.position

    def _run(self, fuel: int | None, until: Callable[[], bool] | None, goal: Position | None = None) -> Stop:
        self._check_open()
        try:
            return self.runner.run(fuel, until, goal)
        finally:
            self.serial.flush()

    def _kinds(self, name: str) -> list[str]:
        """Return the kinds of events that a name means: itself, or those whose last word it is."""
        known = self.stream.kinds | self.event_sites.kinds
        kinds = [name] if name in known else sorted(kind for kind in known if kind.endswith(f".{name}"))
        if not kinds:
            raise KeyError(f"no symbol or event {name!r}; there is {those_like(name, [*self.addresses, *known])}")
        return kinds

    def address(self, place: int | str) -> int:
        """Return the linear address that a number or a name of `addresses` means; KeyError for others.

        ValueError once the machine is closed: nothing has an address then.
        """
        self._check_open()
        if isinstance(place, int):
            return place
        if place not in self.addresses:
            raise KeyError(f"no symbol {place!r}; there is {those_like(place, self.addresses)}")
        return self.addresses[place]

    def step(self, count: int = 1) -> Stop:
        """Retire `count` instructions, taking interrupts as they come."""
        return self.run(fuel=count)

    # Observation.

    def probe(self, place: int | str, function: Callable[[], None]) -> int:
        """Call `function()` before the instruction at a linear address; return a handle for `unprobe`."""
        return self.counter.sites.call(self.address(place), function)

    def unprobe(self, hook: int) -> None:
        """Remove a probe."""
        self.counter.sites.remove(hook)

    def count_site(self, place: int | str, name: str, amount: int = 1) -> None:
        """Count executions of the instruction at a linear address in the ledger, in host code."""
        self.ledger.count_by(name, self.counter.sites.count(self.address(place), amount))

    def watch_turns(self, place: int | str, running: int) -> None:
        """Charge threads at the instruction at a linear address (`ledger.turns`).

        `running` is the physical address of two words, the selectors of the running thread and of the next one.
        """
        words = WORDS.from_buffer(self.ram.regions[0].buffer, running)
        self.ledger.turns.watch(self.counter.sites, self.address(place), words)

    @contextmanager
    def probing(self, place: int | str, function: Callable[[], None]) -> Iterator[None]:
        """Probe an address for as long as the `with` lasts."""
        site = self.probe(place, function)
        try:
            yield
        finally:
            self.unprobe(site)

    # Snapshots.

    def snapshot(self, keep: Keep | None = None) -> Snapshot:
        """Keep the whole state, to `restore` any number of times; NotQuiescent if something is under way.

        Code with state of its own joins through `participants`: a name, a function that returns plain data, and one
        that restores it.  `keep` keeps the memory in another way than a file of its own.
        """
        from callgate.kernel.machine.snapshot import take

        return take(self, keep)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this machine.  Probes, counted sites and breakpoints stay."""
        snapshot.restore(self)

    # Coherence of the CPU's caches of page tables and code.

    def flush_tlb(self) -> None:
        """Drop every cached translation of addresses."""
        self._check_open()
        self.translations.flush_tlb()

    def code_changed(self, physical: int, length: int) -> None:
        """Tell the CPU that memory that may hold code was written by something else."""
        self._check_open()
        self.translations.changed(physical, length)

    # Comfort.

    @property
    def fpu(self) -> FloatingPoint:
        """The x87, MMX and SSE registers now; ValueError once the machine is closed."""
        self._check_open()
        self.filters.floating.gather()
        return from_cpu(self.handle)

    def set_register(self, name: str, value: int) -> None:
        """Change a register of the CPU by hand: one of `cpu.setting.SETTABLE`.

        ValueError, with the reason, for what a CPU would refuse: nothing is changed then.  AttributeError for others.
        """
        self._check_open()
        self.filters.floating.gather()
        change = Setting(self.cpu, self.descriptors, self.handle).change(name, value)
        self.outside(SetRegister(name, value))
        change()

    def __repr__(self) -> str:
        if self.handle is None:
            return "<machine, closed>"
        return f"<machine {self.ram.low_size >> 20} MiB + {self.ram.high_size >> 20} MiB, {self.cpu!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the engine and the memory back."""
        if self.handle is not None:
            self.cpu.free()
            self.paging.close()
            del self.uc  # the engine must be gone before its memory
            self.handle = None
            self.ram.close()
