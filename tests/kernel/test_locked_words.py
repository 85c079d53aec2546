"""Rule 9 in the kernel's bytes: an instruction that changes a word in memory is locked, or the word has one writer."""

import re
from collections.abc import Iterator

import pytest
from callgate.asm.assembler import Program
from callgate.kernel.abi.layout import size_of
from callgate.kernel.abi.message import ENDPOINT_SHARED, Endpoint
from callgate.kernel.programs.images import kernel_image
from capstone import CS_AC_READ, CS_AC_WRITE, CS_ARCH_X86, CS_MODE_32, Cs, CsInsn
from capstone.x86_const import X86_INS_XCHG, X86_OP_MEM, X86_PREFIX_LOCK, X86_REG_ESP, X86_REG_GS, X86_REG_INVALID

# Capstone says of these that they only read memory, or that they only write it.
READ_AND_WRITE = {"bts", "btr", "btc", "cmpxchg", "xadd", "xchg"}
# Words that are read, changed and written without a lock, by their names in the source, and why that is right.
ONE_WRITER = {
    r"KernelWords\.ticks": "the timer interrupts one CPU",
    r"Endpoint\.handles": "the thread that answers the request owns its slot",
    r"Disk\.(issued|suspects|parked|watched|generation)": "a disk driver runs on one CPU (asm/kernel/disk/disk.asm)",
    r"PortRegisters\.cmd": "a register of the controller; the driver runs on one CPU",
    r"PrdtEntry\.dbc": "the command table is the driver's until the command is issued",
    r"IdeChannel\.done": "a disk driver runs on one CPU",
}


@pytest.fixture(scope="module")
def kernel() -> Program:
    return kernel_image()


def instructions(program: Program) -> Iterator[CsInsn]:
    decoder = Cs(CS_ARCH_X86, CS_MODE_32)
    decoder.detail = True
    for section in program.sections:
        if section.executable:
            end = section.address
            for instruction in decoder.disasm(section.data, section.address):
                end = instruction.address + instruction.size
                yield instruction
            assert end == section.address + len(section.data), f"{section.name} is not all code"


def name_of(instruction: CsInsn) -> str:
    return str(instruction.mnemonic.rsplit(maxsplit=1)[-1])


def written_memory(instruction: CsInsn, *, also_read: bool) -> list[object]:
    """Return the memory operands that the instruction stores to; `also_read`: only those that it loads first."""
    wanted = CS_AC_READ | CS_AC_WRITE if also_read else CS_AC_WRITE
    both = name_of(instruction) in READ_AND_WRITE
    return [
        operand
        for operand in instruction.operands
        if operand.type == X86_OP_MEM and (operand.access & wanted == wanted or both)
    ]


def locked(instruction: CsInsn) -> bool:
    return X86_PREFIX_LOCK in instruction.prefix or instruction.id == X86_INS_XCHG


def test_each_read_modify_write_instruction_is_locked_unless_its_word_has_one_writer(kernel: Program) -> None:
    unlocked: list[str] = []
    for instruction in instructions(kernel):
        line = kernel.line_at(instruction.address)
        assert line is not None, hex(instruction.address)
        for operand in written_memory(instruction, also_read=True):
            own_stack = operand.mem.base == X86_REG_ESP and operand.mem.segment == X86_REG_INVALID
            if not locked(instruction) and not own_stack:
                unlocked.append(line.text.strip())
    unexplained = [text for text in unlocked if not any(re.search(pattern, text) for pattern in ONE_WRITER)]
    assert unexplained == []
    stale = [pattern for pattern in ONE_WRITER if not any(re.search(pattern, text) for text in unlocked)]
    assert stale == [], "nothing changes these now"


def test_shared_words_of_an_endpoint_are_never_simply_stored(kernel: Program) -> None:
    """A plain store to a mask or counter undoes changes by another CPU since it was read."""
    fields = [getattr(Endpoint, name) for name in ENDPOINT_SHARED]
    shared = {offset for field in fields for offset in range(field.offset, field.offset + field.size)}
    seen: set[str] = set()
    stores: list[str] = []
    for instruction in instructions(kernel):
        for operand in written_memory(instruction, also_read=False):
            if operand.mem.segment != X86_REG_GS or operand.mem.disp not in shared:
                continue
            seen |= {name for name in ENDPOINT_SHARED if operand.mem.disp == getattr(Endpoint, name).offset}
            if not locked(instruction):
                stores.append(f"{kernel.symbol_at(instruction.address)}: {instruction.mnemonic} {instruction.op_str}")
    assert stores == []
    assert seen == set(ENDPOINT_SHARED), "every one of them is changed by machine code"
    assert max(shared) < size_of(Endpoint)


def test_the_accessed_bit_of_a_page_in_use_is_cleared_by_a_locked_instruction(kernel: Program) -> None:
    """Rule 8: the CPU sets the bit by itself at any time."""
    start = kernel.address("harvest_accessed")
    first = next(
        instruction
        for instruction in instructions(kernel)
        if instruction.address >= start and written_memory(instruction, also_read=True)
    )
    assert (name_of(first), locked(first)) == ("btr", True)
