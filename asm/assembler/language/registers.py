"""Register names and sizes (Intel SDM vol. 1, 3.4, 8.1.2, 9.2.1, 10.2.2)."""

GENERAL32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
GENERAL16 = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
GENERAL8 = ("al", "cl", "dl", "bl", "ah", "ch", "dh", "bh")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
SEGMENT_PREFIXES = {"es": 0x26, "cs": 0x2E, "ss": 0x36, "ds": 0x3E, "fs": 0x64, "gs": 0x65}  # override prefixes
CONTROL = ("cr0", "cr2", "cr3", "cr4")
DEBUG = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
MMX = tuple(f"mm{n}" for n in range(8))
SSE = tuple(f"xmm{n}" for n in range(8))
FLOAT = tuple(f"st{n}" for n in range(8))

# Name -> size in bits.
REGISTERS: dict[str, int] = {
    **dict.fromkeys(GENERAL32, 32),
    **dict.fromkeys(GENERAL16, 16),
    **dict.fromkeys(GENERAL8, 8),
    **dict.fromkeys(SEGMENTS, 16),
    **dict.fromkeys(CONTROL + DEBUG, 32),
    **dict.fromkeys(MMX, 64),
    **dict.fromkeys(SSE, 128),
    **dict.fromkeys((*FLOAT, "st"), 80),
}
GENERAL = frozenset(GENERAL32 + GENERAL16 + GENERAL8)

# Encodings of general and segment registers (Intel SDM vol. 2, table 2-2 and B-8).
NUMBERS: dict[str, int] = {
    name: number for group in (GENERAL32, GENERAL16, GENERAL8, SEGMENTS) for number, name in enumerate(group)
}
