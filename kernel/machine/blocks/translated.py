"""The engine's record of a translated block, found from the address at which the hook at its entry returns.

The record (QEMU's `TranslationBlock`) lies before the block's host code.  Each field that is used is checked against
what the hook was told; where anything differs, the block is not known.
"""

from __future__ import annotations

import ctypes
import re
import struct
from typing import Final, NamedTuple

from callgate.kernel.abi.memory import PAGE_SHIFT

# pc, cs_base, flags, size, icount, cflags, (padding), code, bytes of code, (three links), two pages
RECORD: Final = struct.Struct("<QQIHHIIQQ24xQQ")
RECORD_AT: Final = -0xC0  # from the host code
LINE: Final = 64  # host code begins at a multiple of it
LINES: Final = 2  # the hook is called in one of the last ones before it returns
# The end of the call: MOV EDX, size; the hook's data into RCX; CALL, near or through memory.
CALL: Final = re.compile(rb"\xba(....)(?:\x48\x8d\x0d....|\x48\xb9........)(?:\xe8....|\xff\x15....)\Z", re.DOTALL)
LONGEST_CALL: Final = 21
COUNT_MASK: Final = 0x7FFF  # of cflags: the most instructions that the block may have
NO_PAGE: Final = (1 << 64) - 1
NO_CACHE: Final = 1 << 16  # of cflags: to be executed once


NEAR_CALL, FAR_CALL = b"\xe8", b"\xff\x15"  # CALL, near and through memory, without the operand
CALLS: Final = re.compile(NEAR_CALL + b"|" + FAR_CALL)
CALL_SIZE: Final = 5  # bytes of the near one
OPERAND: Final = struct.Struct("<i")


def target(host: bytes, code: int, operand: int, *, near: bool) -> int:
    """Return where a call goes whose operand lies at an offset in host code at an address; 0 if that is not known."""
    at = operand + 4 + int.from_bytes(host[operand : operand + 4], "little", signed=True)
    if near:
        return code + at
    return int.from_bytes(host[at : at + 8], "little") if 0 <= at <= len(host) - 8 else 0


class Translated(NamedTuple):
    """A block as the engine has translated it."""

    instructions: int
    flags: int
    limit: int  # instructions that it was to have at most, 0 for any number
    once: bool  # it was made of something other than RAM, and is made anew each time
    code: int  # address of its host code
    length: int  # of that
    word: int  # address of the immediate that is passed as the size
    pages: tuple[int, ...]  # numbers of the pages of RAM that it was made from, as the engine counts them

    @property
    def restarts(self) -> bool:
        """Whether it executes again an instruction that was broken off because it stores into its own block."""
        return self.limit == 1 and not self.once

    def calls(self, function: int) -> int:
        """Return how often its host code calls a function."""
        host = ctypes.string_at(self.code, self.length)
        return sum(
            target(host, self.code, call.end(), near=len(call[0]) == 1) == function for call in CALLS.finditer(host)
        )

    def put_word(self, word: int) -> None:
        """Have the block pass a word in place of its size."""
        ctypes.c_uint32.from_address(self.word).value = word


def find(back: int, address: int, size: int) -> Translated | None:
    """Return the block at a linear address whose hook returns to `back`; None if it is not where it was expected."""
    call = CALL.search(ctypes.string_at(back - LONGEST_CALL, LONGEST_CALL))
    if call is None or int.from_bytes(call[1], "little") != size:
        return None
    code = back & -LINE
    for _ in range(LINES):
        record = RECORD.unpack(ctypes.string_at(code + RECORD_AT, RECORD.size))
        pc, _, flags, length, instructions, cflags, _, begin, host, *places = record
        if (pc, length, begin) == (address, size, code) and back < code + host:
            word = back - LONGEST_CALL + call.start(1)
            pages = tuple(place >> PAGE_SHIFT for place in places if place != NO_PAGE)
            return Translated(
                instructions, flags, cflags & COUNT_MASK, bool(cflags & NO_CACHE), code, host, word, pages
            )
        code -= LINE
    return None
