"""Signed divisions that kill the host's process.

IDIV of 32 or 16 bits divides EDX:EAX or DX:AX.  If that is the smallest number there is, and the divisor is -1, the
engine's own division overflows, which the host's CPU answers with a signal that ends the process (SIGFPE).  The
quotient fits for no divisor then, so a CPU raises #DE whatever the operand holds, once it has been read (Intel SDM
vol. 2, IDIV).

The counting hook (`machine.engine.counter_code`) checks EDX before each IDIV of user code, as `may_overflow` does,
and asks for the rest only if it has to.
"""

from __future__ import annotations

import re
from typing import Any, Final

PREFIXES: Final = b"\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
GROUP_3, DIVIDE_SIGNED, EXTENSION = 0xF7, 0x38, 0x38  # opcode; /7 in its ModR/M byte; the bits of the extension there
SUSPICIOUS: Final = re.compile(rb"\xf7[\x38-\x3f\x78-\x7f\xb8-\xbf\xf8-\xff]")
LOW: Final = 0xFFFF


def is_division(code: bytes) -> bool:
    """Whether the first instruction of `code` is an IDIV of 32 or 16 bits."""
    body = code.lstrip(PREFIXES)
    return len(body) >= 2 and body[0] == GROUP_3 and body[1] & EXTENSION == DIVIDE_SIGNED


def may_overflow(edx: int) -> bool:
    """Whether the dividend of either size may be the smallest there is, by its upper half alone."""
    return edx & LOW == 1 << 15 or edx == 1 << 31


def overflows(instruction: Any, eax: int, edx: int) -> bool:
    """Whether a decoded instruction is an IDIV whose quotient fits for no divisor, and kills the engine for one."""
    if instruction.mnemonic != "idiv":
        return False
    size = instruction.operands[0].size
    if size == 4:
        return edx == 1 << 31 and not eax
    return size == 2 and edx & LOW == 1 << 15 and not eax & LOW
