"""Loads of plain blocks that come to file data again and again, in the block's own code.

File data lies in high memory, which is a device to the engine: its look into the TLB, in the block's code, fails for
it.  So such a load costs a call of a routine of ours, which looks again (`machine.blocks.accesses`).  Where it has done
so often, the look itself is replaced by one for file data, which counts and loads:

    as the engine has made it                  as it is then
    LEA RSI, [address + size - 1]              MOV RSI, address
    AND RSI, page                              AND RSI, page and size - 1
    CMP RSI, [RDI]                             OR RSI, marks of file data
    MOV RSI, address                           CMP RSI, [RDI]
    JNE slow way                               JNE stub
    ADD RSI, [RDI + what to add]               MOV RAX, [counter]
    MOV EBX, [RSI]                             ADD QWORD PTR [RAX], size
    17 or 18 bytes that do nothing             MOV RSI, [RDI + what to add]
                                               MOV EBX, [RSI + address]

The room is that of a check that the engine makes after each load, and that has been left out
(`machine.blocks.known_checks`).  RDI is the entry of the TLB.  A routine of ours that has loaded file data has noted
there that what is to be added leads to them: for a device the engine does not use that, nor the lowest bits of the
address.  So nothing else is taken for file data.  Loads that are not aligned count twice, in the slow way.

Other memory is found in the stub, by the look that was there before.  After 1,024 loads from it (`Habits`) the load
becomes what it was; and the next time it is given twice as many.  No load of the kernel is replaced: it touches no file
data.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple

from callgate.kernel.machine.blocks.access_code import ADDEND, MMIO, NOTED, AccessState
from callgate.kernel.machine.blocks.known_tables import LOAD_CALL

STUBS: Final = 1024
STUB: Final = 64  # bytes of one
WORD: Final = 4  # bytes of the word of each, after all stubs: how many loads it is still there for
MOST_PATIENCE: Final = 1 << 30
LONGEST: Final = 40  # bytes of a look and its load, and of a slow way, at most
LARGEST_BLOCK: Final = 1 << 16  # bytes of host code
REACH: Final = (1 << 31) - (1 << 20)  # bytes that a stub, and what it refers to, may lie away
RESERVED: Final = (4, 6, 7)  # RSP, RSI, RDI: no address is in them
# Bytes that do nothing, as `machine.blocks.known_checks` writes them.
LEFT_OUT: Final = re.compile(rb"\x66\x0f\x1f\x84\0{5}(?:\x66\x0f\x1f\x84\0{5}|\x0f\x1f\x84\0{5})")
LONGEST_LEFT_OUT: Final = 18
# MOV, MOVZX, MOVSX and MOVSXD without REX and operands: bytes that they load, but for MOV of 64 bits
OPERATIONS: Final = {b"\x8b": 4, b"\x63": 4, b"\x0f\xb6": 1, b"\x0f\xbe": 1, b"\x0f\xb7": 2, b"\x0f\xbf": 2}
OPERATION: Final = rb"\x8b|\x63|\x0f[\xb6\xb7\xbe\xbf]"
# As in the left column above, up to the load
LOOK: Final = re.compile(
    rb"(?P<first>[\x48\x49](?:\x8b[\xf0-\xf7]|\x8d[\x70-\x77]\x24?[\x01\x03\x07]))\x48\x81\xe6\x00\xf0\xff\xff"
    rb"\x48\x3b\x37(?P<address>[\x48\x49]\x8b[\xf0-\xf7])\x0f\x85(?P<slow>....)\x48\x03\x77\x20"
    rb"(?P<load>(?P<rex>[\x40-\x4f]?)(?P<operation>" + OPERATION + rb")"
    rb"(?P<operands>[\x06\x0e\x16\x1e\x26\x2e\x36\x3e]))\Z",
    re.DOTALL,
)
# The call, what moves its result to its place if that is elsewhere, and the jump back
SLOW_WAY: Final = re.compile(
    LOAD_CALL.pattern + rb"(?:[\x40-\x4f]?(?:" + OPERATION + rb")[\xc0-\xff])?\xe9(?P<back>....)", re.DOTALL
)
AND_RSI, OR_RSI, CMP_RSI, JNE = b"\x48\x81\xe6", b"\x48\x81\xce", b"\x48\x3b\x37", b"\x0f\x85"
DEC, JS, JMP, MOV_BYTE = b"\xff\x0d", b"\x78", b"\xe9", b"\xc6\x05"  # of a word and of a byte that are addressed by RIP
MOV_RSI: Final = bytes((0x48, 0x8B, 0x77, ADDEND))
NOPS: Final = ("", "90", "6690", "0f1f00", "0f1f4000", "0f1f440000", "660f1f440000", "0f1f8000000000")
PAGE_MASK: Final = -0x1000
ASK: Final = ctypes.CFUNCTYPE(None, ctypes.c_uint64)


class Habits(NamedTuple):
    """When loads are replaced, and when they become what they were."""

    often: int = 64  # loads of file data by a routine, the last of which is replaced
    seldom: int = 1 << 16  # the most of those, after some that could not be replaced or already were
    patience: int = 1024  # loads of other memory; twice as many each time, `MOST_PATIENCE` at most


EAGER: Final = Habits(often=0, seldom=0, patience=0)  # for tests: at the first load of either


class Look(NamedTuple):
    """A look into the TLB with its load, within a block's host code."""

    begin: int  # address
    code: bytes  # with what was left out after the load
    parts: re.Match[bytes]
    slow: int  # address of the slow way
    back: int  # address of the operand of the jump that ends it

    @property
    def size(self) -> int:
        """Bytes that are loaded."""
        wide = self.parts["rex"] >= b"\x48" and self.parts["operation"] == b"\x8b"
        return 8 if wide else OPERATIONS[self.parts["operation"]]

    @property
    def register(self) -> int:
        """Number of the register that holds the address."""
        prefix, _, operands = self.parts["address"]
        return (prefix & 1) << 3 | operands & 7

    @property
    def end(self) -> int:
        """Address after all of it."""
        return self.begin + len(self.code)

    def return_to(self, target: int) -> None:
        """Have the slow way end at an address."""
        ctypes.c_int32.from_address(self.back).value = target - self.back - 4


def look_before(load_end: int) -> Look | None:
    """Return the look whose load ends at an address in the host code of a block; None if it has another form."""
    found = LOOK.search(ctypes.string_at(load_end - LONGEST, LONGEST))
    left_out = LEFT_OUT.match(ctypes.string_at(load_end, LONGEST_LEFT_OUT))
    parts = LOOK.match(found[0]) if found is not None else None
    if parts is None or left_out is None:
        return None
    begin = load_end - len(parts[0])
    slow = begin + parts.end("slow") + _signed(parts["slow"])
    way = SLOW_WAY.match(ctypes.string_at(slow, LONGEST)) if 0 < slow - load_end < LARGEST_BLOCK else None
    if way is None or slow + way.end() + _signed(way["back"]) != load_end:
        return None
    look = Look(begin, parts[0] + left_out[0], parts, slow, slow + way.start("back"))
    return look if look.register not in RESERVED and parts["first"] == first_of(look.register, look.size) else None


def first_of(register: int, size: int) -> bytes:
    """Return how the engine begins the look for an address in a register."""
    prefix, low = 0x48 | register >> 3, register & 7
    if size == 1:
        return bytes((prefix, 0x8B, 0xF0 | low))
    return bytes((prefix, 0x8D, 0x70 | low)) + (b"\x24" if low == RESERVED[0] else b"") + bytes((size - 1,))


def look_for_file(look: Look, stub: int, counter: int) -> bytes:
    """Return the look for file data, to stand where another one does; it may be too long.

    `counter` is the address of the word that holds that of the counter.
    """
    parts, register = look.parts, look.register
    temporary = int(register == 0)  # RAX, or RCX: the engine keeps nothing in them, for a slow way would lose it
    code = parts["address"] + AND_RSI + struct.pack("<i", PAGE_MASK | look.size - 1)
    code += OR_RSI + struct.pack("<i", MMIO | NOTED) + CMP_RSI
    code += JNE + struct.pack("<i", stub - look.begin - len(code) - 6)
    code += bytes((0x48, 0x8B, 0x05 | temporary << 3)) + struct.pack("<i", counter - look.begin - len(code) - 7)
    code += bytes((0x48, 0x83, temporary, look.size)) + MOV_RSI
    rex = (parts["rex"] or b"\0")[0] | (0x42 if register > 7 else 0)
    code += bytes((rex,)) if rex else b""
    code += parts["operation"] + bytes((parts["operands"][0] & 0x38 | 4, (register & 7) << 3 | 6))
    return code + nops(len(look.code) - len(code))


def stub_code(look: Look, stub: int, left: int, worn: int) -> bytes:
    """Return the look as it was, for as many loads from other memory as a word at the address `left` says.

    All else goes the slow way; if because there have been more, a byte at the address `worn` is set.
    """
    parts = look.parts
    code = parts[0][: parts.start("slow")]

    def at(target: int, after: int = 0) -> bytes:
        return struct.pack("<i", target - stub - len(code) - 4 - after)

    code += at(look.slow)
    code += DEC
    code += at(left)
    load = MOV_RSI.replace(b"\x8b", b"\x03") + parts["load"] + JMP
    code += JS + bytes((len(load) + 4,)) + load
    code += at(look.end)
    code += MOV_BYTE
    code += at(worn, 1) + b"\1" + JMP
    return code + at(look.slow)


def nops(size: int) -> bytes:
    """Return instructions that do nothing, `size` bytes in all; none for less than 1."""
    longest = len(NOPS) - 1
    return bytes.fromhex(NOPS[longest] * (size // longest) + NOPS[size % longest]) if size > 0 else b""


def _signed(displacement: bytes) -> int:
    return int.from_bytes(displacement, "little", signed=True)


class FileLoads:
    """Those loads of one machine, with their stubs."""

    habits: ClassVar[Habits] = Habits()

    def __init__(self, state: AccessState, stubs: int, fail: Callable[[BaseException], None]) -> None:
        """Take the state of the routines, and the address of the stubs; exceptions go to `fail`."""
        self.state = state
        self.stubs = stubs
        self.fail = fail
        self.changed: dict[
            int, tuple[Look, bytes, int]
        ] = {}  # by end of the load: what it was, is, and its stub's number
        self.patience: dict[int, int] = {}  # by end of the load
        begin = ctypes.addressof(state)
        self.counter, self.worn = begin + AccessState.counter.offset, begin + AccessState.worn.offset
        self.callback = ASK(self._asked)
        state.ask = ctypes.cast(self.callback, ctypes.c_void_p).value
        self.forget()

    def forget(self) -> None:
        """All translations are gone."""
        self.free = list(range(STUBS))
        self.often = self.state.until_asked = self.habits.often
        self.changed.clear()
        self.patience.clear()

    def _asked(self, load_end: int) -> None:
        try:
            if self.state.worn:
                self.state.worn = 0
                self.patience[load_end] = min(2 * self.patience.get(load_end, self.habits.patience), MOST_PATIENCE)
                self._change_back(load_end)
            else:
                often, seldom, _ = self.habits
                self.often = often if self._change(load_end) else min(2 * self.often + 1, seldom)
                self.state.until_asked = self.often
        except BaseException as error:  # noqa: BLE001 - must not unwind through the engine
            self.fail(error)

    def _change(self, load_end: int) -> bool:
        """Have a load look for file data first; return whether it does."""
        look = look_before(load_end)
        if look is None or abs(self.stubs - load_end) > REACH:
            return False
        self._change_back(load_end)  # of a block that is no longer
        if not self.free:
            self._change_back(next(iter(self.changed)))
        number = self.free[-1]
        stub, left = self.stubs + STUB * number, self.stubs + STUB * STUBS + WORD * number
        code, other = look_for_file(look, stub, self.counter), stub_code(look, stub, left, self.worn)
        if len(code) > len(look.code) or len(other) > STUB:
            return False
        self.free.pop()
        ctypes.c_int32.from_address(left).value = self.patience.get(load_end, self.habits.patience)
        ctypes.memmove(stub, other, len(other))
        look.return_to(look.end)
        ctypes.memmove(look.begin, code, len(code))
        self.changed[load_end] = look, code, number
        return True

    def _change_back(self, load_end: int) -> None:
        """Have a load be what it was, if it is another one now."""
        if load_end not in self.changed:
            return
        look, code, number = self.changed.pop(load_end)
        self.free.append(number)
        if ctypes.string_at(look.begin, len(code)) == code:  # else the engine has made another block there
            ctypes.memmove(look.begin, look.code, len(look.code))
            look.return_to(load_end)
