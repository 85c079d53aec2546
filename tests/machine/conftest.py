"""A board for machine tests: PAE paging, rings 0 and 3, an IDT whose handlers report to Python.

Physical memory: code of ring 0 at 0x10_0000 (linear 0xC010_0000), tables from 0x20_0000, user code at
0x30_0000 (linear 0x40_0000) and a user stack below 0x50_0000 (linear 0x50_0000, physical 0x31_0000).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

import pytest
from callgate.kernel.machine import Machine
from callgate.kernel.machine.blocks.kinds import VARIABLE
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from keystone import KS_ARCH_X86, KS_MODE_32, KS_MODE_64, Ks

KERNEL = 0xC000_0000
CODE, TABLES, USER, USER_LINEAR, USER_STACK = 0x10_0000, 0x20_0000, 0x30_0000, 0x40_0000, 0x50_0000
PDPT, DIRECTORY, LOW_DIRECTORY, USER_TABLE = TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000
GDT, IDT, TSS, POINTERS = TABLES + 0x5000, TABLES + 0x6000, TABLES + 0x7000, TABLES + 0x8000
KERNEL_STACK, STUBS = TABLES + 0x1_0000, TABLES + 0x1_1000
PAGE_RIGHTS = {"r": 0x5, "rw": 0x7, "kernel": 0x3, "kernel-r": 0x1, "none": 0}
NX = 1 << 63
REPORT, DONE = 0xE8, 0xE9
WITH_CODE = {8, 10, 11, 12, 13, 14, 17}
FLAT = 0xFFFF_FFFF

keystone = Ks(KS_ARCH_X86, KS_MODE_32)


@cache
def encode(source: str, address: int = 0x1000) -> bytes:
    """Return the machine code of a few instructions; far forms are spelt as bytes by the callers."""
    code, _ = keystone.asm(source.replace("\n", ";"), address)
    return bytes(code or b"")


def gate_to_stub(vector: int, **fields: int | bool) -> bytes:
    """Return an IDT entry: an interrupt gate to the reporting stub, with some fields otherwise."""
    values = {"selector": 8, "offset": KERNEL + STUBS + vector * 64, "type": 0xE} | fields
    return struct.pack("<Q", Gate(**values).encode())  # type: ignore[arg-type]


@cache
def handlers() -> tuple[bytes, bytes]:
    """Return the reporting stubs and the IDT."""

    def stub(vector: int) -> bytes:
        drop = "add esp, 4;" if vector in WITH_CODE else ""
        return encode(f"push eax; mov eax, {vector}; out {REPORT:#x}, eax; pop eax; {drop} iretd").ljust(64, b"\0")

    gates = (gate_to_stub(vector, dpl=3 if vector in {3, 4, 0x80} else 0) for vector in range(256))
    return b"".join(map(stub, range(256))), b"".join(gates)


@dataclass
class Report:
    """The data of a handler: vector, error code if there is one, and the frame that the CPU pushed."""

    vector: int
    error: int | None
    eip: int
    cs: int
    eflags: int
    esp: int | None
    ss: int | None
    cr2: int
    stack: int  # ESP at the handler's first instruction
    flags_inside: int
    clock: int


@dataclass
class Board:
    """A machine with tables, stubs and a log of exceptions."""

    machine: Machine
    reports: list[Report] = field(default_factory=list)
    answer: Callable[[Report], None] = lambda _: None

    def __post_init__(self) -> None:
        m = self.machine
        m.host_calls.register(REPORT, self._report, "report")
        m.host_calls.register(DONE, lambda value: m.request_stop("host", value), "done")
        self._page_tables()
        self._descriptors()

    def _page_tables(self) -> None:
        ram = self.machine.ram
        ram.put_u64(PDPT, LOW_DIRECTORY | 1)
        ram.put_u64(PDPT + 24, DIRECTORY | 1)
        for index in range(16):
            ram.put_u64(DIRECTORY + index * 8, index << 21 | 0x83)
        ram.put_u64(LOW_DIRECTORY, 0x83)  # the boot code's own page
        ram.put_u64(LOW_DIRECTORY + 2 * 8, USER_TABLE | 7)
        for index in range(16):
            self.map(USER_LINEAR + index * 0x1000, USER + index * 0x1000, "rw")
        self.map(USER_STACK - 0x1000, USER + 0x1_0000, "rw")

    def map(self, linear: int, physical: int, rights: str, extra: int = 0) -> int:
        """Write an entry between 4 and 6 MiB; return its address."""
        entry = USER_TABLE + (linear >> 12 & 0x1FF) * 8
        self.machine.ram.put_u64(entry, physical | PAGE_RIGHTS[rights] | extra if rights != "none" else 0)
        self.machine.flush_tlb()
        return entry

    def _descriptors(self) -> None:
        ram = self.machine.ram
        entries = [
            0,
            Segment(0, FLAT, 0x1A).encode(),
            Segment(0, FLAT, 0x12).encode(),
            Segment(0, FLAT, 0x1A, 3).encode(),
            Segment(0, FLAT, 0x12, 3).encode(),
            Segment(KERNEL + TSS, 0x67, 9, big=False).encode(),
        ]
        ram.write(GDT, struct.pack("<6Q", *entries))
        ram.write(TSS, struct.pack("<3I", 0, KERNEL + KERNEL_STACK, 0x10).ljust(102, b"\0") + b"\x68\0")
        ram.write(POINTERS, struct.pack("<HIxxHI", 0x7F, KERNEL + GDT, 0x7FF, KERNEL + IDT))
        stubs, gates = handlers()
        ram.write(STUBS, stubs)
        ram.write(IDT, gates)

    def gate(self, vector: int, **fields: int | bool) -> None:
        """Write an IDT entry: an interrupt gate to the reporting stub, with some fields otherwise."""
        self.machine.ram.write(IDT + vector * 8, gate_to_stub(vector, **fields))

    def _report(self, vector: int) -> None:
        m = self.machine
        esp = m.cpu.esp + 4  # EAX lies on top
        words = list(struct.unpack("<6I", m.paging.read_linear(esp, 24)))
        error = words.pop(0) if vector in WITH_CODE and not self.by_software(vector, words) else None
        inner = bool(words[1] & 3)
        report = Report(
            vector, error, *words[:3], *(words[3:5] if inner else (None, None)),
            m.cpu.cr2, esp, m.cpu.eflags, m.clock.retired,
        )  # fmt: skip
        self.reports.append(report)
        self.answer(report)

    def by_software(self, vector: int, words: list[int]) -> bool:
        """Whether a vector with an error code was raised by INT n: then the first word is EIP."""
        return words[1] in (8, 0x1B) and words[2] & 2 == 2 and words[0] > 0x1_0000

    def frame(self, offset: int, value: int) -> None:
        """Change a dword of the frame, from EIP on, of the handler that reports."""
        at = self.reports[-1].stack + offset + (4 if self.reports[-1].error is not None else 0)
        self.machine.paging.write_linear(at, value.to_bytes(4, "little"))

    def boot(self, kernel: str, user: str | None = None) -> None:
        """Turn paging on and go to `kernel` in ring 0, or to `user` in ring 3."""
        m = self.machine
        setup = f"""
            mov eax, cr4; or eax, 0x20; mov cr4, eax
            mov eax, {PDPT}; mov cr3, eax
            mov ecx, 0xc0000080; rdmsr; or eax, 0x800; wrmsr
            mov eax, cr0; or eax, 0x80010001; mov cr0, eax
        """
        setup_code = encode(setup, CODE)
        setup_code += b"\x0f\x01\x15" + struct.pack("<I", KERNEL + POINTERS)
        setup_code += b"\x0f\x01\x1d" + struct.pack("<I", KERNEL + POINTERS + 8)
        setup_code += b"\xea" + struct.pack("<IH", KERNEL + CODE + 0x100, 8)
        after = "mov eax, 0x10; mov ds, eax; mov es, eax; mov ss, eax; mov eax, 0x28; ltr ax;"
        after += f"mov esp, {KERNEL + KERNEL_STACK};"
        if user is None:
            after += kernel
        else:
            after += f"""
                mov eax, 0x23; mov ds, eax; mov es, eax
                push 0x23; push {USER_STACK}; push 0x202; push 0x1b; push {USER_LINEAR}; xor eax, eax; iretd
            """
            m.ram.write(USER, encode(user, USER_LINEAR))
        m.ram.write(CODE, setup_code)
        m.ram.write(CODE + 0x100, encode(after, KERNEL + CODE + 0x100))
        m.cpu.eip = CODE


@pytest.fixture(params=["blocks", "native", "python"])
def counter(request: pytest.FixtureRequest) -> str:
    """All implementations of the exact clock; that by blocks goes by blocks from the first instruction on."""
    return str(request.param)


@pytest.fixture
def clock_of_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines choose their clock by themselves, also where CALLGATE_COUNTER names one for all tests."""
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A small machine."""
    with Machine(memory=8 << 20, high_memory=4 << 20) as made:
        yield made


@pytest.fixture
def board(machine: Machine) -> Board:
    """A machine with paging, rings and handlers, to be booted."""
    return Board(machine)


@pytest.fixture
def make_board() -> Iterator[Callable[[str], Board]]:
    """Make boards with a chosen counter."""
    made: list[Machine] = []

    def make(kind: str) -> Board:
        made.append(Machine(memory=8 << 20, high_memory=4 << 20, counter=kind))
        return Board(made[-1])

    yield make
    for one in made:
        one.close()


@pytest.fixture
def bare(machine: Machine) -> Callable[[str], Machine]:
    """Put code at 0x1000 of a machine without paging, a stack at 0x8000."""

    def load(source: str) -> Machine:
        code = encode(source)
        machine.ram.write(0x1000, code)
        machine.code_changed(0x1000, len(code))
        machine.cpu.eip = 0x1000
        machine.cpu.esp = 0x8000
        return machine

    return load


@pytest.fixture
def assemble() -> Callable[..., bytes]:
    """The function that assembles 32-bit code."""
    return encode


@pytest.fixture
def assemble_host() -> Callable[[str], bytes]:
    """A function that assembles 64-bit code, for the counting hook."""
    assembler = Ks(KS_ARCH_X86, KS_MODE_64)
    return lambda source: bytes(assembler.asm(source.strip().replace("\n", ";"))[0] or b"")
