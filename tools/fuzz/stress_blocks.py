"""Random programs of ring 3 that write short routines beside unmapped pages and call them, under both clocks.

    python -m callgate.tools.fuzz.stress_blocks --programs 5000 --seed 1

It aims at what the clock by blocks knows of a block: which of its translations exist, and with which flags of the
engine.  A routine of a few bytes is written at an end of a page, whose neighbour may not be mapped, and called; between
calls AC, TF, RF and ID change, ES gets a base or loses it, and MOV SS cuts a block after one instruction.  An exception
sends the program on.  In half of the programs the clock to be tested runs in pieces, with snapshots and code that is
forgotten between them, while the other runs in one; in some the handler maps pages and takes them away.  The stop, the
registers, all exceptions with their instants, and memory must be the same.
"""

from __future__ import annotations

import random
import struct
import sys
from typing import Any, Final

from callgate.kernel.machine.cpu.descriptors import Segment
from callgate.kernel.machine.cpu.exceptions import BP, DB, PF, UD
from callgate.tools.fuzz.both_clocks import BothClocks, Difference, differing, run_tool
from callgate.tools.fuzz.clock_programs import CODE, DATA, STACK, Program
from callgate.tools.fuzz.clock_subject import ERRORS, FLAT, GDT, USER, Subject

FUEL: Final = (3_000, 8_000, 20_000)  # instructions of a program
PIECES: Final = (1, 2, 7, 60, 150, 400, 2_000)
MOST_REPORTS: Final = 400
REMAPS: Final = 5  # exceptions from one change of a page to the next
TURNS: Final = 60  # how often a program begins anew
#: Where routines lie: at the ends of pages, and in one.
SPOTS: Final = (0x400FE0, 0x400FF0, 0x401FF0, 0x402800, 0x402FF8)
NEIGHBOURS: Final = (0x401000, 0x402000, 0x403000)  # pages that need not be mapped
LONGEST: Final = 16  # bytes of a routine
COUNTER: Final = DATA + 0xC00
SOURCE, TARGET = DATA + 0xE00, DATA + 0xD00  # what ESI and EDI point to
TOP: Final = STACK - 16  # ESP of a program
FLAT_DATA, MOVED_DATA = 0x23, 0x43  # selectors; the second one has a base
BASE: Final = 0x10
PRESENT: Final = 7  # of a page's entry: present, writable, ring 3
AC, RF, TF, ID = 1 << 18, 1 << 16, 1 << 8, 1 << 21
FLAGS: Final = (AC, AC, TF, RF, ID, AC | TF)
#: Instructions: flags at a fault, hooks, LOCK, string instructions, floating point, and what is refused in ring 3.
BODIES: Final = tuple(map(bytes.fromhex, (
    "0f9406", "0f9506", "d11e", "d116", "d01e", "0f31", "f00fbaf000", "0fc7c8", "d9e8", "0f57c0", "fa", "90", "40",
    "cc", "60", "61", "c8000000", "8ed0", "f3a4", "a4", "8b06", "264000", "268b06", "660f6fc0", "f4", "e480",
)))  # fmt: skip
ENDS: Final = tuple(map(bytes.fromhex, ("c3", "ebfe", "90", "9090", "75fe", "e9")))


def _move(register: int, value: int) -> bytes:
    return bytes([0xB8 + register]) + struct.pack("<I", value)


def _routine(rng: random.Random) -> bytes:
    body = b"".join(rng.choice(BODIES) for _ in range(rng.randint(1, 4))) + rng.choice(ENDS)
    if rng.random() < 0.5:
        return (body + b"\x90" * LONGEST)[: rng.choice((4, 8, 12, LONGEST))]
    return (body + b"\xc3")[:LONGEST]


def _stores(spot: int, body: bytes) -> bytes:
    whole = len(body) & ~3
    code = b"".join(b"\xc7\x05" + struct.pack("<I", spot + at) + body[at : at + 4] for at in range(0, whole, 4))
    return code + b"".join(
        b"\xc6\x05" + struct.pack("<I", spot + at) + body[at : at + 1] for at in range(whole, len(body))
    )


def make(rng: random.Random, spots: list[int]) -> Program:
    """Return a program; the last two of its `starts` are where it goes on after an exception, and its end."""
    code = _move(1, 100) + b"\x49\x75\xfd"  # mov ecx, 100; dec ecx; jnz: the clock goes by blocks afterwards
    code += _move(0, FLAT_DATA) + b"\x8e\xd8\x8e\xc0"  # mov ds, eax; mov es, eax
    code += b"\xc7\x05" + struct.pack("<2I", COUNTER, TURNS)
    top = len(code)
    code += _move(4, TOP) + _move(6, SOURCE) + _move(7, TARGET) + _move(1, 3)
    for _ in range(rng.randint(6, 14)):
        what, spot = rng.randrange(9), rng.choice(spots)
        if what == 0:
            code += b"\x9c\x81\x34\x24" + struct.pack("<I", rng.choice(FLAGS)) + b"\x9d"  # pushfd; xor [esp], …; popfd
        elif what == 1:
            code += _move(0, rng.choice((FLAT_DATA, MOVED_DATA))) + b"\x8e\xc0"  # mov es, eax
        elif what == 2:
            code += _move(0, FLAT_DATA) + _move(2, spot) + b"\x8e\xd0\xff\xd2"  # mov ss, eax; call edx
        elif what < 6:
            code += _move(2, spot) + b"\xff\xd2"
        else:
            code += _stores(spot, _routine(rng))
    recover = len(code)
    code += b"\xff\x0d" + struct.pack("<I", COUNTER) + b"\x75\x02\x0f\x0b"  # dec [counter]; jnz over ud2
    code += b"\xe9" + struct.pack("<i", top - len(code) - 5)
    return Program(code, [CODE + recover, CODE + len(code)], 3)


class BlockSubject(Subject):
    """A machine whose handler sends a program on at one place, and may change the pages beside the routines."""

    def __init__(self, counter: str) -> None:
        super().__init__(counter)
        self.machine.ram.put_u64(GDT + MOVED_DATA & ~7, Segment(BASE, FLAT, 0x12, 3).encode())
        self.fresh = self.machine.snapshot()
        self.remaps = 0  # what decides about pages; 0: they stay as they are

    def begin(self, program: Program, seed: int, mapped: list[bool]) -> None:
        """Begin a program with RET in all routines."""
        self.load(program, seed, 0)
        for spot in SPOTS:
            self.machine.ram.write(USER + spot - CODE, b"\xc3")
        for page, there in zip(NEIGHBOURS, mapped, strict=True):
            self._map(page, there=there)

    def _map(self, page: int, *, there: bool) -> None:
        self.map(page, USER + page - CODE | PRESENT if there else 0)
        self.machine.flush_tlb()

    def _handle(self, vector: int) -> None:
        machine, number = self.machine, len(self.log)
        esp = machine.cpu.esp + 4
        words = struct.unpack("<6I", machine.paging.read_linear(esp, 24))
        self.log.append((vector, words, machine.cpu.cr2 if vector == PF else 0, machine.clock.retired))
        if number >= MOST_REPORTS:
            machine.request_stop("host", "many")
            return
        if self.remaps and number % REMAPS == 0:
            turn = number // REMAPS
            self._map(NEIGHBOURS[turn % len(NEIGHBOURS)], there=bool((turn + self.remaps) % 3))
        if vector in (DB, BP):
            return
        software = vector in ERRORS and words[1] == 0x1B and words[0] > 0xFFFF
        at = 1 if vector in ERRORS and not software else 0
        eip, cs, eflags = words[at : at + 3]
        recover, end = self.program.starts
        if cs & 3 != 3 or (vector == UD and recover <= eip < end):
            machine.request_stop("host", vector)
            return
        machine.paging.write_linear(esp + 4 * at, struct.pack("<I", recover))
        machine.paging.write_linear(esp + 4 * at + 8, struct.pack("<I", eflags & ~TF | 2))

    def outcome(self, fuel: int, pieces: random.Random | None) -> tuple[Any, ...]:
        """Run to the end, in pieces or in one; return all that can be seen."""
        machine = self.machine
        begun = machine.clock.retired
        while True:
            left = fuel - (machine.clock.retired - begun)
            stop = machine.run(fuel=left if pieces is None else min(left, pieces.choice(PIECES)))
            if stop.reason != "fuel" or machine.clock.retired - begun >= fuel:
                break
            assert pieces is not None
            if pieces.random() < 0.1:
                machine.restore(machine.snapshot())
            if pieces.random() < 0.05:
                machine.code_changed(USER, 0x3000)
        counts = machine.ledger.counts().as_dict()
        return (stop.reason, stop.detail, machine.clock.retired), machine.cpu.registers(), counts, list(self.log)


class Pair(BothClocks[BlockSubject]):
    """The two machines."""

    def __init__(self, counter: str, oracle: str) -> None:
        super().__init__(BlockSubject(counter), BlockSubject(oracle))

    def program(self, seed: int) -> int:
        """Run one program; return the exceptions it had.  Difference where the clocks do not agree."""
        rng = random.Random(seed)  # noqa: S311
        mapped = [rng.random() < 0.5 for _ in NEIGHBOURS]
        there = [CODE, *(page for page, is_there in zip(NEIGHBOURS, mapped, strict=True) if is_there)]
        program = make(rng, [spot for spot in SPOTS if spot & ~0xFFF in there])
        fuel, in_pieces = rng.choice(FUEL), rng.random() < 0.5
        remaps = rng.choice((0, 0, 1, 2, 3))
        found = []
        for subject, pieces in zip(self.both, (random.Random(seed) if in_pieces else None, None), strict=True):  # noqa: S311
            subject.remaps = remaps
            subject.begin(program, seed, mapped)
            found.append(subject.outcome(fuel, pieces))
        for name, one, other in zip(("stop", "registers", "ledger", "exceptions"), *found, strict=True):
            if one != other:
                raise Difference(f"{name}: {differing(one, other)}")
        if self.both[0].memory() != self.both[1].memory():
            raise Difference("memory differs at the end")
        exceptions = len(found[0][3])
        self.counts.update({"exceptions": exceptions, "instructions": found[0][0][2]})
        return exceptions


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; return its exit status."""
    return run_tool(
        "callgate.tools.fuzz.stress_blocks",
        __doc__,
        Pair,
        "the stop, registers, ledger, exceptions and memory of each were the same under {clocks}",
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
