"""Control registers and EFLAGS, bit by bit (Intel SDM vol. 1, 3.4.3, and vol. 3, 2.2.1 and 2.5)."""

from __future__ import annotations

from typing import Final

from callgate.tools.explaining.answers import Answer, Bit, of_bits

EFLAGS: Final = [
    Bit(0, 1, "CF", "carry"),
    Bit(2, 1, "PF", "parity: the low byte of the result has an even number of ones"),
    Bit(4, 1, "AF", "auxiliary carry, out of bit 3"),
    Bit(6, 1, "ZF", "zero"),
    Bit(7, 1, "SF", "sign"),
    Bit(8, 1, "TF", "trap: #DB after each instruction"),
    Bit(9, 1, "IF", "interrupts are delivered"),
    Bit(10, 1, "DF", "direction: string instructions count down"),
    Bit(11, 1, "OF", "overflow"),
    Bit(12, 2, "IOPL", "the ring up to which CLI, STI, IN and OUT are allowed"),
    Bit(14, 1, "NT", "nested task: IRET returns through the TSS"),
    Bit(16, 1, "RF", "resume: no breakpoint at the next instruction"),
    Bit(17, 1, "VM", "virtual-8086 mode; this machine stops"),
    Bit(18, 1, "AC", "alignment check in ring 3, if CR0.AM is set"),
    Bit(19, 1, "VIF", "virtual interrupt flag"),
    Bit(20, 1, "VIP", "virtual interrupt pending"),
    Bit(21, 1, "ID", "CPUID exists if this bit can be changed"),
]
EFLAGS_ONE: Final = 2  # bit 1 is always set
CR0: Final = [
    Bit(0, 1, "PE", "protected mode"),
    Bit(1, 1, "MP", "WAIT is a use of the FPU, too: #NM if TS is set"),
    Bit(2, 1, "EM", "no FPU: its instructions are #NM"),
    Bit(3, 1, "TS", "the FPU's registers are another thread's: the next use is #NM"),
    Bit(4, 1, "ET", "fixed: 387 instructions"),
    Bit(5, 1, "NE", "FPU errors are #MF and no interrupt"),
    Bit(16, 1, "WP", "ring 0 cannot write to read-only pages either"),
    Bit(18, 1, "AM", "alignment checks are allowed: EFLAGS.AC"),
    Bit(29, 1, "NW", "not write-through"),
    Bit(30, 1, "CD", "caches off"),
    Bit(31, 1, "PG", "paging"),
]
CR3_PAE: Final = [
    Bit(5, 27, "PDPT", "physical address / 32 of the four entries of the page-directory-pointer table"),
]
CR4: Final = [
    Bit(0, 1, "VME", "virtual-8086 extensions"),
    Bit(1, 1, "PVI", "virtual interrupts in protected mode"),
    Bit(2, 1, "TSD", "RDTSC in ring 0 only"),
    Bit(3, 1, "DE", "DR4 and DR5 are #UD; breakpoints on I/O"),
    Bit(4, 1, "PSE", "4 MiB pages; PAE has 2 MiB pages anyway"),
    Bit(5, 1, "PAE", "page-table entries of 64 bits, three levels"),
    Bit(6, 1, "MCE", "machine checks"),
    Bit(7, 1, "PGE", "global pages: a load of CR3 leaves them in the TLB"),
    Bit(8, 1, "PCE", "RDPMC in every ring"),
    Bit(9, 1, "OSFXSR", "the system uses FXSAVE: SSE is on"),
    Bit(10, 1, "OSXMMEXCPT", "SSE errors are #XM"),
    Bit(11, 1, "UMIP", "SGDT, SIDT, SLDT, SMSW and STR in ring 0 only"),
    Bit(13, 1, "VMXE", "VMX"),
    Bit(14, 1, "SMXE", "SMX"),
    Bit(16, 1, "FSGSBASE", "RDFSBASE and its kin; 64-bit mode only"),
    Bit(17, 1, "PCIDE", "process-context identifiers; 64-bit mode only"),
    Bit(18, 1, "OSXSAVE", "XSAVE is on"),
    Bit(20, 1, "SMEP", "ring 0 executes no page of ring 3"),
    Bit(21, 1, "SMAP", "ring 0 touches no page of ring 3 unless EFLAGS.AC is set"),
    Bit(22, 1, "PKE", "protection keys; 64-bit mode only"),
]
EFER: Final = [
    Bit(0, 1, "SCE", "SYSCALL"),
    Bit(8, 1, "LME", "long mode is enabled"),
    Bit(10, 1, "LMA", "long mode is active"),
    Bit(11, 1, "NXE", "bit 63 of a page-table entry means: not executable"),
]


def eflags(value: int | None) -> Answer:
    """Explain EFLAGS."""
    return of_bits("eflags", value, 32, EFLAGS, EFLAGS_ONE)


def cr0(value: int | None) -> Answer:
    """Explain CR0."""
    answer = of_bits("cr0", value, 32, CR0)
    if value is not None and value >> 31 and not value & 1:
        answer.notes.append("PG without PE: loading this is #GP(0)")
    return answer


def cr3(value: int | None) -> Answer:
    """Explain CR3 as PAE has it."""
    answer = of_bits("cr3", value, 32, CR3_PAE)
    if value is not None:
        answer.summary = f"page-directory-pointer table at physical {value & ~31:#x}"
        answer.notes = [f"bits 4:0 are ignored; here {value & 31:#x}"] if value & 31 else []
    return answer


def cr4(value: int | None) -> Answer:
    """Explain CR4."""
    return of_bits("cr4", value, 32, CR4)


def efer(value: int | None) -> Answer:
    """Explain the register EFER."""
    return of_bits("efer", value, 32, EFER)
