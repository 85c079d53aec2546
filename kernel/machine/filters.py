"""Instructions that the engine gets wrong, caught before they execute.

* `mov dr7, r` that enables a breakpoint makes the engine spin for ever when it hits: the enable bits are
  taken out.  Debug registers can be written and read, but never fire.
* `ltr` of a null selector leaves a task register with which a ring change aborts the process: #GP(0).
* `lock` on an instruction that cannot be locked is executed as if it were not there: #UD.
* `ins` stores a zero before it asks the port, so for user code the permission is checked beforehand.
* `rdrand` and `rdseed` would bring the host's randomness in: #UD, as on a CPU without them.

Every newly translated block is searched for their bytes, which costs nothing where there are none.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.machine.bus import DmaError
from callgate.kernel.machine.exceptions import GP, UD
from callgate.kernel.machine.paging import PageFault

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu import Cpu
    from callgate.kernel.machine.paging import Paging
    from callgate.kernel.machine.ports import Ports
    from callgate.kernel.machine.sites import Sites
    from callgate.kernel.machine.traps import Traps

SUSPICIOUS: Final = (b"\x0f\x23", b"\x0f\x00", b"\x0f\xc7", b"\xf0")
STRING_IO: Final = (b"\x6c", b"\x6d")
DR7_ENABLES: Final = 0x20FF  # L0 to G3, and general detect
LOCK: Final = 0xF0
REGISTER_OPERAND: Final = 1  # capstone's CS_OP_REG
PREFIXES: Final = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
LONGEST: Final = 15  # bytes of an instruction
TRANSFERS: Final = (1, 2, 3, 4, 5, 7)  # capstone's groups JUMP, CALL, RET, INT, IRET, BRANCH_RELATIVE


@cache
def decoder() -> Any:
    """Return a 32-bit decoder with operand details."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    made = Cs(CS_ARCH_X86, CS_MODE_32)
    made.detail = True
    return made


class Filters:
    """The sites of suspicious instructions of one machine."""

    def __init__(self, cpu: Cpu, paging: Paging, sites: Sites, traps: Traps, ports: Ports) -> None:
        self.cpu = cpu
        self.paging = paging
        self.sites = sites
        self.traps = traps
        self.ports = ports
        self.watched: set[int] = set()

    def scan(self, linear: int, code: bytes) -> None:
        """Look through the code of a block that begins at a linear address."""
        user = linear < KERNEL_BASE
        if not any(pattern in code for pattern in (SUSPICIOUS + STRING_IO if user else SUSPICIOUS)):
            return
        offset = 0
        while offset < len(code):
            for address, size, mnemonic, operands in decoder().disasm_lite(code[offset:], linear + offset):
                if suspicious(mnemonic, operands) or (user and inputs_string(mnemonic)):
                    self.watch(address)
                offset = address + size - linear
            # The decoder stops at what is no instruction: a LOCK that is not allowed, for one.
            if offset < len(code):
                if locked(code[offset:]):
                    self.watch(linear + offset)
                offset += 1

    def follows_itself(self, address: int) -> bool:
        """Whether the instruction at a linear address may be its own successor: a transfer of control, or REP."""
        instruction = next(decoder().disasm(self._fetch(address), address, 1), None)
        if instruction is None or str(instruction.mnemonic).startswith("rep"):
            return True
        return any(instruction.group(group) for group in TRANSFERS)

    def watch(self, address: int) -> None:
        """Look closely at an address from now on.  What stands there is judged when it executes."""
        if address not in self.watched:
            self.watched.add(address)
            self.sites.call(address, lambda: self._judge(address))

    def _judge(self, address: int) -> None:
        code = self._fetch(address)
        instruction = next(decoder().disasm(code, address, 1), None)
        if instruction is None:
            if locked(code):
                self._refuse(UD, address)
        elif instruction.mnemonic in ("rdrand", "rdseed"):
            self._refuse(UD, address)
        elif inputs_string(instruction.mnemonic):
            self._check_port(instruction.bytes, address)
        elif self.cpu.cpl == 0 and instruction.mnemonic == "ltr":
            self._load_task_register(instruction, address)
        elif self.cpu.cpl == 0 and writes_dr7(instruction.mnemonic, instruction.op_str):
            self._write_dr7(instruction)

    def _check_port(self, code: bytes, address: int) -> None:
        cpl = self.cpu.cpl
        size = 1 if code[-1:] == b"\x6c" else 2 if b"\x66" in code[:-1] else 4
        if cpl and not self.ports.allowed(cpl, self.cpu.edx & 0xFFFF, size):
            self._refuse(GP, address)

    def _fetch(self, address: int) -> bytes:
        """Return up to 15 bytes of code, fewer at the end of a mapped page."""
        code = b""
        with suppress(PageFault, DmaError):
            while len(code) < LONGEST:
                code += self.paging.read_linear(address + len(code), 1)
        return code

    def _refuse(self, vector: int, address: int) -> None:
        self.traps.refuse_before(vector, 0, address - self.cpu.segment_base("cs") & 0xFFFF_FFFF)

    def _load_task_register(self, instruction: Any, address: int) -> None:
        operand = instruction.operands[0]
        if operand.type == REGISTER_OPERAND:
            value = getattr(self.cpu, "e" + instruction.reg_name(operand.reg)[-2:])
        else:
            value = int.from_bytes(self.paging.read_linear(self._effective(instruction, operand), 2), "little")
        if not value & 0xFFFC:
            self._refuse(GP, address)

    def _effective(self, instruction: Any, operand: Any) -> int:
        memory = operand.mem
        linear = int(memory.disp)
        for register, scale in ((memory.base, 1), (memory.index, memory.scale)):
            if register:
                linear += int(getattr(self.cpu, instruction.reg_name(register))) * scale
        segment = instruction.reg_name(memory.segment) if memory.segment else "ds"
        return linear + self.cpu.segment_base(segment) & 0xFFFF_FFFF

    def _write_dr7(self, instruction: Any) -> None:
        value = getattr(self.cpu, instruction.reg_name(instruction.operands[1].reg))
        if value & DR7_ENABLES:
            self.cpu.dr7 = value & ~DR7_ENABLES
            self.cpu.eip = self.cpu.eip + instruction.size


def inputs_string(mnemonic: str) -> bool:
    """Whether this is INS: an opcode, not an operand that happens to be its byte (`jne +6Dh`)."""
    return mnemonic.rpartition(" ")[2] in ("insb", "insw", "insd")


def suspicious(mnemonic: str, operands: str) -> bool:
    """Whether a decoded instruction is one of those of this module."""
    return mnemonic in ("rdrand", "rdseed", "ltr") or writes_dr7(mnemonic, operands)


def writes_dr7(mnemonic: str, operands: str) -> bool:
    """Whether an instruction is `mov dr7, r`."""
    return mnemonic == "mov" and operands.startswith("dr7")


def locked(code: bytes) -> bool:
    """Whether LOCK is among the prefixes of what stands first."""
    prefixes = code[: len(code) - len(code.lstrip(PREFIXES))]
    return LOCK in prefixes
