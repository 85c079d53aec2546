"""The save area of the x87, MMX and SSE registers, and what they hold when a thread begins."""

from ctypes import c_uint8, c_uint16, c_uint32
from typing import Final

from callgate.kernel.abi.layout import Layout, size_of

FPU_CONTROL_INITIAL: Final = 0x037F  # as FNINIT leaves it: every exception masked, 64-bit precision, to nearest
MXCSR_INITIAL: Final = 0x1F80  # as after reset: every exception masked, to nearest
MXCSR_MASK: Final = 0xFFFF  # what LDMXCSR and FXRSTOR may set; a one elsewhere is #GP


class FloatingPointArea(Layout):
    """What FXSAVE writes and FXRSTOR reads in 32-bit mode (Intel SDM vol. 1, table 10-2); 16-byte aligned."""

    _fields_ = [
        ("control", c_uint16),
        ("status", c_uint16),
        ("tags", c_uint8),
        ("reserved", c_uint8),
        ("opcode", c_uint16),
        ("instruction", c_uint32),
        ("instruction_selector", c_uint32),
        ("operand", c_uint32),
        ("operand_selector", c_uint32),
        ("mxcsr", c_uint32),
        ("mxcsr_mask", c_uint32),
        ("stack", c_uint8 * 128),
        ("xmm", c_uint8 * 128),
        ("unused", c_uint8 * 224),
    ]
    _notes_ = {
        "control": "FCW",
        "status": "FSW; TOP in bits 11 to 13",
        "tags": "bit i: register R_i (not ST(i)) is in use",
        "opcode": "FOP, and the pointers FIP and FDP after it: the emulated CPU keeps none of them",
        "mxcsr": "SSE control and status",
        "stack": "ST(0) to ST(7), or MM0 to MM7, 16 bytes each of which 10 count",
        "xmm": "XMM0 to XMM7",
    }


assert size_of(FloatingPointArea) == 512
