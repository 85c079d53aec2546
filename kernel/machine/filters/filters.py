"""Instructions that the engine gets wrong, caught before they execute.

* `mov dr7, r` that enables a breakpoint makes the engine spin for ever when it hits: the enable bits are
cleared.  Debug registers can be written and read, but never fire.
* `ltr` of a null selector leaves a task register with which a ring change aborts the process: #GP(0).
* `lock` on an instruction that cannot be locked is executed as if it were not there: #UD.
* far `call`, `retf` and `iretd` of ring 3 use their stack with the rights of ring 0 (`machine.filters.far`).
* `iretd` above ring 0 with VM in its image enters virtual-8086 mode: VM is hidden (`machine.cpu.returns`).
* `ins` stores a zero before it asks the port, so for user code the permission is checked beforehand.
* `rdrand` and `rdseed` would bring in the host's randomness: #UD, as on a CPU without them.
* VEX-encoded vector instructions are executed as something else, or on registers that no kernel here keeps: #UD.
* `idiv` of user code by -1 can end the host's process: #DE (`machine.filters.divisions`).
* `ldmxcsr` and `fxrstor` of user code take reserved bits of MXCSR: #GP(0).
* `loope` and `loopne` that bring ECX to 0 leave wrong flags: they are passed over, with ECX 0.
* SSE and x87 instructions whose exceptions, alignment or results must be corrected (`machine.filters.floating`).

Every newly translated block is searched for their bytes, which costs nothing where there are none.  Each in user code
is a site until USER_SITES are reached; then all of them are dropped together with the translations, so that code which
still executes is translated and searched again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.machine.cpu.cpu import EFLAGS_TF, GENERAL
from callgate.kernel.machine.cpu.exceptions import DE, GP, PF, UD
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.engine.repeats import Follows
from callgate.kernel.machine.filters.divisions import may_overflow, overflows
from callgate.kernel.machine.filters.far import (
    CALL_FAR,
    GROUP_5,
    IRETD,
    LONGEST,
    PREFIXES,
    RING_3,
    FarTransfers,
    is_far,
    narrow,
)
from callgate.kernel.machine.filters.floating import Floating
from callgate.kernel.machine.filters.simd import Form, address_of
from callgate.kernel.machine.filters.suspects import (
    DIVISION,
    LOOK,
    LOOPS,
    MEMORY_OPERAND,
    REMEMBERED,
    asks_first,
    decode,
    decoder,
    inputs_string,
    locked,
    misplaced_lock,
    places,
    repeats,
    writes_dr7,
)
from callgate.kernel.machine.filters.vectors import has_reserved_bits, is_vector, mxcsr_offset
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging
    from callgate.kernel.machine.cpu.traps import Traps
    from callgate.kernel.machine.devices.ports import Ports
    from callgate.kernel.machine.engine.counter_state import CounterState
    from callgate.kernel.machine.engine.sites import Sites

LTR_REGISTER: Final = re.compile(rb"\x0f\x00[\xd8-\xdf]")
DR7_ENABLES: Final = 0x20FF  # L0 to G3, and general detect
WIDE: Final = 4  # bytes of an address
# Sites below the kernel, of all processes together.  More than one scan of code may find (four pages of INS, and a
# block), so that after they have been dropped the next instruction always executes.
USER_SITES: Final = 1 << 15
# Instructions that may replace each other at one address, in several processes or in turn.  Where there are more,
# host code does not distinguish them, and Python is always asked.
FORMS: Final = 4
NO_SEGMENT: Final = 0xFFFC  # error code: index 1FFFh of the LDT, which no LDT reaches
REGISTER_OPERAND: Final = 1  # capstone's CS_OP_REG
CALL: Final = 2  # capstone's group
TRANSFERS: Final = (1, CALL, 3, 4, 5, 7)  # and its groups JUMP, RET, INT, IRET, BRANCH_RELATIVE


class Watched(NamedTuple):
    """An address that is watched."""

    number: int  # of the site's call
    forms: list[Form]


class Filters:
    """The sites of suspicious instructions of one machine."""

    def __init__(self, cpu: Cpu, paging: Paging, sites: Sites, traps: Traps, ports: Ports, state: CounterState) -> None:
        self.cpu = cpu
        self.paging = paging
        self.sites = sites
        self.traps = traps
        self.ports = ports
        self.far = FarTransfers(cpu, paging)
        self.floating = Floating(cpu, state, paging, traps, self._effective, self._decode_at)
        traps.executed = self.floating.settle
        self.watched: dict[int, Watched] = {}  # by linear address
        self.user_sites: dict[int, int] = {}  # those of them below the kernel -> number of the call

    def scan(self, linear: int, code: bytes, decoded: int) -> None:
        """Scan code that begins at a linear address and ends as a block does, if it is `decoded` to its end."""
        look = places if len(code) <= REMEMBERED else places.__wrapped__
        found = look(code, decoded, user=linear < KERNEL_BASE)
        if found is None:  # nearly always
            return
        for offset in found.far:
            # Unless it is how the kernel is entered.
            if not self.far.enters_by_gate(code[offset:]):
                self.watch(linear + offset)
        for offset, form in found.others:
            self.watch(linear + offset, form)

    def follows_itself(self, address: int) -> Follows:
        """Whether the instruction at a linear address has just been its own successor, since the hook came to it again.

        A transfer of control or REP has.  A CALL may have been broken off instead, because it pushes over its own code.
        """
        code = self._fetch(address)
        if repeats(code):  # nearly always
            return Follows.ALWAYS
        instruction = next(decoder().disasm(code, address, 1), None)
        if instruction is None:
            return Follows.ALWAYS
        if instruction.group(CALL) and not is_far(code):
            return Follows.NOW if self._has_called_itself(instruction) else Follows.NEVER
        return Follows.ALWAYS if any(instruction.group(group) for group in TRANSFERS) else Follows.NEVER

    def _has_called_itself(self, instruction: Any) -> bool:
        """Whether a near CALL has gone to itself: its return address lies on top of the stack then."""
        operand, cs = instruction.operands[0], self.cpu.segment_base("cs")
        target = instruction.address
        if operand.type == REGISTER_OPERAND:
            name = instruction.reg_name(operand.reg)
            target = getattr(self.cpu, name) + cs if name in GENERAL else target
        elif operand.type != MEMORY_OPERAND:
            target = operand.imm
        after = instruction.address + instruction.size - cs
        with suppress(PageFault, DmaError):
            top = self.paging.read_linear(self.cpu.esp + self.cpu.segment_base("ss") & 0xFFFF_FFFF, operand.size)
            return not (target - instruction.address) & 0xFFFF_FFFF and top == after.to_bytes(8, "little")[: len(top)]
        return False

    def watch(self, address: int, form: Form = LOOK) -> None:
        """Watch an address from now on. The instruction there is judged when it executes."""
        known = self.watched.get(address)
        if known is not None:
            self._watch_too(known, address, form)
            return
        number = self.sites.call_by(self.floating.cell(address, form), lambda: self._judge(address))
        self.watched[address] = Watched(number, [form])
        if address < KERNEL_BASE:
            self.user_sites[address] = number
            if self.full and self.traps.returns.hidden is None:  # an IRETD with VM hidden executes first
                self.traps.control.stop_soon()

    def _watch_too(self, known: Watched, address: int, form: Form) -> None:
        """Watch an address that is watched already, in another way."""
        if form in known.forms or LOOK in known.forms:
            return
        if form == LOOK or len(known.forms) == FORMS:
            known.forms[:] = [LOOK]
            self.sites.call_always(known.number)
        else:
            known.forms.append(form)
            self.sites.also(known.number, self.floating.cell(address, form))

    @property
    def full(self) -> bool:
        """Whether user code has as many sites as it may have."""
        return len(self.user_sites) >= USER_SITES

    def forget_user_sites(self) -> None:
        """Between two instructions: drop the sites of user code; the caller drops all translations of it."""
        self.sites.remove_several(self.user_sites.values())
        for address in self.user_sites:
            del self.watched[address]
        self.user_sites.clear()

    def _judge(self, address: int) -> None:
        if self.watched[address].forms == [DIVISION] and not may_overflow(self.cpu.edx):
            return
        code = self._fetch(address)
        if address < KERNEL_BASE and is_far(code) and not locked(code):
            self._judge_far(code, address)
        elif LTR_REGISTER.match(code):  # every kernel has one, and mostly nothing else for which a decoder is needed
            if self.cpu.cpl == 0:
                self._load_task_register(int(getattr(self.cpu, GENERAL[code[2] & 7])), address)
        elif is_vector(code):
            self._refuse(UD, address)
        else:
            self._judge_decoded(decode(code), code, address)

    def _judge_decoded(self, instruction: Any, code: bytes, address: int) -> None:
        if instruction is None:
            if locked(code):
                self._refuse(UD, address)
        elif instruction.mnemonic in ("rdrand", "rdseed") or misplaced_lock(instruction):
            self._refuse(UD, address)
        elif (vector := self.floating.judge(instruction, address)) is not None:
            self._refuse(vector, address)
        elif asks_first(instruction) or instruction.mnemonic in LOOPS:
            self._judge_by_state(instruction, address)
        elif self.cpu.cpl == 0:
            self._judge_ring_0(instruction, address)

    def _judge_by_state(self, instruction: Any, address: int) -> None:
        if inputs_string(instruction):
            self._check_port(instruction.bytes, address)
        elif mxcsr_offset(instruction) is not None:
            self._check_mxcsr(instruction, address)
        elif instruction.mnemonic in LOOPS:
            self._end_loop(instruction)
        elif overflows(instruction, self.cpu.eax, self.cpu.edx):
            self._check_divisor(instruction, address)

    def _judge_ring_0(self, instruction: Any, address: int) -> None:
        if instruction.mnemonic == "ltr":
            self._load_task_register(self._selector(instruction), address)
        elif writes_dr7(instruction):
            self._write_dr7(instruction)

    def _judge_far(self, code: bytes, address: int) -> None:
        """A far CALL, RETF or IRETD outside the kernel: its stack, and VM in its image."""
        opcode = code.lstrip(PREFIXES)[0]
        fault = self._stack_fault(opcode, code, address) if self.cpu.cpl == RING_3 else None
        if fault is not None:
            self._refuse(PF, address, fault.error_code, fault.address)
        elif opcode == IRETD and not self.traps.returns.judge(address):
            self._refuse(GP, address, NO_SEGMENT)  # of a selector that is ones

    def _stack_fault(self, opcode: int, code: bytes, address: int) -> PageFault | None:
        if opcode == CALL_FAR:
            pointer = code.lstrip(PREFIXES)[1 : 5 if narrow(code) else 7]
            return self.far.pushes(code, int.from_bytes(pointer[-2:], "little"))
        if opcode != GROUP_5:
            return self.far.pops(code)
        selector = self._far_pointer(code, address)
        return None if selector is None else self.far.pushes(code, selector)

    def _far_pointer(self, code: bytes, address: int) -> int | None:
        """Return the selector that a far CALL finds in memory; None where the engine will fault by itself."""
        instruction = decode(code)
        if instruction is None or instruction.operands[0].type != MEMORY_OPERAND:
            return None
        offset = 2 if narrow(code) else 4
        at = self._effective(instruction, instruction.operands[0]) + offset
        with suppress(PageFault, DmaError):
            return int.from_bytes(self.paging.read_linear(at & 0xFFFF_FFFF, 2, user=True), "little")
        return None

    def _check_port(self, code: bytes, address: int) -> None:
        cpl = self.cpu.cpl
        size = 1 if code[-1:] == b"\x6c" else 2 if b"\x66" in code[:-1] else 4
        if cpl and not self.ports.allowed(cpl, self.cpu.edx & 0xFFFF, size):
            self._refuse(GP, address)

    def _check_mxcsr(self, instruction: Any, address: int) -> None:
        """Refuse reserved bits; an operand that this ring may not read is the instruction's own page fault."""
        linear = self._effective(instruction, instruction.operands[0]) + (mxcsr_offset(instruction) or 0)
        with suppress(PageFault, DmaError):
            data = self.paging.read_linear(linear & 0xFFFF_FFFF, 4, user=self.cpu.cpl == RING_3)
            value = int.from_bytes(data, "little")
            if has_reserved_bits(value):
                self._refuse(GP, address)

    def _check_divisor(self, instruction: Any, address: int) -> None:
        """Refuse a division that overflows; a divisor that may not be read is the instruction's own page fault."""
        operand = instruction.operands[0]
        with suppress(PageFault, DmaError):
            if operand.type == MEMORY_OPERAND:
                linear = self._effective(instruction, operand)
                self.paging.read_linear(linear, operand.size, user=self.cpu.cpl == RING_3)
            self._refuse(DE, address)

    def _fetch(self, address: int) -> bytes:
        """Return up to 15 bytes of code, fewer at the end of a mapped page."""
        code = b""
        first = min(LONGEST, PAGE_SIZE - address % PAGE_SIZE)
        with suppress(PageFault, DmaError):
            code = self.paging.read_linear(address, first)
            if first < LONGEST:
                code += self.paging.read_linear(address + first & 0xFFFF_FFFF, LONGEST - first)
        return code

    def _refuse(self, vector: int, address: int, code: int = 0, fault: int | None = None) -> None:
        self.traps.refuse_before(vector, code, address - self.cpu.segment_base("cs") & 0xFFFF_FFFF, fault)

    def _selector(self, instruction: Any) -> int:
        """Return what an instruction is given that has one operand of 16 bits."""
        operand = instruction.operands[0]
        if operand.type == REGISTER_OPERAND:
            return int(getattr(self.cpu, "e" + instruction.reg_name(operand.reg)[-2:]))
        return int.from_bytes(self.paging.read_linear(self._effective(instruction, operand), 2), "little")

    def _load_task_register(self, selector: int, address: int) -> None:
        if not selector & 0xFFFC:
            self._refuse(GP, address)

    def _decode_at(self, address: int) -> Any:
        """Return the watched instruction at a linear address, None if there is none."""
        return decode(self._fetch(address)) if address in self.watched else None

    def _effective(self, instruction: Any, operand: Any) -> int:
        parts = address_of(instruction, operand)
        offset = parts.displacement
        for name, scale in ((parts.base, 1), (parts.scaled, parts.scale)):
            if name in GENERAL:
                offset += int(getattr(self.cpu, name)) * scale
            elif "e" + name in GENERAL:
                offset += int(getattr(self.cpu, "e" + name)) & 0xFFFF
        offset &= 0xFFFF_FFFF if instruction.addr_size == WIDE else 0xFFFF
        return offset + self.cpu.segment_base(parts.segment) & 0xFFFF_FFFF

    def _end_loop(self, instruction: Any) -> None:
        """Do the last turn of LOOPE or LOOPNE, which does not jump whatever ZF is; under TF the engine does it."""
        mask = 0xFFFF_FFFF if instruction.addr_size == WIDE else 0xFFFF
        if self.cpu.ecx & mask == 1 and not self.cpu.eflags & EFLAGS_TF:
            self.cpu.ecx &= ~mask
            self.cpu.eip = self.cpu.eip + instruction.size

    def _write_dr7(self, instruction: Any) -> None:
        value = getattr(self.cpu, instruction.reg_name(instruction.operands[1].reg))
        if value & DR7_ENABLES:
            self.cpu.dr7 = value & ~DR7_ENABLES
            self.cpu.eip = self.cpu.eip + instruction.size
