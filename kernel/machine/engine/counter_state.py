"""The memory of the counting hook, shared with the code that arms or reads it (`counter`)."""

import ctypes
from typing import Final

NEVER: Final = (1 << 63) - 1
NOWHERE: Final = (1 << 64) - 1
EFLAGS_IF: Final = 1 << 9
FILE_BYTES: Final = ("file_bytes_kernel", "file_bytes_server", "file_bytes_client")


class CounterState(ctypes.Structure):
    """What the hook reads and writes; its host code knows the offsets by these names.

    `limit` is what the hot path compares with: the count to stop at.  While an interrupt waits for IF it
    is 0, `armed` is set, and `hard_limit` is the count to stop at.  `site_done` and `site_address` are count
    and address of the site served last, so that a stop and a resumption do not serve it twice.
    Seven are addresses: of what the engine keeps of floating-point exceptions and the x87 stack
    (`machine.engine.float_layout`), and of CR0.
    `late_flags` is the address of what the engine computes the arithmetic flags from; `flags_source` and `flags_kind`
    are what it held when the hook was called last.  `resume_flag` is the address of the byte of the engine's EFLAGS of
    which bit 0 is RF: the hook clears it before each instruction that executes.
    `block_word` and `block_address` are of the plain block that executes, 0 if it is none (`machine.blocks`); `aborted`
    says that it has come to a device; `watched` is how many hooks have to be called for each instruction, or while it
    executes, so that no block is plain.
    `turns`, `running` and `charged_at` are of the threads (`machine.observation.turns`).
    `stored` is what the instruction counted as `stored_at` has stored above 4 GiB, in bytes.
    `counts_at` is the address of a word that holds the address of the counter that `user_kind` chooses
    (`machine.blocks.file_loads`).
    `high_marks` is the address of a byte for each page of that memory.  A store makes the page's byte 1, and the one at
    `high_marked` (`machine.memory.ram`).
    """

    _fields_ = [
        ("count", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
        ("last_address", ctypes.c_uint64),
        ("quadrants", ctypes.c_uint64 * 4),
        ("ring_changes", ctypes.c_uint64),
        ("in_kernel", ctypes.c_uint64),
        ("file_bytes_kernel", ctypes.c_uint64),
        ("file_bytes_server", ctypes.c_uint64),
        ("file_bytes_client", ctypes.c_uint64),
        ("user_kind", ctypes.c_uint64),
        ("stopped", ctypes.c_uint64),
        ("hard_limit", ctypes.c_uint64),
        ("armed", ctypes.c_uint64),
        ("eflags", ctypes.c_uint64),
        ("reg_read", ctypes.c_void_p),
        ("site_map", ctypes.c_void_p),
        ("chains", ctypes.c_void_p),
        ("site_done", ctypes.c_uint64),
        ("site_address", ctypes.c_uint64),
        ("stop_address", ctypes.c_uint64),
        ("site_call", ctypes.c_void_p),
        ("repeats", ctypes.c_void_p),
        ("repeat_call", ctypes.c_void_p),
        ("high_memory", ctypes.c_void_p),
        ("stored_at", ctypes.c_uint64),
        ("stored", ctypes.c_uint64),
        ("edx", ctypes.c_uint64),
        ("mxcsr", ctypes.c_void_p),
        ("sse_flags", ctypes.c_void_p),
        ("x87_status", ctypes.c_void_p),
        ("x87_flags", ctypes.c_void_p),
        ("x87_tags", ctypes.c_void_p),
        ("x87_top", ctypes.c_void_p),
        ("cr0", ctypes.c_void_p),
        ("late_flags", ctypes.c_void_p),
        ("flags_source", ctypes.c_uint64),
        ("flags_kind", ctypes.c_uint64),
        ("block_word", ctypes.c_uint64),
        ("block_address", ctypes.c_uint64),
        ("block_call", ctypes.c_void_p),
        ("aborted", ctypes.c_uint64),
        ("watched", ctypes.c_uint64),
        ("turns", ctypes.c_void_p),
        ("running", ctypes.c_void_p),
        ("charged_at", ctypes.c_uint64),
        ("resume_flag", ctypes.c_void_p),
        ("counts_at", ctypes.c_void_p),
        ("high_marks", ctypes.c_void_p),
        ("high_marked", ctypes.c_void_p),
    ]


def count_for(state: CounterState, kind: int) -> None:
    """Count what ring 3 touches of file data for a kind: 1 for a server, 2 for a client."""
    state.user_kind = kind
    if state.counts_at:
        first = ctypes.addressof(state) + CounterState.file_bytes_kernel.offset
        ctypes.c_uint64.from_address(state.counts_at).value = first + kind * ctypes.sizeof(ctypes.c_uint64)


BY_FLAGS: Final = 1  # how the engine computes the arithmetic flags: from themselves; the lower half of the note
FLAGS: Final = ctypes.c_uint64 * 3  # what they are computed from, another operand, and how


def put_flags_back(state: CounterState) -> None:
    """Have the arithmetic flags computed as they were when the hook was called last: the instruction was broken off.

    After the hook the engine replaces what they are computed from by the flags themselves, but an instruction that it
    breaks off leaves the note of how they were computed before (docs/emulator-notes.md).
    """
    flags = FLAGS.from_address(state.late_flags)
    flags[0], flags[2] = state.flags_source, state.flags_kind


def settle_flags(state: CounterState) -> None:
    """Note how the arithmetic flags are computed, for an instruction that a hook of its own replaces.

    The engine has them computed from themselves since the counting hook was called for it, and would have noted so, but
    the note is part of what it leaves out with the instruction (docs/emulator-notes.md).
    """
    if state.late_flags:
        flags = FLAGS.from_address(state.late_flags)
        if flags[0] != state.flags_source:
            flags[2] = flags[2] & ~0xFFFF_FFFF | BY_FLAGS


def take_back_stores(state: CounterState) -> None:
    """Uncount the bytes that the instruction being executed has stored above 4 GiB, if any: it will store them again.

    The engine makes INS store zeros before it asks the port, to see whether it may.
    """
    if state.stored_at == state.count:
        name = FILE_BYTES[0 if state.in_kernel else state.user_kind]
        setattr(state, name, getattr(state, name) - state.stored)
        state.stored = 0
