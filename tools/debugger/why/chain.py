"""The chain of a value: what wrote it last, from where, and so back to a constant, a device or a host call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.memory.accounts import Account
from callgate.tools.debugger.debuggee.watchpoints import Access, Kind
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.why.by_hand import ByHand, last_by_hand
from callgate.tools.debugger.why.links import Link, Writer
from callgate.tools.debugger.why.locations import FAR_RETURNS, SEGMENTS, InMemory, InRegister, Location
from callgate.tools.debugger.why.path import Tracer
from callgate.tools.debugger.why.ports import by_port
from callgate.tools.debugger.why.server_reads import ServerReads
from callgate.tools.debugger.why.sources import BY_PORT, Source, source_of_register, source_of_store, takes_effect
from callgate.tools.debugger.why.transfers import Reads
from callgate.tools.inspection.wording import counted
from capstone.x86_const import X86_OP_IMM

if TYPE_CHECKING:
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.history import History

WINDOWS: Final = (1_000, 10_000, 100_000, 1_000_000, 1 << 62)  # instructions looked through, one after the other
LONGEST: Final = 64  # links of a chain
DMA: Final = "DMA"
HOSTED: Final = "hosted_step"  # the host call in which a hosted server's Python runs
LOOKED_BACK: Final = (20_000, 2_000_000)  # instructions in which a server may have read what it has made a write of
LEAST_TELLING: Final = 0x100  # smaller values are everywhere
PLACES: Final = 3  # of what a server has read that are named where none of it holds the value


class Chain:
    """Looks for where values come from.  The system is put back to where it stood."""

    def __init__(self, debuggee: Debuggee, history: History, name: Callable[[int], str]) -> None:
        """`name` returns an address with its symbol, for the code that is mapped."""
        self.debuggee = debuggee
        self.history = history
        self.machine = debuggee.machine
        self.name = name
        self.tracer = Tracer(debuggee.target)

    def location(self, linear: int, size: int) -> InMemory:
        """Return the physical memory that a linear address means now; LookupError if none."""
        physical = self.machine.paging.walk(linear).physical
        if physical is None or not self._is_ram(physical, size):
            raise LookupError(f"{linear:#010x} is not mapped to memory")
        return InMemory(physical, size, linear)

    def _is_ram(self, physical: int, size: int) -> bool:
        return self.machine.ram.has(physical, size)

    def links(self, location: Location, most: int = LONGEST) -> Iterator[Link]:
        """Yield the links of a chain, beginning where the system stands; it stands there again afterwards.

        HistoryInterrupted after Ctrl-C.
        """
        origin = self.history.moment
        wanted: Location | None = location
        try:
            for _ in range(most):
                if wanted is None:
                    return
                link = self._last(wanted)
                yield link
                wanted = link.source
        finally:
            self.history.go(origin)

    def _last(self, location: Location) -> Link:
        """Return what wrote a location last, before where the system stands, and stand there."""
        value = self._value(location)
        if isinstance(location, InRegister):
            return self._register(location, value)
        return self._memory(location, value)

    def _value(self, location: Location) -> int:
        if isinstance(location, InRegister):
            return int(getattr(self.machine.cpu, location.name))
        return int.from_bytes(self.machine.ram.read(location.physical, location.size, Account.OBSERVER), "little")

    # Registers.

    def _register(self, location: InRegister, value: int) -> Link:
        by_hand = last_by_hand(self.history, location, self.history.moment)
        while True:
            found = self._last_writer(location.name, self.history.moment)
            if by_hand is not None and by_hand.instruction >= (found or 0):
                return self._by_hand(location, value, by_hand)
            if found is None:
                return self._unwritten(location, value)
            self._go_before(found)
            instruction, cpu = self._instruction(), self.machine.cpu
            returns = instruction is not None and instruction.mnemonic in FAR_RETURNS and location.name in SEGMENTS
            if returns and self._value(location) == value:
                continue  # it has left the register as it was
            if instruction is None or takes_effect(instruction, cpu.eflags, cpu.ecx):
                return self._link(location, value, self._register_source(location.name))

    def _last_writer(self, register: str, origin: Moment) -> int | None:
        """Return the number of the last instruction before a moment that may have changed a register."""
        for window in WINDOWS:
            begin = max(origin.position.retired - window, 0)
            found = self._writer(register, begin, origin)
            if found is not None or begin == 0:
                return found
        return None

    def _by_hand(self, location: Location, value: int, change: ByHand) -> Link:
        """Return a link to a change that no instruction has made, and stand after it."""
        self.history.go(change.moment)
        return Link(location, value, change.moment, self.machine.clock.now, change.by)

    def _unwritten(self, location: Location, value: int) -> Link:
        """Return the link of what nothing has written, and stand at the beginning."""
        self.history.go(self.history.first)
        return Link(location, value, self.history.first, self.machine.clock.now, self.debuggee.target.unwritten)

    def _writer_here(self) -> Writer:
        thread, ring = self.debuggee.threads.running(), self.machine.cpu.cpl
        process = thread.process if self.debuggee.target.has_kernel else None
        if process is None:
            return Writer(thread.number, thread.name, None, "", ring)
        return Writer(thread.number, thread.name, process.number, process.name, ring)

    def _writer(self, register: str, begin: int, origin: Moment) -> int | None:
        """Return the number of the last instruction after `begin` that changes a register."""
        self.history.go(self.history.moment_at(begin))
        with self.tracer.tracing() as path:
            self.history.forward_to(origin)
        for number in range(origin.position.retired, begin, -1):
            address = path.at.get(number)
            if address is None:
                continue
            if register in self.tracer.writes(self.tracer.decode(address, path.space(number))):
                return number
        return None

    def _go_before(self, number: int) -> None:
        """Stand just before the instruction with this number, after what was delivered before it."""
        self.history.go(self.history.moment_at(number))
        self.history.step_back()

    def _register_source(self, register: str) -> Source:
        return source_of_register(self._instruction(), register, self._operands())

    def _instruction(self) -> Any:
        cpu = self.machine.cpu
        return self.tracer.decode(cpu.eip + cpu.segment_base("cs") & 0xFFFF_FFFF, cpu.cr3)

    def _operands(self) -> Operands:
        return Operands(self)

    def _link(self, location: Location, value: int, source: Source) -> Link:
        """Return a link whose instruction is the next one."""
        instruction, clock = self._instruction(), self.machine.clock.now
        text = f"{instruction.mnemonic} {instruction.op_str}".rstrip()
        by = f"{self.name(instruction.address)}  {text}"
        here, writer = self.history.moment, self._writer_here()
        note = self._by_port(instruction, location) if source.note == BY_PORT else source.note
        return Link(location, value, here, clock, by, writer, note, source.location, source.inputs)

    def _by_port(self, instruction: Any, location: Location) -> str:
        """Return what IN or INS, the next instruction, takes from a device for a location."""
        port = instruction.operands[1]
        number = port.imm if port.type == X86_OP_IMM else self.machine.cpu.edx & 0xFFFF
        into = self._operands().memory(self.machine.cpu.edi, 1) if isinstance(location, InMemory) else None
        offset = location.physical - into.physical if into is not None and isinstance(location, InMemory) else 0
        return by_port(self.debuggee.target, self.history, number, offset)

    # Memory.

    def _memory(self, location: InMemory, value: int) -> Link:
        if location.physical >= self.machine.ram.low_size:
            transfer = self._block(location, value)
            if transfer is not None:
                return transfer
        by_hand = last_by_hand(self.history, location, self.history.moment)
        found = self._last_write(location)
        if by_hand is not None and (found is None or by_hand.instruction >= found[1].position.retired):
            return self._by_hand(location, value, by_hand)
        if found is None:
            return self._unwritten(location, value)
        access, here = found
        if access.by == "cpu":
            self._go_before(here.position.retired)
            return self._link(location, value, self._store_source(location))
        self.history.go(here)
        clock = self.machine.clock.now
        if access.by == DMA:
            return Link(location, value, here, clock, access.by, note=self._transfer(location))
        writer = self._writer_here()
        source = self._read_by_server(location, value) if HOSTED in access.by else Source(None)
        return Link(location, value, here, clock, access.by, writer, source.note, source.location, source.inputs)

    def _block(self, location: InMemory, value: int) -> Link | None:
        """Return the transfer that has brought a byte of a disk block; None, and stand where it was, if none has.

        Where there is none, the CPU has copied it from a port.
        """
        origin = end = self.history.moment
        checkpoints = self.history.checkpoints
        for checkpoint in reversed(checkpoints.kept[: checkpoints.count_before(end)]):
            self.history.go(checkpoint.moment)
            with self._reads() as reads:
                self.history.forward_to(end)
            read = reads.last(location.physical)
            if read is not None:
                note = reads.in_words(read, location.physical)
                return Link(location, value, read.moment, read.clock, DMA, note=note)
            end = checkpoint.moment
        self.history.go(origin)
        return None

    def _read_by_server(self, location: InMemory, value: int) -> Source:
        """Return memory that a hosted server has read in the same request and that holds the same value.

        What its Python does with what it reads is not followed.
        """
        if value < LEAST_TELLING:
            return Source(None, f"its Python is not followed, and values below {LEAST_TELLING:#x} are everywhere")
        here, process = self.history.moment, self.debuggee.threads.running().process.number
        for count in LOOKED_BACK:
            self.history.go(self.history.moment_at(max(here.position.retired - count, 0)))
            with ServerReads(process, lambda: self.machine.clock.retired) as reads:
                self.history.forward_to(here)
            found = reads.last_with(value, location.size)
            if found is not None or here.position.retired <= count:
                break
        if found is None:
            read = reads.last(PLACES)
            note = "its Python is not followed: nothing that it has read holds this value"
            if not read:
                return Source(None, f"{note}; it has read nothing")
            pieces = (f"{counted(one.size, 'byte')} at {one.linear:#010x}" for one in read)
            note += f"\n  it has read before, the last first, {', '.join(pieces)}"
            return Source(None, note, tuple(f"[{one.linear:#010x}] at {one.retired}" for one in read))
        linear, physical, size, places = found
        others = f", the last of {places} places" if places > 1 else ""
        note = f"its Python is not followed: it has read the same value at {linear:#010x}{others}"
        return Source(InMemory(physical, size, linear), note)

    def _last_write(self, location: InMemory) -> tuple[Access, Moment] | None:
        """Return the last write to physical memory before where the system stands, and the moment after it."""
        end, points = self.history.moment, self.debuggee.watchpoints
        found: list[tuple[Access, Moment]] = []
        checkpoints = self.history.checkpoints
        for checkpoint in reversed(checkpoints.kept[: checkpoints.count_before(end)]):
            self.history.go(checkpoint.moment)
            piece = (KERNEL_BASE + location.physical, location.physical, location.size)
            point = points.add_physical(Kind.WRITE, [piece], lambda access: found.append((access, self.history.moment)))
            try:
                self.history.forward_to(end)
            finally:
                points.remove(point)
            if found:
                return found[-1]
            end = checkpoint.moment
        return None

    def _store_source(self, location: InMemory) -> Source:
        return source_of_store(self._instruction(), location, self._operands())

    def _transfer(self, location: InMemory) -> str:
        """Return where on a disk bytes come from that a device has just written."""
        after = self.history.moment
        if not self.history.step_back():
            return ""
        with self._reads() as reads:
            self.history.forward_to(after)
        return reads.in_words(reads.last(location.physical), location.physical)

    def _reads(self) -> Reads:
        return Reads(self.debuggee.target, lambda: self.history.moment)


class Operands:
    """Operands of the instruction that is next: registers and memory as they are before it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.cpu = chain.machine.cpu

    def register(self, name: str) -> int:
        """Return a register."""
        return int(getattr(self.cpu, name))

    def memory(self, linear: int, size: int) -> InMemory | None:
        """Return the memory at a linear address, None if it is not mapped."""
        try:
            return self.chain.location(linear & 0xFFFF_FFFF, size)
        except LookupError:
            return None

    def effective(self, instruction: Any, operand: Any) -> int:
        """Return the linear address of a memory operand (SDM vol. 1, 3.7.5)."""
        memory = operand.mem
        names = [instruction.reg_name(number) for number in (memory.base, memory.index)]
        base, index = (self.register(name) if name else 0 for name in names)
        segment = instruction.reg_name(memory.segment) or ("ss" if names[0] in ("esp", "ebp") else "ds")
        return int(self.cpu.segment_base(segment) + base + index * memory.scale + memory.disp) & 0xFFFF_FFFF
