"""The machine in the formats of QEMU's monitor (QEMU 8, target i386)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine.cpu.descriptors import ACCESSED, CODE_DATA, PRESENT
from callgate.kernel.machine.cpu.paging import ADDRESS, NX
from callgate.tools.debugger.debuggee.mappings import mappings

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine.cpu.fpu import FloatingPoint
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread

FLAG_LETTERS = ((10, "D"), (11, "O"), (7, "S"), (6, "Z"), (4, "A"), (2, "P"), (0, "C"))
SYSTEM_SEGMENTS = {1: "TSS16-avl", 2: "LDT", 3: "TSS16-busy", 9: "TSS32-avl", 11: "TSS32-busy"}
BIG = 1 << 22  # of a descriptor's upper half: 32-bit code or stack
TLB_LETTERS = (
    (NX, "X"), (layout.PTE_GLOBAL, "G"), (layout.PTE_LARGE, "P"), (layout.PTE_DIRTY, "D"), (layout.PTE_ACCESSED, "A"),
    (layout.PTE_CACHE_DISABLE, "C"), (layout.PTE_WRITE_THROUGH, "T"), (layout.PTE_USER, "U"),
    (layout.PTE_WRITABLE, "W"),
)  # fmt: skip


def registers(debuggee: Debuggee, thread: DebugThread) -> str:
    """Return `info registers` of a thread: what is not kept for one that does not run is the CPU's."""
    known = debuggee.registers.general(thread)
    system = debuggee.registers.system_registers(thread)
    value = {name: 0 if number is None else number for name, number in (known | system).items()}
    eflags = value["eflags"]
    letters = "".join(letter if eflags >> bit & 1 else "-" for bit, letter in FLAG_LETTERS)
    lines = [
        " ".join(f"{name.upper()}={value[name]:08x}" for name in ("eax", "ebx", "ecx", "edx")),
        " ".join(f"{name.upper()}={value[name]:08x}" for name in ("esi", "edi", "ebp", "esp")),
        f"EIP={value['eip']:08x} EFL={eflags:08x} [{letters}] CPL={value['cpl']} II=0 A20=1 SMM=0 HLT=0",
        *segments(debuggee, value),
        f"GDT=     {value['gdtr_base']:08x} {value['gdtr_limit']:08x}",
        f"IDT=     {value['idtr_base']:08x} {value['idtr_limit']:08x}",
        f"CR0={value['cr0']:08x} CR2={value['cr2']:08x} CR3={value['cr3']:08x} CR4={value['cr4']:08x}",
        " ".join(f"DR{index}={value[f'dr{index}']:08x}" for index in range(4)),
        f"DR6={value['dr6']:08x} DR7={value['dr7']:08x}",
        f"EFER={value['efer']:016x}",
        *floating(debuggee.registers.floating(thread)),
    ]
    return "\n".join(lines) + "\n"


def segments(debuggee: Debuggee, value: dict[str, int]) -> Iterator[str]:
    """Yield selector, base, limit and attributes of each segment register; of the CPU's descriptor caches."""
    cpu = debuggee.machine.cpu
    cpu.peek.save()
    for name in ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"):
        selector, base, limit, flags = struct.unpack_from("<I4xQII", cpu.peek.view, cpu.layout.segment(name))
        shown = value.get(name, selector & 0xFFFF)
        yield f"{name.upper():<3}={shown:04x} {base & 0xFFFF_FFFF:08x} {limit:08x} {flags:08x}{attributes(flags)}"


def attributes(flags: int) -> str:
    """Return the bits of a descriptor's upper half as QEMU names them; nothing for a segment that is not present."""
    if not flags & PRESENT << 8:
        return ""
    kind, rights = flags >> 8 & 0x1F, f" DPL={flags >> 13 & 3} "
    if not kind & CODE_DATA:
        return rights + SYSTEM_SEGMENTS.get(kind, "Reserved")
    wide, accessed = bool(flags & BIG), "A" if kind & ACCESSED else "-"
    if kind & 8:
        letters = f"{'C' if kind & 4 else '-'}{'R' if kind & 2 else '-'}{accessed}"
        return f"{rights}{'CS32' if wide else 'CS16'} [{letters}]"
    letters = f"{'E' if kind & 4 else '-'}{'W' if kind & 2 else '-'}{accessed}"
    return f"{rights}{'DS  ' if wide else 'DS16'} [{letters}]"


def floating(fpu: FloatingPoint) -> Iterator[str]:
    """Yield the lines of the x87 and SSE registers."""
    status = fpu.status & ~0x3800
    yield f"FCW={fpu.control:04x} FSW={status:04x} [ST={fpu.top}] FTW={fpu.tags:02x} MXCSR={fpu.mxcsr:08x}"
    physical = [fpu.raw[index - fpu.top & 7] for index in range(8)]
    numbers = [f"FPR{index}={raw & (1 << 64) - 1:016x} {raw >> 64:04x}" for index, raw in enumerate(physical)]
    wide = [f"XMM{index:02}={xmm >> 64:016x} {xmm & (1 << 64) - 1:016x}" for index, xmm in enumerate(fpu.xmm)]
    for cells in (numbers, wide):
        yield from (" ".join(cells[index : index + 2]) for index in range(0, len(cells), 2))


def memory(debuggee: Debuggee, process: Process) -> str:
    """Return `info mem`: runs of pages with the same rights."""
    if not debuggee.machine.paging.mode().paging:
        return "PG disabled\n"
    runs: list[tuple[int, int, str]] = []
    for linear, entry, size, _ in mappings(debuggee.machine, process.pointers):
        rights = f"{'u' if entry & layout.PTE_USER else '-'}r{'w' if entry & layout.PTE_WRITABLE else '-'}"
        if runs and runs[-1][1] == linear and runs[-1][2] == rights:
            runs[-1] = (runs[-1][0], linear + size, rights)
        else:
            runs.append((linear, linear + size, rights))
    return "".join(f"{start:016x}-{end:016x} {end - start:016x} {rights}\n" for start, end, rights in runs)


def translations(debuggee: Debuggee, process: Process) -> str:
    """Return `info tlb`: every page with where it lies and its bits."""
    if not debuggee.machine.paging.mode().paging:
        return "PG disabled\n"
    lines = []
    for linear, entry, size, large in mappings(debuggee.machine, process.pointers):
        letters = "".join(
            letter if entry & bit and (bit != layout.PTE_LARGE or large) else "-" for bit, letter in TLB_LETTERS
        )
        lines.append(f"{linear:016x}: {entry & ADDRESS & -size:016x} {letters}\n")
    return "".join(lines)


def memory_tree(debuggee: Debuggee) -> str:
    """Return `info mtree -f`: physical memory and device registers in order."""
    machine = debuggee.machine
    areas = [(0, machine.ram.low_size, "ram", "low.ram")]
    areas += [(base, size, "i/o", device.name) for device in machine.devices.values() for base, size in device.mmio]
    if machine.ram.high_size:
        areas.append((HIGH_MEMORY, machine.ram.high_size, "ram", "high.ram"))
    rows = "".join(
        f"  {base:016x}-{base + size - 1:016x} (prio 0, {kind}): {name}\n" for base, size, kind, name in sorted(areas)
    )
    head = 'FlatView #0\n AS "memory", root: system\n AS "cpu-memory-0", root: system\n Root memory region: system\n'
    return f"{head}{rows}\n"


def interrupt_controller(debuggee: Debuggee) -> str:
    """Return `info pic`."""
    pic = debuggee.machine.pic
    rows = []
    for index, chip in ((1, pic.slave), (0, pic.master)):
        rows.append(
            f"pic{index}: irr={chip.requested:02x} imr={chip.mask:02x} isr={chip.in_service:02x} hprio=0 "
            f"irq_base={chip.base:02x} rr_sel={int(chip.read_service)} elcr=00 fnm=0\n"
        )
    return "".join(rows)
