"""Flat memory for a routine: descriptors and page tables around one machine, written by the host.

Linear addresses are physical ones.  Page 0 is not mapped, so that a null pointer is a #PF; neither is
anything beyond RAM.  There is no IDT: an exception ends the run and is the result.  x87, MMX and SSE can be used
at once: their registers are as after FNINIT and a reset, CR4.OSFXSR and OSXMMEXCPT are set.
"""

from collections.abc import Sequence
from typing import Final

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.descriptors import TYPE_CODE_READABLE, TYPE_DATA_WRITABLE, Segment
from callgate.kernel.machine.cpu.paging import CR0_PG, CR0_WP, CR4_PAE
from callgate.tools.asmtest.board import wide
from callgate.tools.asmtest.board.result import FLAGS, WHOLE
from unicorn import x86_const as x86

MEMORY: Final = 8 << 20
ORIGIN: Final = 0x40_0000  # where routines are linked
STACK_TOP: Final = 0x10_0000
RETURN: Final = 0x8000  # a routine returns to this address
GDT: Final = 0x9000
POINTERS: Final = 0xA000  # page-directory pointers, directory, tables
DIRECTORY: Final = 0xB000
TABLES: Final = 0xC000
FIRST_FREE: Final = 0x1_0000  # tests may use memory from here on
TABLE_PAGES: Final = range(POINTERS // PAGE_SIZE, FIRST_FREE // PAGE_SIZE)

FLAT: Final = 0xFFFF_FFFF
CODE: Final = (0x08, 0x1B)  # selectors by ring: 0, 3
DATA: Final = (0x10, 0x23)
SEGMENT_SELECTORS: Final = {"ds": 0x28, "es": 0x30, "fs": 0x38, "gs": 0x40}
AT_ENTRY: Final = dict.fromkeys(WHOLE, 0) | {"esp": STACK_TOP}
ENTRIES: Final = 9
EFLAGS_FIXED: Final = 2
CR0_PE: Final = 1
CR4_OSFXSR: Final = 1 << 9
CR4_OSXMMEXCPT: Final = 1 << 10
PRESENT, WRITABLE, USER = 1, 2, 4
USED: Final = 0x60  # accessed and dirty: the CPU need not write them, and the tables stay as the snapshot has them
RIGHTS: Final = {"none": 0, "r": PRESENT | USED, "rw": PRESENT | WRITABLE | USED}


def make_machine() -> Machine:
    """Return a machine with flat memory, in ring 0, with paging on."""
    machine = Machine(memory=MEMORY, high_memory=0, ctrl_c=False)
    for index in range(MEMORY >> 21):
        machine.ram.put_u64(DIRECTORY + index * 8, TABLES + index * PAGE_SIZE | RIGHTS["rw"] | USER)
    for page in range(1, MEMORY // PAGE_SIZE):
        machine.ram.put_u64(TABLES + page * 8, page * PAGE_SIZE | RIGHTS["rw"] | USER)
    machine.ram.put_u64(POINTERS, DIRECTORY | PRESENT)
    for ring, dpl in ((0, 0), (1, 3)):
        machine.ram.put_u64(GDT + (CODE[ring] & ~7), Segment(0, FLAT, TYPE_CODE_READABLE, dpl).encode())
        machine.ram.put_u64(GDT + (DATA[ring] & ~7), Segment(0, FLAT, TYPE_DATA_WRITABLE, dpl).encode())
    machine.ram.put_u8(RETURN, 0xF4)
    cpu = machine.cpu
    cpu.uc.reg_write(x86.UC_X86_REG_GDTR, (0, GDT, ENTRIES * 8 - 1, 0))
    cpu.uc.reg_write(x86.UC_X86_REG_IDTR, (0, 0, 0, 0))
    cpu.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT
    cpu.cr3 = POINTERS
    cpu.cr0 = CR0_PE | CR0_PG | CR0_WP
    machine.flush_tlb()
    enter_ring(machine, 0)
    wide.clear(machine)
    return machine


def enter_ring(machine: Machine, ring: int) -> None:
    """Load flat segments of ring 0 or 3 into every segment register."""
    index = 1 if ring else 0
    data = DATA[index]
    machine.descriptors.load(cs=CODE[index], ss=data, ds=data, es=data, fs=data, gs=data)


def load_segment(machine: Machine, name: str, base: int, limit: int, ring: int) -> int:
    """Give a segment register a base and a limit in bytes - 1; return the selector; ValueError for other registers."""
    if name not in SEGMENT_SELECTORS:
        raise ValueError(f"{name!r} is none of {', '.join(SEGMENT_SELECTORS)}")
    selector = SEGMENT_SELECTORS[name] | (3 if ring else 0)
    machine.descriptors.put(selector, Segment(base, limit, TYPE_DATA_WRITABLE, ring))
    machine.descriptors.load(**{name: selector})
    return selector


def protect(machine: Machine, address: int, length: int, rights: str, *, user: bool) -> None:
    """Set the rights of the pages that a range touches: none, r or rw; `user`: ring 3 may use them.

    ValueError outside memory: nothing is mapped there, and there is no place for an entry.
    """
    if rights not in RIGHTS:
        raise ValueError(f"{rights!r} is none of {', '.join(RIGHTS)}")
    if length < 1 or not 0 <= address <= MEMORY - length:
        raise ValueError(f"{length} bytes at {address:#x} are not within the {MEMORY >> 20} MiB of memory")
    for page in range(address // PAGE_SIZE, (address + length - 1) // PAGE_SIZE + 1):
        flags = RIGHTS[rights] | (USER if user else 0)
        machine.ram.put_u64(TABLES + page * 8, page * PAGE_SIZE | flags)
    machine.flush_tlb()


def values_at_entry(stack: Sequence[int], registers: dict[str, int]) -> tuple[dict[str, int], int]:
    """Return the general registers and EFLAGS that a routine begins with: registers not given are 0, ESP below `stack`.

    ValueError for a name that is neither a register nor a flag, and for a value that is not a number.
    """
    values = AT_ENTRY.copy()
    given = [*registers.items()]
    if stack:
        values["esp"] -= 4 * len(stack)
        given += [("stack", value) for value in stack]
    eflags = registers.get("eflags", EFLAGS_FIXED)
    for name, value in given:
        if not isinstance(value, int):
            raise ValueError(f"{name} is given {value!r}, which is not a number")  # noqa: TRY004 - as other mistakes
        if name in FLAGS:
            eflags = eflags & ~(1 << FLAGS[name]) | (value & 1) << FLAGS[name]
        elif name in values:
            values[name] = value & 0xFFFF_FFFF
        elif name not in ("stack", "eflags"):
            raise ValueError(f"{name} is neither a register ({', '.join(WHOLE)}) nor a flag ({', '.join(FLAGS)})")
    return values, eflags
