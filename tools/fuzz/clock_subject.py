"""A machine under one of the clocks with a random program on it, and all that can be seen of it.

`callgate.tools.fuzz.stress_clock` compares two of them.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from callgate.kernel.machine.cpu.exceptions import PF
from callgate.kernel.machine.memory.bus import DeviceBase
from callgate.tools.fuzz.clock_programs import (
    CODE,
    DATA,
    DEVICE,
    DEVICE_PORT,
    FILE,
    FORBIDDEN,
    HOLE,
    HOST_PORT,
    READ_ONLY,
    STACK,
    Program,
)

KERNEL = 0xC000_0000
OTHER = 0x4000  # how far the tables of the other address space lie behind those of the first one
TABLES, GDT, IDT, TSS = (0x20_0000 + 0x1000 * page for page in (0, 8, 9, 10))
POINTERS, STUBS, KERNEL_STACK, ROUTINES = (0x20_0000 + 0x1000 * page for page in (11, 12, 32, 34))
BOOT = 0x10_0000
USER = 0x30_0000  # where user pages lie
OTHER_CODE = 0x34_0000  # and the code of the other address space
CODE_PAGES = 16
REGISTERS = 0xFEB0_0000
REPORT = 0xE8
ERRORS = (8, 10, 11, 12, 13, 14, 17)
FLAT, NX = 0xFFFF_FFFF, 1 << 63


class Nosy(DeviceBase):
    """A device that tells what it is asked and when, and interrupts."""

    name = "nosy"
    ports = (range(DEVICE_PORT, DEVICE_PORT + 4),)
    mmio = ((REGISTERS, 0x1000),)

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def _seen(self, what: str, address: int, size: int, value: int = 0) -> int:
        clock = self.host.clock
        self.log.append((what, address, size, value, clock))
        if value & 3 == 1:
            self.host.lower_line(5)
            self.host.raise_line(5)
        elif value & 3 == 2:
            self.host.schedule(value >> 2 & 0x3F, value)
        return clock * 0x9E37_79B1 >> 3 & (1 << 8 * size) - 1

    def port_read(self, port: int, size: int) -> int:
        """Answer with the time."""
        return self._seen("in", port, size)

    def port_write(self, port: int, size: int, value: int) -> None:
        """Interrupt, now or later."""
        self._seen("out", port, size, value)

    def mmio_read(self, address: int, size: int) -> int:
        """Answer with the time."""
        return self._seen("load", address, size)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """Interrupt, now or later."""
        self._seen("store", address, size, value)

    def on_event(self, token: Any) -> None:
        """Interrupt."""
        self.log.append(("event", token, self.host.clock))
        self.host.lower_line(5)
        self.host.raise_line(5)


class Subject:
    """A machine under one of the clocks, and all that can be seen of it."""

    def __init__(self, counter: str) -> None:
        self.machine = machine = Machine(memory=4 << 20, high_memory=1 << 20, counter=counter, ctrl_c=False)
        machine.counter.patience = 0
        self.log: list[Any] = []
        self.program = Program(b"", [], 3)
        self.rng = random.Random(0)  # noqa: S311
        self.places: dict[int, int] = {}
        machine.attach(Nosy(self.log))
        machine.host_calls.register(REPORT, self._handle, "report")
        machine.host_calls.register(HOST_PORT, self._called, "asked")
        machine.stream.subscribe(lambda event: self.log.append(event.line()))
        self._tables()
        self._boot()
        self.fresh = machine.snapshot()

    def _tables(self) -> None:
        ram = self.machine.ram
        low, directory, table = TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000
        ram.put_u64(TABLES, low | 1)
        ram.put_u64(TABLES + 24, directory | 1)
        for index in range(2):
            ram.put_u64(directory + 8 * index, index << 21 | 0x83)
        # Not what lies from 2 MiB on: a program that came to the tables would execute them while it changes them, and
        # what a CPU makes of that is undefined (Intel SDM vol. 3A, 4.10.4).
        ram.put_u64(low, 0x83)
        for slot in (2, 3):  # 4 MiB, and the alias
            ram.put_u64(low + 8 * slot, table | 7)
        self.table, self.other_table = table, table + OTHER - 0x1000
        for page in range(0x1E):
            self.map(CODE + 0x1000 * page, USER + 0x1000 * page | 7)
        self._other_space(low)
        for page in (HOLE, HOLE + 0x1000):
            self.map(page, 0)
        self.map(READ_ONLY, USER + 0x1_4000 | 5)
        self.map(DEVICE, REGISTERS | 7 | NX)
        self.map(FILE, HIGH_MEMORY | 7 | NX)
        self.map(FORBIDDEN, USER + 0x1_A000 | 7 | NX)
        descriptors = [0, *(Segment(0, FLAT, kind, dpl).encode() for dpl in (0, 3) for kind in (0x1A, 0x12))]
        descriptors.append(Segment(KERNEL + TSS, 0x67, 9, big=False).encode())
        routines = KERNEL + ROUTINES, KERNEL + ROUTINES + 0x40
        descriptors += [Gate(selector=8, offset=offset, type=0xC, dpl=3).encode() for offset in routines]
        ram.write(GDT, struct.pack(f"<{len(descriptors)}Q", *descriptors))
        # push eax; mov eax, cr3; xor eax, OTHER; mov cr3, eax; pop eax; retf
        ram.write(ROUTINES, b"\x50\x0f\x20\xd8\x35" + struct.pack("<I", OTHER) + b"\x0f\x22\xd8\x58\xcb")
        # inc ebx; push ebx; pop edx; dec ebp; retf
        ram.write(ROUTINES + 0x40, b"\x43\x53\x5a\x4d\xcb")
        ram.write(TSS, struct.pack("<3I", 0, KERNEL + KERNEL_STACK, 0x10).ljust(102, b"\0") + b"\x68\0")
        ram.write(POINTERS, struct.pack("<HIxxHI", 0x7F, KERNEL + GDT, 0x7FF, KERNEL + IDT))
        for vector in range(256):
            code = b"\x50\xb8" + struct.pack("<I", vector) + b"\xe7" + bytes([REPORT]) + b"\x58"
            code += (b"\x83\xc4\x04" if vector in ERRORS else b"") + b"\xcf"
            ram.write(STUBS + 16 * vector, code)
            dpl = 3 if vector in (3, 4, 0x80) else 0
            gate = Gate(selector=8, offset=KERNEL + STUBS + 16 * vector, type=0xE, dpl=dpl)
            ram.put_u64(IDT + 8 * vector, gate.encode())

    def _other_space(self, low: int) -> None:
        """Make an address space in which user pages hold other code."""
        ram = self.machine.ram
        ram.put_u64(TABLES + OTHER, low + OTHER | 1)
        ram.put_u64(TABLES + OTHER + 24, TABLES + 0x2000 | 1)
        for slot, entry in enumerate((0x83, 0, self.other_table | 7, self.other_table | 7)):
            ram.put_u64(low + OTHER + 8 * slot, entry)
        for page in range(CODE_PAGES):
            ram.put_u64(self.other_table + 8 * page, OTHER_CODE + 0x1000 * page | 7)

    def map(self, linear: int, entry: int) -> None:
        """Write a user page's entry, in both address spaces."""
        at = 8 * (linear - CODE >> 12)
        self.machine.ram.put_u64(self.table + at, entry)
        self.machine.ram.put_u64(self.other_table + at, entry)

    def _boot(self) -> None:
        """Turn paging on, with NX, and load the tables and segments of ring 0."""
        source = f"0f20e0 0d20060000 0f22e0 b8{_le(TABLES)} 0f22d8 b9800000c0 0f32 0d00080000 0f30"
        source += f"0f20c0 0d03000180 0f22c0 0f0115{_le(KERNEL + POINTERS)} 0f011d{_le(KERNEL + POINTERS + 8)}"
        source += "b810000000 8ed8 8ec0 8ed0 b828000000 0f00d8 f4"
        machine = self.machine
        machine.ram.write(BOOT, bytes.fromhex(source))
        machine.cpu.eip = BOOT
        stop = machine.run(fuel=100)
        assert stop.reason == "halt", stop
        for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)):
            machine.ports.bus.write(port, 1, value)

    def load(self, program: Program, seed: int, tick: int) -> None:
        """Begin a program, with a timer that ticks every `tick` of its periods, or not at all for 0."""
        machine = self.machine
        machine.restore(self.fresh)
        self.log.clear()
        self.program, self.rng = program, random.Random(seed)  # noqa: S311
        machine.ram.write(USER, program.code)
        machine.code_changed(USER, len(program.code))
        if program.more:
            machine.ram.write(OTHER_CODE, program.other())
            machine.code_changed(OTHER_CODE, len(program.code))
        if tick:
            for port, value in ((0x43, 0x34), (0x40, tick & 0xFF), (0x40, tick >> 8)):
                machine.ports.bus.write(port, 1, value)
        cpu = machine.cpu
        for name in ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"):
            setattr(cpu, name, DATA)
        cpu.esp = KERNEL + KERNEL_STACK - 0x200
        if program.ring == 3:
            frame = struct.pack("<5I", CODE, 0x1B, 0x202 | self.rng.choice((0, 0x3000)), STACK, 0x23)
        else:
            frame = struct.pack("<3I", CODE, 8, 0x202)
        machine.paging.write_linear(cpu.esp, frame)
        machine.ram.write(BOOT, b"\xcf")
        machine.code_changed(BOOT, 1)
        cpu.eip = KERNEL + BOOT

    # What the guest asks.

    def _called(self, value: int) -> None:
        machine, choice = self.machine, self.rng.random()
        self.log.append(("host call", value, machine.clock.now, machine.traps.current()))
        if choice < 0.2:
            machine.request_stop("host", value)
        elif choice < 0.3:
            machine.pic.raise_line(1)
        elif choice < 0.4:
            self.toggle(self.rng.choice(self.program.starts))

    def _handle(self, vector: int) -> None:
        """Handle an exception or interrupt: send the program on, at the next instruction or at a random one."""
        machine, rng = self.machine, self.rng
        esp = machine.cpu.esp + 4
        words = struct.unpack("<6I", machine.paging.read_linear(esp, 24))
        self.log.append(("vector", vector, words, machine.cpu.cr2 if vector == PF else 0, machine.clock.now))
        if 0x20 <= vector < 0x30:
            machine.ports.bus.write(0x20, 1, 0x20)
            return
        software = vector in ERRORS and words[1] in (8, 0x1B) and words[0] > 0xFFFF
        at = esp + (4 if vector in ERRORS and not software else 0)
        if vector in (3, 4, 0x80) or (vector == 1 and rng.random() < 0.9):
            return
        machine.paging.write_linear(at, struct.pack("<I", rng.choice(self.program.starts)))
        if vector == 1:
            eflags = int.from_bytes(machine.paging.read_linear(at + 8, 4), "little")
            machine.paging.write_linear(at + 8, struct.pack("<I", eflags & ~0x100))
        if words[1 if at == esp else 2] & 3:
            machine.paging.write_linear(at + 12, struct.pack("<I", STACK))

    # What the host does.

    def toggle(self, address: int) -> None:
        """Set a counted place that reports itself, or remove it."""
        machine = self.machine
        if address in self.places:
            machine.unprobe(self.places.pop(address))
        else:
            self.places[address] = machine.probe(
                address, lambda: self.log.append(("site", address, machine.clock.now, machine.cpu.eip))
            )

    def clear(self) -> None:
        """Remove all places."""
        for address in list(self.places):
            self.toggle(address)
        self.machine.breakpoints.clear()

    def seen(self, stop: object) -> tuple[Any, ...]:
        """Return all that can be seen now, and forget what has been seen."""
        machine, log = self.machine, list(self.log)
        self.log.clear()
        state = machine.state
        counts = machine.ledger.counts().as_dict()
        position = machine.position
        numbers = (position, list(state.quadrants), state.in_kernel, machine.clock.idle)
        return str(stop), machine.cpu.registers(), counts, numbers, log

    def memory(self) -> bytes:
        """Return what programs can write."""
        ram = self.machine.ram
        other = ram.read(OTHER_CODE, CODE_PAGES << 12)
        return (
            other + ram.read(USER, 0x1_E000) + ram.read(KERNEL_STACK - 0x1000, 0x1000) + ram.read(HIGH_MEMORY, 0x2000)
        )


def _le(value: int) -> str:
    return struct.pack("<I", value).hex()
