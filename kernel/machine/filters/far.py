"""Far transfers of ring 3 and their stack, which the engine reads and writes with the rights of ring 0.

A far CALL pushes CS and EIP, RETF and IRETD pop them, as the supervisor: ring 3 could write to the kernel's pages and
read them.  A CPU uses the rights of CPL (Intel SDM vol. 3, 5.6.1).  So before each such instruction its stack is walked
with the rights of ring 3, and a forbidden access is the page fault that a CPU raises.

Each of them ends its block of translated code, so the last bytes of a block tell where one may begin.  CALL through a
call gate to an inner ring, by which the kernel is entered, pushes to a stack of that ring and is not checked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import PAGE_SHIFT, PAGE_SIZE
from callgate.kernel.machine.cpu.descriptors import TYPE_CALL_GATE, decode_gate, decode_segment
from callgate.kernel.machine.cpu.paging import PageFault
from callgate.kernel.machine.memory.bus import DmaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.kernel.machine.cpu.cpu import Cpu
    from callgate.kernel.machine.cpu.paging import Paging

PREFIXES: Final = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
OPERAND_SIZE: Final = 0x66
IRETD, RETF, RETF_N, CALL_FAR, GROUP_5 = 0xCF, 0xCB, 0xCA, 0x9A, 0xFF
CALL_FAR_MEMORY: Final = 3  # /3 of group 5
LENGTHS: Final = {IRETD: (1,), RETF: (1,), RETF_N: (3,), CALL_FAR: (5, 7)}  # without prefixes; CALL: 16 and 32 bits
LONGEST: Final = 15
# A far transfer at the end, whatever stands before it; /3 of group 5 is in the middle bits of the second byte.
ENDS: Final = re.compile(
    rb"(?:[\xcf\xcb]|\xca..|\x9a....(?:..)?|\xff[\x18-\x1f\x58-\x5f\x98-\x9f\xd8-\xdf].*)\Z", re.DOTALL
)
OPCODES: Final = re.compile(rb"[\xcf\xcb\xca\x9a]|\xff(?=[\x18-\x1f\x58-\x5f\x98-\x9f\xd8-\xdf])")
GATE_16: Final = 4  # type of a 16-bit call gate
WORD: Final = 0xFFFF_FFFF
RING_3: Final = 3


def starts(code: bytes) -> Iterator[int]:
    """Yield the offsets at which a far CALL, RETF or IRETD may begin that ends where a block's code does."""
    if not ENDS.search(code[-LONGEST:]):
        return
    for offset in range(max(0, len(code) - LONGEST), len(code)):
        body = code[offset:].lstrip(PREFIXES)
        if body and (len(body) in LENGTHS.get(body[0], ()) or is_memory_call(body)):
            yield offset


def anywhere(code: bytes) -> Iterator[int]:
    """Yield the offsets at which a far CALL, RETF or IRETD may begin, with prefixes or without, wherever it ends."""
    for found in OPCODES.finditer(code):
        yield found.start()
        before = found.start() - 1
        while before >= 0 and code[before] in PREFIXES and found.start() - before < LONGEST:
            yield before
            before -= 1


def narrow(code: bytes) -> bool:
    """Whether an instruction has the prefix for operands of 16 bits."""
    return OPERAND_SIZE in code[: len(code) - len(code.lstrip(PREFIXES))]


def is_far(code: bytes) -> bool:
    """Whether code begins with a far CALL, RETF or IRETD."""
    body = code.lstrip(PREFIXES)
    return bool(body) and (body[0] in LENGTHS or is_memory_call(body))


def is_memory_call(body: bytes) -> bool:
    """Whether an instruction without its prefixes is a far CALL whose pointer is in memory."""
    return body[0] == GROUP_5 and len(body) > 1 and body[1] >> 3 & 7 == CALL_FAR_MEMORY


class FarTransfers:
    """Walks the stacks of far transfers of ring 3."""

    def __init__(self, cpu: Cpu, paging: Paging) -> None:
        self.cpu = cpu
        self.paging = paging

    def enters_by_gate(self, code: bytes) -> bool:
        """Whether this is a far CALL with a selector in it that names a call gate to an inner ring now.

        That it does so still when it executes is the kernel's business: a call gate stays a call gate.
        """
        body = code.lstrip(PREFIXES)
        if body[0] != CALL_FAR:
            return False
        return self.inward(int.from_bytes(body[-2:], "little"))

    def inward(self, selector: int) -> bool:
        """Whether a selector names a call gate to a code segment of an inner ring."""
        raw = self._descriptor(selector)
        gate = decode_gate(raw)
        if gate.type not in (TYPE_CALL_GATE, GATE_16):
            return False
        target = decode_segment(self._descriptor(gate.selector))
        return target.code and not target.conforming and target.dpl < RING_3

    def pops(self, code: bytes) -> PageFault | None:
        """Return the fault of a RETF or IRETD of ring 3 that may not read its stack."""
        body = code.lstrip(PREFIXES)
        size = 2 if narrow(code) else 4
        words = 3 if body[0] == IRETD else 2
        return self._fault([size * index for index in range(words)], size, write=False)

    def pushes(self, code: bytes, selector: int) -> PageFault | None:
        """Return the fault of a far CALL of ring 3 to `selector` that may not write its stack."""
        raw = self._descriptor(selector)
        gate = decode_gate(raw)
        size = 2 if narrow(code) else 4
        if gate.type in (TYPE_CALL_GATE, GATE_16):
            if self.inward(selector):
                return None
            size = 4 if gate.type == TYPE_CALL_GATE else 2
        elif not decode_segment(raw).code:
            return None  # a task, or a fault of the engine's
        return self._fault([-size, -2 * size], size, write=True)

    def _fault(self, offsets: list[int], size: int, *, write: bool) -> PageFault | None:
        """Walk words of the stack in the order in which they are used; return the first fault."""
        base, esp, mask, _, mode = self.cpu.stack()
        page = None
        try:
            for offset in offsets:
                first = base + (esp + offset & mask) & WORD
                last = first + size - 1 & WORD
                for linear in (first, last if last >> PAGE_SHIFT == first >> PAGE_SHIFT else last & -PAGE_SIZE):
                    if linear >> PAGE_SHIFT != page:
                        self.paging.translate(linear, user=True, write=write, mode=mode)
                        page = linear >> PAGE_SHIFT
        except PageFault as fault:
            return fault
        return None

    def _descriptor(self, selector: int) -> int:
        """Return the descriptor that a selector names, 0 if there is none."""
        base, limit = self.cpu.table("ldtr" if selector & 4 else "gdtr")
        index = selector & 0xFFF8
        if not selector & 0xFFFC or index + 7 > limit:
            return 0
        try:
            return int.from_bytes(self.paging.read_linear(base + index & WORD, 8), "little")
        except (PageFault, DmaError):
            return 0
