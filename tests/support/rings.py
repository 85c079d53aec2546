"""One instruction at each privilege level, on a machine with segments of all four rings, and its result.

Every ring executes the same bytes, at CODE, in pages that ring 3 may use.  The code under test ends with INT 80h, whose
gate is open to all rings; the first exception, whichever it is, ends the run. The result is in the words of
docs/emulator-notes.md: "goes", "halts", "CPL n" if it ended in another ring, or the exception with its error code.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from callgate.kernel.machine.cpu.exceptions import NAMES, WITH_ERROR_CODE
from keystone import KS_ARCH_X86, KS_MODE_32, Ks, KsError

KERNEL = 0xC000_0000
BOOT, TABLES, USER = 0x10_0000, 0x20_0000, 0x30_0000  # physical
CODE, DATA, STACK = 0x40_0000, 0x40_2000, 0x50_0000  # linear, for every ring
AFTER = CODE + 0x800  # here stands the INT 80h that ends a far transfer
READ_ONLY, KERNEL_PAGE, NO_RAM, NOWHERE = 0x40_4000, 0x40_5000, 0x40_6000, 0x41_0000
PDPT, DIRECTORY, LOW_DIRECTORY, USER_TABLE = TABLES, TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000
GDT, LDT, IDT, TSS, POINTERS = (TABLES + offset for offset in (0x5000, 0x5800, 0x6000, 0x7000, 0x8000))
OTHER_TSS = TABLES + 0x7800
STACKS, STUBS, INNER = TABLES + 0x1_0000, TABLES + 0x1_1000, TABLES + 0x1_6000
END = 0x80
REPORT = 0xE8
FLAT = 0xFFFF_FFFF
TSS_BYTES = 0x68

# Selectors, with the RPL that their owner uses.
CODE_OF, DATA_OF = (0x08, 0x31, 0x42, 0x1B), (0x10, 0x39, 0x4A, 0x23)
TASK = 0x28
CONFORMING, ABSENT, CONSTANT, EXECUTE_ONLY, LOCAL_TABLE = 0x50, 0x58, 0x60, 0x68, 0x70
GATE_3, GATE_0, OTHER_TASK, TASK_GATE, ABSENT_GATE = 0x78, 0x80, 0x88, 0x90, 0x98
BEYOND, LOCAL_DATA, LOCAL_SHORT, USER_TASK = 0x1F8, 0x07, 0x0F, 0xA8
GDT_LIMIT = 0xFF

FLAGS = {8: "TF", 9: "IF", 12: "IOPL", 14: "NT", 16: "RF", 17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID"}
IOPL = 12

keystone = Ks(KS_ARCH_X86, KS_MODE_32)


@cache
def encode(source: str, address: int) -> bytes:
    """Return the machine code of a few instructions, separated by semicolons.

    Keystone has refused, once in thousands of runs, what it takes in all others: a new one is asked before that is
    believed.
    """
    try:
        code, _ = keystone.asm(source, address)
    except KsError:
        code, _ = Ks(KS_ARCH_X86, KS_MODE_32).asm(source, address)
    return bytes(code or b"")


def far(opcode: int, selector: int, offset: int = AFTER) -> str:
    """Return a far JMP (EAh) or CALL (9Ah) with an immediate pointer."""
    return ".byte " + ", ".join(map(str, struct.pack("<BIH", opcode, offset, selector)))


@dataclass
class End:
    """How a run ended: the exception, the frame that the CPU pushed, and the machine."""

    vector: int
    error: int | None
    eip: int
    cs: int
    eflags: int
    inside: int  # EFLAGS at the handler's first instruction
    machine: Machine

    @property
    def flags(self) -> str:
        """The flags of the pushed image, by name, without the arithmetic ones; IOPL once, if it is not 0."""
        names = [name for bit, name in FLAGS.items() if self.eflags >> bit & (3 if bit == IOPL else 1)]
        return " ".join(names) or "none"

    def text(self, ring: int) -> str:
        if self.vector == END:
            return "goes" if self.cs & 3 == ring else f"CPL {self.cs & 3}"
        name = NAMES.get(self.vector, f"vector {self.vector}")
        return f"{name}({self.error:X}h)".replace("(0h)", "(0)") if self.error is not None else name


@dataclass(frozen=True)
class Case:
    """Code to be run in each ring, the state in which it begins, and what is shown of it at exception `at`."""

    source: str
    shows: Callable[[End], str] | None = None
    eflags: int = 0x202
    cr0: int = 0
    cr4: int = 0
    at: int = END
    trap_gate: bool = False
    task_eflags: int = 2


def gate(vector: int, **fields: int | bool) -> Gate:
    """Return an interrupt gate to the reporting stub, with some fields otherwise."""
    values = {"selector": 8, "offset": KERNEL + STUBS + vector * 16, "type": 0xE} | fields
    return Gate(**values)  # type: ignore[arg-type]


@cache
def handlers() -> tuple[bytes, bytes]:
    """Return the reporting stubs (push eax; mov eax, vector; out REPORT, eax; jmp $) and the IDT."""
    stubs = (struct.pack("<BBIBBBB6x", 0x50, 0xB8, vector, 0xE7, REPORT, 0xEB, 0xFE) for vector in range(256))
    gates = (struct.pack("<Q", gate(vector, dpl=3 if vector in (3, 4, END) else 0).encode()) for vector in range(256))
    return b"".join(stubs), b"".join(gates)


class Rings:
    """A machine whose code runs in a ring of one's choice."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.end: End | None = None
        machine.host_calls.register(REPORT, self._report, "report")
        self._page_tables()
        self._descriptors()
        self._stubs()

    def run(self, ring: int, case: Case) -> str:
        """Run the code of a case and the INT 80h after it in `ring`; return how it ended, or what it shows there."""
        self.boot(ring, case)
        stop = self.machine.run(fuel=2000)
        if self.end is None:
            return {"halt": "halts", "fuel": "runs on", "not-modelled": "not modelled"}.get(stop.reason, stop.reason)
        if self.end.vector == case.at and case.shows is not None:
            return case.shows(self.end)
        return self.end.text(ring)

    def boot(self, ring: int, case: Case) -> None:
        """Prepare to go to CODE in `ring`."""
        source, eflags = case.source, case.eflags
        m, ram = self.machine, self.machine.ram
        code = encode(source, CODE) if source else b""
        ram.write(USER, code + b"\xcd\x80")
        ram.write(USER + AFTER - CODE, b"\xcd\x80")
        ram.write(USER + 0x900, b"\xcd\x80")
        setup = f"""mov eax, cr4; or eax, {0x20 | case.cr4}; mov cr4, eax; mov eax, {PDPT}; mov cr3, eax;
            mov ecx, 0xc0000080; rdmsr; or eax, 0x800; wrmsr;
            mov eax, cr0; or eax, {0x80010001 | case.cr0}; mov cr0, eax"""
        start = encode(setup.replace("\n", ""), BOOT)
        start += b"\x0f\x01\x15" + struct.pack("<I", KERNEL + POINTERS)
        start += b"\x0f\x01\x1d" + struct.pack("<I", KERNEL + POINTERS + 8)
        start += b"\xea" + struct.pack("<IH", KERNEL + BOOT + 0x100, 8)
        after = f"mov eax, {DATA_OF[3]}; mov ds, eax; mov es, eax; mov eax, 0x10; mov ss, eax; mov eax, {TASK}; ltr ax;"
        after += f"mov esp, {KERNEL + STACKS}; mov eax, {LOCAL_TABLE}; .byte 0x0f, 0x00, 0xd0;"
        if ring:
            after += f"push {DATA_OF[ring]}; push {STACK};"
        after += f"push {eflags}; push {CODE_OF[ring]}; push {CODE};"
        after += "xor eax, eax; xor ebx, ebx; xor ecx, ecx; xor edx, edx; xor esi, esi; xor edi, edi; iretd"
        ram.write(BOOT, start)
        ram.write(BOOT + 0x100, encode(after, KERNEL + BOOT + 0x100))
        m.cpu.eip = BOOT
        self.task(case.task_eflags)
        if case.trap_gate:
            self.gate(END, dpl=3, type=0xF)

    def _page_tables(self) -> None:
        ram = self.machine.ram
        ram.put_u64(PDPT, LOW_DIRECTORY | 1)
        ram.put_u64(PDPT + 24, DIRECTORY | 1)
        for index in range(4):
            ram.put_u64(DIRECTORY + index * 8, index << 21 | 0x83)
        ram.put_u64(LOW_DIRECTORY, 0x83)
        ram.put_u64(LOW_DIRECTORY + 2 * 8, USER_TABLE | 7)
        pages = {CODE + index * 0x1000: USER + index * 0x1000 | 7 for index in range(4)}
        pages |= {READ_ONLY: USER + 0x4000 | 5, KERNEL_PAGE: USER + 0x5000 | 3, STACK - 0x1000: USER + 0x6000 | 7}
        pages[NO_RAM] = 0x4000_0000 | 7
        for linear, entry in pages.items():
            ram.put_u64(USER_TABLE + (linear >> 12 & 0x1FF) * 8, entry)

    def _descriptors(self) -> None:
        ram = self.machine.ram
        inner = KERNEL + INNER
        entries: dict[int, Segment | Gate] = {
            CONFORMING: Segment(0, FLAT, 0x1E),
            ABSENT: Segment(0, FLAT, 0x12, 3, present=False),
            CONSTANT: Segment(0, FLAT, 0x10, 3),
            EXECUTE_ONLY: Segment(0, FLAT, 0x18, 3),
            TASK: Segment(KERNEL + TSS, TSS_BYTES - 1, 9, big=False),
            LOCAL_TABLE: Segment(KERNEL + LDT, 15, 2, big=False),
            OTHER_TASK: Segment(KERNEL + OTHER_TSS, TSS_BYTES - 1, 9, big=False),
            USER_TASK: Segment(KERNEL + OTHER_TSS, TSS_BYTES - 1, 9, 3, big=False),
            GATE_3: Gate(CODE_OF[0], inner, 0xC, 3),
            GATE_0: Gate(CODE_OF[0], inner, 0xC),
            ABSENT_GATE: Gate(CODE_OF[0], inner, 0xC, 3, present=False),
            TASK_GATE: Gate(OTHER_TASK, 0, 0x5, 3),
        }
        for ring in range(4):
            entries[CODE_OF[ring]] = Segment(0, FLAT, 0x1A, ring)
            entries[DATA_OF[ring]] = Segment(0, FLAT, 0x12, ring)
        for selector, entry in entries.items():
            ram.put_u64(GDT + (selector & ~7), entry.encode())
        ram.put_u64(LDT, Segment(0, FLAT, 0x12, 3).encode())
        ram.put_u64(LDT + 8, Segment(0, 0xFFF, 0x12, 3).encode())
        stacks = (KERNEL + STACKS, 0x10, STACK, DATA_OF[1], STACK, DATA_OF[2])
        ram.write(TSS, struct.pack("<7I", 0, *stacks).ljust(102, b"\0"))
        ram.put_u16(TSS + 102, TSS_BYTES)
        ram.write(POINTERS, struct.pack("<HIxxHI", GDT_LIMIT, KERNEL + GDT, 0x7FF, KERNEL + IDT))
        ram.write(INNER, b"\xcd\x80")

    def task(self, eflags: int) -> None:
        """Fill the unused TSS: ring 0, at AFTER."""
        words = [0] * 26
        words[1], words[2] = KERNEL + STACKS - 0x400, 0x10
        words[7], words[8], words[9], words[14] = PDPT, AFTER, eflags, KERNEL + STACKS - 0x800
        words[18:24] = [0x10, CODE_OF[0], 0x10, 0x10, 0, 0]
        self.machine.ram.write(OTHER_TSS, struct.pack("<26I", *words))

    def _stubs(self) -> None:
        stubs, gates = handlers()
        self.machine.ram.write(STUBS, stubs)
        self.machine.ram.write(IDT, gates)

    def gate(self, vector: int, **fields: int | bool) -> None:
        """Write an IDT entry: an interrupt gate to the reporting stub, with some fields otherwise."""
        self.machine.ram.put_u64(IDT + vector * 8, gate(vector, **fields).encode())

    def _report(self, vector: int) -> None:
        m = self.machine
        words = list(struct.unpack("<4I", m.paging.read_linear(m.cpu.esp + 4, 16)))
        # INT n pushes no error code, whatever its number.
        software = words[1] & ~3 in {selector & ~3 for selector in CODE_OF} and words[2] & 2
        error = words.pop(0) if vector in WITH_ERROR_CODE and not software else None
        self.end = End(vector, error, words[0], words[1], words[2], m.cpu.eflags, m)
        m.request_stop("host")
