"""Where the engine keeps its record of floating-point exceptions.

The engine computes with a software library that notes each exception in a byte of its own, one for SSE and one for
x87, with the bits of MXCSR: IE 1, ZE 4, OE 8, UE 16, PE 32.  It never carries them over into MXCSR or the status word.
The places are not documented: they are found at start-up, by operations whose exceptions are known, and each must be
found exactly once (docs/emulator-notes.md).
"""

import struct
from functools import cache
from typing import Final

from callgate.kernel.common.record import record
from callgate.kernel.machine.engine.context import CODE, RawContext, UnsupportedEmulator, only, unique
from unicorn import UC_ARCH_X86, UC_MODE_32, Uc

DATA: Final = 0x4000
NUMBERS: Final = struct.pack("<4f", 0.0, 1.0, 3.0, 1e38)
MXCSR_AT, ENVIRONMENT_AT = DATA + 0x20, DATA + 0x40
MXCSR, STATUS, CONTROL = 0x5FA5, 0x4502, 0x0B7F  # values that are found nowhere else
RESULTS: Final = ((1, 2, 0x20), (1, 0, 4), (0, 0, 1), (3, 3, 0x28))  # dividend, divisor (3: a product), exceptions


@record(frozen=True)
class FloatLayout:
    """Byte offsets within a saved context."""

    mxcsr: int
    sse_flags: int  # a byte
    x87_top: int  # TOP, 32 bits
    x87_status: int  # FSW without TOP, 16 bits; FCW follows
    x87_tags: int  # a byte for each of R0 to R7, 1: empty
    x87_flags: int  # a byte


def _operand(opcode: bytes, modrm: int, index: int) -> bytes:
    return opcode + bytes([modrm]) + struct.pack("<I", DATA + 4 * index)


def _sse(first: int, second: int) -> bytes:
    """Return code that divides or multiplies two of NUMBERS."""
    load, divide, multiply = b"\xf3\x0f\x10", b"\xf3\x0f\x5e", b"\xf3\x0f\x59"
    return _operand(load, 0x05, first) + _operand(multiply if second == 3 else divide, 0x05, second)


def _x87(first: int, second: int) -> bytes:
    """Return code that does the same with x87 registers, and rounds the result to 32 bits."""
    opcode, modrm = b"\xd8", 0x0D if second == 3 else 0x35
    return b"\xdb\xe3" + _operand(b"\xd9", 0x05, first) + _operand(opcode, modrm, second) + _operand(b"\xd9", 0x1D, 6)


class Scratch:
    """An engine that executes a few instructions at a time, each time from the state after reset."""

    def __init__(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_32)
        self.uc.mem_map(0, 0x10000)
        self.uc.mem_write(DATA, NUMBERS)
        self.uc.mem_write(MXCSR_AT, struct.pack("<I", MXCSR))
        self.uc.mem_write(ENVIRONMENT_AT, struct.pack("<HxxHxxHxx", CONTROL, STATUS, 0xFFFF).ljust(28, b"\0"))
        self.context = RawContext(self.uc)
        self.context.save()
        self.reset = bytes(self.context.view)
        self.next = CODE

    def after(self, code: bytes) -> bytes:
        """Return the context after `code` has been executed."""
        self.context.view[:] = self.reset
        self.context.restore()
        begin, self.next = self.next, self.next + len(code)
        self.uc.mem_write(begin, code)
        self.uc.emu_start(begin, self.next)
        self.context.save()
        return bytes(self.context.view)

    def flags(self, codes: list[bytes], name: str) -> int:
        """Return where the exceptions of RESULTS show after the codes that give them."""
        contexts = [self.after(code) for code in codes]
        wanted = tuple(exceptions for _, _, exceptions in RESULTS)
        return only([offset for offset, values in enumerate(zip(*contexts, strict=True)) if values == wanted], name)


@cache
def discover_floats() -> FloatLayout:
    """Find the layout of this build's contexts; UnsupportedEmulator if anything is not as known."""
    scratch = Scratch()
    loads = b"\x0f\xae\x15" + struct.pack("<I", MXCSR_AT) + b"\xd9\x25" + struct.pack("<I", ENVIRONMENT_AT)
    loaded = scratch.after(loads)
    status = unique(loaded, struct.pack("<HH", STATUS, CONTROL), "the status word of x87")
    layout = FloatLayout(
        unique(loaded, struct.pack("<I", MXCSR), "MXCSR"),
        scratch.flags([_sse(first, second) for first, second, _ in RESULTS], "exceptions of SSE"),
        status - 4,
        status,
        status + 4,
        scratch.flags([_x87(first, second) for first, second, _ in RESULTS], "exceptions of x87"),
    )
    used = scratch.after(b"\xdb\xe3" + b"\xd9\xe8" * 3)  # fninit; fld1 three times
    if used[status - 4 : status] + used[status + 4 : status + 12] != bytes([5, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]):
        raise UnsupportedEmulator("TOP and tags of x87 are not on either side of the status word")
    scratch.context.free()
    if layout.mxcsr % 4 or layout.x87_status % 2:
        raise UnsupportedEmulator(f"floating-point words are not aligned: {layout}")
    return layout
