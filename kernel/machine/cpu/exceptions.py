"""Delivery of exceptions and interrupts through the guest's IDT, as a CPU does it.

Unicorn stops where a CPU begins: it reports the vector and leaves the rest to us.  The rest is Intel SDM
vol. 3, chapter 6: the gate and its checks (6.12), the stack switch through the TSS (6.12.1), the frame,
the flags, and what happens when delivery itself faults (table 6-5: double fault, then shutdown).

All checks are made, and all pushes translated, before anything is changed; the new state is then put
into the saved context in one go.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from callgate.kernel.machine.cpu.cpu import (
    EFLAGS_IF,
    EFLAGS_NT,
    EFLAGS_RF,
    EFLAGS_TF,
    EFLAGS_VM,
    Cpu,
)
from callgate.kernel.machine.cpu.descriptors import (
    TYPE_INTERRUPT_GATE,
    TYPE_TRAP_GATE,
    Gate,
    Segment,
    decode_gate,
    decode_segment,
)
from callgate.kernel.machine.cpu.paging import Mode, PageFault, Paging
from callgate.kernel.machine.engine.context import HF_CPL
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError

DE, DB, NMI, BP, OF, BR, UD, NM, DF, TS, NP, SS, GP, PF = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14
MF, AC, MC, XM = 16, 17, 18, 19
WITH_ERROR_CODE = frozenset({DF, TS, NP, SS, GP, PF, AC})
CONTRIBUTORY = frozenset({DE, TS, NP, SS, GP})
FAULTS = frozenset({DE, BR, UD, NM, TS, NP, SS, GP, PF, MF, AC, XM})
EXTERNAL = 1  # error code bit 0: the event came from outside the program
IN_IDT = 2
USER = 3
NO_EXCEPTION = 0xFFFF_FFFF
WORD = 0xFFFF_FFFF

Pushes = list[tuple[int, bytes]]  # (physical address, content): the frame in one, or its dwords from the top, by byte
NAMES = {
    DE: "#DE", DB: "#DB", NMI: "NMI", BP: "#BP", OF: "#OF", BR: "#BR", UD: "#UD", NM: "#NM", DF: "#DF",
    TS: "#TS", NP: "#NP", SS: "#SS", GP: "#GP", PF: "#PF", MF: "#MF", AC: "#AC", MC: "#MC", XM: "#XM",
}  # fmt: skip


class DeliveryFault(Exception):
    """Delivery of one event raised another: vector, error code, and for page faults the address."""

    def __init__(self, vector: int, error_code: int, reason: str, address: int | None = None) -> None:
        super().__init__(reason)
        self.vector = vector
        self.error_code = error_code
        self.reason = reason
        self.address = address


class TripleFault(Exception):
    """Delivery of a double fault faulted: a CPU shuts down here."""

    def __init__(self, chain: list[str]) -> None:
        super().__init__("; ".join(chain))
        self.chain = chain


class Incident(NamedTuple):
    """An event to deliver: vector, error code, return address, and how it came about."""

    vector: int
    eip: int
    error_code: int = 0
    software: bool = False  # INT n, INT3, INTO: gate DPL is checked
    external: bool = False  # an interrupt line
    instruction: int = 0  # of INT n: where it stands, if it faults itself
    counted: bool = True  # whether the clock has counted the attempt already


@dataclass(slots=True, eq=False, repr=False)
class Entry:
    """Where delivery leads, after all checks."""

    gate: Gate
    code: Segment
    selector: int
    stack: Segment | None = None
    stack_selector: int = 0
    pushes: Pushes = field(default_factory=list)
    esp: int = 0


class Delivery:
    """Delivers incidents on one CPU."""

    def __init__(self, cpu: Cpu, paging: Paging) -> None:
        self.cpu = cpu
        self.paging = paging
        self.mode = Mode(paging=False, cr3=0, write_protect=False, no_execute=False)
        self.observer: Callable[[int, Pushes], None] | None = None  # told of the pushes before they are made

    def deliver(self, incident: Incident) -> list[int]:
        """Deliver; return the vectors in the order in which they arose.  TripleFault after a failed #DF.

        The context buffer must hold the CPU's state; it is restored into the CPU, also before TripleFault
        is raised, so that a report shows CR2 and registers as they are.
        """
        chain: list[str] = []
        vectors: list[int] = []
        current = incident
        self.mode = self.cpu.context_mode()
        while True:
            vectors.append(current.vector)
            try:
                entry = self._enter(current)
                break
            except DeliveryFault as fault:
                chain.append(f"{name_of(current.vector)}: {fault.reason}")
                current = self._escalate(current, fault, chain)
        self._commit(current, entry)
        return vectors

    def _escalate(self, current: Incident, fault: DeliveryFault, chain: list[str]) -> Incident:
        """Combine the event being delivered with the fault that its delivery raised (SDM table 6-5).

        INT n and an interrupt are benign whatever their number: INT 8 is not a double fault, INT 14 not a page fault.
        """
        if fault.address is not None:
            self.cpu.put(self.cpu.layout.cr2, fault.address)
        genuine = not (current.external or current.software)
        if current.vector == DF and genuine:
            self.cpu.put(self.cpu.layout.old_exception, NO_EXCEPTION)
            self.cpu.restore()
            raise TripleFault(chain)
        eip = current.instruction if current.software else current.eip
        if genuine and doubles(current.vector, fault.vector):
            return Incident(DF, eip)
        return Incident(fault.vector, eip, fault.error_code)

    def _enter(self, incident: Incident) -> Entry:
        """Check gate, code segment and stack; translate every push."""
        external = 0 if incident.software else EXTERNAL
        cpl = self.cpu.get(self.cpu.layout.hflags) & HF_CPL
        gate = self._gate(incident, cpl, external)
        code = self._code(gate, cpl, external)
        entry = Entry(gate, code, gate.selector & ~3 | (cpl if code.conforming else code.dpl))
        values = [self._flags(incident), self.cpu.selector("cs"), incident.eip]
        if incident.vector in WITH_ERROR_CODE and not incident.software and not incident.external:
            values.append(incident.error_code)
        if not code.conforming and code.dpl < cpl:
            self._inner_stack(entry, code.dpl, external)
            values[:0] = [self.cpu.selector("ss"), self.cpu.get_general("esp")]
        else:
            entry.esp = self.cpu.get_general("esp")
        self._push(entry, values)
        return entry

    def _flags(self, incident: Incident) -> int:
        """Return the EFLAGS image: RF set for what is tried again, clear for INT n and traps (SDM vol. 3, 18.3.1.1).

        An interrupt of a device pushes RF as it is, which is set directly after an IRETD.
        """
        flags = self.cpu.eflags_of_context()
        if incident.external:
            return flags
        return flags | EFLAGS_RF if is_fault(incident) else flags & ~EFLAGS_RF

    def _gate(self, incident: Incident, cpl: int, external: int) -> Gate:
        base, limit = self.cpu.saved_table("idt")
        code = incident.vector * 8 + IN_IDT + external
        if incident.vector * 8 + 7 > limit:
            raise DeliveryFault(GP, code, f"vector {incident.vector} lies beyond the IDT's limit {limit:#x}")
        gate = decode_gate(self._read_quad(base + incident.vector * 8))
        if gate.type not in (TYPE_INTERRUPT_GATE, TYPE_TRAP_GATE):
            raise DeliveryFault(GP, code, f"IDT entry {incident.vector} is of type {gate.type:#x}, no 32-bit gate")
        if incident.software and gate.dpl < cpl:
            raise DeliveryFault(GP, incident.vector * 8 + IN_IDT, f"gate {incident.vector} has DPL {gate.dpl}")
        if not gate.present:
            raise DeliveryFault(NP, code, f"gate {incident.vector} is not present")
        return gate

    def _code(self, gate: Gate, cpl: int, external: int) -> Segment:
        if not gate.selector & ~3:
            raise DeliveryFault(GP, external, "the gate's selector is null")
        segment = self._descriptor(gate.selector, GP, external)
        code = gate.selector & ~3 | external
        if not segment.code or segment.dpl > cpl:
            raise DeliveryFault(GP, code, f"selector {gate.selector:#x} is not a code segment for ring {cpl}")
        if not segment.present:
            raise DeliveryFault(NP, code, f"code segment {gate.selector:#x} is not present")
        if gate.offset > segment.limit:
            raise DeliveryFault(GP, external, f"offset {gate.offset:#x} lies beyond the code segment")
        return segment

    def _inner_stack(self, entry: Entry, ring: int, external: int) -> None:
        """Take SS and ESP of the inner ring from the TSS, and check them."""
        base, limit = self.cpu.saved_table("tr")
        tss = self.cpu.selector("tr")
        at = 4 + ring * 8
        if at + 5 > limit:
            raise DeliveryFault(TS, tss & ~3 | external, f"TSS {tss:#x} holds no stack for ring {ring}")
        raw = self._read(base + at, 8)
        esp, selector = int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:6], "little")
        code = selector & ~3 | external
        if not selector & ~3:
            raise DeliveryFault(TS, external, f"the TSS's SS{ring} is null")
        stack = self._descriptor(selector, TS, external)
        if selector & 3 != ring or stack.dpl != ring or not stack.writable_data:
            raise DeliveryFault(TS, code, f"SS{ring} = {selector:#x} is not a stack for ring {ring}")
        if not stack.present:
            raise DeliveryFault(SS, code, f"stack segment {selector:#x} is not present")
        entry.stack, entry.stack_selector, entry.esp = stack, selector, esp

    def _push(self, entry: Entry, values: list[int]) -> None:
        """Find where the frame is put; page by page if it straddles two."""
        user = entry.selector & 3 == USER  # a handler of ring 3 has ring 3's rights
        base = entry.stack.base if entry.stack else self.cpu.get(self.cpu.layout.segment("ss") + 8)
        frame = struct.pack(f"<{len(values)}I", *reversed(values))
        top = base + entry.esp & WORD
        entry.esp = entry.esp - len(frame) & WORD
        if (top - 1) >> 12 == (top - len(frame)) >> 12:
            # One page: the first push tells whether all of them may be made, and names the address if not.
            first = self._translate(top - 4, write=True, user=user)
            entry.pushes.append((first + 4 - len(frame), frame))
            return
        for offset in range(len(frame) - 4, -4, -4):
            for index in range(4):
                linear = top - len(frame) + offset + index & WORD
                byte = frame[offset + index : offset + index + 1]
                entry.pushes.append((self._translate(linear, write=True, user=user), byte))

    def _commit(self, incident: Incident, entry: Entry) -> None:
        cpu = self.cpu
        if self.observer is not None:
            self.observer(incident.vector, entry.pushes)
        for physical, data in entry.pushes:
            self._write(physical, data)
        if entry.stack:
            cpu.put_segment("ss", entry.stack_selector, entry.stack)
        cpu.put_segment("cs", entry.selector, entry.code)
        cpu.put_general("esp", entry.esp)
        cpu.put(cpu.layout.eip, entry.gate.offset)
        clear = EFLAGS_TF | EFLAGS_NT | EFLAGS_RF | EFLAGS_VM
        if entry.gate.type == TYPE_INTERRUPT_GATE:
            clear |= EFLAGS_IF
        cpu.put_flags(clear)
        cpu.put(cpu.layout.old_exception, NO_EXCEPTION)
        cpu.restore()

    def _descriptor(self, selector: int, vector: int, external: int) -> Segment:
        if selector & 4:
            base, limit = self.cpu.saved_table("ldt")
        else:
            base, limit = self.cpu.saved_table("gdt")
        if (selector & ~7) + 7 > limit:
            raise DeliveryFault(vector, selector & ~3 | external, f"selector {selector:#x} lies beyond its table")
        return decode_segment(self._read_quad(base + (selector & ~7)))

    def _read_quad(self, linear: int) -> int:
        return int.from_bytes(self._read(linear, 8), "little")

    def _read(self, linear: int, size: int) -> bytes:
        first = min(size, 0x1000 - (linear & 0xFFF))
        try:
            data = self.paging.ram.read(self._translate(linear, write=False), first, Account.MACHINE)
            if first < size:
                physical = self._translate(linear + first, write=False)
                data += self.paging.ram.read(physical, size - first, Account.MACHINE)
        except DmaError:  # where there is no RAM, the bus floats high
            return b"\xff" * size
        return data

    def _write(self, physical: int, data: bytes) -> None:
        with suppress(DmaError):  # a store where there is no RAM is lost
            self.paging.ram.write(physical, data, Account.MACHINE)

    def _translate(self, linear: int, *, write: bool, user: bool = False) -> int:
        """Translate an access: an implicit supervisor one, or a push by ring 3."""
        try:
            return self.paging.translate(linear & WORD, user=user, write=write, mark=True, mode=self.mode)
        except PageFault as fault:
            raise DeliveryFault(
                PF, fault.error_code, f"page fault at {fault.address:#010x} during delivery", fault.address
            ) from None


def doubles(first: int, second: int) -> bool:
    """Whether two exceptions make a double fault (SDM vol. 3, table 6-5)."""
    if first == PF:
        return second == PF or second in CONTRIBUTORY
    return first in CONTRIBUTORY and second in CONTRIBUTORY


def is_fault(incident: Incident) -> bool:
    """Whether the instruction is to be tried again: RF is then set in the pushed EFLAGS."""
    return incident.vector in FAULTS and not incident.software and not incident.external


def name_of(vector: int) -> str:
    """Return the mnemonic of an exception, or the vector's number."""
    return NAMES.get(vector, f"vector {vector}")
