r"""The bare CPU: one routine in flat memory, called like a function.

    cpu.load("double:\n add eax, eax\n ret\n")
    assert cpu.call("double", eax=21).eax == 42

One machine serves every test.  A loaded program is kept as a snapshot, so a reset drops the pages that were
written.  Every operation is written into a journal: a failed test can be repeated, step by step, to show its last
instructions without slowing down the tests that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ctypes import sizeof
from functools import partial
from pathlib import Path
from struct import pack
from typing import Any, ClassVar, Final

from callgate.asm.assembler import AsmErrors, Program
from callgate.asm.assembler.language.errors import printable
from callgate.kernel.abi.calls import HostCall
from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.common.recent import Recent
from callgate.kernel.machine import Machine, Stop
from callgate.kernel.machine.beginning import Beginning
from callgate.kernel.machine.observation.ledger import Reading
from callgate.kernel.machine.observation.stream import Event
from callgate.tools.asmtest.bare import meanwhile, placing
from callgate.tools.asmtest.bare.convention import Argument, Convention, convention_named, make_frame, violations
from callgate.tools.asmtest.bare.operations import Function, RunMachine
from callgate.tools.asmtest.bare.retrace import retrace
from callgate.tools.asmtest.board import board, wide
from callgate.tools.asmtest.board.attached import Attached
from callgate.tools.asmtest.board.ctrl_c import CtrlC
from callgate.tools.asmtest.board.places import shown_errors, shown_file
from callgate.tools.asmtest.board.programs import Programs
from callgate.tools.asmtest.board.result import CallResult, ConventionError, RoutineError
from callgate.tools.asmtest.board.structures import StructureType, get_field, known_structures, put_field
from callgate.tools.asmtest.objects.linking import External, LinkedProgram
from callgate.tools.asmtest.objects.object_programs import ObjectPrograms

FUEL: Final = 1_000_000
KEPT: Final = 32  # programs whose snapshots are kept
SHOWN: Final = 10  # last instructions of a failed call
HostAnswer = Callable[[int], None]


class BareCpu:
    """A CPU with flat memory and nothing else."""

    watchers: ClassVar[list[Callable[[BareCpu], None]]] = []  # called with each one that is made, before it runs

    def __init__(self, programs: Programs | None = None, root: Path | None = None) -> None:
        """Make the machine; it is reset, not made again, between tests.

        Files are named relative to the folder `root` in messages.
        """
        self.root = root
        self.machine: Machine = board.make_machine()
        self.run_machine: RunMachine = self.machine.run  # or one that notes what happens meanwhile
        self.ctrl_c = CtrlC(self.machine)
        self.programs = programs or Programs()
        self.ram = self.machine.ram
        self.empty = self.machine.snapshot()
        self.beginnings: Recent[tuple[Program, Beginning]] = Recent(KEPT)
        self.beginning: Beginning | None = None  # of the program that is in memory now
        self.loaded: Program | None = None
        self.program: Program | None = None
        self.folder = Path()
        self.probes: list[int] = []
        self.objects = ObjectPrograms(self.programs)
        self.stubs: dict[str, Function] = {}  # by undefined name: the function that answers a call
        self.frames: dict[int, int] = {}  # by linear page: the physical one, where they differ
        self.convention: Convention | None = None  # of calls that do not give one
        self.on_program: Callable[[Program], None] | None = None  # called with the program that is in memory now
        self.calls = 0
        self.journal: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.events: list[Event] = []
        self.last: CallResult | None = None
        self.before: dict[str, int] = {}
        self.structures: dict[str, StructureType] = known_structures()
        self.machine.stream.subscribe(self._on_fault, kinds=["exception", "int"])
        self.machine.probe(board.RETURN, partial(self.machine.control.request_stop, "returned"))
        self.refusals = meanwhile.refusals(self)
        self.reset()
        for watcher in self.watchers:
            watcher(self)
        self.attached = Attached(self.machine)  # by a test

    # Setting up.

    def reset(self) -> None:
        """Go back to empty memory, ring 0, cleared registers; nothing is loaded, host calls are refused."""
        self.stale = True  # it is carried out when it has to be
        self.program = self.last = None
        self.ring = 0
        self.journal.clear()
        self.stubs = {}
        self.frames = {}
        functions = self.machine.host_calls.functions
        functions.clear()
        functions.update(self.refusals)

    def _freshen(self) -> None:
        """Carry out a reset; it is deferred, since loading a program makes it superfluous."""
        if self.stale:
            self.machine.restore(self.empty)
            self.stale = False

    def load(
        self, *sources: str | Path, at: int | None = None, extern: Mapping[str, External] | None = None
    ) -> Program:
        """Load sources, text (a string of several lines) or files, assembled as one unit; or objects.

        An ELF executable, object files (joined, with sources beside them if wanted) or plain bytes, which lie at the
        linear address `at`.  `extern` gives names that objects do not define: a value, or a function of the
        dwords above the return address, whose result is put into EAX. Must come first in a test.  File names are
        relative to `folder`.  Raises AsmErrors, ObjectError (a ValueError).
        """
        if self.journal and any(done[0] != self.load for done in self.journal):
            raise ValueError("load the routine first: loading empties the memory that was set up")
        external = dict(extern or {})
        try:
            program = self.objects.get(sources, self.folder, at, external)
        except AsmErrors as errors:
            raise shown_errors(errors, self.root) from None
        self._take(program, external)
        self._note(self.load, sources, {"at": at, "extern": extern})
        return program

    def use(self, program: Program, external: Mapping[str, External] | None = None) -> None:
        """Put a program into memory, assembled and linked at `board.ORIGIN`, or of objects with their functions."""
        self._take(program, external)
        self._note(self.use, (program, external), {})

    def _take(self, program: Program, external: Mapping[str, External] | None) -> None:
        kept = self.beginnings.get(id(program)) or self._enter(program)
        self.beginning = kept[1]
        self.beginning.restore()
        if self.loaded is not program:
            self._probe(program)
            if self.on_program is not None:
                self.on_program(program)
        self.loaded = self.program = program
        self.stale = False
        if isinstance(program, LinkedProgram):
            self.frames = program.frames
            self.stubs = {name: value for name, value in (external or {}).items() if not isinstance(value, int | str)}

    def _enter(self, program: Program) -> tuple[Program, Beginning]:
        self.machine.restore(self.empty)
        self.frames = program.frames if isinstance(program, LinkedProgram) else {}
        for section in program.sections:
            self._put(section.address, section.data)
        if isinstance(program, LinkedProgram):
            placing.prepare(self.machine, program)
        return self.beginnings.keep(id(program), (program, Beginning(self.machine, board.TABLE_PAGES)))

    def _probe(self, program: Program) -> None:
        for probe in self.probes:
            self.machine.unprobe(probe)
        self.probes = [self.machine.probe(site.address, meanwhile.emitter(self, site)) for site in program.events]
        self.probes += [self.machine.probe(mark.address, meanwhile.counter(self, mark)) for mark in program.marks]
        if isinstance(program, LinkedProgram):
            stubs = program.stubs.items()
            self.probes += [self.machine.probe(address, placing.answer(self, name)) for name, address in stubs]
        self.attached.probes.update(self.probes)

    def write(self, address: int | str, data: bytes) -> None:
        """Write bytes at a linear address or label."""
        self._freshen()
        self._put(self.address(address), data)
        self._note(self.write, (address, data), {})

    def _put(self, address: int, data: bytes) -> None:
        for physical, size in placing.pieces(self.frames, address, len(data)):
            self.ram.write(physical, data[:size])
            self.machine.code_changed(physical, size)
            data = data[size:]

    def place(self, structure: str | StructureType, address: int | str, **fields: int) -> None:
        """Set fields of a structure in memory, the others stay: `cpu.place(Endpoint, 0x10000, free=6)`.

        For paths like `ring[3]` write `**{"ring[3]": 5}`.
        """
        value = self.structure_at(structure, address)
        for path, number in fields.items():
            put_field(value, path, number)
        self._put(self.address(address), bytes(value))
        self._note(self.place, (structure, address), dict(fields))

    def segment(self, name: str, base: int, limit: int = 0xFFFF_FFFF) -> int:
        """Give ds, es, fs or gs a base and a limit (last valid offset); return the selector."""
        self._freshen()
        selector = board.load_segment(self.machine, name, self.address(base), limit, self.ring)
        self._note(self.segment, (name, base, limit), {})
        return selector

    def enter_ring(self, ring: int) -> None:
        """Run the next calls in ring 0 or 3, with flat segments; IOPL is 0."""
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
            raise ValueError(f"{port!r} is not a port: give a number or a HostCall")  # noqa: TRY004 - as other mistakes
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
            hint = did_you_mean(str(place), self.program.symbols) or "the loaded source has none like it"
            raise KeyError(f"no label {place!r}; {hint}")
        return self.program.address(place)

    def structure(self, kind: str | StructureType) -> StructureType:
        """Return a structure by name: of the ABI or a `.struct` of the loaded source."""
        return self.programs.structure(kind, self.program) if isinstance(kind, str) else kind

    def structure_at(self, kind: str | StructureType, address: int | str) -> Any:
        """Return a copy of a structure in memory, a ctypes structure."""
        layout = self.structure(kind)
        return layout.from_buffer_copy(self.read(address, sizeof(layout)))

    def field(self, kind: str | StructureType, address: int | str, path: str) -> int:
        """Return a field of a structure in memory."""
        return get_field(self.structure_at(kind, address), path)

    def read(self, address: int | str, length: int) -> bytes:
        """Return bytes from a linear address or label."""
        self._freshen()
        return self.ram_at(self.address(address), length)

    def ram_at(self, address: int, length: int) -> bytes:
        """Return bytes from a linear address; DmaError where there is no memory."""
        return b"".join(self.ram.read(at, size) for at, size in placing.pieces(self.frames, address, length))

    def text(self, address: int | str) -> str:
        """Return the UTF-8 text at a linear address or label, up to the zero that ends it."""
        data = b""
        while b"\0" not in data:
            data += self.read(self.address(address) + len(data), 16)
        return data.partition(b"\0")[0].decode("utf-8", "replace")

    def set_wide(self, name: str, raw: int) -> None:
        """Set one of xmm0 to xmm7, st0 to st7 (80 bits), mm0 to mm7, mxcsr and fcw to its bits."""
        if name not in wide.SETTABLE:
            raise ValueError(f"{name} is none of {', '.join(wide.SETTABLE)}")
        self._freshen()
        wide.write(self.machine, name, raw)
        self._note(self.set_wide, (name, raw), {})

    def clear_floating_point(self) -> None:
        """Leave the x87 as FNINIT does, and MXCSR as after reset."""
        self._freshen()
        wide.clear(self.machine)
        self._note(self.clear_floating_point, (), {})

    # Calling.

    def call(
        self,
        routine: int | str,
        *,
        args: Sequence[Argument] | None = None,
        abi: str | None = None,
        faults: bool = False,
        returns: bool = True,
        fuel: int = FUEL,
        stack: Sequence[int] = (),
        **registers: float,
    ) -> CallResult:
        """Call a routine and return its results; registers and flags by name, all others 0.

        With `args` it is called by a convention: `abi`, by default what the ini option `callgate_abi` says, or cdecl.
        Other registers hold junk then, and each breach of the convention is named in a RoutineError.  `stack`
        are dwords above the return address and the arguments, the first one nearest.  Unless `faults`, an exception
        raises RoutineError, as do HLT and more than `fuel` instructions; without `returns` so does a return.
        """
        convention = convention_named(abi) if abi is not None else self.convention
        if convention is None and args is not None:
            if abi is not None:
                raise ValueError("arguments need a calling convention: abi='cdecl'")
            convention = convention_named("cdecl")
        for name in [name for name in registers if name in wide.BITS]:
            self.set_wide(name, wide.Wide((registers.pop(name),), wide.BITS[name]).raw())
        values: dict[str, Any] = dict(registers)  # checked to be numbers where they are written
        if convention is not None:
            frame = make_frame(self, convention, args or (), values, stack)
            values, stack = frame.registers, frame.stack
        result = self.run_routine(routine, {"fuel": fuel, "stack": stack, **values}, faults=faults, returns=returns)
        if convention is not None and result.returned:
            broken = violations(convention, self.before, result, len(stack), self.machine.fpu)
            if broken:
                raise ConventionError(f"{routine} breaks its calling convention: {'; '.join(broken)}", broken)
        return result

    def run_routine(self, routine: int | str, options: dict[str, Any], *, faults: bool, returns: bool) -> CallResult:
        """Do what `call` does, without a convention; `options` are fuel, stack, registers and flags by name."""
        self.last = None  # after an error within the run, reports must not show the previous call
        self._note(self.run_routine, (routine, options), {"faults": faults, "returns": returns})
        values = options.copy()
        fuel, stack = values.pop("fuel"), values.pop("stack")
        begun = self.begin(routine, stack, values)
        stop = self.run(fuel)
        self.last = result = self._result(stop, begun)
        if stop.reason == "fault" and not faults:
            raise RoutineError(f"{routine} faulted: {result.fault} at {self.name_of(stop.eip)}")
        if stop.reason == "returned" and not returns:
            raise RoutineError(f"{routine} came back after {result.instructions} instructions")
        if stop.reason not in ("fault", "returned") and (returns or stop.reason != "fuel"):
            what = f"did not return within {fuel} instructions" if stop.reason == "fuel" else f"ended by {stop.reason}"
            why = f": {stop.detail}" if stop.reason == "not-modelled" else ""
            raise RoutineError(f"{routine} {what}, at {self.name_of(stop.eip)}{why}")
        return result

    def begin(self, routine: int | str, stack: Sequence[int], registers: dict[str, int]) -> Reading:
        """Set the CPU to the routine's first instruction; return the counters before it."""
        self._freshen()
        values, eflags = board.values_at_entry(stack, registers)
        top = values["esp"] - 4
        self.ram.write(top, pack(f"<{1 + len(stack)}I", board.RETURN, *(value & 0xFFFF_FFFF for value in stack)))
        values["esp"] = top
        eip = self.address(routine)
        self.machine.cpu.enter(list(values.values()), eflags, eip)
        self.before = values | {"eflags": eflags, "eip": eip}
        self.events = []
        return self.machine.ledger.reading()

    def run(self, fuel: int) -> Stop:
        """Run the machine; KeyboardInterrupt at Ctrl-C."""
        stop = self.run_machine(fuel=fuel)
        if stop.reason == "interrupted":
            raise KeyboardInterrupt
        if stop.reason == "fuel" and stop.eip == board.RETURN:  # the last instruction was the RET
            return stop._replace(reason="returned")
        return stop

    def _result(self, stop: Stop, begun: Reading) -> CallResult:
        fault = meanwhile.fault_of(self.machine, stop.detail) if stop.reason == "fault" else None
        self.calls += 1
        registers, ended = self.machine.cpu.registers(), self.machine.ledger.reading()
        read_wide = meanwhile.wide_reader(self, self.calls)
        returned = stop.reason == "returned"
        return CallResult(registers, begun, ended, fault, self.events, self.ring, returned, read_wide)

    def retrace(self, count: int = SHOWN) -> list[int]:
        """Repeat the whole test up to its last call; return addresses of that call's last instructions.

        Host-call answers and functions for `extern` are called again.  An empty list if nothing was called.
        """
        return retrace(self, count)

    # What happens meanwhile.

    def _on_fault(self, event: Event) -> None:
        self.machine.request_stop("fault", event)

    def name_of(self, address: int) -> str:
        """Return an address as label+offset, with its source line if there is one."""
        written = self.written(address)
        name = self.program.symbol_at(address) if self.program else f"{address:#010x}"
        return f"{name} ({written})" if written else name

    def written(self, address: int) -> str:
        """Return file, line and text of the instruction at an address; nothing if it is in no source."""
        line = self.program.line_at(address) if self.program else None
        if line is None:
            return ""
        return f"{shown_file(line.file, self.root)}:{line.line}: {printable(line.text.strip())}"

    def _note(self, *step: Any) -> None:
        self.journal.append(step)

    def close(self) -> None:
        """Close the machine."""
        self.ctrl_c.remove()
        self.machine.close()
