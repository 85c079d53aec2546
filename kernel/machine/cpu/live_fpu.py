"""The x87, MMX and SSE registers as the CPU holds them.

The binding's register calls give 64 of the 80 bits of ST(i); here they are read whole.
"""

from __future__ import annotations

import ctypes
from typing import Any

from callgate.kernel.machine.cpu.fpu import EMPTY, REGISTERS, STACK_BYTES, XMM_BYTES, FloatingPoint
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib


def from_cpu(handle: Any) -> FloatingPoint:
    """Return what the engine with a raw handle holds."""
    tags = read(handle, x86.UC_X86_REG_FPTAG, 2)
    return FloatingPoint(
        read(handle, x86.UC_X86_REG_FPCW, 2),
        read(handle, x86.UC_X86_REG_FPSW, 2),
        sum(1 << index for index in range(REGISTERS) if tags >> 2 * index & EMPTY != EMPTY),
        read(handle, x86.UC_X86_REG_MXCSR, 4),
        tuple(read(handle, x86.UC_X86_REG_ST0 + index, STACK_BYTES) for index in range(REGISTERS)),
        tuple(read(handle, x86.UC_X86_REG_XMM0 + index, XMM_BYTES) for index in range(REGISTERS)),
    )


def to_cpu(handle: Any, fpu: FloatingPoint) -> None:
    """Have the engine with a raw handle hold these registers."""
    tags = sum((0 if fpu.tags >> index & 1 else EMPTY) << 2 * index for index in range(REGISTERS))
    write(handle, x86.UC_X86_REG_FPCW, fpu.control, 2)
    write(handle, x86.UC_X86_REG_FPSW, fpu.status, 2)
    write(handle, x86.UC_X86_REG_FPTAG, tags, 2)
    write(handle, x86.UC_X86_REG_MXCSR, fpu.mxcsr, 4)
    for index in range(REGISTERS):
        write(handle, x86.UC_X86_REG_ST0 + index, fpu.raw[index], STACK_BYTES)
        write(handle, x86.UC_X86_REG_XMM0 + index, fpu.xmm[index], XMM_BYTES)


def read(handle: Any, register: int, size: int) -> int:
    """Return a register of `size` bytes."""
    buffer = ctypes.create_string_buffer(XMM_BYTES)
    uclib.uc_reg_read(handle, register, buffer)
    return int.from_bytes(buffer.raw[:size], "little")


def write(handle: Any, register: int, value: int, size: int) -> None:
    """Change a register of `size` bytes."""
    buffer = ctypes.create_string_buffer(value.to_bytes(size, "little"), XMM_BYTES)
    uclib.uc_reg_write(handle, register, buffer)
