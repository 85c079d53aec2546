r"""The bare CPU: one routine in flat memory, called like a function.

    cpu.load("double:\n add eax, eax\n ret\n")
    assert cpu.call("double", eax=21).eax == 42

One machine serves every test.  A loaded program is kept as a snapshot, so a reset is one mapping of
memory.  Every operation is written into a journal: what a failed test did can be done again, step by
step, to show its last instructions without slowing down the tests that pass.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any, Final

from callgate.asm.assembler import AsmErrors, EventSite, LedgerMark, Program
from callgate.asm.assembler.errors import near_miss, printable
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.bus import DmaError
from callgate.kernel.machine.ledger import Counts
from callgate.kernel.machine.paging import PageFault
from callgate.kernel.machine.snapshot import Snapshot
from callgate.kernel.machine.stream import Event
from callgate.tools.asmtest import board
from callgate.tools.asmtest.ctrl_c import CtrlC
from callgate.tools.asmtest.places import shown_errors, shown_file
from callgate.tools.asmtest.programs import Programs
from callgate.tools.asmtest.result import FLAGS, WHOLE, CallResult, Fault, RoutineError
from callgate.tools.asmtest.structures import StructureType, get_field, known_structures, put_field

FUEL: Final = 1_000_000
KEPT: Final = 32  # programs whose snapshots are kept
SHOWN: Final = 10  # last instructions of a failed call
EFLAGS_FIXED: Final = 2
HostAnswer = Callable[[int], None]


class BareCpu:
    """A CPU with flat memory and nothing else."""

    def __init__(self, programs: Programs | None = None, root: Path | None = None) -> None:
        """Make the machine; it is reset, not made again, between tests.

        Files are named relative to the folder `root` in messages.
        """
        self.root = root
        self.machine: Machine = board.make_machine()
        self.ctrl_c = CtrlC(self.machine)
        self.programs = programs or Programs()
        self.ram = self.machine.ram
        self.empty = self.machine.snapshot()
        self.snapshots: OrderedDict[int, tuple[Program, Snapshot]] = OrderedDict()
        self.loaded: Program | None = None
        self.program: Program | None = None
        self.folder = Path()
        self.probes: list[int] = []
        self.journal: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.events: list[Event] = []
        self.ring = 0
        self.last: CallResult | None = None
        self.before: dict[str, int] = {}
        self.structures: dict[str, StructureType] = known_structures()
        self.machine.stream.subscribe(self._on_fault, kinds=["exception", "int"])
        self.machine.probe(board.RETURN, lambda: self.machine.request_stop("returned"))
        no_names: dict[int, str] = {}
        self.refusals = {int(call): (self._unanswered(call), call.name.lower(), no_names) for call in HostCall}
        self.stale = True  # a reset has been asked for and not been carried out
        self.reset()

    # Setting up.

    def reset(self) -> None:
        """Go back to empty memory, ring 0, cleared registers; nothing is loaded, host calls are refused."""
        self.stale = True
        self.program = None
        self.ring = 0
        self.last = None
        self.journal.clear()
        functions = self.machine.host_calls.functions
        functions.clear()
        functions.update(self.refusals)

    def _freshen(self) -> None:
        """Carry a reset out; loading a program makes that superfluous, so it waits for what comes first."""
        if self.stale:
            self.machine.restore(self.empty)
            self.stale = False

    def load(self, *sources: str | Path) -> Program:
        """Load a source: text (a string of several lines) or files, assembled as one unit.

        Before anything else of a test.  File names are relative to `folder`.  Raises AsmErrors.
        """
        if any(done[0] != self.load for done in self.journal):
            raise ValueError("load the routine first: loading empties the memory that was set up")
        try:
            program = self.programs.get(sources, self.folder)
        except AsmErrors as errors:
            raise shown_errors(errors, self.root) from None
        self.use(program)
        self._note(self.load, sources, {})
        return program

    def use(self, program: Program) -> None:
        """Put an assembled program, linked at `board.ORIGIN`, into memory."""
        kept = self.snapshots.get(id(program))
        if kept is None:
            self._enter(program)
        else:
            self.snapshots.move_to_end(id(program))
            self.machine.restore(kept[1])
        if self.loaded is not program:
            self._probe(program)
        self.loaded = self.program = program
        self.stale = False

    def _enter(self, program: Program) -> None:
        self.machine.restore(self.empty)
        for section in program.sections:
            self.ram.write(section.address, section.data)
            self.machine.code_changed(section.address, section.size)
        self.snapshots[id(program)] = (program, self.machine.snapshot())
        if len(self.snapshots) > KEPT:
            self.snapshots.popitem(last=False)

    def _probe(self, program: Program) -> None:
        for probe in self.probes:
            self.machine.unprobe(probe)
        self.probes = [self.machine.probe(site.address, self._emitter(site)) for site in program.events]
        self.probes += [self.machine.probe(mark.address, self._counter(mark)) for mark in program.marks]

    def write(self, address: int | str, data: bytes) -> None:
        """Write bytes at a linear address or label."""
        self._freshen()
        self.ram.write(self.address(address), data)
        self.machine.code_changed(self.address(address), len(data))
        self._note(self.write, (address, data), {})

    def place(self, structure: str | StructureType, address: int | str, **fields: int) -> None:
        """Set fields of a structure in memory, the others stay: `cpu.place(Partition, 0x10000, free=6)`.

        For paths like `ring[3]` write `**{"ring[3]": 5}`.
        """
        kind = self.structure(structure)
        value = self.structure_at(kind, address)
        for path, number in fields.items():
            put_field(value, path, number)
        self.ram.write(self.address(address), bytes(value))
        self._note(self.place, (structure, address), dict(fields))

    def segment(self, name: str, base: int, limit: int = 0xFFFF_FFFF) -> int:
        """Give ds, es, fs or gs a base and a limit (last valid offset); return the selector."""
        self._freshen()
        selector = board.load_segment(self.machine, name, self.address(base), limit, self.ring)
        self._note(self.segment, (name, base, limit), {})
        return selector

    def enter_ring(self, ring: int) -> None:
        """Run what follows in ring 0 or 3, with flat segments; IOPL is 0."""
        if ring not in (0, 3):
            raise ValueError(f"routines run in ring 0 or 3, not {ring}")
        self._freshen()
        self.ring = ring
        board.enter_ring(self.machine, ring)
        self._note(self.enter_ring, (ring,), {})

    def protect(self, address: int, length: int, rights: str, *, user: bool = True) -> None:
        """Set the rights of the pages that a range touches: none, r or rw; `user`: ring 3 may use them."""
        self._freshen()
        board.protect(self.machine, address, length, rights, user=user)
        self._note(self.protect, (address, length, rights), {"user": user})

    def on_host_call(self, port: int, answer: HostAnswer) -> None:
        """Answer OUT to a port with `answer(eax)`, which may change registers and memory."""
        if not isinstance(port, int):
            raise ValueError(f"{port!r} is no port: give a number or a HostCall")  # noqa: TRY004 - as other mistakes
        name = HostCall(port).name.lower() if port in set(HostCall) else f"port {port:#x}"
        self.machine.host_calls.functions.pop(int(port), None)
        self.machine.host_calls.register(port, answer, name)
        self._note(self.on_host_call, (port, answer), {})

    # Looking.

    def address(self, place: int | str) -> int:
        """Return a linear address, or that of a label of the loaded program."""
        if isinstance(place, int):
            return place
        if self.program is None:
            raise ValueError(f"nothing is loaded that has a label {place!r}; use cpu.load first")
        if place not in self.program.symbols:
            hint = near_miss(str(place), self.program.symbols) or "the loaded source has none like it"
            raise KeyError(f"no label {place!r}; {hint}")
        return self.program.address(place)

    def structure(self, kind: str | StructureType) -> StructureType:
        """Return a structure by name: of the ABI or a `.struct` of the loaded source."""
        return self.programs.structure(kind, self.program) if isinstance(kind, str) else kind

    def structure_at(self, kind: str | StructureType, address: int | str) -> Any:
        """Return a copy of a structure in memory, a ctypes structure."""
        layout = self.structure(kind)
        from ctypes import sizeof

        return layout.from_buffer_copy(self.read(address, sizeof(layout)))

    def field(self, kind: str | StructureType, address: int | str, path: str) -> int:
        """Return a field of a structure in memory."""
        return get_field(self.structure_at(kind, address), path)

    def read(self, address: int | str, length: int) -> bytes:
        """Return bytes from a linear address or label."""
        self._freshen()
        return self.ram.read(self.address(address), length)

    # Calling.

    def call(
        self, routine: int | str, *, faults: bool = False, fuel: int = FUEL, stack: Sequence[int] = (), **registers: int
    ) -> CallResult:
        """Call a routine and return what it left; registers and flags by name, all others 0.

        `stack` are dwords above the return address, the first one nearest.  Unless `faults`, an exception
        raises RoutineError, as do HLT and more than `fuel` instructions.
        """
        self._note(self.call, (routine,), {"faults": faults, "fuel": fuel, "stack": stack, **registers})
        self.last = None  # an error within the run must not leave the call before for reports
        begun = self._begin(routine, stack, registers)
        stop = self._run(fuel)
        self.last = self._result(stop, begun)
        if stop.reason == "fault" and not faults:
            raise RoutineError(f"{routine} faulted: {self.last.fault} at {self._place(stop.eip)}")
        if stop.reason not in ("fault", "returned"):
            what = f"did not return within {fuel} instructions" if stop.reason == "fuel" else f"ended by {stop.reason}"
            why = f": {stop.detail}" if stop.reason == "not-modelled" else ""
            raise RoutineError(f"{routine} {what}, at {self._place(stop.eip)}{why}")
        return self.last

    def _begin(self, routine: int | str, stack: Sequence[int], registers: dict[str, int]) -> Counts:
        """Set the CPU to the routine's first instruction; return the counters before it."""
        self._freshen()
        cpu, eflags = self.machine.cpu, registers.pop("eflags", EFLAGS_FIXED)
        values = dict.fromkeys(WHOLE, 0) | {"esp": board.STACK_TOP - 4 * len(stack)}
        for name, value in [*registers.items(), *(("stack", value) for value in stack)]:
            if not isinstance(value, int):
                raise ValueError(f"{name} is given {value!r}, which is no number")  # noqa: TRY004 - as other mistakes
            if name == "stack":
                continue
            if name in FLAGS:
                eflags = eflags & ~(1 << FLAGS[name]) | (value & 1) << FLAGS[name]
            elif name in values:
                values[name] = value
            else:
                raise ValueError(f"{name} is neither a register ({', '.join(WHOLE)}) nor a flag ({', '.join(FLAGS)})")
        top = values["esp"] - 4
        self.ram.write(top, pack(f"<{1 + len(stack)}I", board.RETURN, *(value & 0xFFFF_FFFF for value in stack)))
        values["esp"] = top
        eip = self.address(routine)
        cpu.enter(list(values.values()), eflags, eip)
        self.before = values | {"eflags": eflags, "eip": eip}
        self.events = []
        return self.machine.ledger.counts()

    def _run(self, fuel: int) -> Stop:
        stop = self.machine.run(fuel=fuel)
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        if stop.reason == "fuel" and stop.eip == board.RETURN:  # the last instruction was the RET
            return replace(stop, reason="returned")
        return stop

    def _result(self, stop: Stop, begun: Counts) -> CallResult:
        fault = self._fault(stop.detail) if stop.reason == "fault" else None
        ended = self.machine.ledger.counts()
        return CallResult(self.machine.cpu.registers(), begun, ended, fault, self.events, self.ring)

    def _fault(self, event: Event) -> Fault:
        with suppress(PageFault, DmaError):
            before = int(str(event.fields["eip"])) + self.machine.cpu.segment_base("cs") - 1 & 0xFFFF_FFFF
            return Fault.of_event(event, self.machine.read(before, 1)[0])
        return Fault.of_event(event, 0)

    def retrace(self, count: int = SHOWN) -> list[int]:
        """Do the whole test again up to its last call; return addresses of that call's last instructions.

        Host-call answers are called again.  An empty list if nothing was called.
        """
        steps = list(self.journal)
        calls = [index for index, step in enumerate(steps) if step[0] == self.call]
        if not calls or self.last is None:
            return []
        kept, retired = (self.last, self.before), self.last.instructions
        self.reset()
        for function, arguments, options in steps[: calls[-1]]:
            with suppress(RoutineError):  # which the test has caught
                function(*arguments, **options)
        _, (routine,), options = steps[calls[-1]]
        values = {key: value for key, value in options.items() if key not in ("faults", "fuel", "stack")}
        self._begin(routine, options["stack"], values)
        addresses = self._step(retired, count)
        self.last, self.before = kept
        self.journal[:] = steps
        return addresses

    def _step(self, retired: int, count: int) -> list[int]:
        machine = self.machine
        if retired > count:
            self._run(retired - count)
        addresses: deque[int] = deque(maxlen=count + 1)
        for _ in range(min(retired, count) + 1):
            addresses.append(machine.cpu.eip)
            if self._run(1).reason != "fuel":
                break
        return [address for address in addresses if address != board.RETURN]

    # What happens meanwhile.

    def _on_fault(self, event: Event) -> None:
        self.machine.request_stop("fault", event)

    def _emitter(self, site: EventSite) -> Callable[[], None]:
        def hit() -> None:
            cpu = self.machine.cpu
            values = {key: getattr(cpu, text) if text.isalpha() else int(text) for key, text in site.fields}
            self.events.append(Event(self.machine.clock.now, site.name, values))

        return hit

    def _counter(self, mark: LedgerMark) -> Callable[[], None]:
        def hit() -> None:
            self.machine.ledger.extra[mark.name] += mark.amount

        return hit

    def _unanswered(self, call: HostCall) -> HostAnswer:
        def refuse(_value: int) -> None:
            raise RoutineError(
                f"host call {call.name} at {self._place(self.machine.state.last_address)} has no answer; "
                f"give one with cpu.on_host_call(HostCall.{call.name}, function)"
            )

        return refuse

    def _place(self, address: int) -> str:
        written = self.written(address)
        name = self.program.symbol_at(address) if self.program else f"{address:#010x}"
        return f"{name} ({written})" if written else name

    def written(self, address: int) -> str:
        """Return file, line and text of the instruction at an address; nothing if it stands in no source."""
        line = self.program.line_at(address) if self.program else None
        if line is None:
            return ""
        return f"{shown_file(line.file, self.root)}:{line.line}: {printable(line.text.strip())}"

    def _note(self, function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.journal.append((function, arguments, options))

    def close(self) -> None:
        """Give the machine back."""
        self.ctrl_c.remove()
        self.machine.close()
