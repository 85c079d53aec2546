"""Instructions of wider registers than the engine keeps, and bits of MXCSR that no CPU has.

The engine decodes VEX prefixes whatever CR4.OSXSAVE says, takes `vaddps xmm0, xmm1, xmm2` for the two-operand
`addps`, and VZEROUPPER for EMMS.  A CPU refuses them (#UD) while CR4.OSXSAVE is clear; CPUID does not announce AVX,
so no guest has a reason to set it.  VEX forms of general registers (BMI1, BMI2) are announced, and let through.

8F is POP with zero in the middle of its ModR/M byte.  With anything else there it is the prefix of AMD's XOP, or
nothing: #UD.  The engine pops, two bytes long, where a decoder sees a longer instruction that hides what follows.

LDMXCSR and FXRSTOR take reserved bits of MXCSR, which is #GP(0) (Intel SDM vol. 1, 10.2.3).
"""

from __future__ import annotations

import re
from typing import Any, Final

from callgate.kernel.abi.fpu import MXCSR_MASK, FloatingPointArea
from callgate.kernel.abi.layout import offset_of

# In 32-bit mode the byte after C4 or C5 has its upper two bits set, or it is LES or LDS with a memory operand.
SUSPICIOUS: Final = re.compile(rb"[\xc4\xc5][\xc0-\xff]|\x0f\xae|\x8f[\x08-\x3f\x48-\x7f\x88-\xbf\xc8-\xff]")
PREFIXES: Final = b"\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65\x66\x67"
REFUSED_PREFIXES: Final = b"\xf0\xf2\xf3\x66"  # before VEX they are #UD by themselves
VEX_3, VEX_2, POP = 0xC4, 0xC5, 0x8F
OPCODE_EXTENSION: Final = 0x38  # of a ModR/M byte
REGISTER_FORM: Final = 0xC0
MAP_MASK: Final = 0x1F
GENERAL: Final = {  # opcode map -> VEX opcodes of BMI1 and BMI2 (SDM vol. 2)
    2: frozenset({0xF2, 0xF3, 0xF5, 0xF6, 0xF7}),  # ANDN; BLSR, BLSMSK, BLSI; BZHI, PDEP, PEXT; MULX; BEXTR, SHLX...
    3: frozenset({0xF0}),  # RORX
}
LOADS_MXCSR: Final = {  # mnemonic -> where in its operand MXCSR lies
    "ldmxcsr": 0,
    "fxrstor": offset_of(FloatingPointArea, "mxcsr"),
}


def is_vector(code: bytes) -> bool:
    """Whether the first instruction of `code` has an XOP prefix, or a VEX prefix and vector registers."""
    prefixes = len(code) - len(code.lstrip(PREFIXES))
    vex = code[prefixes : prefixes + 4]
    if len(vex) >= 2 and vex[0] == POP:
        return bool(vex[1] & OPCODE_EXTENSION)
    if len(vex) < 2 or vex[0] not in (VEX_2, VEX_3) or vex[1] < REGISTER_FORM:
        return False
    if vex[0] == VEX_2 or any(byte in REFUSED_PREFIXES for byte in code[:prefixes]):
        return True
    return len(vex) == 4 and vex[3] not in GENERAL.get(vex[1] & MAP_MASK, frozenset())


def mxcsr_offset(instruction: Any) -> int | None:
    """Return where in its memory operand a decoded instruction finds a new MXCSR, None if it loads none."""
    return LOADS_MXCSR.get(str(instruction.mnemonic))


def has_reserved_bits(mxcsr: int) -> bool:
    """Whether a value of MXCSR has ones in reserved bits."""
    return bool(mxcsr & ~MXCSR_MASK)
