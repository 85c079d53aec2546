"""The CPU's innermost state: Unicorn's saved context, with the places of state that has no register name.

Privilege cannot be raised by writing a register, the error code of an exception has no register, and
Unicorn leaves QEMU's record of "an exception is being delivered" set for ever, so that the second fault
looks like a double fault.  All three are fields of the saved context.  Their places are not documented:
they are found at start-up by provoking known faults in a scratch engine, each must be found exactly
once, and the engine's version is pinned (docs/emulator-notes.md).
"""

import ctypes
import struct
from functools import cache

from callgate.kernel.common.record import record
from unicorn import UC_ARCH_X86, UC_HOOK_INTR, UC_MODE_32, Uc, UcError
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr", "gdt", "idt")  # as QEMU keeps them
SEGMENT_SPAN = 24  # selector, padding, base (8), limit, flags
SEGMENT_OFFSETS = {name: SEGMENT_SPAN * index for index, name in enumerate(SEGMENTS)}
REGISTER_SPAN = 8 * 16  # QEMU's env keeps sixteen registers of 64 bits

HF_CPL = 3
HF_INHIBIT_IRQ = 1 << 3
HF_CS32 = 1 << 4
HF_SS32 = 1 << 5
HF_ADDSEG = 1 << 6
HF_TF = 1 << 8

MSR_EFER = 0xC000_0080
EFER_NXE = 1 << 11

CLOSED = "the machine is closed"


class UnsupportedEmulator(RuntimeError):
    """This build of Unicorn keeps its state in other places than the known ones."""


@record(frozen=True)
class ContextLayout:
    """Byte offsets within a saved context."""

    size: int
    registers: int  # eax ecx edx ebx esp ebp esi edi, 8 bytes each
    eip: int
    eflags: int
    hflags: int
    segments: int
    error_code: int
    is_int: int
    next_eip: int  # of a software interrupt: what stands after it
    old_exception: int
    control: int  # CR0 to CR4, 8 bytes each
    efer: int  # the extended-feature register, 8 bytes

    @property
    def flags_source(self) -> int:
        """Return the offset of what the arithmetic flags are computed from: an operand, or the flags themselves."""
        return self.eip + 24

    @property
    def flags_kind(self) -> int:
        """Return the offset of the number that says how they are computed; the direction flag follows."""
        return self.eip + 40

    @property
    def cr2(self) -> int:
        """Return the offset of CR2."""
        return self.control + 16

    def segment(self, name: str) -> int:
        """Return the offset of the cache of a segment register, LDTR, TR, GDTR or IDTR."""
        return self.segments + SEGMENT_OFFSETS[name]


CODE, CODE_SPAN = 0x1000, 0x100
GDT = 0x3000
MARKS = [0x1357_0000 + index for index in range(8)]
REGISTER_IDS = [
    x86.UC_X86_REG_EAX,
    x86.UC_X86_REG_ECX,
    x86.UC_X86_REG_EDX,
    x86.UC_X86_REG_EBX,
    x86.UC_X86_REG_ESP,
    x86.UC_X86_REG_EBP,
    x86.UC_X86_REG_ESI,
    x86.UC_X86_REG_EDI,
]


def refuse(*_arguments: object) -> None:
    """Raise the error of a machine that has no CPU any longer."""
    raise ValueError(CLOSED)


class RawContext:
    """A context that is saved and restored without the binding's detours: 0.3 µs each."""

    def __init__(self, uc: Uc) -> None:
        self.handle = uc._uch  # the binding offers no other way to the raw handle
        pointer = ctypes.c_void_p()
        status = uclib.uc_context_alloc(self.handle, ctypes.byref(pointer))
        if status:
            raise UcError(status)
        self.pointer = pointer
        self.size = int(uclib.uc_context_size(self.handle))
        assert pointer.value is not None
        buffer = (ctypes.c_ubyte * self.size).from_address(pointer.value)
        self.view = memoryview(buffer).cast("B")
        self.words = self.view.cast("I")
        self.quads = self.view.cast("Q")

    def save(self) -> None:
        """Copy the CPU's state into the context."""
        status = uclib.uc_context_save(self.handle, self.pointer)
        if status:
            raise UcError(status)

    def restore(self) -> None:
        """Copy the context into the CPU."""
        status = uclib.uc_context_restore(self.handle, self.pointer)
        if status:
            raise UcError(status)

    def restore_copy(self, copy: bytes) -> None:
        """Copy what a context of this engine has held into the CPU, but not into this one."""
        status = uclib.uc_context_restore(self.handle, copy)
        if status:
            raise UcError(status)

    def free(self) -> None:
        """Give the context's memory back."""
        if self.pointer:
            self.words.release()
            self.quads.release()
            self.view.release()
            uclib.uc_context_free(self.pointer)
            self.pointer = ctypes.c_void_p()
            for name in ("save", "restore", "restore_copy"):  # the engine would follow a dangling pointer
                setattr(self, name, refuse)


class Scratch:
    """A scratch engine, as new for each of its uses: to make another one takes as long as all that is done with it."""

    def __init__(self) -> None:
        self.uc = Uc(UC_ARCH_X86, UC_MODE_32)
        self.uc.mem_map(0, 0x10000)
        for register, mark in zip(REGISTER_IDS, MARKS, strict=True):
            self.uc.reg_write(register, mark)
        self.uc.hook_add(UC_HOOK_INTR, self._interrupt)
        self.context = RawContext(self.uc)
        self.new = self.state()
        self.code = CODE  # where the next code will lie
        self.seen: list[tuple[bytes, int]] = []

    def _interrupt(self, engine: Uc, vector: int, _data: object) -> None:
        self.seen.append((self.state(), vector))
        engine.emu_stop()

    def state(self) -> bytes:
        """Return the CPU's state."""
        self.context.save()
        return bytes(self.context.view)

    def renew(self) -> None:
        """Put the CPU back to how it was when it was made."""
        self.context.view[:] = self.new
        self.context.restore()

    def run(self, code: bytes, instructions: int) -> None:
        """Run code, which lies where no other has been, on the new CPU."""
        self.renew()
        at, self.code = self.code, self.code + CODE_SPAN
        self.uc.mem_write(at, code)
        self.uc.emu_start(at, 0, count=instructions)

    def provoke(self, code: bytes) -> tuple[bytes, int]:
        """Run code up to its first exception; return the state there and the vector."""
        self.seen.clear()
        self.run(code, 16)
        if not self.seen:
            raise UnsupportedEmulator("a provoked exception was not reported")
        return self.seen[0]


def _load_selector(selector: int) -> bytes:
    """Return code that loads FS with a selector beyond the (empty) GDT: #GP(selector)."""
    return b"\x66\xb8" + selector.to_bytes(2, "little") + b"\x8e\xe0"


@cache
def discover() -> ContextLayout:
    """Find the layout of this build's contexts; UnsupportedEmulator if any place differs from the known ones."""
    scratch = Scratch()
    try:
        return _layout(scratch)
    finally:
        scratch.context.free()


def _layout(scratch: Scratch) -> ContextLayout:
    first, vector = scratch.provoke(_load_selector(0x1238))
    second, _ = scratch.provoke(_load_selector(0x5678))
    after = scratch.code + 2
    software, number = scratch.provoke(b"\xcd\x42")
    if vector != 13 or number != 0x42:
        raise UnsupportedEmulator(f"provoked exceptions were reported as {vector} and {number}")
    marks = struct.pack("<7Q", *MARKS[1:])
    registers = unique(software, marks, "registers") - 8
    eip = registers + REGISTER_SPAN
    if struct.unpack_from("<Q", software, eip)[0] != after:
        raise UnsupportedEmulator("EIP does not follow the registers")
    # env: regs, eip, eflags, then lazily evaluated flags (cc_dst, cc_src, cc_src2, cc_op), df, hflags.
    hflags = eip + 48
    columns = (struct.unpack_from(f"<{(len(first) - eip) // 4}I", state, eip) for state in (first, second, software))
    rows = list(zip(*columns, strict=True))
    error_code = eip + 4 * only([at for at, row in enumerate(rows) if row[:2] == (0x1238, 0x5678)], "error code")
    in_flight = [eip + 4 * at for at, row in enumerate(rows) if row == (13, 13, 0xFFFF_FFFF)]
    old_exception = only([at for at in in_flight if at > error_code], "exception in flight")
    is_int = error_code + 4
    if word(software, is_int) != 1 or word(first, is_int) != 0:
        raise UnsupportedEmulator("the mark of software interrupts does not follow the error code")
    segments = hflags + 8
    control = segments + SEGMENT_SPAN * len(SEGMENTS)
    places = (eip + 8, hflags, segments, error_code, is_int, is_int + 4, old_exception, control, _find_efer(scratch))
    layout = ContextLayout(len(first), registers, eip, *places)
    if word(software, layout.next_eip) != after:
        raise UnsupportedEmulator("the next instruction's address does not follow the mark of software interrupts")
    _check_segments(scratch, layout)
    return layout


def _find_efer(scratch: Scratch) -> int:
    """Return the offset of the quadword that becomes EFER.NXE when the register is written."""
    scratch.renew()
    before = scratch.state()
    scratch.uc.msr_write(MSR_EFER, EFER_NXE)
    after = scratch.state()
    columns = (struct.unpack(f"<{len(state) // 8}Q", state[: len(state) // 8 * 8]) for state in (before, after))
    return only([8 * index for index, row in enumerate(zip(*columns, strict=True)) if row == (0, EFER_NXE)], "EFER")


def _check_segments(scratch: Scratch, layout: ContextLayout) -> None:
    """Load tables, a segment and CR2 with telling values; each must show where it is expected."""
    flat_code, flat_data, fs = 0x00CF_FA00_0000_FFFF, 0x00CF_F200_0000_FFFF, 0x12C0_F234_5678_0FFF
    table = struct.pack("<4Q", 0, flat_code, flat_data, fs)
    pointers = struct.pack("<HIxxHI", len(table) - 1, GDT, 0x7F7, 0x2468)
    code = (
        b"\x0f\x01\x15" + struct.pack("<I", GDT + 0x100)  # lgdt [GDT + 100h]
        + b"\x0f\x01\x1d" + struct.pack("<I", GDT + 0x108)  # lidt [GDT + 108h]
        + b"\xb8\x57\x13\x24\x68\x0f\x22\xd0"  # mov eax, 68241357h; mov cr2, eax
        + b"\x66\xb8\x1b\x00\x8e\xe0"  # mov ax, 1Bh; mov fs, ax
    )  # fmt: skip
    scratch.uc.mem_write(GDT, table)
    scratch.uc.mem_write(GDT + 0x100, pointers)
    scratch.run(code, 6)
    state = scratch.state()
    found = {name: struct.unpack_from("<I4xQI", state, layout.segment(name)) for name in SEGMENTS}
    cr2 = word(state, layout.cr2)
    expected = {"fs": (0x1B, 0x1234_5678, 0xFF_FFFF), "gdt": (0, GDT, 0x1F), "idt": (0, 0x2468, 0x7F7)}
    for name, values in expected.items():
        if found[name] != values:
            raise UnsupportedEmulator(f"{name.upper()} was found as {found[name]}, not {values}")
    if cr2 != 0x6824_1357:
        raise UnsupportedEmulator(f"CR2 was found as {cr2:#x}")


def word(data: bytes, offset: int) -> int:
    """Return the 32-bit word at an offset."""
    return int.from_bytes(data[offset : offset + 4], "little")


def unique(data: bytes, pattern: bytes, what: str) -> int:
    """Return where `pattern` stands in `data`, which must be once."""
    offset = data.find(pattern)
    if offset < 0 or data.find(pattern, offset + 1) >= 0:
        raise UnsupportedEmulator(f"{what}: not found exactly once")
    return offset


def only(offsets: list[int], what: str) -> int:
    """Return the only element of a list."""
    if len(offsets) != 1:
        raise UnsupportedEmulator(f"{what}: found {len(offsets)} times, not once")
    return offsets[0]
