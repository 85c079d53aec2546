"""The pages that a null request touches after each of its two loads of CR3: each costs a page walk.

They are found here from the bytes of the instructions alone, decoded by Capstone, and from the descriptor tables.
"""

from callgate.kernel.abi.memory import KERNEL_BASE, PAGE_SIZE
from callgate.kernel.machine import Machine
from callgate.tools.bench.ipc import Bench
from capstone import CS_ARCH_X86, CS_MODE_32, Cs
from capstone.x86_const import X86_OP_MEM, X86_OP_REG

GENERAL = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp")
SEGMENTS = ("ds", "es", "fs", "gs", "ss", "cs")
AT_ESP = {"pop": 0, "popal": 0, "popfd": 0, "ret": 0, "retf": 0}
BELOW_ESP = {"push": 4, "pushal": 32, "pushfd": 4, "call": 4}
ESP0 = 4  # in a TSS
TLB_ENTRIES = 64


def word(machine: Machine, linear: int) -> int:
    return int.from_bytes(machine.read(linear, 4), "little")


def of_selector(machine: Machine, selector: int) -> set[int]:
    """Return where the CPU reads a descriptor, and what a call gate in it leads to: the TSS, for the stack."""
    if not selector >> 2:
        return set()
    base, _ = machine.cpu.table("ldtr" if selector & 4 else "gdtr")
    at = base + (selector & ~7)
    if machine.read(at + 5, 1)[0] & 0x1F != 0x0C:  # not a call gate
        return {at}
    tss, _ = machine.cpu.table("tr")
    stack = word(machine, tss + ESP0)
    target = word(machine, at) >> 16
    return {at, tss + ESP0, stack - 4, *of_selector(machine, target), *of_selector(machine, word(machine, tss + 8))}


def touched(machine: Machine, decoder: Cs) -> set[int]:
    """Return linear addresses that the next instruction touches: one in each page."""
    cpu = machine.cpu
    code = cpu.segment_base("cs") + cpu.eip
    instruction = next(decoder.disasm(machine.read(code, 15), cpu.eip))
    name, operands = instruction.mnemonic.removeprefix("lock "), instruction.operands
    found = {code, code + instruction.size - 1}
    stack = cpu.segment_base("ss") + cpu.esp
    if name == "lcall":
        return found | of_selector(machine, operands[0].imm)
    if name in BELOW_ESP:
        found.add(stack - BELOW_ESP[name])
    if name in AT_ESP:
        found.add(stack)
    if name == "retf":
        found |= {at for selector in (4, 12) for at in of_selector(machine, word(machine, stack + selector) & 0xFFFF)}
    values = []
    for operand in operands:
        if operand.type != X86_OP_MEM or name == "lea":
            wide = f"e{instruction.reg_name(operand.reg)[-2:]}" if operand.type == X86_OP_REG else ""
            values.append(getattr(cpu, wide) if wide in GENERAL else 0)
            continue
        memory = operand.mem
        base, index = (getattr(cpu, instruction.reg_name(r)) if r else 0 for r in (memory.base, memory.index))
        by_stack = memory.base and instruction.reg_name(memory.base) in {"esp", "ebp"}
        segment = instruction.reg_name(memory.segment) if memory.segment else "ss" if by_stack else "ds"
        at = cpu.segment_base(segment) + base + index * memory.scale + memory.disp & 0xFFFF_FFFF
        found.add(at)
        values.append(word(machine, at))
    loaded = instruction.reg_name(operands[0].reg) if operands and operands[0].type == X86_OP_REG else ""
    if name == "lldt":
        found |= of_selector(machine, values[0] & 0xFFFF)
    elif loaded in SEGMENTS and name in {"pop", "mov"}:
        selector = word(machine, stack) if name == "pop" else values[1]
        found |= of_selector(machine, selector & 0xFFFF)
    return found


def test_a_null_request_touches_15_pages_after_its_two_loads_of_cr3_and_one_page_of_kernel_code() -> None:
    bench = Bench(clients=1)
    machine, decoder = bench.system.machine, Cs(CS_ARCH_X86, CS_MODE_32)
    decoder.detail = True
    bench.system.run(fuel=20_000)
    bench.system.run(until=bench.kernel.guest.address("ipc_gate"))
    spaces: list[set[int]] = [set()]  # from one load of CR3 to the next
    while len(spaces) < 4:
        now = machine.cpu.cr3
        spaces[-1] |= {address // PAGE_SIZE for address in touched(machine, decoder)}
        machine.step()
        if machine.cpu.cr3 != now:
            spaces.append(set())
    code = bench.kernel.guest.address("ipc_gate") // PAGE_SIZE
    assert code == bench.kernel.guest.address("server_gate") // PAGE_SIZE
    assert all(code in pages for pages in spaces[1:3])
    assert [len(pages) for pages in spaces[1:3]] == [9, 6]
    # The engine's TLB shrinks to 64 entries, by the page's number, for each of ring 3 and the kernel.
    for pages in spaces[1:3]:
        of_ring_3 = [page for page in pages if page < KERNEL_BASE // PAGE_SIZE]
        assert len({page % TLB_ENTRIES for page in of_ring_3}) == len(of_ring_3)
    bench.close()
