"""Random programs that change their own code, run by the machine and by an interpreter of their few instructions.

    python -m callgate.tools.fuzz.stress_translations --seconds 600 --seed 1

Each case is a program of straight-line code (some blocks longer than the engine translates in one piece) with
loops, stores into its own block, the next one, another page and through a second mapping of the same page.  It runs
in slices of random length, down to single steps, and between slices its code is changed by the host or the machine
goes back to a snapshot.  After every slice registers and the count of instructions must be those of the interpreter,
which shares nothing with the engine; at the end memory must be, too.  A case runs in a child process, so that a
crash of the engine is a result: the exit status is 1 and the message names the seed.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field

from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks.kinds import KINDS

ALIAS = 8 << 20  # the second mapping of all memory
CODE, DATA, TABLES, BOOT, STACK = 0x20_0000, 0x40_0000, 0x10_0000, 0x1000, 0x50_0000
DATA_WORDS = 64
NAMES = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
FREE = (0, 2, 3, 5, 6)  # registers that hold data: not ECX, ESP, EDI
SINGLE = (*(0x40 + r for r in FREE), *(0x48 + r for r in FREE), 0x90)  # INC, DEC, NOP
MASK = 0xFFFF_FFFF
CASES = 20  # in one child process
LIMIT = 1_500  # instructions of a case


@dataclass
class Interpreter:
    """The few instructions that programs are made of, executed from a copy of memory (SDM vol. 2)."""

    memory: bytearray
    eip: int = CODE
    registers: list[int] = field(default_factory=lambda: [0, 0, 0, 0, STACK, 0, 0, 0])
    zero: bool = False
    count: int = 0
    halted: bool = False

    def word(self, address: int) -> int:
        """Return a dword of memory, by either mapping."""
        return int(struct.unpack_from("<I", self.memory, address % ALIAS)[0])

    def store(self, address: int, value: int) -> int:
        """Write a dword; return it."""
        struct.pack_into("<I", self.memory, address % ALIAS, value & MASK)
        return value & MASK

    def put(self, register: int, value: int) -> None:
        """Write a register and the zero flag."""
        self.registers[register] = value & MASK
        self.zero = not value & MASK

    def step(self) -> None:
        """Retire one instruction, or one iteration of REP."""
        at, memory = self.eip, self.memory
        opcode, second = memory[at], memory[at + 1]
        self.count += 1
        if 0x40 <= opcode < 0x50:
            self.put(opcode & 7, self.registers[opcode & 7] + (1 if opcode < 0x48 else -1))
            self.eip += 1
        elif opcode == 0x90:
            self.eip += 1
        elif 0xB8 <= opcode < 0xC0:
            self.registers[opcode & 7] = self.word(at + 1)
            self.eip += 5
        elif opcode == 0x01:
            self.put(second & 7, self.registers[second & 7] + self.registers[second >> 3 & 7])
            self.eip += 2
        elif opcode in (0x89, 0x8B):
            self._move(opcode, second >> 3 & 7, self.word(at + 2))
        elif opcode in (0x81, 0xC6, 0xC7, 0xFE, 0xFF, 0xF0):
            self._on_memory(at, opcode, second)
        else:
            self._transfer(at, opcode, second)

    def _move(self, opcode: int, register: int, address: int) -> None:
        if opcode == 0x89:
            self.store(address, self.registers[register])
        else:
            self.registers[register] = self.word(address)
        self.eip += 6

    def _on_memory(self, at: int, opcode: int, second: int) -> None:
        size = 6
        if opcode == 0x81 and second >= 0xC0:
            value, old = self.word(at + 2), self.registers[second & 7]
            self.put(second & 7, old ^ value if second >= 0xF0 else old + value)
        elif opcode == 0x81:
            self.zero = not self.store(self.word(at + 2), self.word(self.word(at + 2)) + self.word(at + 6))
            size = 10
        elif opcode == 0xC6:
            self.memory[self.word(at + 2) % ALIAS] = self.memory[at + 6]
            size = 7
        elif opcode == 0xC7 and second == 0x05:
            self.store(self.word(at + 2), self.word(at + 6))
            size = 10
        elif opcode == 0xC7:
            self.store(self.registers[4] - 64, self.word(at + 4))
            size = 8
        elif opcode == 0xFE:
            address = self.word(at + 2) % ALIAS
            self.memory[address] = self.memory[address] + 1 & 0xFF
            self.zero = not self.memory[address]
        elif opcode == 0xF0:
            self.zero = not self.store(self.word(at + 3), self.word(self.word(at + 3)) + 1)
            size = 7
        else:
            self.zero = not self.store(self.word(at + 2), self.word(self.word(at + 2)) - 1)
        self.eip = at + size

    def _transfer(self, at: int, opcode: int, second: int) -> None:
        if opcode == 0xE9:
            self.eip = at + 5 + self.word(at + 1) & MASK
        elif opcode == 0x0F and second == 0x85:
            self.eip = at + 6 + (0 if self.zero else self.word(at + 2)) & MASK
        elif opcode == 0xF3:
            if self.registers[1]:
                self.store(self.registers[7], self.registers[0])
                self.registers[7] += 4
                self.registers[1] -= 1
            else:
                self.eip = at + 2
        elif opcode == 0xF4:
            self.halted, self.eip = True, at + 1
        else:
            raise AssertionError(f"a program ran into {opcode:#x} at {at:#x}")


@dataclass
class Program:
    """A random program, and the places in it that may be changed."""

    code: bytes
    words: list[int]  # addresses of dwords that may hold any value
    singles: list[int]  # addresses of one-byte instructions


class Generator:
    """Makes a program; targets of its stores are chosen when all places are known."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.code = bytearray()
        self.words: list[int] = []
        self.singles: list[int] = []
        self.patches: list[tuple[int, str]] = []  # where an address is to be filled in, and its name

    def make(self) -> Program:
        """Return a program of up to six loops over blocks of up to 1,000 instructions."""
        rng = self.rng
        for loop in range(rng.randint(1, 6)):
            counter = DATA + 0x800 + 4 * loop
            self._emit(b"\xc7\x05" + struct.pack("<II", counter, rng.choice((1, 2, 3, 9, 40))))
            top = len(self.code)
            for _ in range(rng.choice((3, 10, 30, 100, 200, 1000))):
                self._instruction()
            self._emit(b"\xff\x0d" + struct.pack("<I", counter))
            self._emit(b"\x0f\x85" + struct.pack("<i", top - len(self.code) - 6))
            if rng.random() < 0.5:
                gap = rng.choice((0, 1, 300, 4096))
                self._emit(b"\xe9" + struct.pack("<i", gap) + b"\xcc" * gap)
        self._emit(b"\xf4")
        for at, kind in self.patches:
            struct.pack_into("<I", self.code, at, self._target(kind, at))
        return Program(bytes(self.code), self.words, self.singles)

    def _emit(self, code: bytes) -> None:
        self.code += code

    def _target(self, kind: str, near: int) -> int:
        """Return the target of a store: data, or code that may be changed, often nearby, by one of both mappings."""
        rng = self.rng
        places = self.singles if kind == "single" else self.words
        alias = rng.choice((0, 0, ALIAS))
        if kind == "data" or not places or (kind == "word" and rng.random() < 0.5):
            return DATA + 4 * rng.randrange(DATA_WORDS) + alias
        close = [place for place in places if abs(place - CODE - near) < 120]
        return rng.choice(close if close and rng.random() < 0.6 else places) + alias

    def _instruction(self) -> None:  # noqa: C901
        rng = self.rng
        register, value = rng.choice(FREE), rng.getrandbits(32)
        kind = rng.choices(range(11), (8, 8, 8, 4, 6, 6, 2, 2, 2, 3, 0.3))[0]
        at = CODE + len(self.code)
        if kind == 0:
            self.singles.append(at)
            self._emit(bytes([rng.choice(SINGLE)]))
        elif kind == 1:
            self.words.append(at + 1)
            self._emit(bytes([0xB8 + register]) + struct.pack("<I", value))
        elif kind == 2:
            self.words.append(at + 2)
            self._emit(bytes([0x81, rng.choice((0xC0, 0xF0)) + register]) + struct.pack("<I", value))
        elif kind == 3:
            self._emit(bytes([0x01, 0xC0 | rng.choice(FREE) << 3 | register]))
        elif kind == 4:
            self._emit(b"\xc7\x44\x24\xc0" + struct.pack("<I", value))
        elif kind == 5:
            self._store(rng.choice((b"\xc7\x05", b"\x81\x05")), "word", struct.pack("<I", value))
        elif kind == 6 and self.singles:
            self._store(b"\xc6\x05", "single", bytes([rng.choice(SINGLE)]))
        elif kind == 7:
            self._store(bytes([rng.choice((0x89, 0x8B)), 0x05 | register << 3]), "word", b"")
        elif kind == 8:
            self._store(rng.choice((b"\xfe\x05", b"\xf0\xff\x05")), "word", b"")
        elif kind == 9:
            self._store(b"\x89" + bytes([0x05 | register << 3]), "data", b"")
        else:
            self._emit(b"\xb9" + struct.pack("<I", rng.randrange(9)) + b"\xbf" + struct.pack("<I", DATA) + b"\xf3\xab")

    def _store(self, opcode: bytes, kind: str, immediate: bytes) -> None:
        self.patches.append((len(self.code) + len(opcode), kind))
        self._emit(opcode + bytes(4) + immediate)


def boot(machine: Machine) -> None:
    """Turn paging on, with all of low memory at 0 and once more at `ALIAS`."""
    machine.ram.put_u64(TABLES, TABLES + 0x1000 | 1)
    for index in range(8):
        machine.ram.put_u64(TABLES + 0x1000 + 8 * index, index % 4 << 21 | 0x83)
    source = "0f20e0 83c820 0f22e0 b800001000 0f22d8 0f20c0 0d00000180 0f22c0 f4"  # CR4.PAE, CR3, CR0.PG and WP; HLT
    machine.ram.write(BOOT, bytes.fromhex(source))
    machine.cpu.eip = BOOT
    machine.run()


class Case:
    """One program on the machine and in the interpreter."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine, self.rng = machine, random.Random(seed)  # noqa: S311
        self.program = Generator(self.rng).make()
        machine.ram.write(DATA, bytes(0x1000))
        machine.ram.write(CODE, self.program.code)
        machine.code_changed(CODE, len(self.program.code))
        for number, name in enumerate(NAMES):
            setattr(machine.cpu, name, STACK if number == 4 else 0)
        machine.cpu.eip = CODE
        self.expected = Interpreter(bytearray(machine.ram.read(0, ALIAS)))
        self.begun = machine.clock.retired

    def run(self) -> int:
        """Run to the end or `LIMIT`; return the instructions retired.  AssertionError where the two differ."""
        rng = self.rng
        steps = rng.choice(((1,), (1, 2, 7, 60), (1, 40, 900), (2000, 9000)))
        kept = None
        budget = 150 if steps == (1,) else 400
        while self._unfinished() and budget:
            budget -= 1
            self._slice(rng.choice(steps))
            choice = rng.random()
            if choice < 0.08:
                self._change()
            elif choice < 0.11 and kept is None:
                kept = self._keep()
            elif choice < 0.13 and kept is not None:
                self._back(kept)
                kept = None
        while self._unfinished():
            self._slice(LIMIT)
        expected = self.expected
        assert self.machine.ram.read(CODE, len(self.program.code) + 1) == bytes(
            expected.memory[CODE : CODE + len(self.program.code) + 1]
        ), "code differs"
        assert self.machine.ram.read(DATA, 0x1000) == bytes(expected.memory[DATA : DATA + 0x1000]), "data differ"
        return expected.count

    def _unfinished(self) -> bool:
        return not self.expected.halted and self.expected.count < LIMIT

    def _slice(self, fuel: int) -> None:
        machine, expected = self.machine, self.expected
        machine.run(fuel=fuel)
        for _ in range(fuel):
            if expected.halted:
                break
            expected.step()
        values = machine.cpu.registers()
        found = [machine.clock.retired - self.begun, values["eip"], *(values[name] for name in NAMES)]
        wanted = [expected.count, expected.eip, *expected.registers]
        assert found == wanted, f"count, EIP, registers {found}, not {wanted}"

    def _change(self) -> None:
        """Let the host change code: through the CPU's mapping, or as DMA does."""
        rng, program = self.rng, self.program
        if program.singles and rng.random() < 0.5:
            address, data = rng.choice(program.singles), bytes([rng.choice(SINGLE)])
        elif program.words:
            address, data = rng.choice(program.words), struct.pack("<I", rng.getrandbits(32))
        else:
            return
        self.expected.memory[address : address + len(data)] = data
        if rng.random() < 0.5:
            self.machine.write(address + rng.choice((0, ALIAS)), data)
        else:
            self.machine.ram.write(address, data)
            self.machine.code_changed(address, len(data))

    def _keep(self) -> tuple[object, Interpreter]:
        old = self.expected
        copy = Interpreter(bytearray(old.memory), old.eip, list(old.registers), old.zero, old.count, old.halted)
        return self.machine.snapshot(), copy

    def _back(self, kept: tuple[object, Interpreter]) -> None:
        self.machine.restore(kept[0])  # type: ignore[arg-type]  # a snapshot, which has no public name here
        self.expected = kept[1]


def child(seed: int, cases: int, counter: str) -> int:
    """Run cases on one machine, so that code that one leaves translated is there for the next; return instructions."""
    total = 0
    with Machine(memory=8 << 20, high_memory=0, counter=counter) as machine:
        machine.counter.patience = 0
        boot(machine)
        for number in range(seed, seed + cases):
            try:
                total += Case(machine, number).run()
            except AssertionError as error:
                raise SystemExit(f"seed {number}: {error}") from error
    return total


def main(arguments: list[str] | None = None) -> int:
    """Run children until the time is up; return 1 if one crashed or found a difference."""
    parser = argparse.ArgumentParser(prog="stress_translations", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="begin no case after this many seconds (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="the first case's seed (default 1)")
    parser.add_argument("--cases", type=int, default=CASES, help=f"cases on one machine (default {CASES})")
    parser.add_argument("--counter", choices=KINDS, default="auto", help="the clock's hook")
    parser.add_argument("--here", action="store_true", help="run one machine's cases in this process")
    options = parser.parse_args(arguments)
    if options.here:
        print(child(options.seed, options.cases, options.counter))
        return 0
    end, seed, total = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end:
        command = [sys.executable, "-X", "faulthandler", "-m", "callgate.tools.fuzz.stress_translations", "--here"]
        command += ["--seed", str(seed), "--cases", str(options.cases), "--counter", options.counter]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            print(f"cases {seed} to {seed + options.cases - 1} ended with {done.returncode}: {done.stderr[-2000:]}")
            return 1
        seed, total = seed + options.cases, total + int(done.stdout)
    print(f"{seed - options.seed} programs, {total} instructions: no difference and no crash")
    return 0


if __name__ == "__main__":
    sys.exit(main())
