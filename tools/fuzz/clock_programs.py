"""Random programs of ring 0 or ring 3 for two clocks that are to agree (`callgate.tools.fuzz.stress_clock`).

They are made of short blocks and of whatever ends a block early or shows what is in it: faults, REP, stores into
code near by, ports, registers of a device, memory above 4 GiB, floating point, single-step traps, INT n.  Every store
and every jump of a program lands where the program put it, unless a fault sends it elsewhere.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

CODE: Final = 0x40_0000
DATA: Final = 0x41_0000  # two pages; the one after them is not mapped
ACROSS: Final = DATA + 0xFFE  # an instruction there lies in both
HOLE: Final = 0x41_2000
READ_ONLY: Final = 0x41_4000
DEVICE: Final = 0x41_6000  # registers
FILE: Final = 0x41_8000  # a page of memory above 4 GiB
FORBIDDEN: Final = 0x41_A000  # a page that may not be executed, and the kernel's
STACK: Final = 0x41_D000
ALIAS: Final = 0x20_0000  # user pages appear here once more
DEVICE_PORT, HOST_PORT = 0x300, 0xE0
INC_OR_DEC: Final = 4  # the upper half of an opcode
FREE: Final = (0, 2, 3, 5)  # EAX, EDX, EBX, EBP hold data; ECX counts


SPACE_GATE, WORK_GATE = 0x30, 0x38  # call gates to ring 0: to the other address space and back, and to a routine


@dataclass
class Program:
    """Code for `CODE`, and where its instructions begin."""

    code: bytes
    starts: list[int]
    ring: int
    more: bool = False

    def other(self) -> bytes:
        """Return the code of the other address space: each INC or DEC of a byte is the opposite there."""
        code = bytearray(self.code)
        for start, following in pairwise([*self.starts, CODE + len(code)]):
            at = start - CODE
            if following - start == 1 and code[at] >> 4 == INC_OR_DEC:
                code[at] ^= 8
        return bytes(code)


class Generator:
    """Makes one program."""

    def __init__(self, rng: random.Random, *, more: bool = False) -> None:
        """`more` has it use call gates and two address spaces."""
        self.rng, self.more = rng, more
        self.code = bytearray()
        self.starts: list[int] = []
        self.ring = rng.choice((0, 3, 3))
        prefixes = ("make_", "also_") if more else ("make_",)
        self.kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith(prefixes)]
        weights = {"make_alu": 30, "make_move": 14, "make_load": 10, "make_store": 10, "make_stack": 6}
        self.weights = [weights.get(kind.__name__, 1) for kind in self.kinds]
        for index, kind in enumerate(self.kinds):  # each program has few of the rare kinds, and those often
            if kind.__name__ not in weights:
                self.weights[index] = rng.choice((0, 0, 0, 1, 3, 8))

    def make(self) -> Program:
        """Return a program of a few loops; it ends by beginning anew."""
        rng = self.rng
        if rng.random() < 0.3:  # the blocks lie across the end of a page
            self.emit(b"\xe9" + struct.pack("<i", gap := rng.randint(0xFC0, 0xFF8)) + b"\xf4" * gap)
        for number in range(rng.randint(1, 5)):
            counter = struct.pack("<I", DATA + 0xF00 + 4 * number)
            self.emit(b"\xc7\x05" + counter + struct.pack("<I", rng.choice((1, 2, 7, 60))))
            top = len(self.code)
            for _ in range(rng.choice((2, 5, 9, 20, 60, 300))):
                rng.choices(self.kinds, self.weights)[0]()
            self.emit(b"\xff\x0d" + counter)
            self.emit(b"\x0f\x85" + struct.pack("<i", top - len(self.code) - 6))
        self.emit(b"\xe9" + struct.pack("<i", -len(self.code) - 5))
        return Program(bytes(self.code), self.starts, self.ring, self.more)

    def emit(self, *pieces: bytes) -> None:
        """Append instructions."""
        for piece in pieces:
            self.starts.append(CODE + len(self.code))
            self.code += piece

    def place(self, page: int) -> bytes:
        """Return an address in a page, near its end now and then."""
        offset = self.rng.choice((0, 4, 0x40, 0x7FD, 0xFFC, 0xFFE))
        return struct.pack("<I", page + offset)

    @property
    def register(self) -> int:
        """Return the number of a register that holds data."""
        return self.rng.choice(FREE)

    # Frequent.

    def make_alu(self) -> None:
        """Compute."""
        one, other = self.register, self.register
        self.emit(self.rng.choice((
            bytes([0x40 + one]), bytes([0x48 + one]), b"\x90", bytes([0x01, 0xC0 | one << 3 | other]),
            bytes([0x31, 0xC0 | one << 3 | other]), bytes([0x0F, 0xAF, 0xC0 | one << 3 | other]),
        )))  # fmt: skip

    def make_move(self) -> None:
        """Load a constant."""
        self.emit(bytes([0xB8 + self.register]) + struct.pack("<I", self.rng.getrandbits(32)))

    def make_load(self) -> None:
        """Load."""
        self.emit(bytes([0x8B, 0x05 | self.register << 3]) + self.place(DATA))

    def make_store(self) -> None:
        """Store."""
        self.emit(bytes([0x89, 0x05 | self.register << 3]) + self.place(DATA))

    def make_stack(self) -> None:
        """Push and pop."""
        self.emit(bytes([0x50 + self.register]), b"\x60", b"\x61", bytes([0x58 + self.register]))

    # What ends a block early, or shows what is in it.

    def make_jump(self) -> None:
        """End a block."""
        self.emit(
            self.rng.choice((b"\x75\x00", b"\x74\x01\x90", b"\xeb\x00", b"\xe8\x00\x00\x00\x00", b"\x75\x02\x40\x42"))
        )
        if self.code[-5] == 0xE8:
            self.emit(b"\x58")

    def make_rep(self) -> None:
        """Move, fill or compare a few bytes, across pages that are not there too."""
        target = self.rng.choice((DATA, DATA + 0x1FF0, READ_ONLY, FILE, DEVICE, HOLE - 6))
        self.emit(b"\xb9" + struct.pack("<I", self.rng.randrange(7)), b"\xbf" + struct.pack("<I", target))
        self.emit(b"\xbe" + struct.pack("<I", self.rng.choice((DATA + 0x100, FILE + 8, HOLE - 3))))
        self.emit(
            self.rng.choice(
                (b"\xf3\xaa", b"\xf3\xa4", b"\xf3\xa5", b"\xf3\xab", b"\xf3\xa6", b"\xa4", b"\xa5", b"\xf3\xac")
            )
        )

    def make_fault(self) -> None:
        """Come to a page that is not there, or not for this."""
        page = self.rng.choice((HOLE, READ_ONLY, 0, 0xC000_0000))
        self.emit(bytes([self.rng.choice((0x8B, 0x89, 0x01, 0x87)), 0x05 | self.register << 3]) + self.place(page))

    def make_exception(self) -> None:
        """Raise an exception, or INT n."""
        self.emit(self.rng.choice((
            b"\xf7\xf3", b"\xf7\xf9", b"\x0f\x0b", b"\xcc", b"\xcd\x80", b"\xcd\x21", b"\xf1", b"\xce", b"\xf0\x89\xc0",
            b"\x66\xb8\x77\x00", b"\x8e\xe0", b"\x0f\x05", b"\x0f\x34", b"\x0f\xc7\xf0", b"\xd4\x00", b"\xc4\xc0\xff",
        )))  # fmt: skip

    def make_wild_jump(self) -> None:
        """Go where there is no code, or none that may be executed."""
        target = self.rng.choice((HOLE, FORBIDDEN, DEVICE, FILE, 0xC000_0000, HOLE - 3, ACROSS))
        if target == ACROSS:  # not with EAX there: what the engine does wrong is in docs/emulator-notes.md
            self.emit(b"\x68" + struct.pack("<I", target), b"\xc3")  # push target; ret
        else:
            self.emit(b"\xb8" + struct.pack("<I", target), b"\xff\xe0")  # mov eax, target; jmp eax

    def make_port(self) -> None:
        """Use a port."""
        self.emit(b"\x66\xba" + struct.pack("<H", self.rng.choice((DEVICE_PORT, HOST_PORT, 0x3F8, 0x20))))
        self.emit(
            self.rng.choice(
                (b"\xee", b"\xef", b"\xec", b"\xed", b"\xe6\xe0", b"\xe7\xe0", b"\x6e", b"\x6c", b"\xf3\x6f")
            )
        )

    def make_device(self) -> None:
        """Use registers of a device."""
        opcode = self.rng.choice((b"\x8b", b"\x89", b"\x01", b"\x03", b"\x87", b"\x8a", b"\x88", b"\x39"))
        register = bytes([0x05 | self.register << 3])
        self.emit(opcode + register + struct.pack("<I", DEVICE + 4 * self.rng.randrange(6)))

    def make_device_and_stack(self) -> None:
        """Push a register of a device, or pop into one."""
        self.emit(self.rng.choice((b"\xff\x35", b"\x8f\x05")) + struct.pack("<I", DEVICE + 4 * self.rng.randrange(4)))
        self.emit(b"\x83\xc4\x04" if self.code[-5] == 0x35 else b"\x83\xec\x04")

    def make_file(self) -> None:
        """Use memory above 4 GiB."""
        self.emit(bytes([self.rng.choice((0x8B, 0x89, 0x01)), 0x05 | self.register << 3]) + self.place(FILE))

    def make_change(self) -> None:
        """Store into code near by."""
        if not self.starts:
            return
        target = self.rng.choice(self.starts[-40:]) + self.rng.choice((0, 0, 0, ALIAS))
        ahead = CODE + len(self.code) + self.rng.choice((7, 8, 9, 12, 30))
        target = self.rng.choice((target, ahead, ahead))
        self.emit(b"\xc6\x05" + struct.pack("<I", target) + bytes([self.rng.choice((0x40, 0x43, 0x90, 0x4A))]))
        self.emit(*[b"\x90"] * self.rng.randrange(4))

    def make_flags(self) -> None:
        """Change TF, IF or the arithmetic flags."""
        trap = b"\x81\x0c\x24" + struct.pack("<I", self.rng.choice((0x100, 0x200, 0x1, 0x3000)))
        self.emit(
            *self.rng.choice(((b"\x9c", trap, b"\x9d"), (b"\xfa",), (b"\xfb",), (b"\xfb", b"\x90"), (b"\x9c", b"\x9d")))
        )

    def make_system(self) -> None:
        """Do what only ring 0 may, or what the host answers."""
        self.emit(*self.rng.choice((
            (b"\x0f\x20\xd8", b"\x0f\x22\xd8"), (b"\x0f\x01\x38",), (b"\x0f\x31",), (b"\x0f\xa2",), (b"\xf4",),
            (b"\x0f\x20\xc0", b"\x0f\x22\xc0"), (b"\x0f\x06",), (b"\x8c\xd0", b"\x8e\xd0", b"\x40"), (b"\x0f\x09",),
        )))  # fmt: skip

    def make_float(self) -> None:
        """Use the x87, MMX or SSE."""
        where = self.place(DATA)
        self.emit(self.rng.choice((
            b"\xd9\xe8", b"\xdb\x05" + where, b"\xde\xc1", b"\xdb\x1d" + where, b"\x0f\x28\x05" + where,
            b"\x0f\x29\x05" + where, b"\x0f\x5e\xc1", b"\x0f\xae\x1d" + where, b"\x0f\xae\x15" + where, b"\xdd\xd8",
            b"\x0f\x6f\xc1", b"\x0f\x77", b"\xd8\xf1", b"\x9b", b"\x66\x0f\x3a\x61\xc1\x0c",
        )))  # fmt: skip

    def make_far(self) -> None:
        """Transfer control through a far pointer."""
        if self.rng.random() < 0.5:
            self.emit(b"\x0e", b"\xe8\x00\x00\x00\x00", b"\x83\x04\x24\x05", b"\xcb")  # push cs; call; add; retf
        else:
            selector = 8 if self.ring == 0 else 0x1B
            self.emit(b"\xea" + struct.pack("<IH", CODE + len(self.code) + 7, selector))

    def also_gate(self) -> None:
        """Go through a call gate to ring 0 and back."""
        self.emit(b"\x9a" + struct.pack("<IH", 0, self.rng.choice((SPACE_GATE, WORK_GATE))))

    def also_space(self) -> None:
        """Go to the other address space in a loop: the same addresses hold other code in every turn."""
        self.emit(b"\x9a" + struct.pack("<IH", 0, SPACE_GATE), b"\x40", b"\x4b", b"\x42", b"\x45")
