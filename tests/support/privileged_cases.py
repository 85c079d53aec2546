"""The rows of the table "Privileged instructions" of docs/emulator-notes.md: the code executed in each ring."""

from rings import (
    ABSENT,
    ABSENT_GATE,
    AFTER,
    BEYOND,
    CODE_OF,
    CONFORMING,
    CONSTANT,
    DATA,
    DATA_OF,
    EXECUTE_ONLY,
    GATE_0,
    GATE_3,
    KERNEL,
    KERNEL_PAGE,
    LOCAL_DATA,
    LOCAL_SHORT,
    LOCAL_TABLE,
    OTHER_TASK,
    READ_ONLY,
    STACK,
    TASK,
    TASK_GATE,
    USER_TASK,
    Case,
    End,
    far,
)

IOPL_1, IOPL_3, NESTED, AC, RF, VM = 0x1000, 0x3000, 0x4000, 0x4_0000, 0x1_0000, 0x2_0000
EVERY_FLAG = 0x3F_7FD7
TRAP = 0x100
TSD, DE, OSXSAVE, AM = 4, 8, 0x4_0000, 0x4_0000
EFER = "mov ecx, 0xc0000080;"
HERE = f"mov eax, cs; push eax; push {AFTER};"
OUT_TO_3 = f"push {DATA_OF[3]}; push {STACK - 64};"
TO_3 = f"push {CODE_OF[3]}; push {AFTER};"


def code(*values: int) -> str:
    """Return instruction bytes that Keystone cannot encode."""
    return ".byte " + ", ".join(hex(value) for value in values)


def at_data(*values: int) -> str:
    """Return instruction bytes followed by the address DATA."""
    return code(*values, *DATA.to_bytes(4, "little"))


def flags(end: End) -> str:
    return end.flags


def ebx(end: End) -> str:
    return f"{end.machine.cpu.ebx:X}h"


def zero_flag(end: End) -> str:
    return f"ZF = {end.machine.cpu.ebx & 1}"


def selectors(end: End) -> str:
    cpu = end.machine.cpu
    return f"CPL {end.cs & 3}, {cpu.ds:X} {cpu.es:X} {cpu.fs:X} {cpu.gs:X}"


def inside(end: End) -> str:
    """The flags of the handler."""
    end.eflags = end.inside
    return end.flags


def load(register: str, selector: int | str) -> str:
    return f"mov eax, {selector}; {code(0x8E, {'ss': 0xD0, 'ds': 0xD8, 'cs': 0xC8, 'fs': 0xE0}[register])}"


def on(stack: int, source: str) -> str:
    return f"mov esp, {stack}; {source}"


POINTER = f"mov dword ptr [{DATA}], {AFTER}; mov ecx, cs; mov [{DATA + 4}], ecx;"
FAR_SAME = ".byte 0xff, 0x1d; .long " + hex(DATA)  # call far [DATA]

FLAGS = {
    "POPFD, all bits set": Case(f"push {EVERY_FLAG}; popfd", flags),
    "POPFD, no bit set": Case("push 2; popfd", flags),
    "POPFD, no bit set, IOPL 3": Case("push 2; popfd", flags, eflags=0x202 | IOPL_3),
    "POPFD, TF set": Case("push 0x302; popfd; nop; nop"),
    "POPF (16 bits), all bits but TF set": Case("push 0x7ed7; .byte 0x66, 0x9d; nop", flags),
    "PUSHFD, IOPL 3": Case("nop; pushfd; pop ebx", ebx, eflags=0x202 | IOPL_3),
    "PUSHFD after IRETD with RF": Case("pushfd; pop ebx", ebx, eflags=0x202 | RF),
    "CLI": Case("cli", flags),
    "CLI, IOPL 1": Case("cli", flags, eflags=0x202 | IOPL_1),
    "CLI, IOPL 3": Case("cli", flags, eflags=0x202 | IOPL_3),
    "STI": Case("sti", flags, eflags=2),
    "STI, IOPL 1": Case("sti", flags, eflags=2 | IOPL_1),
    "STI, IOPL 3": Case("sti", flags, eflags=2 | IOPL_3),
    "STAC": Case(code(0x0F, 1, 0xCB)),
    "CLAC": Case(code(0x0F, 1, 0xCA)),
}

RETURNS = {
    "IRETD, same ring, all bits but VM, NT and TF set": Case(
        f"push {EVERY_FLAG & ~(VM | NESTED | TRAP)}; {HERE} iretd", flags
    ),
    "IRETD, NT in the image": Case(f"push {NESTED | 0x202}; {HERE} iretd", flags),
    "IRETD, NT set": Case(f"push 0x202; {HERE} iretd", eflags=0x202 | NESTED),
    "IRETD, VM and IOPL 3 in the image": Case(
        f"push 0; push 0; push 0; push 0; push 0; push {STACK - 64}; push {VM | IOPL_3 | 0x202}; {HERE} iretd", flags
    ),
    "IRETD, prefixes, VM in the image": Case(f"push {VM | 0x202}; {HERE} {code(0x2E, 0xF2)}; iretd", flags),
    "IRETD, VM in the image, CS of ring 0": Case(
        f"push {DATA_OF[0]}; push 0; push {VM | 0x202}; push {CODE_OF[0]}; push {AFTER}; iretd"
    ),
    "IRETD to ring 3, all bits but VM, NT and TF set": Case(
        f"{OUT_TO_3} push {EVERY_FLAG & ~(VM | NESTED | TRAP)}; {TO_3} iretd", flags
    ),
    "IRETD to ring 0": Case(f"push 0x202; push {CODE_OF[0]}; push {AFTER}; iretd"),
    "IRETD, CS null": Case(f"push 0x202; push 0; push {AFTER}; iretd"),
    "IRETD, CS a data segment": Case(f"push 0x202; push {DATA_OF[3]}; push {AFTER}; iretd"),
    "IRETD to ring 3, SS null": Case(f"push 0; push {STACK - 64}; push 0x202; {TO_3} iretd"),
    "IRETD, LOCK": Case(f"push 0x202; {HERE} {code(0xF0)}; iretd"),
    "RETF, same ring": Case(f"{HERE} retf"),
    "RETF to ring 3": Case(f"{OUT_TO_3} {TO_3} retf"),
    "RETF to ring 0": Case(f"push {CODE_OF[0]}; push {AFTER}; retf"),
    "RETF, CS null": Case(f"push 0; push {AFTER}; retf"),
    "RETF to ring 3, SS null": Case(f"push 0; push {STACK - 64}; {TO_3} retf"),
    "RETF to ring 3, SS of ring 0": Case(f"push {DATA_OF[0]}; push {STACK - 64}; {TO_3} retf"),
    "RETF to ring 3, DS ES FS GS the stack's": Case(
        f"mov eax, ss; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax; {OUT_TO_3} {TO_3} retf", selectors
    ),
    "SYSENTER": Case(code(0x0F, 0x34)),
    "SYSEXIT": Case(code(0x0F, 0x35)),
    "SYSCALL": Case(code(0x0F, 0x05)),
    "SYSRET": Case(code(0x0F, 0x07)),
}

TARGETS = {
    "code of ring 0": CODE_OF[0],
    "code of ring 3": CODE_OF[3],
    "conforming code": CONFORMING,
    "data": DATA_OF[3],
    "null": 0,
    "a selector beyond the table": BEYOND | 3,
    "a call gate of DPL 3": GATE_3 | 3,
    "a call gate of DPL 0": GATE_0,
    "an absent call gate": ABSENT_GATE | 3,
    "a TSS of DPL 0": OTHER_TASK,
    "a TSS of DPL 3": USER_TASK | 3,
    "a task gate of DPL 3": TASK_GATE | 3,
    "an LDT's descriptor": LOCAL_TABLE,
    "data in the LDT": LOCAL_DATA,
}
TRANSFERS = {
    f"{name} far to {target}": Case(far(opcode, selector))
    for target, selector in TARGETS.items()
    for name, opcode in (("JMP", 0xEA), ("CALL", 0x9A))
} | {
    "CALL through a gate, flags inside": Case(f"push {NESTED | AC | 0x202}; popfd; {far(0x9A, GATE_3 | 3)}", flags),
    "CALL through a gate, TF set": Case(f"push 0x302; popfd; {far(0x9A, GATE_3 | 3)}"),
    "JMP to a TSS with VM in its EFLAGS": Case(far(0xEA, OTHER_TASK), task_eflags=VM | 2),
}

INTERRUPTS = {f"INT {number}": Case(code(0xCD, number)) for number in (0, 1, 3, 4, 6, 8, 13, 14, 20, 255)} | {
    "INT3": Case("int3"),
    "INTO, OF set": Case("push 0xa02; popfd; into"),
    "INTO, OF clear": Case("into"),
    "INT1": Case(code(0xF1)),
    "BOUND": Case(f"mov dword ptr [{DATA}], 0; mov dword ptr [{DATA + 4}], 1; mov eax, 5; bound eax, [{DATA}]"),
    "UD2": Case("ud2"),
    "INT n, interrupt gate, flags inside": Case(f"push {NESTED | 0x202}; popfd", inside),
    "INT n, trap gate, flags inside": Case(f"push {NESTED | 0x202}; popfd", inside, trap_gate=True),
    "INT n, TF set, flags inside": Case("push 0x302; popfd", inside),
    "INT n, TF set, its image": Case("push 0x302; popfd", flags),
    "INT n after IRETD with RF, its image": Case("", flags, eflags=0x202 | RF),
    "a fault's image": Case("ud2", flags, at=6),
    "a fault, flags inside": Case(f"push {NESTED | 0x202}; popfd; ud2", inside, at=6),
    "the image of TF's #DB": Case("push 0x302; popfd; nop; nop", flags, at=1),
}

SYSTEM = {
    "HLT": Case("hlt"),
    "LGDT": Case(f"{at_data(0x0F, 1, 0x05)}; {at_data(0x0F, 1, 0x15)}"),
    "LIDT": Case(f"{at_data(0x0F, 1, 0x0D)}; {at_data(0x0F, 1, 0x1D)}"),
    "SGDT": Case(at_data(0x0F, 1, 0x05)),
    "SIDT": Case(at_data(0x0F, 1, 0x0D)),
    "LLDT": Case(f"mov eax, {LOCAL_TABLE}; {code(0x0F, 0, 0xD0)}"),
    "LLDT, null": Case(code(0x0F, 0, 0xD0)),
    "LLDT, no LDT": Case(f"mov eax, 0x10; {code(0x0F, 0, 0xD0)}"),
    "SLDT": Case(code(0x0F, 0, 0xC0)),
    "LTR": Case(f"mov eax, {OTHER_TASK}; ltr ax"),
    "LTR, busy": Case(f"mov eax, {TASK}; ltr ax"),
    "LTR, null": Case("ltr ax"),
    "STR": Case(code(0x0F, 0, 0xC8)),
    "SMSW": Case(code(0x0F, 1, 0xE0)),
    "LMSW that clears PE": Case("lmsw ax; smsw ebx; and ebx, 1", ebx),
    "CLTS": Case("clts"),
    "INVD": Case("invd"),
    "WBINVD": Case("wbinvd"),
    "INVLPG": Case("invlpg [eax]"),
    "RDMSR of EFER": Case(f"{EFER} rdmsr"),
    "RDMSR, unknown": Case("mov ecx, 0x12345678; rdmsr"),
    "WRMSR of EFER": Case(f"{EFER} rdmsr; wrmsr"),
    "WRMSR of EFER, a reserved bit": Case(f"{EFER} rdmsr; or eax, 2; wrmsr"),
    "WRMSR, unknown": Case("mov ecx, 0x12345678; wrmsr"),
    "RDPMC": Case("rdpmc"),
    "RDTSC": Case("rdtsc"),
    "RDTSC, CR4.TSD": Case("rdtsc", cr4=TSD),
    "RDTSCP, CR4.TSD": Case("rdtscp", cr4=TSD),
    "RDRAND": Case("rdrand eax"),
    "RDSEED": Case("rdseed eax"),
    "XGETBV": Case("xor ecx, ecx; xgetbv"),
    "XSETBV": Case("xor ecx, ecx; xsetbv"),
    "SWAPGS": Case(code(0x0F, 1, 0xF8)),
    "RSM": Case(code(0x0F, 0xAA)),
    "GETSEC": Case(code(0x0F, 0x37)),
    "ENCLS": Case(code(0x0F, 1, 0xCF)),
    "INVPCID": Case(code(0x66, 0x0F, 0x38, 0x82, 0)),
    "RDFSBASE": Case(code(0xF3, 0x0F, 0xAE, 0xC0)),
    "RDPKRU": Case(code(0x0F, 1, 0xEE)),
    "MONITOR": Case(code(0x0F, 1, 0xC8)),
    "MWAIT": Case(code(0x0F, 1, 0xC9)),
    "VMCALL": Case(code(0x0F, 1, 0xC1)),
    "VMLAUNCH": Case(code(0x0F, 1, 0xC2)),
    "VMXOFF": Case(code(0x0F, 1, 0xC4)),
    "VMXON": Case(code(0xF3, 0x0F, 0xC7, 0x30)),
    "VMRUN": Case(code(0x0F, 1, 0xD8)),
    "VMMCALL": Case(code(0x0F, 1, 0xD9)),
    "STGI": Case(code(0x0F, 1, 0xDC)),
    "CLGI": Case(code(0x0F, 1, 0xDD)),
    "SKINIT": Case(code(0x0F, 1, 0xDE)),
    "INVLPGA": Case(code(0x0F, 1, 0xDF)),
}

CONTROL = {f"MOV r, CR{number}": Case(code(0x0F, 0x20, 0xC0 | number << 3)) for number in (0, 1, 2, 3, 4, 5, 6, 7)} | {
    "MOV CR0": Case("mov eax, cr0; mov cr0, eax"),
    "MOV CR1": Case(code(0x0F, 0x22, 0xC8)),
    "MOV CR2": Case(code(0x0F, 0x22, 0xD0)),
    "MOV CR3": Case("mov eax, cr3; mov cr3, eax"),
    "MOV CR4": Case("mov eax, cr4; mov cr4, eax"),
    "MOV r, CR8 by LOCK": Case(code(0xF0, 0x0F, 0x20, 0xC0)),
    "MOV CR0, PG without PE": Case("mov eax, cr0; and eax, 0xfffffffe; mov cr0, eax"),
    "MOV CR0, NW without CD": Case("mov eax, cr0; or eax, 0x20000000; mov cr0, eax"),
    "MOV CR0, bit 15": Case("mov eax, cr0; or eax, 0x8000; mov cr0, eax; mov ebx, cr0; and ebx, 0x8000", ebx),
    "MOV CR4, bit 31": Case("mov eax, cr4; or eax, 0x80000000; mov cr4, eax"),
    "MOV CR4, VMXE": Case("mov eax, cr4; or eax, 0x2000; mov cr4, eax"),
    "MOV CR4, PAE off": Case("mov eax, cr4; and eax, 0xffffffdf; mov cr4, eax; nop"),
    "MOV r, DR0": Case(code(0x0F, 0x21, 0xC0)),
    "MOV r, DR4": Case(code(0x0F, 0x21, 0xE0)),
    "MOV r, DR4, CR4.DE": Case(code(0x0F, 0x21, 0xE0), cr4=DE),
    "MOV DR0": Case(code(0x0F, 0x23, 0xC0)),
    "MOV DR5, CR4.DE": Case(code(0x0F, 0x23, 0xE8), cr4=DE),
    "MOV DR7": Case(code(0x0F, 0x23, 0xF8)),
    "MOV DR7, GD, and MOV r, DR0": Case("mov eax, 0x2400; mov dr7, eax; mov eax, dr0"),
}

SELECTORS: dict[str, int | str] = {
    "null": 0,
    "null, RPL 3": 3,
    "the stack's own": "ss",
    "code of ring 0": CODE_OF[0],
    "code of ring 3": CODE_OF[3],
    "data of ring 0": DATA_OF[0],
    "data of ring 0, RPL 3": DATA_OF[0] | 3,
    "data of ring 3": DATA_OF[3],
    "absent data": ABSENT | 3,
    "read-only data": CONSTANT | 3,
    "execute-only code": EXECUTE_ONLY | 3,
    "conforming code": CONFORMING,
    "a TSS": TASK,
    "an LDT": LOCAL_TABLE | 3,
    "a gate": GATE_3 | 3,
    "beyond the table": BEYOND | 3,
    "data in the LDT": LOCAL_DATA,
}
SEGMENTS = {
    f"MOV {register}, {name}": Case(load(register.lower(), selector))
    for register in ("SS", "DS")
    for name, selector in SELECTORS.items()
} | {
    "MOV CS": Case(load("cs", "cs")),
    "POP DS, data of ring 0": Case(f"push {DATA_OF[0]}; {code(0x1F)}"),
    "POP SS, null": Case(f"push 0; {code(0x17)}"),
    "LDS, data of ring 0": Case(f"mov dword ptr [{DATA + 4}], {DATA_OF[0]}; lds eax, [{DATA}]"),
    "LES, beyond the table": Case(f"mov dword ptr [{DATA + 4}], {BEYOND | 3}; les eax, [{DATA}]"),
    "LFS, null": Case(f"mov dword ptr [{DATA + 4}], 0; lfs eax, [{DATA}]"),
    "LGS, absent data": Case(f"mov dword ptr [{DATA + 4}], {ABSENT | 3}; lgs eax, [{DATA}]"),
    "LSS, the stack's own": Case(f"mov [{DATA}], esp; mov eax, ss; mov [{DATA + 4}], eax; lss esp, [{DATA}]"),
    "LSS, null": Case(f"mov dword ptr [{DATA + 4}], 0; lss esp, [{DATA}]"),
    "a load, DS null": Case(f"xor eax, eax; mov ds, eax; mov eax, [{DATA}]"),
    "a store, DS read-only": Case(f"mov eax, {CONSTANT | 3}; mov ds, eax; mov [{DATA}], eax"),
    "a store to CS": Case(at_data(0x2E, 0xA3)),
    "a load beyond the limit of DS": Case(f"mov eax, {LOCAL_SHORT}; mov ds, eax; mov eax, [{DATA}]"),
    "VERR, data of ring 0": Case(f"mov eax, {DATA_OF[0]}; verr ax; setz bl", zero_flag),
    "VERW, read-only data": Case(f"mov eax, {CONSTANT | 3}; verw ax; setz bl", zero_flag),
    "VERR, a gate": Case(f"mov eax, {GATE_3 | 3}; verr ax; setz bl", zero_flag),
    "LAR, data of ring 0": Case(f"mov eax, {DATA_OF[0]}; lar ecx, eax; setz bl", zero_flag),
    "LAR, a gate": Case(f"mov eax, {GATE_3 | 3}; lar ecx, eax; setz bl", zero_flag),
    "LSL, a TSS of DPL 0": Case(f"mov eax, {TASK}; lsl ecx, eax; setz bl", zero_flag),
    "LSL, a gate": Case(f"mov eax, {GATE_3 | 3}; lsl ecx, eax; setz bl", zero_flag),
    "ARPL": Case(f"mov ebx, {DATA_OF[0]}; mov ecx, 3; arpl bx, cx", ebx),
}

PORTS = {
    "IN": Case("in al, 0x60"),
    "IN, IOPL 1": Case("in al, 0x60", eflags=0x202 | IOPL_1),
    "IN, IOPL 3": Case("in al, 0x60", eflags=0x202 | IOPL_3),
    "OUT": Case("out 0x61, al"),
    "INS": Case(f"mov edi, {DATA}; mov edx, 0x60; insb"),
    "OUTS": Case(f"mov esi, {DATA}; mov edx, 0x61; outsb"),
}

LOCKS = {
    "LOCK, a register": Case(code(0xF0, 1, 0xC0)),
    "LOCK, a load": Case(f"mov eax, {KERNEL}; {code(0xF0, 3, 0)}"),
    "LOCK CMP": Case(code(0xF0, 0x39, 0)),
    "LOCK BT": Case(code(0xF0, 0x0F, 0xA3, 0)),
    "LOCK BT, registers": Case(code(0xF0, 0x0F, 0xA3, 0xC0)),
    "LOCK BT, a register and a number": Case("nop; " + code(0xF0, 0x0F, 0xBA, 0xE3, 7)),
    "LOCK MOV": Case(code(0xF0, 0x89, 0)),
    "LOCK CLI": Case(code(0xF0, 0xFA)),
    "LOCK INT 80h": Case(code(0xF0, 0xCD, 0x80)),
    "LOCK INT1": Case(code(0xF0, 0xF1)),
    "LOCK XADD": Case(f"mov eax, {DATA}; lock xadd [eax], ecx; lock xchg [eax], ecx; lock cmpxchg8b [eax]"),
    "an unaligned load, AC and CR0.AM": Case(f"push {AC | 0x202}; popfd; mov eax, [{DATA + 1}]", cr0=AM),
}

STACKS = {
    "CALL far by memory, same ring": Case(POINTER + FAR_SAME),
    "CALL far by memory, stack of the kernel": Case(POINTER + on(KERNEL_PAGE + 0x100, FAR_SAME)),
    "CALL far by memory, stack read-only": Case(POINTER + on(READ_ONLY + 0x100, FAR_SAME)),
    "CALL far, stack of the kernel": Case(on(KERNEL_PAGE + 0x100, far(0x9A, CODE_OF[3]))),
    "CALL far, prefix, stack of the kernel": Case(on(KERNEL_PAGE + 0x100, ".byte 0x2e; " + far(0x9A, CODE_OF[3]))),
    "CALL far (16 bits), stack of the kernel": Case(on(KERNEL_PAGE + 0x100, code(0x66, 0x9A, 0, 8, CODE_OF[3], 0))),
    "CALL far [BX], stack of the kernel": Case(on(KERNEL_PAGE + 0x100, "xor ebx, ebx; " + code(0x67, 0xFF, 0x1F))),
    "CALL through a gate, stack of the kernel": Case(on(KERNEL_PAGE + 0x100, far(0x9A, GATE_3 | 3))),
    "CALL through a gate by memory, stack of the kernel": Case(
        f"mov dword ptr [{DATA + 4}], {GATE_3 | 3};" + on(KERNEL_PAGE + 0x100, FAR_SAME)
    ),
    "CALL far to data, stack of the kernel": Case(on(KERNEL_PAGE + 0x100, far(0x9A, DATA_OF[3]))),
    "RETF, stack of the kernel": Case(on(KERNEL_PAGE + 0x80, "retf")),
    "RETF n, stack of the kernel": Case(on(KERNEL_PAGE + 0x80, "retf 8")),
    "RETF (16 bits), stack of the kernel": Case(on(KERNEL_PAGE + 0x80, code(0x66, 0xCB))),
    "IRETD, stack of the kernel": Case(on(KERNEL_PAGE + 0x80, "iretd")),
    "IRETD, prefix, stack of the kernel": Case(on(KERNEL_PAGE + 0x80, code(0xF2, 0x2E, 0xCF))),
    "IRETD, last word in the kernel": Case(on(KERNEL_PAGE - 8, "iretd")),
    "CALL far, first word in the kernel": Case(on(KERNEL_PAGE + 4, far(0x9A, CODE_OF[3]))),
}

CASES = FLAGS | RETURNS | TRANSFERS | STACKS | INTERRUPTS | SYSTEM | CONTROL | SEGMENTS | PORTS | LOCKS
